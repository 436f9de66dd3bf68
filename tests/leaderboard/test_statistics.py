"""Paired tests and rank correlations against hand-computed values and against SciPy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from leaderboard.statistics import mcnemar, rank_correlation

outcomes = st.integers(1, 40).flatmap(lambda n: st.tuples(*[st.text("01", min_size=n, max_size=n)] * 2))


def test_mcnemar_matches_the_binomial_sum_by_hand() -> None:
    # 1 of 6 discordant pairs in favour of the first: p = 2 · (C(6,0) + C(6,1)) / 2⁶ = 14 / 64
    first = "1" + "0" * 5 + "1" * 10
    second = "0" + "1" * 5 + "1" * 10
    assert mcnemar(first, second) == pytest.approx(14 / 64)


@given(outcomes)
def test_mcnemar_is_a_probability_and_does_not_mind_who_comes_first(pair: tuple[str, str]) -> None:
    first, second = pair
    assert 0 < mcnemar(first, second) <= 1
    assert mcnemar(first, second) == pytest.approx(mcnemar(second, first))
    assert mcnemar(first, first) == 1


def test_a_correlation_agrees_with_scipy_and_lies_within_its_interval() -> None:
    generator = np.random.default_rng(3)
    x = generator.normal(size=12).round(1)
    y = (x + generator.normal(size=12)).round(1)
    found = rank_correlation(x, y)
    assert found is not None
    assert found.rho == pytest.approx(spearmanr(x, y).statistic)
    assert -1 <= found.low < found.rho < found.high <= 1
    assert found == rank_correlation(x, y)


def test_a_monotone_relation_has_correlation_one_in_every_resample() -> None:
    found = rank_correlation(range(10), [v**3 for v in range(10)])
    assert found is not None
    assert (found.rho, found.low, found.high, found.tau) == pytest.approx((1, 1, 1, 1))


@pytest.mark.parametrize(("x", "y"), [([1, 2, 3], [1, 2, 3]), ([1, 1, 1, 1], [1, 2, 3, 4])])
def test_too_few_points_or_a_constant_side_have_no_correlation(x: list[float], y: list[float]) -> None:
    assert rank_correlation(x, y) is None


def test_a_correlation_does_not_depend_on_the_order_of_its_points() -> None:
    x, y = [0.3, 0.1, 0.9, 0.4, 0.8, 0.2], [1.0, 1.2, 3.0, 0.7, 2.0, 1.9]
    assert rank_correlation(x, y) == rank_correlation(x[::-1], y[::-1])
