"""Auto-PGD (Croce & Hein 2020, arXiv:2003.01690): momentum, and steps halved where checkpoints see no progress.

Operations and their order are the reference's, so that an example has its iterates to the last bit; but an example
leaves at its first adversarial one.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor

from evaluator.attacks.autoattack.draws import Draws
from evaluator.attacks.autoattack.passes import Passes
from evaluator.attacks.autoattack.projections import TINY, column, length
from evaluator.types import Norm, ThreatModel

STEPS = 100
TARGETS = 9
_MOMENTUM = 0.75
_PROGRESS = 0.75
"""The share of a period's steps that must have raised the loss for the step size to stay."""
_FIRST_PERIOD, _LEAST_PERIOD, _SHORTER = 22, 6, 3
"""Steps until the first checkpoint, between the last ones, and by how much each period is shorter than the last."""

Objective = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Logits [m, classes], labels [m] and targets [m] → what is raised, [m]."""


def untargeted(
    passes: Passes, images: Tensor, labels: Tensor, left: Tensor, threat_model: ThreatModel, draws: Draws
) -> Tensor:
    """APGD-CE raises the cross-entropy. Returns adversarial images [n, c, h, w], the clean one where none was found.

    `left` [n] are the numbers of the examples, by which `draws` knows them.
    """
    start = _start(images, left, threat_model, draws)
    return _ascend(passes, _cross_entropy, images, labels, labels, start, threat_model)[0]


def targeted(
    passes: Passes,
    images: Tensor,
    labels: Tensor,
    left: Tensor,
    threat_model: ThreatModel,
    draws: Draws,
    ranking: Tensor,
    on_gradient: Callable[[Tensor, Tensor], None],
    targets: int = TARGETS,
) -> Tensor:
    """APGD-T raises a targeted difference of logits, for one target after the other. Returns what `untargeted` does.

    `ranking` [n, classes] are the classes by the logits of the clean image, ascending; the `targets` likeliest but one
    are taken. `on_gradient` is shown the first gradients for each target and the numbers of their examples.
    """
    adversarial = images.clone()
    rows = torch.arange(len(images), device=images.device)
    for target in range(2, targets + 2):
        if len(rows) == 0:
            break
        x, numbers = images[rows], left[rows]
        adversarial[rows], fooled, gradient = _ascend(
            passes, _targeted_ratio, x, labels[rows], ranking[rows, -target],
            _start(x, numbers, threat_model, draws), threat_model,
        )  # fmt: skip
        on_gradient(gradient, numbers)
        rows = rows[~fooled]
    return adversarial


def _cross_entropy(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits, labels, reduction="none")


def _targeted_ratio(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """(z_target − z_label) / (z_(1) − (z_(3) + z_(4)) / 2), which no scaling of the logits changes."""
    ordered = logits.sort(dim=1)[0]
    u = torch.arange(len(logits), device=logits.device)
    return -(logits[u, labels] - logits[u, targets]) / (ordered[:, -1] - 0.5 * (ordered[:, -3] + ordered[:, -4]) + TINY)


def _start(images: Tensor, left: Tensor, threat_model: ThreatModel, draws: Draws) -> Tensor:
    """Return a random point on the surface of each ball, clipped to the box."""
    if threat_model.norm is Norm.LINF:
        direction = 2 * draws.of_examples(left, images.shape[1:]).to(images.device) - 1
    else:
        direction = draws.of_examples(left, images.shape[1:], torch.randn).to(images.device)
    return (images + threat_model.epsilon * _normalized(direction, threat_model.norm)).clamp(0, 1)


def _normalized(direction: Tensor, norm: Norm) -> Tensor:
    return direction / (column(length(direction, norm), direction) + TINY)


@dataclass
class _Climb:
    """Where each example of an ascent stands; the first dimension of every tensor is theirs."""

    row: Tensor
    image: Tensor
    label: Tensor
    target: Tensor
    current: Tensor
    previous: Tensor
    gradient: Tensor
    best: Tensor
    best_gradient: Tensor
    best_loss: Tensor
    best_at_checkpoint: Tensor
    last_loss: Tensor
    rises: Tensor
    was_halved: Tensor
    step: Tensor

    def keep(self, index: Tensor) -> None:
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name)[index])

    def advance(self, threat_model: ThreatModel, momentum: float) -> None:
        """Take a step along the gradient, and a share of the last step again, each projected."""
        norm, epsilon = threat_model.norm, threat_model.epsilon
        stepped = self.gradient.sign() if norm is Norm.LINF else _normalized(self.gradient, norm)
        stepped = _projected(self.current + self.step * stepped, self.image, norm, epsilon)
        inertia = self.current - self.previous
        self.previous, self.current = (
            self.current,
            _projected(
                self.current + (stepped - self.current) * momentum + inertia * (1 - momentum),
                self.image, norm, epsilon,
            ),
        )  # fmt: skip

    def judge(self, loss: Tensor, gradient: Tensor) -> None:
        """Keep the best iterate, and count whether the loss rose."""
        better = loss > self.best_loss
        self.rises += loss > self.last_loss
        self.last_loss = loss
        self.gradient = gradient
        self.best_loss = torch.where(better, loss, self.best_loss)
        self.best = torch.where(column(better, gradient), self.current, self.best)
        self.best_gradient = torch.where(column(better, gradient), gradient, self.best_gradient)

    def checkpoint(self, period: int) -> None:
        """Halve the step and go back to the best iterate where the last `period` steps brought too little."""
        stuck = (self.best_at_checkpoint >= self.best_loss) & ~self.was_halved
        self.was_halved = (self.rises <= period * _PROGRESS) | stuck
        self.best_at_checkpoint = self.best_loss
        self.rises = torch.zeros_like(self.rises)
        halved = column(self.was_halved, self.current)
        self.step = torch.where(halved, self.step / 2, self.step)
        self.current = torch.where(halved, self.best, self.current)
        self.gradient = torch.where(halved, self.best_gradient, self.gradient)


def _projected(candidates: Tensor, images: Tensor, norm: Norm, epsilon: float) -> Tensor:
    if norm is Norm.LINF:
        return candidates.clamp(images - epsilon, images + epsilon).clamp(0, 1)
    offset = candidates - images
    shorter = column(length(offset, norm), offset).clamp_max(epsilon)
    return (images + _normalized(offset, norm) * shorter).clamp(0, 1)


def _ascend(
    passes: Passes,
    objective: Objective,
    images: Tensor,
    labels: Tensor,
    targets: Tensor,
    start: Tensor,
    threat_model: ThreatModel,
) -> tuple[Tensor, Tensor, Tensor]:
    """Raise `objective` from `start` until an iterate is adversarial.

    Returns the adversarial images [n, c, h, w], the clean one where none was found, where one was [n], and the
    gradients at the start.
    """
    n = len(images)
    adversarial, fooled = images.clone(), torch.zeros(n, dtype=torch.bool, device=images.device)
    logits, loss, first = passes.ascent(start, lambda z, rows: objective(z, labels[rows], targets[rows]))
    climb = _Climb(
        torch.arange(n, device=images.device), images, labels, targets, start, start, first, start, first, loss, loss,
        torch.zeros_like(loss),  # the reference compares the first loss with 0
        torch.zeros_like(loss), torch.ones_like(fooled),
        torch.full((n, *[1] * (images.dim() - 1)), 2 * threat_model.epsilon, device=images.device),
    )  # fmt: skip

    def leave(logits: Tensor) -> Tensor | None:
        """Let the examples go that are misclassified; return the rows that stay, or None for all."""
        wrong = passes.confirmed(logits.argmax(1) != climb.label, climb.current, climb.label)
        if not wrong.any():
            return None
        adversarial[climb.row[wrong]] = climb.current[wrong]
        fooled[climb.row[wrong]] = True
        staying = (~wrong).nonzero().squeeze(1)
        climb.keep(staying)
        return staying

    leave(logits)
    left_in_period = period = _FIRST_PERIOD
    for step in range(STEPS):
        if len(climb.row) == 0:
            break
        climb.advance(threat_model, _MOMENTUM if step else 1.0)
        if step == STEPS - 1:  # nothing follows its gradient
            leave(passes.logits(climb.current))
            break
        logits, loss, gradient = passes.ascent(
            climb.current, lambda z, rows: objective(z, climb.label[rows], climb.target[rows])
        )
        staying = leave(logits)
        if staying is not None:
            loss, gradient = loss[staying], gradient[staying]
        climb.judge(loss, gradient)
        left_in_period -= 1
        if left_in_period == 0:
            climb.checkpoint(period)
            left_in_period = period = max(period - _SHORTER, _LEAST_PERIOD)
    return adversarial, fooled, first
