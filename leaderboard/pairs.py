"""Two entries on the same test examples (pure): McNemar's test on outcomes, paired bootstrap of losses."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import sqrt
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from evaluator.intervals import Estimate, bootstrap_mean
from leaderboard.statistics import SIGNIFICANCE, mcnemar

Losses = npt.NDArray[np.float64]
_Z = NormalDist().inv_cdf(1 - SIGNIFICANCE / 2)


@dataclass(frozen=True)
class Outcomes:
    """How two entries ended on n examples: with which of them alone an example withstands every attack.

    `difference` is the first robust error minus the second, `p` McNemar's, `corrected` the same by Holm (1979) over
    all pairs that are shown together.
    """

    n: int
    only_first: int
    only_second: int
    difference: Estimate
    p: float
    corrected: float

    @property
    def separable(self) -> bool:
        """Whether the test tells the two apart at 5 %, by the same rule as the board's tie groups."""
        return self.p < SIGNIFICANCE

    @property
    def surely(self) -> bool:
        """Whether it still does so, corrected for the number of pairs."""
        return self.corrected < SIGNIFICANCE


@dataclass(frozen=True)
class Pair:
    """Two entries by their keys; None stands for what was not measured of both, or cannot be read."""

    first: str
    second: str
    error: Outcomes | None
    loss: Estimate | None
    """The first robust loss minus the second."""

    @property
    def losses_separable(self) -> bool:
        """Whether the interval of the losses' difference leaves out zero."""
        return self.loss is not None and not self.loss.low <= 0 <= self.loss.high


def pairs(robust: Mapping[str, str], losses: Mapping[str, Losses]) -> list[Pair]:
    """Return every pair of entries, by key in the order given.

    `robust` holds one character a test example, 1 when no attack broke it, and is empty where nothing attacked;
    `losses` holds the robust loss [n] of test examples for entries of which it can be read.

    Raises:
        InvalidRequest: two entries do not cover the same examples.
    """
    tested = [both for both in combinations(robust, 2) if robust[both[0]] and robust[both[1]]]
    p = [mcnemar(robust[first], robust[second]) for first, second in tested]
    outcomes = {
        both: _outcomes(robust[both[0]], robust[both[1]], raw, corrected)
        for both, raw, corrected in zip(tested, p, holm(p), strict=True)
    }
    return [
        Pair(first, second, outcomes.get((first, second)), _between(losses.get(first), losses.get(second)))
        for first, second in combinations(robust, 2)
    ]


def holm(p: Sequence[float]) -> list[float]:
    """Return p-values corrected for how many there are by the step-down method of Holm (1979)."""
    corrected, largest = [0.0] * len(p), 0.0
    for position, index in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        largest = max(largest, min(1.0, (len(p) - position) * p[index]))
        corrected[index] = largest
    return corrected


def paired_share(only_first: int, only_second: int, n: int) -> Estimate:
    """Return (only_second − only_first) / n with the 95 % interval of Agresti and Min (2005).

    It is Wald's interval after half an example was added to each of the four outcomes, so it has a width also where
    the two never differ.
    """
    more, fewer = (only_second + 0.5) / (n + 2), (only_first + 0.5) / (n + 2)
    half = _Z * sqrt((more + fewer - (more - fewer) ** 2) / (n + 2))
    middle = more - fewer
    return Estimate((only_second - only_first) / n, max(-1.0, middle - half), min(1.0, middle + half))


def _outcomes(first: str, second: str, p: float, corrected: float) -> Outcomes:
    ends = list(zip(first, second, strict=True))
    only_first, only_second = ends.count(("1", "0")), ends.count(("0", "1"))
    return Outcomes(len(ends), only_first, only_second, paired_share(only_first, only_second, len(ends)), p, corrected)


def _between(first: Losses | None, second: Losses | None) -> Estimate | None:
    return None if first is None or second is None else bootstrap_mean(first - second)
