"""From a batch to an update of the weights: the only place that may evaluate at other weights."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from evaluator.flatness.neighborhood import perturbed_tensors
from evaluator.flatness.perturbation import perturbed

Closure = Callable[[], Tensor]
"""The loss, a scalar, of one attacked batch at whatever the weights are when it is called."""


class Stepper(Protocol):
    """One update; `fresh` draws and attacks a new batch at the current weights, as often as it is called."""

    def step(self, model: nn.Module, optimizer: Optimizer, fresh: Callable[[], Closure]) -> Tensor:
        """Update the weights once and return the loss, detached."""


@dataclass(frozen=True)
class Sgd:
    """Step along the gradient at the current weights."""

    def step(self, model: nn.Module, optimizer: Optimizer, fresh: Callable[[], Closure]) -> Tensor:
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

    def step(self, model: nn.Module, optimizer: Optimizer, fresh: Callable[[], Closure]) -> Tensor:
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


def _differentiate(optimizer: Optimizer, closure: Closure) -> Tensor:
    """Replace all gradients by those of the loss; return the loss, detached."""
    optimizer.zero_grad()
    loss = closure()
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return loss.detach()


STEPPERS: dict[str, Callable[..., Stepper]] = {"sgd": Sgd, "awp": Awp}
"""Every stepper by the `kind` a recipe says; arguments are the recipe's other settings."""
