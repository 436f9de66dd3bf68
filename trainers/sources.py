"""Where batches come from: images, the labels the attack knows, and the targets the weights learn."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from evaluator.datasets import Dataset
from evaluator.devices import sent
from evaluator.exceptions import InvalidRequest
from evaluator.types import Split
from trainers.augmentation import augmented
from trainers.settings import FileSettings, LabelledSettings, Range, UnlabeledSettings
from trainers.unlabeled import read_pseudo_labelled, spread_labels


@dataclass(frozen=True)
class Batch:
    """n examples: `images` [n, c, h, w] in [0, 1], `labels` [n] for the attack, `targets` [n] for the weights.

    A label is the true one as far as it is known: that of an unlabeled image is a guess.
    """

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

    Label noise redraws each target with probability `label_noise` from all classes, afresh in every batch. Pixels lie
    on the device as the data set stores them, a quarter of the size they have as numbers in [0, 1].
    """

    def __init__(
        self,
        settings: LabelledSettings,
        dataset: Dataset,
        *,
        data_dir: Path | None,
        device: torch.device,
        order: torch.Generator,
        noise: torch.Generator,
    ) -> None:
        self._settings, self._facts, self._order, self._noise = settings, dataset.facts, order, noise
        self._white = torch.tensor(float(dataset.facts.white), device=device)
        self._mean = torch.tensor(dataset.facts.mean, device=device).view(-1, 1, 1)
        pixels, labels = self._examples(dataset, data_dir)
        self._pixels = pixels.to(device, memory_format=torch.channels_last)
        self._labels = labels.to(device)
        count = settings.examples.stop - settings.examples.start
        self._passes = Passes(count, order)
        self.batches_per_epoch = -(-count // settings.batch_size)

    def draw(self) -> Batch:
        """Return the next batch."""
        chosen = sent(self._chosen(), self._labels.device)
        images, labels = self._pixels[chosen].float().div_(self._white), self._labels[chosen]
        targets = self._noisy(labels) if self._settings.label_noise else labels
        return Batch(augmented(images, self._settings.augmentation, self._mean, self._noise), labels, targets)

    def state_dict(self) -> dict[str, Tensor]:
        """Return what is left of the current pass."""
        return {"pending": self._passes.pending.clone()}

    def load_state_dict(self, state: Mapping[str, Tensor], /) -> None:
        """Return to a saved position; the generators are restored by their owner."""
        self._passes.pending = state["pending"]

    def _examples(self, dataset: Dataset, data_dir: Path | None) -> tuple[Tensor, Tensor]:
        """Return pixels [n, c, h, w] and labels [n] of all examples to draw from, the labelled first."""
        return _stored(dataset, self._settings.examples)

    def _chosen(self) -> Tensor:
        return self._passes.rest(self._settings.batch_size)

    def _noisy(self, labels: Tensor) -> Tensor:
        redrawn = torch.rand(len(labels), generator=self._noise) < self._settings.label_noise
        drawn = torch.randint(self._facts.classes, (len(labels),), generator=self._noise)
        return torch.where(sent(redrawn, labels.device), sent(drawn, labels.device), labels)


class Unlabeled(Labelled):
    """Labelled and pseudo-labelled examples in fixed shares, shuffled within the batch (Carmon et al. 2019).

    Each kind has passes of its own, and all batches are full: where a pass ends, the next begins in the same batch.
    """

    def __init__(
        self,
        settings: UnlabeledSettings,
        dataset: Dataset,
        *,
        data_dir: Path | None,
        device: torch.device,
        order: torch.Generator,
        noise: torch.Generator,
    ) -> None:
        self._unlabeled = settings.unlabeled
        self._share = round(settings.fraction * settings.batch_size)
        if not 0 < self._share < settings.batch_size:
            raise InvalidRequest(
                f"a fraction of {settings.fraction} unlabeled images is {self._share} of a batch of "
                f"{settings.batch_size}; a batch needs at least one image of either kind"
            )
        super().__init__(settings, dataset, data_dir=data_dir, device=device, order=order, noise=noise)
        self._labelled = settings.examples.stop - settings.examples.start
        self._others = Passes(len(self._labels) - self._labelled, order)

    def state_dict(self) -> dict[str, Tensor]:
        """Return what is left of both passes."""
        return super().state_dict() | {"pending unlabeled": self._others.pending.clone()}

    def load_state_dict(self, state: Mapping[str, Tensor], /) -> None:
        """Return to a saved position; the generators are restored by their owner."""
        super().load_state_dict(state)
        self._others.pending = state["pending unlabeled"]

    def _examples(self, dataset: Dataset, data_dir: Path | None) -> tuple[Tensor, Tensor]:
        pixels, labels = super()._examples(dataset, data_dir)
        if isinstance(self._unlabeled, FileSettings):
            others, guesses = read_pseudo_labelled(self._unlabeled.name, self._facts, data_dir)
        else:
            others, _ = _stored(dataset, self._unlabeled.examples)
            guesses = spread_labels(pixels, labels, others)
            others, guesses = others[guesses >= 0], guesses[guesses >= 0]
            if not len(guesses):
                raise InvalidRequest(
                    f"no label reaches any of the withheld examples {self._unlabeled.examples.start} … "
                    f"{self._unlabeled.examples.stop}; choose more that are labelled, or nearer to them"
                )
        return torch.cat([pixels, others]), torch.cat([labels, guesses])

    def _chosen(self) -> Tensor:
        known = self._passes.exactly(self._settings.batch_size - self._share)
        batch = torch.cat([known, self._labelled + self._others.exactly(self._share)])
        return batch[torch.randperm(len(batch), generator=self._order)]


class Passes:
    """The numbers 0 … `count` − 1, pass after pass, in an order drawn anew for each; `pending` is left of this one."""

    def __init__(self, count: int, order: torch.Generator) -> None:
        self._count, self._order = count, order
        self.pending = torch.empty(0, dtype=torch.int64)

    def rest(self, most: int) -> Tensor:
        """Return the next `most` numbers, fewer where the pass ends."""
        if not len(self.pending):
            self.pending = torch.randperm(self._count, generator=self._order)
        taken, self.pending = self.pending[:most], self.pending[most:]
        return taken

    def exactly(self, number: int) -> Tensor:
        """Return the next `number` numbers, of as many passes as it takes."""
        taken = self.rest(number)
        while len(taken) < number:
            taken = torch.cat([taken, self.rest(number - len(taken))])
        return taken


def _stored(dataset: Dataset, chosen: Range) -> tuple[Tensor, Tensor]:
    """Return pixels as whole numbers (uint8 [n, c, h, w]) and labels (int64 [n]) of training examples."""
    images, labels = dataset.examples(Split.TRAIN, chosen.start, chosen.stop)
    return (images * dataset.facts.white).round().to(torch.uint8), labels


SOURCES: dict[str, Callable[..., Source]] = {"labelled": Labelled, "unlabeled": Unlabeled}
"""Every source by the `kind` a recipe says; arguments are its settings, the data set, folder, device and generators."""
