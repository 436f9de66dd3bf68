"""The worst ν of B_ξ(w): ascent on weights and inputs together (Stutz et al. 2021, Eq. 8)."""

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from evaluator.attacks.budget import Ball, steepest
from evaluator.flatness.neighborhood import displacement, perturbed_tensors
from evaluator.protocol import WorstCaseSettings
from evaluator.types import ThreatModel


def worst_offsets(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    start: Tensor,
    *,
    threat_model: ThreatModel,
    input_step: float,
    settings: WorstCaseSettings,
    seed: int,
    restart: int,
    batch_size: int,
    tick: Callable[[], None] = lambda: None,
) -> dict[str, Tensor]:
    """Return the ν of B_ξ(w), by tensor name, at which the adversarial images of all examples have the largest loss.

    ν is one for all examples. It begins on the sphere, in the direction that flatness draws for the sample `restart`,
    and the images [n, c, h, w] begin at `start`. Each step moves both by the gradient of the same pass, ν⁽ˡ⁾ by a share
    of the radius of its tensor, and projects both. The best of the steps + 1 iterates is kept. The model's own weights
    stay as they are.
    """
    weights = perturbed_tensors(model)
    offsets = displacement(model, settings.xi, seed=seed, direction=restart)
    radii = {name: settings.xi * weights[name].detach().norm() for name in offsets}
    ball = Ball(images, threat_model)
    ball.move_to(images)
    current, best, best_loss = ball.project_(start.clone()), offsets, -torch.inf
    for step in range(settings.steps + 1):
        ends = step == settings.steps
        moved = {name: (weights[name].detach() + offset).requires_grad_(not ends) for name, offset in offsets.items()}
        gradient = {name: torch.zeros_like(offset) for name, offset in offsets.items()}
        following, total = [], 0.0
        for first in range(0, len(images), batch_size):
            tick()
            rows = slice(first, first + batch_size)
            inputs = current[rows].detach().requires_grad_(not ends)
            with torch.set_grad_enabled(not ends):
                loss = F.cross_entropy(functional_call(model, moved, (inputs,)), labels[rows], reduction="sum")
            total += loss.item()
            if not ends:
                of_inputs, *of_weights = torch.autograd.grad(loss, [inputs, *moved.values()])
                following.append(inputs.detach() + input_step * steepest(of_inputs, threat_model.norm))
                for name, part in zip(gradient, of_weights, strict=True):
                    gradient[name] += part
        if total > best_loss:
            best, best_loss = offsets, total
        if not ends:
            current = ball.project_(torch.cat(following))
            offsets = _stepped(offsets, gradient, radii, settings.step_size)
    return best


def _stepped(
    offsets: Mapping[str, Tensor], gradient: Mapping[str, Tensor], radii: Mapping[str, Tensor], step_size: float
) -> dict[str, Tensor]:
    """Return each ν⁽ˡ⁾ moved along its gradient by a share of its radius, and projected onto its ball."""
    after = {}
    for name, offset in offsets.items():
        tiny = torch.finfo(offset.dtype).tiny
        moved = offset + step_size * radii[name] * gradient[name] / gradient[name].norm().clamp_min(tiny)
        after[name] = moved * (radii[name] / moved.norm().clamp_min(tiny)).clamp_max(1.0)
    return after
