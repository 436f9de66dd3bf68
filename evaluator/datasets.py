"""Data sets as tensors of pixels in [0, 1], in their own order, un-augmented.

digits is scikit-learn's bundled 8×8 set: its first 797 images are the train split, its last 1,000 the test split.
Training recipes learn from train[0:400] and hold out train[400:797] for early stopping, so that no evaluation example
chooses a snapshot. CIFAR-10, CIFAR-100 and SVHN are read by torchvision's own classes from files that the operator
has put in place; nothing is downloaded here.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from evaluator.dataset_facts import DatasetFacts, find_dataset_facts
from evaluator.environment import read_environment
from evaluator.exceptions import DatasetMissing, InvalidRequest
from evaluator.torchvision_operators import load_torchvision
from evaluator.types import Split


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set in memory: `pixels` are uint8 [n, c, h, w], `labels` int64 [n], both by split."""

    facts: DatasetFacts
    pixels: dict[Split, Tensor]
    labels: dict[Split, Tensor]

    def size(self, split: Split) -> int:
        """Return the number of examples of `split`."""
        return len(self.labels[split])

    def examples(self, split: Split, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Return images (float32 [n, c, h, w] in [0, 1]) and labels (int64 [n]) of examples start … stop − 1.

        Raises:
            InvalidRequest: the range is empty or leaves the split.
        """
        if not 0 <= start < stop <= self.size(split):
            raise InvalidRequest(
                f"examples {start} to {stop} of {self.facts.name} {split} were asked for; "
                f"a range needs 0 <= start < stop <= {self.size(split)}"
            )
        images = self.pixels[split][start:stop].to(torch.float32).div_(self.facts.white)
        return images, self.labels[split][start:stop].clone()


def load_dataset(name: str, *, data_dir: Path | None = None) -> Dataset:
    """Return the named data set; its files are read once a process.

    `data_dir` is where CIFAR and SVHN files are (default: the environment's DATA_DIR, else var/data).

    Raises:
        InvalidRequest: no such data set.
        DatasetMissing: its files are not in `data_dir`, or their checksums differ.
    """
    facts = find_dataset_facts(name)
    return _load(facts, data_dir or read_environment().data_dir)


@functools.cache
def _load(facts: DatasetFacts, data_dir: Path) -> Dataset:
    pixels, labels = {}, {}
    for split in Split:
        images, targets = DATASETS[facts.name](data_dir, split)
        pixels[split] = torch.from_numpy(np.ascontiguousarray(images, dtype=np.uint8))
        labels[split] = torch.from_numpy(np.asarray(targets, dtype=np.int64))
    return Dataset(facts, pixels, labels)


def _digits(_data_dir: Path, split: Split) -> tuple[Any, Any]:
    from sklearn.datasets import load_digits

    bundled = load_digits()
    part = slice(0, 797) if split is Split.TRAIN else slice(797, None)
    return bundled.images[part, None], bundled.target[part]


def _cifar(class_name: str, data_dir: Path, split: Split) -> tuple[Any, Any]:
    reader = getattr(load_torchvision().datasets, class_name)
    try:
        files = reader(data_dir, train=split is Split.TRAIN, download=False)
    except RuntimeError as error:
        raise DatasetMissing(
            f"{class_name} was not found whole in {data_dir / reader.base_folder} (a file is missing or its "
            f"checksum differs); unpack {reader.url} into {data_dir}"
        ) from error
    return files.data.transpose(0, 3, 1, 2), files.targets


def _svhn(data_dir: Path, split: Split) -> tuple[Any, Any]:
    reader = load_torchvision().datasets.SVHN
    url, file_name, _ = reader.split_list[split]
    try:
        files = reader(data_dir, split=split.value, download=False)
    except RuntimeError as error:
        raise DatasetMissing(
            f"SVHN needs {file_name} in {data_dir}, and it is missing or its checksum differs; put {url} there"
        ) from error
    return files.data, files.labels


DATASETS: dict[str, Callable[[Path, Split], tuple[Any, Any]]] = {
    "digits": _digits,
    "cifar10": functools.partial(_cifar, "CIFAR10"),
    "cifar100": functools.partial(_cifar, "CIFAR100"),
    "svhn": _svhn,
}
"""The reader of every data set: images [n, c, h, w] with values 0 … `white`, and labels [n], of one split."""
