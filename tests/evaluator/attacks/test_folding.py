"""A network with BatchNorm folded into its convolutions answers as before, and only where it is known to."""

import copy

import pytest
import torch
from torch import nn

from evaluator.architectures.resnet18_stutz2021 import OnePlusBatchNorm2d
from evaluator.attacks.answering import answered_by
from evaluator.attacks.autoattack.folding import folded
from evaluator.observed import observed
from tests.evaluator.models import small_cnn

IMAGES = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def norms(model):
    return sum(isinstance(module, nn.BatchNorm2d) for module in called(model))


def called(model):
    """Return the modules that a forward pass calls."""
    found = []
    hooks = [module.register_forward_hook(lambda module, *_: found.append(module)) for module in model.modules()]
    with torch.no_grad():
        model(IMAGES)
    for hook in hooks:
        hook.remove()
    return found


def test_batch_norm_leaves_the_forward_pass_and_the_answers_stay():
    model = small_cnn()
    before = copy.deepcopy(model.state_dict())
    fast = folded(model, IMAGES)
    assert norms(model) == 1
    assert norms(fast) == 0
    assert torch.allclose(fast(IMAGES), model(IMAGES), atol=1e-5)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_norm_that_shares_its_convolution_stays():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.convolution, self.norm = nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)

        def forward(self, images):
            features = self.convolution(images)
            return (self.norm(features) + features).flatten(1)

    model = Shared().eval()
    model.norm.running_var.fill_(3.0)
    fast = folded(model, IMAGES)
    assert norms(fast) == 1
    assert torch.allclose(fast(IMAGES), model(IMAGES), atol=1e-5)


class Branching(nn.Sequential):
    def forward(self, images):
        return super().forward(images if images.sum() > 0 else -images)


class Random(nn.Sequential):
    def forward(self, images):
        return super().forward(images + 0.5 * torch.rand(8, 8))


class Hidden(nn.Sequential):
    def forward(self, images):
        with torch.no_grad():
            logits = super().forward(images)
        return logits + 0 * images.flatten(1)[:, :1]


@pytest.mark.parametrize("kind", [Branching, Random, Hidden])
def test_a_network_that_is_no_fixed_graph_answers_itself(kind):
    model = kind(*small_cnn())
    assert folded(model, IMAGES) is model


def test_hooks_see_what_the_folded_network_is_asked_and_the_network_is_its_own_again_after_an_error():
    model = small_cnn()
    own, fast = model(IMAGES), folded(model, IMAGES)

    def fail():
        with answered_by(model, fast.forward):
            assert torch.equal(model(IMAGES), fast(IMAGES))
            raise RuntimeError("on purpose")

    with observed(model) as counter, pytest.raises(RuntimeError, match="on purpose"):
        fail()
    assert counter.passes.forward == len(IMAGES)
    assert torch.equal(model(IMAGES), own)
    assert "forward" not in vars(model)


def test_a_norm_of_a_derived_class_is_folded_as_it_computes():
    model = nn.Sequential(nn.Conv2d(1, 8, 3), OnePlusBatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10)).eval()
    norm = model[1]
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(0)
        for values in (norm.weight, norm.bias, norm.running_mean):
            values.normal_()
        norm.running_var.uniform_(0.1, 3)
    fast = folded(model, IMAGES)
    assert fast is not model
    assert norms(fast) == 0
    assert torch.allclose(fast(IMAGES), model(IMAGES), atol=1e-5)
