"""BatchNorm that stands still answers with torch's own bits, and is afterwards as it was."""

import copy

import pytest
import torch
from torch import nn

from evaluator.architectures.resnet18_stutz2021 import OnePlusBatchNorm2d
from evaluator.attacks.fixed_statistics import fixed_statistics
from tests.evaluator.models import small_cnn


def layer(kind=nn.BatchNorm2d, **options):
    generator = torch.Generator().manual_seed(0)
    norm = kind(12, **options).eval().requires_grad_(False)
    norm.running_mean.normal_(generator=generator)
    norm.running_var.uniform_(0.01, 3, generator=generator)
    for parameter in norm.parameters():
        parameter.normal_(generator=generator)
    return norm


def answers(norm, layout=torch.contiguous_format):
    """Return the output, the gradient of a combination of it, and the name of the function that gives that."""
    generator = torch.Generator().manual_seed(1)
    shape = (9, 12) if isinstance(norm, nn.BatchNorm1d) else (9, 12, 5, 5)
    features, weights = (
        (values if values.dim() == 2 else values.contiguous(memory_format=layout))
        for values in (torch.randn(shape, generator=generator) for _ in range(2))
    )
    output = norm(features.requires_grad_())
    (gradient,) = torch.autograd.grad(output, features, weights)
    return output.detach(), gradient, output.grad_fn.name()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["usual", "channels last"])
@pytest.mark.parametrize(
    "norm",
    [layer(), layer(affine=False), layer(OnePlusBatchNorm2d), layer(nn.BatchNorm1d), layer(eps=0.1)],
    ids=["2d", "without weights", "1 + weight", "1d", "another eps"],
)
def test_outputs_and_gradients_are_torchs_own_bit_for_bit(norm, layout):
    output, gradient, function = answers(norm, layout)
    with fixed_statistics(norm):
        fixed_output, fixed_gradient, fixed_function = answers(norm, layout)
    assert torch.equal(output, fixed_output)
    assert torch.equal(gradient, fixed_gradient)
    assert fixed_function != function


@pytest.mark.parametrize(
    "norm",
    [layer().train(), layer().requires_grad_(True), layer().double(), layer().to("meta")],
    ids=["training", "learning", "float64", "elsewhere"],
)
def test_what_does_not_stand_still_or_rounds_otherwise_stays_with_torch(norm):
    with fixed_statistics(norm):
        assert "forward" not in norm.__dict__


def test_layers_are_as_they_were_also_after_an_error():
    model = small_cnn().requires_grad_(False)
    before = copy.deepcopy(model.state_dict())

    def fail_inside():
        with fixed_statistics(model):
            assert "forward" in model[1].__dict__
            raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        fail_inside()
    assert not any("forward" in module.__dict__ for module in model.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
