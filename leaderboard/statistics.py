"""Tests and correlations that the pages show (pure): McNemar, Spearman's ρ, Kendall's τ."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest, kendalltau, rankdata

from evaluator.exceptions import InvalidRequest

SIGNIFICANCE = 0.05
RESAMPLES = 2000
_FEWEST_POINTS = 4


def mcnemar(first: str, second: str) -> float:
    """Return the two-sided p-value of the exact test of McNemar (1947) on paired outcomes of the same examples.

    `first` and `second` hold one character an example. Under the null hypothesis an example on which the two differ
    is equally likely to be in favour of either.

    Raises:
        InvalidRequest: the two do not cover the same number of examples.
    """
    if len(first) != len(second):
        raise InvalidRequest(f"a paired test needs the same examples, got {len(first)} and {len(second)}")
    only_first = sum(a > b for a, b in zip(first, second, strict=True))
    only_second = sum(a < b for a, b in zip(first, second, strict=True))
    discordant = only_first + only_second
    return float(binomtest(only_first, discordant).pvalue) if discordant else 1.0


@dataclass(frozen=True)
class Correlation:
    """Rank correlation of n points: Spearman's ρ with its 95 % bootstrap interval over points, and Kendall's τ-b."""

    rho: float
    low: float
    high: float
    tau: float
    n: int


def rank_correlation(x: Sequence[float], y: Sequence[float], *, seed: int = 0) -> Correlation | None:
    """Return the rank correlation of the points, or None where they are fewer than 4 or one side is constant."""
    points = np.array([x, y], dtype=np.float64)
    n = points.shape[1]
    if n < _FEWEST_POINTS or (np.ptp(points, axis=1) == 0).any():
        return None
    points = points[:, np.lexsort(points)]  # the interval shall not depend on the order in which the points came
    draws = np.random.default_rng([seed, n]).integers(n, size=(RESAMPLES, n))
    resampled = _spearman(points[0][draws], points[1][draws])
    low, high = np.nanquantile(resampled, [0.025, 0.975])
    rho = float(_spearman(points[0][None], points[1][None])[0])
    return Correlation(rho, float(low), float(high), float(kendalltau(points[0], points[1]).statistic), n)


def _spearman(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return ρ of each row of x, y [rows, n]; nan where a row is constant."""
    x, y = (rankdata(values, axis=1) - (values.shape[1] + 1) / 2 for values in (x, y))
    scale = np.sqrt((x**2).sum(1) * (y**2).sum(1))
    return np.divide((x * y).sum(1), scale, out=np.full(len(x), np.nan), where=scale > 0)
