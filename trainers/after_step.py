"""What happens to the weights after every update, attached to the optimizer's post-step hook."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from evaluator.flatness.neighborhood import perturbed_tensors


class AfterStep(Protocol):
    """A part that looks at, or changes, the network after each update."""

    outcome: nn.Module | None
    """The network that the training yields in place of the one it updates, or None for no other."""

    def update(self) -> None:
        """Act once, after an update."""

    def state_dict(self) -> Mapping[str, Tensor]:
        """Return what the part remembers."""

    def load_state_dict(self, state: Mapping[str, Tensor], /) -> object:
        """Return to a saved memory."""


class Averaging:
    """w̄ ← τ·w̄ + (1 − τ)·w (Izmailov et al. 2018 as in Stutz et al. 2021), starting at the first update's weights.

    BatchNorm's running statistics are copied, not averaged: they are averages already.
    """

    def __init__(self, model: nn.Module, *, decay: float) -> None:
        self._model = model
        self._average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))  # type: ignore[no-untyped-call]  # torch's
        self.outcome: nn.Module | None = self._average.module

    def update(self) -> None:
        """Move the average a little towards the weights."""
        self._average.update_parameters(self._model)

    def state_dict(self) -> Mapping[str, Tensor]:
        """Return the average and the number of updates in it."""
        state: Mapping[str, Tensor] = self._average.state_dict()
        return state

    def load_state_dict(self, state: Mapping[str, Tensor], /) -> object:
        """Return to a saved average."""
        return self._average.load_state_dict(state)


class Clipping:
    """w ← clamp(w, −w_max, w_max) on all that is trained, or on the convolutional and linear layers of it.

    The latter leaves normalisation layers their scale, which an ordinary BatchNorm needs around 1.
    """

    def __init__(self, model: nn.Module, *, maximum: float, layers: Literal["convolutional-and-linear", "all"]) -> None:
        chosen = model.parameters() if layers == "all" else perturbed_tensors(model).values()
        self._weights, self._maximum = [weight for weight in chosen if weight.requires_grad], maximum
        self.outcome: nn.Module | None = None
        self.update()  # the first forward pass already sees clipped weights

    def update(self) -> None:
        """Clamp the weights in place."""
        with torch.no_grad():
            for weight in self._weights:
                weight.clamp_(-self._maximum, self._maximum)

    def state_dict(self) -> Mapping[str, Tensor]:
        """Return nothing: clipping has no memory."""
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor], /) -> object:
        """Accept that nothing."""
        return None


def attach(part: AfterStep, optimizer: Optimizer) -> None:
    """Let `part` act after every step of `optimizer`."""

    def hook(_optimizer: Optimizer, _args: tuple[Any, ...], _kwargs: dict[Any, Any]) -> None:
        part.update()

    optimizer.register_step_post_hook(hook)


AFTER_STEP: dict[str, Callable[..., AfterStep]] = {"averaging": Averaging, "clipping": Clipping}
"""Every part by the `kind` a recipe says; arguments are the network and the recipe's other settings."""
