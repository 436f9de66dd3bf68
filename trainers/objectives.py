"""What the attack raises and what the weights lower."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evaluator.attacks.pgd import Gain
from trainers.sources import Batch


class Objective(Protocol):
    """A pair of opponents: the gain of an adversarial image, and the loss of the weights."""

    def head(self, model: nn.Module) -> nn.Module:
        """Return what is trained beside `model` and left out of its checkpoints, made anew; here nothing."""
        return nn.Identity()

    def gain(self, model: nn.Module, batch: Batch) -> Gain:
        """Return what the attack raises: adversarial images [n, c, h, w] → gain of each example [n]."""

    def loss(self, model: nn.Module, batch: Batch, adversarial: Tensor) -> Tensor:
        """Return what the weights lower, a scalar in nats, by one forward pass through `model`."""


@dataclass(frozen=True)
class CrossEntropy(Objective):
    """CE(adversarial), as in Madry et al. 2018; the attack raises the plain cross-entropy of the true label."""

    label_smoothing: float

    def gain(self, model: nn.Module, batch: Batch) -> Gain:
        """Return the cross-entropy of the true labels."""
        return lambda candidates: F.cross_entropy(model(candidates), batch.labels, reduction="none")

    def loss(self, model: nn.Module, batch: Batch, adversarial: Tensor) -> Tensor:
        """Return the mean cross-entropy of the targets, smoothed towards the uniform distribution."""
        return F.cross_entropy(model(adversarial), batch.targets, label_smoothing=self.label_smoothing)


@dataclass(frozen=True)
class Trades(Objective):
    """CE(clean) + β · KL(p(clean) ‖ p(adversarial)) (Zhang et al. 2019, Eq. 5); the attack raises the divergence."""

    beta: float

    def gain(self, model: nn.Module, batch: Batch) -> Gain:
        """Return the divergence from the clean prediction, which stands still meanwhile."""
        with torch.no_grad():
            clean = model(batch.images).log_softmax(1)
        return lambda candidates: _divergence(clean, model(candidates).log_softmax(1))

    def loss(self, model: nn.Module, batch: Batch, adversarial: Tensor) -> Tensor:
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

    def gain(self, model: nn.Module, batch: Batch) -> Gain:
        """Return the cross-entropy of the true labels."""
        return lambda candidates: F.cross_entropy(model(candidates), batch.labels, reduction="none")

    def loss(self, model: nn.Module, batch: Batch, adversarial: Tensor) -> Tensor:
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
    """CE(adv) on half of a batch + λ · CE of the quarter turns of the other half (Hendrycks et al. 2019).

    A linear head on the network's penultimate features tells the turns, and the attack raises its error too. λ is
    `weight`. Batches come shuffled, so which images are turned, and how far, follows from their place.
    """

    def __init__(self, *, weight: float) -> None:
        self._weight = weight

    def head(self, model: nn.Module) -> nn.Module:
        """Return a head for four turns, on what enters the last linear layer of `model`."""
        self._classifier = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
        self._head = nn.Linear(self._classifier.in_features, 4)
        return self._head

    def gain(self, model: nn.Module, batch: Batch) -> Gain:
        """Return the cross-entropy of the true labels, or of the turns where images are turned."""
        return lambda candidates: self._errors(model, candidates, batch.labels)

    def loss(self, model: nn.Module, batch: Batch, adversarial: Tensor) -> Tensor:
        """Return the sum of both halves' means; they share a forward pass."""
        return 2 * self._errors(model, adversarial, batch.targets).mean()

    def _errors(self, model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        upright = len(images) - len(images) // 2
        blocks = images[upright:].tensor_split(4)
        turns = torch.cat([torch.full((len(block),), turn) for turn, block in enumerate(blocks)]).to(labels.device)
        turned = [block.rot90(turn, (2, 3)) for turn, block in enumerate(blocks)]
        logits, features = self._forward(model, torch.cat([images[:upright], *turned]))
        recognition = F.cross_entropy(logits[:upright], labels[:upright], reduction="none")
        rotation = F.cross_entropy(self._head(features[upright:]), turns, reduction="none")
        return torch.cat([recognition, self._weight * rotation])

    def _forward(self, model: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits and what entered the classifier, whatever the architecture."""
        features: list[Tensor] = []
        hook = self._classifier.register_forward_pre_hook(lambda _module, inputs: features.append(inputs[0]))
        try:
            return model(images), features[0]
        finally:
            hook.remove()


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
