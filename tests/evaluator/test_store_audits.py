"""Runs of which a share is measured again, on SQLite and PostgreSQL alike: liars are found, and honest work counts."""

import math
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from evaluator.combine import combine
from evaluator.exceptions import Fault, InvalidResult, LostLease
from evaluator.metrics import StageName
from evaluator.plan import plan
from evaluator.results import ShardResult
from evaluator.shipped import SMOKE
from evaluator.store import MAX_FAILURES, Claim, Role, RunState, RunStore, ShardState, WorkerRegister
from evaluator.trust.findings import Verdict
from tests.evaluator.reports import report

SHA = "ab" * 32
FEW = 1e-9
"""A share by which one piece alone is drawn."""


@pytest.fixture
def store(store: RunStore) -> RunStore:
    store.chance = random.Random(0)
    return store


@pytest.fixture
def alive(store: RunStore, url: str) -> Iterator[WorkerRegister]:
    """Return the register, where three workers of different hosts have just announced themselves."""
    register = WorkerRegister(url)
    for name in ("ann:1", "bob:1", "cat:1"):
        register.announce(name, Role.EVALUATION)
    yield register
    register.close()


def honest(claim: Claim) -> ShardResult:
    return report(claim.protocol, claim.spec)


def lying(claim: Claim) -> ShardResult:
    """Return a report that no law contradicts: losses under attack are lower by 0.3, and more is right."""
    result = honest(claim)
    if claim.spec.stage not in (StageName.ROBUST_LOSS, StageName.FLATNESS):
        return result
    loss = [[max(one - 0.3, 0.0) for one in row] for row in result.values["loss"]]
    values = {
        "loss": loss,
        "wrong_class_confidence": [[1 - math.exp(-one) for one in row] for row in loss],
        "correct": [[one < math.log(2) for one in row] for row in loss],
    }
    return replace(result, values=values)


def created(store: RunStore, share: float = FEW) -> UUID:
    run_id = uuid4()
    store.create_run(run_id, SMOKE, SHA, audit_share=share)
    return run_id


def measure(store: RunStore, worker: str, say=honest) -> list[Claim]:
    """Measure as `worker` all that it gets."""
    claims = []
    while (claim := store.claim(worker)) is not None:
        store.finish(claim, say(claim))
        store.complete(claim.run_id)
        claims.append(claim)
    return claims


def expected():
    return combine(SMOKE, [report(SMOKE, spec) for spec in plan(SMOKE)], checkpoint_sha256=SHA).measurements


def said(store: RunStore, run_id: UUID) -> str:
    return "\n".join(event.text for event in store.events(run_id))


def test_another_worker_measures_again_what_was_drawn_and_the_result_says_that_they_agree(store, alive):
    run_id = created(store)
    first = measure(store, "ann:1")
    assert len(first) == len(plan(SMOKE))
    assert store.run(run_id).state is RunState.RUNNING
    assert store.claim("ann:1") is None  # it knows the answer
    assert store.waits("ann:1")
    (again,) = measure(store, "bob:1")
    assert again.audit == 1
    assert again.spec.stage in (StageName.ROBUST_LOSS, StageName.FLATNESS)
    assert again.ids["audit"] == 1
    assert not store.waits("ann:1")
    result = store.result(run_id)
    assert result.measurements == expected()
    (finding,) = (one for one in result.findings if one.check == "re-evaluation")
    assert (finding.verdict, finding.seen) == (Verdict.PASS, 0.0)
    assert "1 worker;" in finding.sentence


def test_a_run_that_shall_not_be_audited_is_complete_with_its_last_shard(store, alive):
    run_id = created(store, 0.0)
    assert {claim.audit for claim in measure(store, "ann:1")} == {0}
    assert store.run(run_id).state is RunState.COMPLETE
    assert not [one for one in store.result(run_id).findings if one.check == "re-evaluation"]


