"""Ranking: total, stable, and honest about what it cannot tell apart."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluator.exceptions import InvalidRequest
from leaderboard.ranking import Contestant, pareto_front, rank
from leaderboard.statistics import mcnemar

N = 30


@st.composite
def fields(draw: st.DrawFn) -> list[Contestant]:
    outcomes = draw(st.lists(st.text("01", min_size=N, max_size=N), max_size=8))
    losses = st.integers(0, 3).map(float)
    return [Contestant(f"entry-{i}", bits.count("0") / N, draw(losses), bits) for i, bits in enumerate(outcomes)]


@given(fields(), st.randoms())
def test_everybody_gets_one_rank_whatever_the_order_of_arrival(field: list[Contestant], random) -> None:
    shuffled = random.sample(field, len(field))
    assert rank(shuffled) == rank(field)
    assert rank(field).keys() == {one.key for one in field}


@given(fields())
def test_a_rank_is_one_more_than_the_number_of_better_entries(field: list[Contestant]) -> None:
    standings = rank(field)
    for one in field:
        better = sum((o.robust_error, o.robust_loss) < (one.robust_error, one.robust_loss) for o in field)
        assert standings[one.key].rank == 1 + better


@given(fields())
def test_a_tie_group_is_led_by_its_best_and_groups_do_not_interleave(field: list[Contestant]) -> None:
    standings = sorted(rank(field).values(), key=lambda standing: (standing.rank, standing.tied_with))
    leaders = [standing.tied_with for standing in standings]
    assert leaders == sorted(leaders)
    assert all(standing.tied_with <= standing.rank for standing in standings)
    assert set(leaders) <= {standing.rank for standing in standings}


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3)), max_size=8))
def test_on_the_pareto_front_is_whom_nobody_beats(points: list[tuple[int, ...]]) -> None:
    named = {str(number): point for number, point in enumerate(points)}

    def beats(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
        return one != other and all(a <= b for a, b in zip(one, other, strict=True))

    assert pareto_front(named) == {
        name for name, point in named.items() if not any(beats(other, point) for other in points)
    }


def test_entries_that_differ_on_few_examples_are_tied_and_on_many_are_not() -> None:
    best = Contestant("best", 0.0, 1.0, "1" * N)
    near = Contestant("near", 5 / N, 1.0, "0" * 5 + "1" * (N - 5))
    far = Contestant("far", 6 / N, 1.0, "0" * 6 + "1" * (N - 6))
    standings = rank([far, near, best])
    assert [standings[name].rank for name in ("best", "near", "far")] == [1, 2, 3]
    # 5 discordant pairs one way: p = 2 · 2⁻⁵ = 0.0625; 6 pairs: p = 2 · 2⁻⁶ = 0.03125
    assert [standings[name].tied_with for name in ("best", "near", "far")] == [1, 1, 3]


def test_equal_numbers_share_a_rank() -> None:
    field = [Contestant(name, 0.5, 1.0, "10") for name in "abc"]
    assert {standing.rank for standing in rank(field).values()} == {1}


def test_outcomes_on_different_numbers_of_examples_are_not_compared() -> None:
    with pytest.raises(InvalidRequest, match="the same examples, got 2 and 3"):
        mcnemar("01", "011")
