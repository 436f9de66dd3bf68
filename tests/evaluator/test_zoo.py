import gdown
import pytest
import torch

from evaluator.architectures import zoo
from evaluator.architectures.zoo import load_zoo_model
from evaluator.exceptions import ArtifactMissing, InvalidCheckpoint, InvalidRequest
from evaluator.types import Norm

NAME = "Addepalli2022Efficient_RN18"


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(**_):
        raise ConnectionError("there is no network here")

    monkeypatch.setattr(gdown, "download", refuse)


def weights_file(folder):
    file = folder / "cifar10" / "Linf" / f"{NAME}.pt"
    file.parent.mkdir(parents=True)
    return file


def test_a_published_network_is_loaded_from_the_model_folder(tmp_path):
    robustbench = zoo._import_robustbench()
    enums = robustbench.model_zoo.enums
    entry = robustbench.model_zoo.model_dicts[enums.BenchmarkDataset.cifar_10][enums.ThreatModel.Linf][NAME]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        original = entry["model"]()
    torch.save({f"module.{key}": value for key, value in original.state_dict().items()}, weights_file(tmp_path))
    model = load_zoo_model(NAME, "cifar10", Norm.LINF, tmp_path)
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(model(images), original.eval().requires_grad_(False)(images))


def test_weights_that_are_nowhere_are_reported_with_the_place_to_put_them(tmp_path):
    with pytest.raises(ArtifactMissing, match=rf"{tmp_path}/cifar10/Linf/{NAME}.pt.*ConnectionError"):
        load_zoo_model(NAME, "cifar10", Norm.LINF, tmp_path)


@pytest.mark.parametrize("content", ["another network", "no pickle"])
def test_a_file_of_other_weights_is_refused_by_its_path(tmp_path, content):
    file = weights_file(tmp_path)
    if content == "another network":
        torch.save({"linear.weight": torch.zeros(2)}, file)
    else:
        file.write_bytes(b"no pickle")
    with pytest.raises(InvalidCheckpoint, match=rf"{file} does not hold the weights of {NAME}"):
        load_zoo_model(NAME, "cifar10", Norm.LINF, tmp_path)


@pytest.mark.parametrize(
    ("name", "dataset", "norm", "sentence"),
    [
        ("Addepali2022Eficient_RN18", "cifar10", Norm.LINF, f"the nearest are {NAME}"),
        ("../../etc/passwd", "cifar10", Norm.L2, "no network '../../etc/passwd' for cifar10 and L2; of its"),
        (NAME, "cifar100", Norm.L2, "has none there at all"),
        (NAME, "digits", Norm.LINF, "no networks for 'digits'; it has some for cifar10, cifar100"),
    ],
)
def test_a_name_that_robustbench_does_not_know_is_refused_with_what_it_has(tmp_path, name, dataset, norm, sentence):
    with pytest.raises(InvalidRequest, match=sentence):
        load_zoo_model(name, dataset, norm, tmp_path)
    assert list(tmp_path.iterdir()) == []