@pytest.mark.parametrize("away", ["nobody else", "drained", "silent", "a training worker"])
def test_a_worker_that_is_alone_measures_again_itself_and_the_result_says_so(store, url, away):
    register = WorkerRegister(url)
    register.announce("ann:1", Role.EVALUATION)
    if away != "nobody else":
        register.announce("bob:1", Role.TRAINING if away == "a training worker" else Role.EVALUATION)
    if away == "drained":
        register.drain("bob:1")
    if away == "silent":
        with store.engine.begin() as connection:
            connection.execute(text("UPDATE workers SET seen_at = seen_at - 300 WHERE name = 'bob:1'"))
    register.close()
    run_id = created(store)
    assert [claim.audit for claim in measure(store, "ann:1")][-1] == 1
    (finding,) = store.result(run_id).findings
    assert "1 shard by the worker that had reported, in a fresh process" in finding.sentence


def test_a_piece_that_the_others_leave_lying_is_anybodys_after_a_while(store, alive):
    run_id = created(store)
    measure(store, "ann:1")
    assert store.claim("ann:1") is None
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE audits SET queued_at = queued_at - 601"))
    assert len(measure(store, "ann:1")) == 1
    assert store.run(run_id).state is RunState.COMPLETE


def test_a_liar_whose_shard_is_drawn_is_refuted_and_none_of_its_numbers_reaches_the_result(store, alive):
    run_id = created(store)
    lies = measure(store, "ann:1", lying)
    assert [claim.audit for claim in measure(store, "bob:1")] == [1]
    assert "bob:1 disagrees" in said(store, run_id)
    assert store.claim("bob:1") is None  # a third one must decide
    (third,) = [store.claim("cat:1")]
    assert third.audit == 2
    store.finish(third, honest(third))
    assert store.complete(run_id) is None
    assert "ann:1 was refuted by two others" in said(store, run_id)
    assert measure(store, "ann:1") == []
    assert not store.waits("ann:1")
    again = measure(store, "bob:1")
    assert [claim.spec for claim in again] == [claim.spec for claim in lies]
    (drawn_anew,) = measure(store, "cat:1")
    assert drawn_anew.audit == 3
    assert store.run(run_id).state is RunState.COMPLETE
    assert store.result(run_id).measurements == expected()
    assert {worker.name: worker.refuted for worker in alive.workers()} == {"ann:1": 1, "bob:1": 0, "cat:1": 0}
    assert store.status().refuted == 1


def test_a_lying_auditor_is_refuted_and_what_was_reported_stays(store, alive):
    run_id = created(store)
    measure(store, "ann:1")
    measure(store, "bob:1", lying)
    assert [claim.audit for claim in measure(store, "cat:1")] == [2, 3]
    assert "bob:1 was refuted" in said(store, run_id)
    assert {stage.attempts for stage in store.progress(run_id)} == {1}
    assert store.result(run_id).measurements == expected()


def test_two_workers_that_go_on_contradicting_each_other_fail_the_run_as_ours(store, alive):
    run_id = created(store)
    alive.leave("cat:1")
    measure(store, "ann:1", lying)
    measure(store, "bob:1")
    run = store.run(run_id)
    assert (run.state, run.fault, run.failure) == (RunState.FAILED, Fault.OURS, "ReportsDisagree")
    assert "no two workers agree" in run.error
    assert store.result(run_id) is None


def test_an_auditor_that_falls_silent_loses_its_piece_and_its_late_report_is_refused(store, alive):
    run_id = created(store)
    measure(store, "ann:1")
    dead = store.claim("bob:1", lease_seconds=-1)
    assert store.sweep().expired == 1
    held = store.claim("bob:1")
    assert (held.audit, held.attempt, held.spec) == (dead.audit, dead.attempt + 1, dead.spec)
    for late in (store.heartbeat, store.release, lambda claim: store.finish(claim, honest(claim))):
        with pytest.raises(LostLease):
            late(dead)
    store.heartbeat(held)
    store.release(held)
    assert len(measure(store, "bob:1")) == 1
    assert store.run(run_id).state is RunState.COMPLETE


