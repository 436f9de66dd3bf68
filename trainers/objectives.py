"""What the attack raises and what the weights lower."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evaluator.attacks.pgd import Gain
from trainers.sources import Batch

Network = Callable[[Tensor], Tensor]
"""Images [n, c, h, w] → logits [n, k]: a module, or whatever stands for one."""


class Objective(Protocol):
    """A pair of opponents: the gain of an adversarial image, and the loss of the weights."""

    def head(self, model: nn.Module) -> nn.Module:
        """Return what is trained beside `model` and left out of its checkpoints, made anew; here nothing."""
        return nn.Identity()

    def gain(self, model: Network, batch: Batch) -> Gain:
        """Return what the attack raises: adversarial images [n, c, h, w] → gain of each example [n]."""

    def loss(self, model: Network, batch: Batch, adversarial: Tensor) -> Tensor:
        """Return what the weights lower, a scalar in nats, by one forward pass through `model`."""


@dataclass(frozen=True)
class CrossEntropy(Objective):
    """CE(adversarial), as in Madry et al. 2018; the attack raises the plain cross-entropy of the true label."""

    label_smoothing: float

    def gain(self, model: Network, batch: Batch) -> Gain:
        """Return the cross-entropy of the true labels."""
        return lambda candidates: F.cross_entropy(model(candidates), batch.labels, reduction="none")

    def loss(self, model: Network, batch: Batch, adversarial: Tensor) -> Tensor:
        """Return the mean cross-entropy of the targets, smoothed towards the uniform distribution."""
        return F.cross_entropy(model(adversarial), batch.targets, label_smoothing=self.label_smoothing)


@dataclass(frozen=True)
class Trades(Objective):
    """CE(clean) + β · KL(p(clean) ‖ p(adversarial)) (Zhang et al. 2019, Eq. 5); the attack raises the divergence."""

    beta: float

    def gain(self, model: Network, batch: Batch) -> Gain:
        """Return the divergence from the clean prediction, which stands still meanwhile."""
        with torch.no_grad():
            clean = model(batch.images).log_softmax(1)
        return lambda candidates: _divergence(clean, model(candidates).log_softmax(1))

    def loss(self, model: Network, batch: Batch, adversarial: Tensor) -> Tensor:
        """Return the loss; clean and adversarial images share a forward pass, so BatchNorm sees both at once."""
        clean, attacked = model(torch.cat([batch.images, adversarial])).chunk(2)
        divergence = _divergence(clean.log_softmax(1), attacked.log_softmax(1)).mean()
        return F.cross_entropy(clean, batch.targets) + self.beta * divergence


@dataclass(frozen=True)
class Mart(Objective):
    """CE(adv) − ln(1 − max_{k≠y} p_k(adv)) + λ · KL(p(clean) ‖ p(adv)) · (1 − p_y(clean)) (Wang et al. 2020, Eq. 11).

    λ is `weight`; the attack raises the plain cross-entropy of the true label.
    """

    weight: float

    def gain(self, model: Network, batch: Batch) -> Gain:
        """Return the cross-entropy of the true labels."""
        return lambda candidates: F.cross_entropy(model(candidates), batch.labels, reduction="none")

    def loss(self, model: Network, batch: Batch, adversarial: Tensor) -> Tensor:
        """Return the loss; clean and adversarial images share a forward pass, so BatchNorm sees both at once."""
        logits: Tensor = model(torch.cat([batch.images, adversarial]))
        clean, attacked = logits.log_softmax(1).chunk(2)
        target = batch.targets[:, None]
        runner_up = attacked.detach().scatter(1, target, -torch.inf).argmax(1, keepdim=True)
        margin = attacked.scatter(1, runner_up, -torch.inf).logsumexp(1)  # ln(1 − p), finite where p rounds to 1
        doubt = 1 - clean.gather(1, target).squeeze(1).exp()
        boosted = F.nll_loss(attacked, batch.targets, reduction="none") - margin
        return (boosted + self.weight * doubt * _divergence(clean, attacked)).mean()


class SelfSupervision(Objective):
    """Another objective on half of a batch + λ · CE of the quarter turns of the other half (Hendrycks et al. 2019).

    A linear head on the network's penultimate features tells the turns, and the attack raises its error too. λ is
    `weight`, and `of` the settings of the other objective, its kind among them. Both halves share every forward pass.
    Batches come shuffled, so which images are turned, and how far, follows from their place.
    """

    def __init__(self, *, weight: float, of: Mapping[str, Any]) -> None:
        self._weight = weight
        self._of = OBJECTIVES[of["kind"]](**{name: value for name, value in of.items() if name != "kind"})

    def head(self, model: nn.Module) -> nn.Module:
        """Return a head for four turns, on what enters the last linear layer of `model`."""
        self._classifier = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
        self._head = nn.Linear(self._classifier.in_features, 4)
        return self._head

    def gain(self, model: Network, batch: Batch) -> Gain:
        """Return the gain of the other objective, or the cross-entropy of the turns where images are turned."""
        upright = _upright(batch)
        both = _WithTurned(model, self._classifier, batch.images[:0])
        recognise = self._of.gain(both, upright)

        def gain(candidates: Tensor) -> Tensor:
            both.turned, turns = _turn(candidates[len(upright.images) :])
            recognition = recognise(candidates[: len(upright.images)])
            return torch.cat([recognition, self._weight * self._rotation(both, turns)])

        return gain

    def loss(self, model: Network, batch: Batch, adversarial: Tensor) -> Tensor:
        """Return the sum of both halves' means."""
        upright = _upright(batch)
        turned, turns = _turn(adversarial[len(upright.images) :])
        both = _WithTurned(model, self._classifier, turned)
        recognition = len(upright.images) * self._of.loss(both, upright, adversarial[: len(upright.images)])
        rotation = self._weight * self._rotation(both, turns).sum()
        return 2 * (recognition + rotation) / len(adversarial)

    def _rotation(self, both: "_WithTurned", turns: Tensor) -> Tensor:
        return F.cross_entropy(self._head(both.features), turns, reduction="none")


