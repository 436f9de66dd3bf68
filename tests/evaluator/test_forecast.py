"""A forecast is a range that holds what is known, shrinks with what is done, and is absent where nothing is known."""

from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from evaluator.forecast import Forecast, forecast, forecast_all, position
from evaluator.metrics import StageName
from evaluator.store import Pace, RunState, Turn

CLEAN, FLATNESS = StageName.CLEAN, StageName.FLATNESS
MINE, OTHER, OLD, OLDER = (UUID(int=number) for number in range(1, 5))

counts = st.dictionaries(st.sampled_from(StageName), st.integers(1, 1000), max_size=4)
seconds = st.floats(0.01, 100)


def turn(run_id: UUID = MINE, *, waiting=None, held=None, digest="d", owner="ann", priority=0, day=2) -> Turn:
    return Turn(
        run_id, digest, owner, priority, datetime(2026, 1, day, tzinfo=UTC), RunState.RUNNING, waiting or {}, held or {}
    )


def pace(run_id: UUID, each: float, *, stage=CLEAN, digest="d", examples=10) -> Pace:
    return Pace(run_id, digest, stage, examples, each * examples)


def test_what_the_run_itself_took_counts_before_what_others_took():
    turns = [turn(waiting={CLEAN: 100})]
    paces = [pace(MINE, 2.0), pace(OLD, 9.0)]
    assert forecast(MINE, turns, paces, workers=1) == Forecast(200, 200)
    assert forecast(MINE, turns, paces, workers=4) == Forecast(50, 50)


def test_in_a_stage_not_begun_others_of_the_protocol_span_the_range():
    turns = [turn(waiting={FLATNESS: 10})]
    paces = [pace(MINE, 1.0), *(pace(run, each, stage=FLATNESS) for run, each in ((OLD, 2.0), (OLDER, 5.0)))]
    assert forecast(MINE, turns, paces, workers=1) == Forecast(20, 50)


def test_what_is_held_counts_only_at_worst():
    assert forecast(MINE, [turn(held={CLEAN: 10})], [pace(MINE, 1.0)], workers=1) == Forecast(0, 10)


def test_only_runs_that_may_be_served_before_count_and_only_at_worst():
    mine, paces = turn(waiting={CLEAN: 10}), [pace(OLD, 1.0)]
    for before in ({"priority": 1, "day": 3}, {"owner": "ben", "day": 3}, {"day": 1}):
        other = turn(OTHER, waiting={CLEAN: 7}, **before)
        assert forecast(MINE, [other, mine], paces, workers=1) == Forecast(10, 17)
    for behind in ({"priority": -1, "day": 1}, {"day": 3}):
        other = turn(OTHER, waiting={CLEAN: 7}, held={CLEAN: 1}, **behind)
        assert forecast(MINE, [mine, other], paces, workers=1) == Forecast(10, 11)


def test_nothing_is_foretold_where_nothing_is_known():
    mine = turn(waiting={CLEAN: 10})
    known = [pace(OLD, 1.0)]
    unknown = turn(OTHER, waiting={CLEAN: 1}, digest="another", day=1)
    assert forecast(MINE, [mine], [], workers=1) is None
    assert forecast(MINE, [mine], [pace(OLD, 1.0, digest="another")], workers=1) is None
    assert forecast(MINE, [mine], [pace(OLD, 1.0, stage=FLATNESS)], workers=1) is None
    assert forecast(MINE, [mine], known, workers=0) is None
    assert forecast(MINE, [unknown, mine], known, workers=1) is None
    assert forecast(OLD, [mine], known, workers=1) is None


def test_all_of_it_takes_what_each_takes_together():
    turns = [turn(waiting={CLEAN: 10}), turn(OTHER, waiting={CLEAN: 5}, held={CLEAN: 1}, day=3)]
    paces = [pace(MINE, 2.0), pace(OLD, 1.0)]
    assert forecast_all(turns, paces, workers=1) == Forecast(25, 32)
    assert forecast_all(turns, paces, workers=2) == Forecast(12.5, 16)
    assert forecast_all(turns, [], workers=1) is None
    assert forecast_all(turns, paces, workers=0) is None
    assert forecast_all([], paces, workers=1) == Forecast(0, 0)


@given(counts, counts, st.lists(seconds, min_size=1, max_size=3), st.integers(1, 8))
def test_the_ends_are_in_order_and_neither_rises_when_something_is_done(waiting, held, each, workers):
    mine, other = turn(waiting=waiting, held=held), turn(OTHER, waiting={CLEAN: 5}, owner="ben")
    paces = [pace(UUID(int=9 + i), one, stage=stage) for i, one in enumerate(each) for stage in StageName]
    before = forecast(MINE, [other, mine], paces, workers=workers)
    assert before is not None
    assert 0 <= before.low <= before.high
    done = replace(mine, waiting={stage: count - 1 for stage, count in waiting.items()}, held={})
    after = forecast(MINE, [other, done], paces, workers=workers)
    assert after is not None
    assert after.low <= before.low
    assert after.high <= before.high


def test_the_place_in_the_queue_counts_runs_of_which_something_waits():
    turns = [turn(OTHER, held={CLEAN: 1}), turn(OLD, waiting={CLEAN: 1}), turn(waiting={CLEAN: 1})]
    assert [position(run, turns) for run in (OTHER, OLD, MINE, OLDER)] == [None, 1, 2, None]
