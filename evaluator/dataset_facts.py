"""What is known of each data set without opening it (torch-free): classes, image shape, sizes, pixel statistics."""

from dataclasses import dataclass

from evaluator.exceptions import InvalidRequest
from evaluator.types import Split


@dataclass(frozen=True)
class DatasetFacts:
    """One data set. `mean` and `std` are of the training pixels in [0, 1], one number a channel."""

    name: str
    title: str
    classes: int
    image_shape: tuple[int, int, int]
    """Channels, height, width."""
    test: int
    train: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    white: int = 255
    """The stored pixel value that stands for 1."""

    def size(self, split: Split) -> int:
        """Return the number of examples of `split`."""
        return self.test if split is Split.TEST else self.train


DATASET_FACTS: dict[str, DatasetFacts] = {
    "digits": DatasetFacts(
        "digits", "Digits (8×8, scikit-learn)", 10, (1, 8, 8), test=1000, train=797,
        mean=(0.3074,), std=(0.3766,), white=16,
    ),
    "cifar10": DatasetFacts(
        "cifar10", "CIFAR-10", 10, (3, 32, 32), test=10_000, train=50_000,
        mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616),
    ),
    "cifar100": DatasetFacts(
        "cifar100", "CIFAR-100", 100, (3, 32, 32), test=10_000, train=50_000,
        mean=(0.5071, 0.4865, 0.4409), std=(0.2673, 0.2564, 0.2762),
    ),
    "svhn": DatasetFacts(
        "svhn", "SVHN", 10, (3, 32, 32), test=26_032, train=73_257,
        mean=(0.4377, 0.4438, 0.4728), std=(0.1980, 0.2010, 0.1970),
    ),
}  # fmt: skip
"""Every data set by name."""


def find_dataset_facts(name: str) -> DatasetFacts:
    """Return the facts of the named data set.

    Raises:
        InvalidRequest: no such name; the message lists what there is.
    """
    try:
        return DATASET_FACTS[name]
    except KeyError:
        raise InvalidRequest(f"no data set is called {name!r:.80}; there are {', '.join(DATASET_FACTS)}") from None