@dataclass
class _WithTurned:
    """A network that takes `turned` images in the same pass as others; `features` of them enter its classifier."""

    model: Network
    classifier: nn.Linear
    turned: Tensor

    def __call__(self, images: Tensor) -> Tensor:
        """Return the logits of `images` alone."""
        hook = self.classifier.register_forward_pre_hook(self._keep)
        try:
            logits = self.model(torch.cat([images, self.turned]))
        finally:
            hook.remove()
        self.features = self._entered[len(images) :]
        return logits[: len(images)]

    def _keep(self, _classifier: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._entered = inputs[0]


def _upright(batch: Batch) -> Batch:
    """Return the half that is not turned, the larger one of an odd batch."""
    count = len(batch.images) - len(batch.images) // 2
    return Batch(batch.images[:count], batch.labels[:count], batch.targets[:count])


def _turn(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return a quarter each of `images` turned by 0, 1, 2 and 3 right angles, and these numbers."""
    blocks = images.tensor_split(4)
    turns = [torch.full((len(block),), turn, device=images.device) for turn, block in enumerate(blocks)]
    return torch.cat([block.rot90(turn, (2, 3)) for turn, block in enumerate(blocks)]), torch.cat(turns)


def _divergence(p: Tensor, q: Tensor) -> Tensor:
    """Return KL(p ‖ q) of each row of log-probabilities: [n, k], [n, k] → [n]."""
    return F.kl_div(q, p, reduction="none", log_target=True).sum(1)


OBJECTIVES: dict[str, Callable[..., Objective]] = {
    "cross-entropy": CrossEntropy,
    "trades": Trades,
    "mart": Mart,
    "self-supervision": SelfSupervision,
}
"""Every objective by the `kind` a recipe says; arguments are the recipe's other settings."""
