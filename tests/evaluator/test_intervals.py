"""Intervals equal published values, contain their estimate and cover the truth about as often as they say."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from evaluator import intervals
from evaluator.intervals import Estimate, bootstrap_grand_mean, bootstrap_mean, difference, wilson


def test_the_normal_quantile_that_is_written_out_is_scipys_to_the_last_bit():
    assert norm.ppf(0.5 + intervals._LEVEL / 2) == intervals._Z


def test_wilson_equals_the_textbook_value():
    # 8 of 10: Agresti & Coull (1998) give the score interval (0.490, 0.943)
    assert wilson(8, 10) == pytest.approx((0.8, 0.4902, 0.9433), abs=1e-4)


@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_contains_the_fraction_and_stays_in_the_unit_interval(counts):
    value, low, high = wilson(*counts)
    assert 0 <= low <= value <= high <= 1
    assert high > low


def test_the_bootstrap_covers_the_true_mean_about_as_often_as_it_says():
    generator = np.random.default_rng(0)
    covered = 0
    for repetition in range(100):
        estimate = bootstrap_mean(generator.exponential(size=100), seed=repetition)
        covered += estimate.low <= 1 <= estimate.high
    assert 86 <= covered <= 100  # 95 % of 100, minus four standard deviations and the small-sample loss


def test_resampling_weight_samples_widens_the_interval_when_they_disagree():
    per_sample = np.arange(10.0)[:, None] + np.zeros((10, 50))
    estimate = bootstrap_grand_mean(per_sample)
    assert estimate.value == 4.5
    assert estimate.high - estimate.low == pytest.approx(2 * 1.96 * np.arange(10).std() / 10**0.5, rel=0.1)


def test_the_bootstrap_is_a_function_of_its_values_and_seed():
    values = np.random.default_rng(1).normal(size=30)
    assert bootstrap_mean(values, seed=4) == bootstrap_mean(values, seed=4)
    assert bootstrap_mean(values, seed=4) != bootstrap_mean(values, seed=5)


def test_a_difference_of_wilson_intervals_equals_newcombes_example():
    # Newcombe (1998), Table II, 56/70 − 48/80, method 10: 0.0524 to 0.3339
    assert difference(wilson(56, 70), wilson(48, 80)) == pytest.approx((0.2, 0.0524, 0.3339), abs=1e-4)


def test_a_difference_from_a_certain_value_only_shifts():
    assert difference(Estimate(2.0, 1.5, 3.0), Estimate(1.0, 1.0, 1.0)) == pytest.approx((1.0, 0.5, 2.0))
