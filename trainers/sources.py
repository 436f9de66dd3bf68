"""Where batches come from: images, the labels the attack knows, and the targets the weights learn."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from trainers.augmentation import cut_out, shifted


@dataclass(frozen=True)
class Batch:
    """n examples: `images` [n, c, h, w] in [0, 1], true `labels` [n] for the attack, `targets` [n] for the weights."""

    images: Tensor
    labels: Tensor
    targets: Tensor


class Source(Protocol):
    """An endless stream of batches whose position can be saved and restored."""

    batches_per_epoch: int

    def draw(self) -> Batch:
        """Return the next batch."""

    def state_dict(self) -> Mapping[str, Tensor]:
        """Return the position in the stream."""

    def load_state_dict(self, state: Mapping[str, Tensor], /) -> object:
        """Return to a saved position."""


class Labelled:
    """Labelled examples in an order drawn anew for each pass; the last batch of a pass may be smaller.

    Label noise redraws each target with probability `label_noise` from all classes, afresh in every batch.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        *,
        classes: int,
        batch_size: int,
        label_noise: float,
        order: torch.Generator,
        noise: torch.Generator,
    ) -> None:
        self._images, self._labels, self._classes = images, labels, classes
        self._batch_size, self._label_noise = batch_size, label_noise
        self._order, self._noise = order, noise
        self._pending = torch.empty(0, dtype=torch.int64)
        self.batches_per_epoch = -(-len(images) // batch_size)

    def draw(self) -> Batch:
        """Return the next batch."""
        if not len(self._pending):
            self._pending = torch.randperm(len(self._images), generator=self._order)
        chosen, self._pending = self._pending[: self._batch_size], self._pending[self._batch_size :]
        chosen = chosen.to(self._labels.device)
        images, labels = self._images[chosen], self._labels[chosen]
        return Batch(images, labels, self._noisy(labels) if self._label_noise else labels)

    def state_dict(self) -> dict[str, Tensor]:
        """Return what is left of the current pass."""
        return {"pending": self._pending.clone()}

    def load_state_dict(self, state: Mapping[str, Tensor], /) -> None:
        """Return to a saved position; the generators are restored by their owner."""
        self._pending = state["pending"]

    def _noisy(self, labels: Tensor) -> Tensor:
        redrawn = torch.rand(len(labels), generator=self._noise) < self._label_noise
        drawn = torch.randint(self._classes, (len(labels),), generator=self._noise)
        return torch.where(redrawn.to(labels.device), drawn.to(labels.device), labels)


class Augmented(Labelled):
    """Labelled examples, each moved by up to `shift` pixels and then with a black square of `cutout` pixels, afresh."""

    def __init__(self, *tensors: Tensor, shift: int, cutout: int, noise: torch.Generator, **settings: Any) -> None:
        super().__init__(*tensors, noise=noise, **settings)
        self._shift, self._cutout = shift, cutout

    def draw(self) -> Batch:
        """Return the next batch."""
        batch = super().draw()
        return replace(
            batch, images=cut_out(shifted(batch.images, self._shift, self._noise), self._cutout, self._noise)
        )


SOURCES: dict[str, Callable[..., Source]] = {"labelled": Labelled, "augmented": Augmented}
"""Every source by the `kind` a recipe says; arguments are tensors, generators and the recipe's other settings."""
