"""Networks that would fool the board, each around an honest one, and which checks must catch it."""

import traceback
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evaluator.datasets import load_dataset
from evaluator.types import Split

Change = Callable[[Tensor], Tensor]


class Around(nn.Module):
    """An honest network with something done to its images and to its logits."""

    def __init__(self, network: nn.Module, images: Change = torch.clone, logits: Change = torch.clone) -> None:
        super().__init__()
        self.network, self.images, self.logits = network, images, logits

    def forward(self, images: Tensor) -> Tensor:
        return self.logits(self.network(self.images(images)))


class Remembers(Around):
    """Brightens its images by what it saw in the batch before."""

    brightness: float | Tensor = 0.0

    def forward(self, images: Tensor) -> Tensor:
        logits = super().forward(images + 0.1 * self.brightness)
        self.brightness = images.detach().mean()
        return logits


class Counts(Around):
    """Is honest for some calls, and then answers something else."""

    calls = 12

    def forward(self, images: Tensor) -> Tensor:
        self.calls -= 1
        logits = super().forward(images)
        return logits if self.calls > 0 else logits.roll(1, 1)


class LooksAtItsWeights(Around):
    """Divides its logits by the norm of its first convolution."""

    def forward(self, images: Tensor) -> Tensor:
        first = next(module for module in self.modules() if isinstance(module, nn.Conv2d))
        return super().forward(images) / first.weight.norm()


class Backwards(torch.autograd.Function):
    """The identity with a gradient that points away."""

    @staticmethod
    def forward(ctx, images):
        return images.clone()

    @staticmethod
    def backward(ctx, gradient):
        return -gradient


class Decoy(torch.autograd.Function):
    """Three grey levels, with a small gradient that belongs to mirrored images."""

    @staticmethod
    def forward(ctx, images):
        return (images * 2).round() / 2

    @staticmethod
    def backward(ctx, gradient):
        return gradient.flip(-1) * 1e-3


class Recalls(Around):
    """Knows the labels of all test images by heart, and answers class 0 to any other image."""

    def forward(self, images: Tensor) -> Tensor:
        known, labels = load_dataset("digits").examples(Split.TEST, 0, 1000)
        distance, nearest = torch.cdist(images.flatten(1), known.flatten(1)).min(1)
        found = torch.where(distance < 1e-3, labels[nearest], 0)
        return 10 * F.one_hot(found, 10) + 0 * super().forward(images)


class SeesAutoAttack(Around):
    """Is honest, unless AutoAttack is among those who call it: then it answers as if there were no attack."""

    def forward(self, images: Tensor) -> Tensor:
        if not any("autoattack" in frame.filename for frame in traceback.extract_stack()):
            return super().forward(images)
        known, _ = load_dataset("digits").examples(Split.TEST, 0, 8)
        nearest = torch.cdist(images.flatten(1), known.flatten(1)).argmin(1)
        return super().forward(known)[nearest] + 0 * images.flatten(1).sum(1, keepdim=True)


@dataclass(frozen=True)
class Cheater:
    """How to build it around an honest network, and the checks that see through it."""

    build: Callable[[nn.Module], nn.Module]
    caught_by: tuple[str, ...]


BY_PROBES: dict[str, Cheater] = {
    "noise on the logits": Cheater(
        lambda net: Around(net, logits=lambda z: z + 0.1 * torch.randn_like(z)), ("randomness",)
    ),
    "noise on the images": Cheater(
        lambda net: Around(net, images=lambda x: x + 0.02 * torch.randn_like(x)), ("randomness", "gradient_along")
    ),
    "subtracts the batch's mean": Cheater(
        lambda net: Around(net, logits=lambda z: z - z.mean(0)), ("batch_dependence",)
    ),
    "remembers the batch before": Cheater(Remembers, ("state",)),
    "counts its calls": Cheater(Counts, ("state",)),
    "breaks far from its images": Cheater(
        lambda net: Around(net, logits=lambda z: torch.where(z.amax(1, keepdim=True) > 15, torch.nan, z)),
        ("not_finite",),
    ),
    "softmax": Cheater(lambda net: Around(net, logits=lambda z: z.softmax(1)), ("probabilities",)),
    "ten times softmax": Cheater(lambda net: Around(net, logits=lambda z: 10 * z.softmax(1)), ("probabilities",)),
    "log-softmax": Cheater(lambda net: Around(net, logits=lambda z: z.log_softmax(1)), ("log_probabilities",)),
    "huge logits": Cheater(
        lambda net: Around(net, logits=lambda z: 1e4 * z),
        ("temperature", "zero_gradients", "tiny_gradients", "huge_budget"),
    ),
    "tiny logits": Cheater(lambda net: Around(net, logits=lambda z: 1e-3 * z), ("temperature",)),
    "nine grey levels": Cheater(
        lambda net: Around(net, images=lambda x: (x * 8).round() / 8),
        ("zero_gradients", "tiny_gradients", "gradient_along", "huge_budget", "chance"),
    ),
    "detached images": Cheater(
        lambda net: Around(net, images=lambda x: x.detach() + 0 * x),
        ("zero_gradients", "tiny_gradients", "gradient_along", "gradient_across", "huge_budget", "chance"),
    ),
    "steep sigmoid": Cheater(
        lambda net: Around(net, images=lambda x: torch.sigmoid(300 * (x - 0.5))), ("huge_budget", "chance")
    ),
    "gradients backwards": Cheater(
        lambda net: Around(net, images=Backwards.apply), ("gradient_along", "huge_budget", "chance")
    ),
    "a decoy's gradients": Cheater(
        lambda net: Around(net, images=Decoy.apply), ("gradient_along", "gradient_across")
    ),
    "ripples": Cheater(
        lambda net: Around(net, images=lambda x: x + 1e-3 * torch.sin(1e5 * x)),
        ("gradient_along", "gradient_across", "huge_budget", "one_step", "chance"),
    ),
    "looks at its weights": Cheater(LooksAtItsWeights, ("rescaled_copy",)),
    "recalls the test images": Cheater(Recalls, ("zero_gradients", "huge_budget")),
}  # fmt: skip

BY_OUTCOMES: dict[str, Cheater] = {
    "nine grey levels": Cheater(BY_PROBES["nine grey levels"].build, ("square", "restarts")),
    "recalls the test images": Cheater(Recalls, ("memorisation",)),
    "sees AutoAttack": Cheater(SeesAutoAttack, ("autoattack_behind_pgd",)),
    "counts its calls": Cheater(Counts, ("stages_agree",)),
    "is fed other pixels than it was trained on": Cheater(
        lambda net: Around(net, images=lambda x: 0.1 * x), ("claim",)
    ),
}
