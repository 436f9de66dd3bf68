"""95 % intervals (torch-free): Wilson for fractions, bootstrap for means, MOVER for differences."""

from math import sqrt
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

RESAMPLES = 2000
_LEVEL = 0.95
_Z = 1.959963984540054
"""The (1 + _LEVEL) / 2 quantile of the normal distribution, written out: importing scipy.stats takes a second."""

Floats = npt.NDArray[np.float64]


class Estimate(NamedTuple):
    """A value between the ends of its 95 % interval."""

    value: float
    low: float
    high: float


def wilson(successes: int, n: int) -> Estimate:
    """Return the fraction `successes / n` with the score interval of Wilson (1927)."""
    fraction = successes / n
    center = (fraction + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * sqrt(fraction * (1 - fraction) / n + _Z**2 / (4 * n**2))
    return Estimate(fraction, max(0.0, min(fraction, center - half)), min(1.0, max(fraction, center + half)))


def bootstrap_mean(values: Floats, *, seed: int = 0) -> Estimate:
    """Return the mean of `values` [n] with a percentile interval over resampled examples."""
    return bootstrap_grand_mean(values[None], seed=seed)


def bootstrap_grand_mean(values: Floats, *, seed: int = 0) -> Estimate:
    """Return the mean of `values` [samples, n] with a percentile interval over resampled samples and examples.

    Both axes are resampled in each of `RESAMPLES` draws: weight samples and examples are crossed random effects.
    """
    samples, n = values.shape
    generator = np.random.default_rng([seed, samples, n])
    means = np.empty(RESAMPLES)
    for draw in range(RESAMPLES):
        weights = generator.multinomial(samples, np.full(samples, 1 / samples)) / samples
        means[draw] = (weights @ values)[generator.integers(n, size=n)].mean()
    low, high = np.quantile(means, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return Estimate(float(values.mean()), float(low), float(high))


def difference(first: Estimate, second: Estimate) -> Estimate:
    """Return `first − second`, independent, with the interval of Newcombe (1998), method 10 (MOVER)."""
    value = first.value - second.value
    return Estimate(
        value,
        value - sqrt((first.value - first.low) ** 2 + (second.high - second.value) ** 2),
        value + sqrt((first.high - first.value) ** 2 + (second.value - second.low) ** 2),
    )
