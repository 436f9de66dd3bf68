"""Whose turn it is, what is left and what measuring took, on SQLite and PostgreSQL alike."""

from collections.abc import Iterator
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from evaluator.metrics import StageName
from evaluator.protocol import DIGITS_DEMO, SMOKE
from evaluator.store import RunState, RunStore
from tests.evaluator.reports import report

SHA = "ab" * 32


@pytest.fixture
def store(url: str) -> Iterator[RunStore]:
    store = RunStore(url)
    store.create_tables()
    yield store
    with store.engine.begin() as connection:
        connection.execute(text("DELETE FROM runs"))
    store.close()


def created(store: RunStore, **given) -> UUID:
    run_id = uuid4()
    store.create_run(run_id, SMOKE, SHA, **given)
    return run_id


def test_runs_stand_in_the_order_in_which_they_are_served(store):
    created(store, owner="ann")
    created(store, owner="ben")
    created(store, owner="ann", priority=1)
    created(store, owner="ben")
    while turns := [turn for turn in store.turns() if turn.waiting]:
        claim = store.claim("worker")
        assert claim.run_id == turns[0].run_id
        store.cancel(claim.run_id)
    assert store.turns() == ()


def test_an_owner_for_whom_others_work_already_stands_behind(store):
    first, second = created(store, owner="ann"), created(store, owner="ann")
    third = created(store, owner="ben")
    assert [turn.run_id for turn in store.turns()] == [first, second, third]
    store.claim("worker")
    assert [turn.run_id for turn in store.turns()] == [third, first, second]


def test_what_is_left_is_what_waits_and_what_is_held_until_nothing_is(store):
    run_id = created(store, owner="ann", priority=3)
    stages = store.progress(run_id)
    planned = {name: sum(stage.examples for stage in stages if stage.stage == name) for name in StageName}
    (turn,) = store.turns()
    assert (turn.run_id, turn.protocol_digest, turn.owner, turn.priority) == (run_id, SMOKE.digest, "ann", 3)
    assert (turn.state, turn.held) == (RunState.QUEUED, {})
    assert turn.waiting == {stage: count for stage, count in planned.items() if count}
    while claim := store.claim("worker", target_seconds=0.001):
        (turn,) = store.turns()
        assert turn.state is RunState.RUNNING
        assert turn.held == {claim.spec.stage: len(claim.spec)}
        store.finish(claim, report(claim.protocol, claim.spec))
        (turn,) = store.turns()
        done = sum(stage.examples_done for stage in store.progress(run_id))
        assert done + sum(turn.waiting.values()) == sum(planned.values())
    assert (turn.waiting, turn.held) == ({}, {})


def test_paces_sum_what_is_done_by_run_and_stage_of_active_and_recent_runs(store):
    ended = created(store)
    claim = store.claim("worker")
    store.finish(claim, report(claim.protocol, claim.spec))
    store.cancel(ended)
    other = uuid4()
    store.create_run(other, DIGITS_DEMO, SHA)
    examples = 0
    for _ in range(3):
        claim = store.claim("worker", target_seconds=0.001)
        store.finish(claim, report(claim.protocol, claim.spec))
        examples += len(claim.spec)
    paces = {(pace.run_id, pace.stage): pace for pace in store.paces()}
    assert paces.keys() == {(ended, StageName.CLEAN), (other, StageName.CLEAN)}
    pace = paces[other, StageName.CLEAN]
    assert (pace.protocol_digest, pace.examples, pace.seconds) == (DIGITS_DEMO.digest, examples, 1.5)
    assert {pace.run_id for pace in store.paces(most_runs=0)} == {other}
