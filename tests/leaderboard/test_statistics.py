"""Paired tests, rank correlations and differences against hand-computed values and against SciPy."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr, ttest_rel

from leaderboard import statistics
from leaderboard.statistics import (
    clustered_correlation,
    correlation_within_groups,
    mcnemar,
    paired_difference,
    rank_correlation,
)


@pytest.fixture(autouse=True, scope="module")
def _few_resamples() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statistics, "RESAMPLES", 200)
        yield


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


seeds = st.integers(0, 20).map(lambda tenths: tenths / 10)
measured = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 1), seeds, seeds), min_size=6, max_size=30).map(
    lambda rows: [(group, f"{group}/{cluster}", x, y) for cluster, group, x, y in rows]
)


def within(rows: list[tuple]):
    return correlation_within_groups(*([row[i] for row in rows] for i in range(4)))


def clustered(rows: list[tuple]):
    return clustered_correlation(*([row[i] for row in rows] for i in (1, 2, 3)))


@settings(max_examples=50)
@given(measured, st.randoms())
def test_a_clustered_correlation_depends_on_no_order_and_no_name(rows: list[tuple], random) -> None:
    shuffled = random.sample(rows, len(rows))
    renamed = [((group, "renamed"), cluster[::-1], x, y) for group, cluster, x, y in shuffled]
    for correlation in (clustered, within):
        assert correlation(rows) == correlation(shuffled) == correlation(renamed)


@settings(max_examples=50)
@given(measured, st.integers(2, 3))
def test_clusters_of_equal_copies_change_nothing(rows: list[tuple], copies: int) -> None:
    alone = [(group, (cluster, number), x, y) for number, (group, cluster, x, y) in enumerate(rows)]
    for correlation in (clustered, within):
        assert correlation([row for row in alone for _ in range(copies)]) == correlation(alone)
    assert clustered(alone) == rank_correlation(*list(zip(*alone, strict=True))[2:])


@settings(max_examples=50)
@given(measured)
def test_a_correlation_within_one_group_is_that_of_its_clusters(rows: list[tuple]) -> None:
    assert within([("only", *rest) for _, *rest in rows]) == clustered(rows)


@settings(max_examples=50)
@given(measured)
def test_a_correlation_within_groups_lies_between_those_of_the_groups(rows: list[tuple]) -> None:
    alone = [clustered([row for row in rows if row[0] == group]) for group in (0, 1)]
    known = [found for found in alone if found is not None]
    found = within(rows)
    assert (found is None) == (not known)
    if found is not None:
        assert min(one.rho for one in known) - 1e-12 <= found.rho <= max(one.rho for one in known) + 1e-12
        assert (found.n, found.groups) == (sum(one.n for one in known), len(known))
        assert -1 - 1e-12 <= found.low <= found.high <= 1 + 1e-12


def test_seeds_of_few_recipes_are_no_correlation() -> None:
    x, y = list(range(12)), list(range(12))
    assert clustered_correlation(["at"] * 12, x, y) is None
    assert clustered_correlation(["at", "awp", "trades"] * 4, x, y) is None
    assert clustered_correlation(["at", "awp", "trades", "mart"] * 3, x, y) is not None


def test_a_schedule_that_moves_both_numbers_makes_no_correlation_within_schedules() -> None:
    # Among equal schedules y falls as x rises; the longer schedule raises both.
    rows = [(schedule, (schedule, i), 10 * schedule + i, 10 * schedule - i) for schedule in (0, 1) for i in range(5)]
    assert clustered(rows).rho > 0
    found = within(rows)
    assert (found.rho, found.low, found.high, found.tau) == pytest.approx((-1, -1, -1, -1))
    assert (found.n, found.groups) == (10, 2)


def test_groups_weigh_as_the_certainty_of_their_correlations() -> None:
    rows = (
        [("many", i, i, i) for i in range(7)] + [("few", i, i, -i) for i in range(4)] + [("two", i, i, i) for i in "12"]
    )
    # (6 · 1 + 3 · (−1)) / 9; the two clusters of the third group say nothing
    assert within(rows).rho == pytest.approx(1 / 3)


pairs = st.lists(st.tuples(seeds, seeds), min_size=3, max_size=9)


@given(pairs, st.randoms())
def test_a_paired_difference_is_that_of_the_means_and_depends_on_no_order(rows: list[tuple], random) -> None:
    found = paired_difference(*zip(*rows, strict=True))
    assert found.value == pytest.approx(np.mean([a for a, _ in rows]) - np.mean([b for _, b in rows]))
    assert found.low <= found.value <= found.high
    assert found == paired_difference(*zip(*random.sample(rows, len(rows)), strict=True))
    swapped = paired_difference([b for _, b in rows], [a for a, _ in rows])
    assert (swapped.value, swapped.low, swapped.high) == pytest.approx((-found.value, -found.high, -found.low))


def test_a_paired_difference_has_the_interval_of_the_paired_t_test() -> None:
    final, stopped = [0.41, 0.44, 0.39, 0.45], [0.36, 0.41, 0.37, 0.38]
    found = paired_difference(final, stopped)
    expected = ttest_rel(final, stopped).confidence_interval(0.95)
    assert (found.low, found.high, found.n) == pytest.approx((expected.low, expected.high, 4))


def test_seeds_of_one_recipe_do_not_narrow_the_interval_over_recipes() -> None:
    final, stopped, recipes = [0.4, 0.5, 0.45], [0.3, 0.45, 0.4], ["at", "awp", "trades"]
    assert paired_difference(final, stopped, recipes) == paired_difference(final, stopped)
    assert paired_difference(final * 3, stopped * 3, recipes * 3) == paired_difference(final, stopped)
    assert paired_difference(final, stopped, ["at"] * 3) is None
    assert paired_difference([0.4], [0.3]) is None
