"""Whose turn it is, what is left and what measuring took, on SQLite and PostgreSQL alike."""

from uuid import UUID, uuid4

import pytest

from evaluator import intervals
from evaluator.metrics import StageName
from evaluator.plan import plan
from evaluator.shipped import DIGITS_DEMO, SMOKE
from evaluator.store import RunState, RunStore
from tests.evaluator.reports import report

SHA = "ab" * 32


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


def worked(store: RunStore, run_id: UUID, shards: int = 1000) -> None:
    while shards and (claim := store.claim("worker", run_id=run_id, target_seconds=0.001)):
        store.finish(claim, report(claim.protocol, claim.spec))
        shards -= 1


def test_paces_are_known_of_complete_runs_and_so_far_of_those_that_have_not_ended(store, monkeypatch):
    monkeypatch.setattr(intervals, "RESAMPLES", 100)
    cancelled, first, last = created(store), created(store), created(store)
    active = uuid4()
    store.create_run(active, DIGITS_DEMO, SHA)
    worked(store, cancelled, 2)
    store.cancel(cancelled)
    for run_id in (first, last):
        worked(store, run_id)
        store.complete(run_id)
    worked(store, active, 3)
    paces = {(pace.run_id, pace.stage): pace for pace in store.paces()}
    stages = {spec.stage for spec in plan(SMOKE)}
    assert paces.keys() == {(run, stage) for run in (first, last) for stage in stages} | {(active, StageName.CLEAN)}
    pace = paces[active, StageName.CLEAN]
    assert (pace.protocol_digest, pace.examples, pace.seconds) == (DIGITS_DEMO.digest, 12, 1.5)
    for stage in stages:
        done = [one for one in store.progress(first) if one.stage is stage]
        pace = paces[first, stage]
        assert pace.protocol_digest == SMOKE.digest
        assert pace.examples == sum(one.examples for one in done)
        assert pace.seconds == pytest.approx(0.5 * sum(one.shards for one in done))
    assert {pace.run_id for pace in store.paces(most_runs=1)} == {last, active}
