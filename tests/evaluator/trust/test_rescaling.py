"""A scaled copy is the same function with other weights, and afterwards every bit is as before."""

import pytest
import torch
from torch import Tensor, nn

from evaluator.architectures import build, parse_options
from evaluator.dataset_facts import find_dataset_facts
from evaluator.trust.probed import difference
from evaluator.trust.rescaling import FACTOR, pairs, rescaled
from tests.evaluator.models import small_cnn


class Sums(nn.Module):
    """A convolution of which BatchNorm is not the only reader, and one that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.twice, self.last = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)

    def forward(self, images: Tensor) -> Tensor:
        stem = self.stem(images)
        return self.last(self.twice(self.twice(self.norm(stem) + stem))).mean((2, 3))


def networks() -> dict[str, tuple[nn.Module, int]]:
    digits = find_dataset_facts("digits")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return {
            "small": (small_cnn(steps=3), 1),
            "digits-resnet": (build("digits-resnet", parse_options("digits-resnet", {"width": 4}), digits).eval(), 7),
            "sums": (Sums().eval(), 0),
        }


@pytest.mark.parametrize(("model", "count"), networks().values(), ids=networks())
def test_what_is_scaled_is_undone_by_batchnorm_alone(model: nn.Module, count: int) -> None:
    images = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.requires_grad_(False)
    found = pairs(model, images)
    assert len(found) == count
    with torch.no_grad():
        logits = model(images)
        with rescaled(found):
            assert difference(model(images), logits) < 1e-5
            for conv, _ in found:
                name = next(name for name, module in model.named_modules() if module is conv)
                assert torch.equal(conv.weight, FACTOR * weights[f"{name}.weight"])
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())


def test_an_error_inside_leaves_the_weights_as_they_were() -> None:
    model = small_cnn(steps=0).requires_grad_(False)
    weight = model[0].weight.clone()
    with pytest.raises(KeyError), rescaled(pairs(model, torch.rand(2, 1, 8, 8))):
        raise KeyError
    assert torch.equal(model[0].weight, weight)
