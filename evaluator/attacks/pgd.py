"""Projected gradient ascent on the inputs, best iterate kept per example (Madry et al. 2018; Stutz et al. 2021)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evaluator.attacks.budget import norms, project, steepest, verify
from evaluator.protocol import Initialization, PgdSettings
from evaluator.seeding import Noise
from evaluator.types import Norm, ThreatModel

Gain = Callable[[Tensor], Tensor]
"""What an attack raises: adversarial images [n, c, h, w] → gain of each example [n]."""


@dataclass(frozen=True)
class RestartOutcomes:
    """What PGD found, an entry an example and restart: three tensors [n, restarts] on the CPU."""

    loss: Tensor
    """Cross-entropy at the best iterate, nats."""
    wrong_class_confidence: Tensor
    """Largest probability of any wrong class there."""
    correct: Tensor
    """Whether the example is still classified correctly there."""


def initial_perturbation(
    shape: Sequence[int], initialization: Initialization, threat_model: ThreatModel, noise: Noise
) -> Tensor:
    """Return a random perturbation [n, …] inside the ε-ball, on the noise's device."""
    epsilon, norm = threat_model.epsilon, threat_model.norm
    if initialization is Initialization.UNIFORM and norm is Norm.LINF:
        return (2 * noise.uniform(shape) - 1) * epsilon
    direction = noise.normal(shape)
    direction = direction / norms(direction, norm)
    radius = noise.uniform((shape[0],)).reshape(-1, *[1] * (len(shape) - 1))
    if initialization is Initialization.UNIFORM:
        radius = radius ** (1 / direction[0].numel())  # uniform in volume
    return direction * radius * epsilon


def ascend(
    gain: Gain, images: Tensor, start: Tensor, *, threat_model: ThreatModel, step_size: float, steps: int
) -> tuple[Tensor, Tensor]:
    """Raise `gain` from `start` within the budget around `images`, without momentum.

    Returns the best of the steps + 1 iterates of each example, [n, c, h, w], and its gain, [n].
    The caller decides the model's mode and freezes its weights.
    """
    current = project(start, images, threat_model)
    best, best_gain = current, torch.full((len(images),), -torch.inf, device=images.device)
    for step in range(steps + 1):
        with torch.set_grad_enabled(step < steps):
            current.requires_grad_(step < steps)
            values = gain(current)
        if step < steps:
            (gradient,) = torch.autograd.grad(values.sum(), current)
        with torch.no_grad():
            better = values > best_gain
            best_gain = torch.where(better, values, best_gain)
            best = torch.where(better.reshape(-1, *[1] * (images.dim() - 1)), current, best)
            if step < steps:
                current = project(current + step_size * steepest(gradient, threat_model.norm), images, threat_model)
    return best, best_gain


def attack(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    threat_model: ThreatModel,
    settings: PgdSettings,
    noise: Sequence[Noise],
) -> RestartOutcomes:
    """Run PGD on the cross-entropy once for each source of noise (one a restart).

    `images` [n, c, h, w] in [0, 1] and `labels` [n] lie on the model's device; the model is in eval mode.

    Raises:
        InvalidResult: an adversarial image outside the budget (a bug of ours).
    """
    restarts = [_restart(model, images, labels, threat_model, settings, source) for source in noise]
    loss, confidence, correct = (torch.stack(column, dim=1).cpu() for column in zip(*restarts, strict=True))
    return RestartOutcomes(loss, confidence, correct)


def _restart(
    model: nn.Module, images: Tensor, labels: Tensor, threat_model: ThreatModel, settings: PgdSettings, noise: Noise
) -> tuple[Tensor, Tensor, Tensor]:
    start = images + initial_perturbation(images.shape, settings.initialization, threat_model, noise).to(images.device)
    adversarial, _ = ascend(
        lambda candidates: F.cross_entropy(model(candidates), labels, reduction="none"),
        images,
        start,
        threat_model=threat_model,
        step_size=settings.step_size,
        steps=settings.steps,
    )
    verify(adversarial, images, threat_model)
    with torch.no_grad():
        logits = model(adversarial)
        wrong = logits.softmax(1).scatter(1, labels[:, None], 0.0).amax(1)
    return F.cross_entropy(logits, labels, reduction="none"), wrong, logits.argmax(1) == labels