def test_a_piece_that_nobody_can_measure_again_fails_its_run(store, alive):
    run_id = created(store)
    measure(store, "ann:1")
    for _ in range(MAX_FAILURES):
        store.fail(store.claim("bob:1"), RuntimeError("out of luck"))
    assert store.run(run_id).state is RunState.FAILED
    assert "3 times" in store.run(run_id).error


def test_a_run_cancelled_while_it_is_measured_again_takes_no_more_reports(store, alive):
    run_id = created(store)
    measure(store, "ann:1")
    held = store.claim("bob:1", lease_seconds=-1)
    store.cancel(run_id)
    with pytest.raises(LostLease):
        store.finish(held, honest(held))
    store.sweep()
    with store.engine.connect() as connection:
        assert connection.execute(text("SELECT state FROM audits")).scalars().all() == [ShardState.QUEUED]
    assert store.claim("bob:1") is None
    assert not store.waits("bob:1")


def test_a_claim_from_before_a_refutation_holds_nothing_of_what_is_drawn_after_it(store, alive):
    run_id = created(store, 1.0)
    measure(store, "ann:1", lying)
    old = store.claim("bob:1")
    store.release(old)
    measure(store, "bob:1")
    measure(store, "cat:1")  # refutes, and measures all anew
    new = store.claim("bob:1")
    assert new.audit == 3
    for position in range(200):
        with pytest.raises(LostLease):
            store.heartbeat(replace(old, position=position))
    store.release(new)
    measure(store, "bob:1")
    assert store.result(run_id).measurements == expected()


def test_pieces_are_drawn_once_however_many_see_the_last_report(store, alive):
    run_id = created(store, 0.5)
    while (claim := store.claim("ann:1")) is not None:
        store.finish(claim, honest(claim))
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda _: store.complete(run_id), range(8))) == [None] * 8
    assert said(store, run_id).count("drawn to be measured again") == 1


def test_progress_counts_no_example_twice_and_the_queue_counts_what_waits(store, alive):
    run_id = created(store, 1.0)
    shards = len(measure(store, "ann:1"))
    waiting = store.status()
    assert waiting.shards[ShardState.DONE] == shards
    assert waiting.shards[ShardState.QUEUED] == shards
    assert waiting.oldest_seconds[Role.EVALUATION] > 0
    held = store.claim("bob:1")
    (busy,) = (worker.busy_with for worker in alive.workers() if worker.name == "bob:1")
    assert str(held.spec) in busy
    for stage in store.progress(run_id):
        assert (stage.examples_done, stage.shards_done) == (stage.examples, stage.shards)
    assert {cost.shards for cost in store.status().costs} == {cost.shards for cost in waiting.costs}


def test_a_piece_is_checked_as_a_report_is(store, alive):
    created(store)
    measure(store, "ann:1")
    held = store.claim("bob:1")
    with pytest.raises(InvalidResult):
        store.finish(held, replace(honest(held), values={"loss": []}))
    store.finish(held, honest(held))


def test_labels_other_than_those_of_a_complete_run_are_refused(store):
    created(store, 0.0)
    measure(store, "ann:1")
    created(store, 0.0)
    held = store.claim("bob:1")
    values = honest(held).values
    shifted = {name: [(one + 1) % 10 for one in values[name]] for name in ("label", "prediction")}
    with pytest.raises(InvalidResult, match="the same files"):
        store.finish(held, replace(honest(held), values=values | shifted))
    store.finish(held, honest(held))


def test_numbers_that_the_reports_do_not_give_are_not_handed_out(store):
    run_id = created(store, 0.0)
    measure(store, "ann:1")
    assert store.reproduced(run_id) == store.result(run_id)
    assert store.reproduced(uuid4()) is None
    with store.engine.begin() as connection:
        connection.execute(
            text("UPDATE runs SET result = replace(result, :honest, :forged)"),
            {
                "honest": '"metric":"clean_error","split":"test","value":0.',
                "forged": '"metric":"clean_error","split":"test","value":0.1',
            },
        )
    with pytest.raises(InvalidResult, match="clean_error_test"):
        store.reproduced(run_id)
