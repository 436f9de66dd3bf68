"""From a batch to an update of the weights: the only place that may evaluate at other weights."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from evaluator.devices import sent
from evaluator.flatness.neighborhood import perturbed_tensors
from evaluator.flatness.perturbation import perturbed

Closure = Callable[[], Tensor]
"""The loss, a scalar, of one attacked batch at whatever the weights are when it is called."""


Fresh = Callable[[], Closure]
"""Draws and attacks a new batch at the current weights, as often as it is called."""


class Stepper(Protocol):
    """One update, with batches from `fresh` and whatever is random about the weights from `noise`, on the CPU."""

    def step(self, model: nn.Module, optimizer: Optimizer, fresh: Fresh, noise: torch.Generator) -> Tensor:
        """Update the weights once and return the loss, detached."""


@dataclass(frozen=True)
class Sgd:
    """Step along the gradient at the current weights."""

    def step(self, model: nn.Module, optimizer: Optimizer, fresh: Fresh, noise: torch.Generator) -> Tensor:
        """Update the weights once and return the loss, detached."""
        loss = _differentiate(optimizer, fresh())
        optimizer.step()
        return loss


@dataclass(frozen=True)
class Awp:
    """Adversarial weight perturbation (Wu et al. 2020): step along the gradient at w + v, v⁽ˡ⁾ = γ‖w⁽ˡ⁾‖ g⁽ˡ⁾/‖g⁽ˡ⁾‖.

    v is one ascent step on the weights of convolutional and linear layers; adversarial images stay as found at w.
    """

    gamma: float

    def step(self, model: nn.Module, optimizer: Optimizer, fresh: Fresh, noise: torch.Generator) -> Tensor:
        """Update the weights once and return the loss at w + v, detached. BatchNorm counts the pass at w alone."""
        closure = fresh()
        _differentiate(optimizer, closure)
        statistics = {name: buffer.clone() for name, buffer in model.named_buffers()}
        with perturbed(model, self.ascent(model)):
            loss = _differentiate(optimizer, closure)
        for name, buffer in model.named_buffers():
            buffer.copy_(statistics[name])
        optimizer.step()
        return loss

    def ascent(self, model: nn.Module) -> dict[str, Tensor]:
        """Return v by tensor name, from the gradients that `model`'s parameters hold."""
        offsets: dict[str, Tensor] = {}
        for name, weight in perturbed_tensors(model).items():
            if weight.dim() > 1 and weight.grad is not None:
                steepness = weight.grad.norm().clamp_min(torch.finfo(weight.dtype).tiny)
                offsets[name] = self.gamma * weight.detach().norm() / steepness * weight.grad
        return offsets


@dataclass(frozen=True)
class EntropySgd:
    """Entropy-SGD (Chaudhari et al. 2017, Alg. 1): step from w towards the mean μ of a noisy walk that starts there.

    Each of `steps` inner steps takes a new batch: x ← x − η (∇f(x) + γ (x − w)) + √η · ε · n with n standard normal,
    μ ← α μ + (1 − α) x, where η is `step_size`, ε `noise` and α `averaging`. Then x returns to w, and the optimizer
    takes w − μ for a gradient: its rate, and so the schedule, acts on the outer step alone.
    """

    steps: int
    step_size: float
    noise: float
    gamma: float
    averaging: float

    def step(self, model: nn.Module, optimizer: Optimizer, fresh: Fresh, noise: torch.Generator) -> Tensor:
        """Update the weights once and return the mean loss of the inner steps, detached."""
        weights: list[Tensor] = [weight for group in optimizer.param_groups for weight in group["params"]]
        starts = [weight.detach().clone() for weight in weights]
        means = [start.clone() for start in starts]
        losses = []
        for _ in range(self.steps):
            losses.append(_differentiate(optimizer, fresh()))
            for weight, start, mean in zip(weights, starts, means, strict=True):
                self._walk(weight, start, noise)
                mean.lerp_(weight.detach(), 1 - self.averaging)
        for weight, start, mean in zip(weights, starts, means, strict=True):
            weight.data.copy_(start)
            weight.grad = start - mean
        optimizer.step()
        return torch.stack(losses).mean()

    @torch.no_grad()
    def _walk(self, weight: Tensor, start: Tensor, noise: torch.Generator) -> None:
        assert weight.grad is not None, "every parameter takes part in the loss"
        diffusion = sent(torch.randn(weight.shape, generator=noise), weight.device)
        pull = self.gamma * (weight - start)
        weight += math.sqrt(self.step_size) * self.noise * diffusion - self.step_size * (weight.grad + pull)


def _differentiate(optimizer: Optimizer, closure: Closure) -> Tensor:
    """Replace all gradients by those of the loss; return the loss, detached."""
    optimizer.zero_grad()
    loss = closure()
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return loss.detach()


STEPPERS: dict[str, Callable[..., Stepper]] = {"sgd": Sgd, "awp": Awp, "entropy-sgd": EntropySgd}
"""Every stepper by the `kind` a recipe says; arguments are the recipe's other settings."""
