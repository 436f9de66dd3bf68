import subprocess
import sys

import pytest
import torch
from torch import nn

from evaluator.architectures import ARCHITECTURES, build, parse_options
from evaluator.architectures.options import Activation, TorchvisionName
from evaluator.architectures.resnet18_stutz2021 import OnePlusBatchNorm2d
from evaluator.dataset_facts import DATASET_FACTS
from evaluator.exceptions import InvalidRequest

SMALL_OPTIONS = {"wideresnet": {"depth": 10, "width": 2}}
"""Options that keep the contract test fast where the defaults are large."""


def network(name: str, dataset: str = "cifar10", seed: int = 0, **options) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build(name, parse_options(name, options), DATASET_FACTS[dataset]).eval()


def random_images(count: int, dataset: str = "cifar10") -> torch.Tensor:
    return torch.rand(count, *DATASET_FACTS[dataset].image_shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("dataset", ["digits", "cifar10", "cifar100"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_logits_are_finite_one_a_class_and_the_gradient_reaches_every_pixel(name, dataset):
    net = network(name, dataset, **SMALL_OPTIONS.get(name, {}))
    images = random_images(2, dataset).requires_grad_()
    logits = net(images)
    assert logits.shape == (2, DATASET_FACTS[dataset].classes)
    assert logits.isfinite().all()
    (gradient,) = torch.autograd.grad(logits.logsumexp(1).sum(), images)
    assert gradient.isfinite().all()
    assert (gradient != 0).float().mean() > 0.9


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_in_eval_mode_an_image_scores_the_same_whatever_shares_its_batch(name):
    net = network(name, **SMALL_OPTIONS.get(name, {}))
    images = random_images(3)
    with torch.no_grad():
        together = net(images)
        for image, logits in zip(images, together, strict=True):
            torch.testing.assert_close(net(image[None])[0], logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_on_the_meta_device_it_has_the_same_state_and_costs_nothing(name):
    options = SMALL_OPTIONS.get(name, {})
    with torch.device("meta"):
        planned = network(name, **options)
    real = network(name, **options)
    assert all(tensor.is_meta for tensor in planned.state_dict().values())
    assert planned(torch.empty(2, 3, 32, 32, device="meta")).shape == (2, 10)
    assert {n: t.shape for n, t in planned.state_dict().items()} == {n: t.shape for n, t in real.state_dict().items()}
    assert all(name in planned.state_dict() for name, _ in planned.named_buffers()), "a buffer would stay on meta"


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_same_seed_gives_the_same_initial_weights(name):
    options = SMALL_OPTIONS.get(name, {})
    first, again, other = (network(name, seed=seed, **options).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize("name", TorchvisionName)
def test_every_allowed_torchvision_network_fits_digits_and_cifar(name):
    for dataset in ("digits", "cifar100"):
        with torch.device("meta"):
            net = network("torchvision", dataset, network=name)
            images = torch.empty(2, *DATASET_FACTS[dataset].image_shape, device="meta")
            assert net(images).shape == (2, DATASET_FACTS[dataset].classes)


@pytest.mark.parametrize("activation", Activation)
@pytest.mark.parametrize("name", ["digits-cnn", "digits-resnet", "resnet18-stutz2021", "resnet", "preactresnet18"])
def test_the_chosen_activation_is_the_only_one(name, activation):
    classes = {"relu": nn.ReLU, "silu": nn.SiLU, "gelu": nn.GELU, "mish": nn.Mish}
    with torch.device("meta"):
        modules = list(network(name, "digits", activation=activation.value).modules())
    assert any(isinstance(module, classes[activation]) for module in modules)
    others = tuple(cls for key, cls in classes.items() if key != activation)
    assert not any(isinstance(module, others) for module in modules)


def test_the_papers_resnet18_has_the_papers_parameter_counts():
    with torch.device("meta"):
        net = network("resnet18-stutz2021")
    parameters = dict(net.named_parameters())
    weighted = [p for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear) for p in m.parameters()]
    assert (len(weighted), len(parameters)) == (26, 68)
    assert sum(p.numel() for p in weighted) == 11_165_322
    assert sum(p.numel() for p in parameters.values()) == 11_174_928
    assert sum(not p.requires_grad for p in parameters.values()) == 2, "the whitening is not trained"


def test_batch_norm_of_scale_one_plus_weight_is_batch_norm_with_that_scale():
    features = torch.randn(8, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    ours, plain = OnePlusBatchNorm2d(3), nn.BatchNorm2d(3)
    with torch.no_grad():
        ours.weight.copy_(torch.tensor([-0.5, 0.0, 2.0]))
        ours.bias.copy_(torch.tensor([1.0, 0.0, -1.0]))
        plain.weight.copy_(1 + ours.weight)
        plain.bias.copy_(ours.bias)
    torch.testing.assert_close(ours(features), plain(features))
    torch.testing.assert_close(ours.state_dict()["running_var"], plain.state_dict()["running_var"])
    assert ours.num_batches_tracked == plain.num_batches_tracked == 1
    torch.testing.assert_close(ours.eval()(features), plain.eval()(features))


@pytest.mark.parametrize(("depth", "width", "millions"), [(28, 10, 36.5), (34, 10, 46.2)])
def test_wideresnets_have_their_published_sizes(depth, width, millions):
    with torch.device("meta"):
        net = network("wideresnet", depth=depth, width=width)
    assert sum(p.numel() for p in net.parameters()) / 1e6 == pytest.approx(millions, abs=0.05)


@pytest.mark.parametrize(("depth", "parameters"), [(18, 11_173_962), (34, 21_282_122)])
def test_resnets_have_the_sizes_and_names_of_public_code(depth, parameters):
    with torch.device("meta"):
        net = network("resnet", depth=depth)
    assert sum(p.numel() for p in net.parameters()) == parameters
    assert {"conv1.weight", "layer2.0.shortcut.1.running_var", "linear.bias"} < net.state_dict().keys()


def test_an_unknown_architecture_is_refused_with_the_list_of_known_ones():
    with pytest.raises(InvalidRequest, match="'vgg'; there are digits-cnn, digits-resnet"):
        parse_options("vgg", {})


@pytest.mark.parametrize(
    ("name", "raw", "sentence"),
    [
        ("digits-cnn", {"width": 999}, r"'width' of architecture digits-cnn was 999: .* 64; its options are width"),
        ("digits-cnn", {"depth": 3}, "'depth' .* not permitted"),
        ("wideresnet", {"depth": 29}, "'depth' .* was 29"),
        ("resnet18-stutz2021", {"activation": "tanh"}, "'activation' .* was 'tanh'.*'relu', 'silu', 'gelu' or 'mish'"),
        ("torchvision", {"network": "../../etc"}, "'network' .* was '../../etc'"),
    ],
)
def test_a_wrong_option_is_refused_with_what_was_seen_and_what_is_allowed(name, raw, sentence):
    with pytest.raises(InvalidRequest, match=sentence):
        parse_options(name, raw)


def test_the_registry_is_importable_without_torch():
    code = """
import sys
sys.modules["torch"] = None
from evaluator.architectures import parse_options
parse_options("wideresnet", {})
"""
    subprocess.run([sys.executable, "-c", code], check=True)
