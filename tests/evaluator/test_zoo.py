from dataclasses import replace

import gdown
import pytest
import torch

from evaluator import cli
from evaluator.architectures import zoo
from evaluator.architectures.zoo import load_zoo_model
from evaluator.datasets import load_dataset
from evaluator.exceptions import ArtifactMissing, InvalidCheckpoint, InvalidRequest
from evaluator.protocol import Examples
from evaluator.results import evaluation_from_json
from evaluator.shipped import CIFAR10_LINF, PROTOCOLS
from evaluator.types import Norm, Split
from tests.evaluator.test_datasets import write_cifar

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


@pytest.fixture(scope="module")
def original():
    """A published network with weights of our own draw."""
    robustbench = zoo._import_robustbench()
    enums = robustbench.model_zoo.enums
    entry = robustbench.model_zoo.model_dicts[enums.BenchmarkDataset.cifar_10][enums.ThreatModel.Linf][NAME]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return entry["model"]().eval().requires_grad_(False)


def save(network, folder):
    torch.save({f"module.{key}": value for key, value in network.state_dict().items()}, weights_file(folder))


def test_a_published_network_is_loaded_from_the_model_folder(original, tmp_path):
    save(original, tmp_path)
    model = load_zoo_model(NAME, "cifar10", Norm.LINF, tmp_path)
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(model(images), original(images))


@pytest.fixture
def data_dir(tmp_path, monkeypatch):
    """A folder of CIFAR-10's form, which is the setting DATA_DIR, and a protocol of two images of it."""
    write_cifar(tmp_path, monkeypatch, "CIFAR10", "labels")
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    few, none = Examples(test=2, train=0), Examples(test=0, train=0)
    part = replace(
        CIFAR10_LINF, name="part", clean_examples=few, robust_loss_examples=none, autoattack_examples=none,
        flatness_examples=none, rankable=False,
    )  # fmt: skip
    monkeypatch.setitem(PROTOCOLS, "part", (part,))
    return tmp_path


def test_a_published_network_is_measured_by_its_name(original, data_dir, capsys):
    save(original, data_dir / "robustbench")
    assert cli.main([f"robustbench:{NAME}", "--protocol=part", "--device=cpu", "--json"]) == 0
    result = evaluation_from_json(capsys.readouterr().out)
    images, labels = load_dataset("cifar10", data_dir=data_dir).examples(Split.TEST, 0, 2)
    expected = torch.nn.functional.cross_entropy(original(images), labels).item()
    assert result.measurement("clean_loss_test").value == pytest.approx(expected, rel=1e-4)
    assert result.checkpoint_sha256 is None


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([f"robustbench:{NAME}"], f"robustbench/cifar10/Linf/{NAME}.pt and could not be downloaded (ConnectionError)"),
        (["robustbench:Addepali2022Eficient_RN18"], f"the nearest are {NAME}"),
        ([f"robustbench:{NAME}", "--resume"], "is measured in one go; leave --resume"),
    ],
)
def test_a_published_network_that_cannot_be_had_is_refused_in_a_sentence(data_dir, capsys, arguments, sentence):
    assert cli.main([*arguments, "--protocol=part", "--device=cpu"]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1


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
