"""The run store, on SQLite and PostgreSQL alike."""

import random
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from uuid import UUID, uuid4

import pytest
from sqlalchemy import event, select, text

from evaluator.combine import combine
from evaluator.exceptions import (
    DatasetMissing,
    Fault,
    InvalidCheckpoint,
    InvalidRequest,
    InvalidResult,
    LostLease,
    StoreUnavailable,
)
from evaluator.metrics import StageName
from evaluator.plan import plan
from evaluator.protocol import from_json, to_json
from evaluator.results import ShardSpec
from evaluator.shipped import DIGITS_DEMO, DIGITS_LINF, PROTOCOLS, SMOKE
from evaluator.store import MAX_FAILURES, Claim, RunState, RunStore, Sweep, engine
from evaluator.types import Split
from tests.evaluator.reports import report

SHA = "ab" * 32


@pytest.fixture
def run_id(store: RunStore) -> UUID:
    run_id = uuid4()
    assert store.create_run(run_id, SMOKE, SHA)
    return run_id


def claim(store: RunStore, worker: str = "worker", *, lease_seconds: float = 60.0) -> Claim:
    claim = store.claim(worker, lease_seconds=lease_seconds)
    assert claim is not None
    return claim


def finish_all(store: RunStore, worker: str = "worker") -> list[Claim]:
    claims = []
    while (claim := store.claim(worker)) is not None:
        store.finish(claim, report(claim.protocol, claim.spec))
        claims.append(claim)
    return claims


def finish_clean(store: RunStore, run_id: UUID) -> None:
    """Finish what everything else waits for."""
    for _ in Split:
        held = store.claim("worker", run_id=run_id)
        assert held.spec.stage is StageName.CLEAN
        store.finish(held, report(held.protocol, held.spec))


@pytest.mark.parametrize("protocol", [version for versions in PROTOCOLS.values() for version in versions])
def test_a_protocol_survives_json_bit_for_bit(protocol):
    again = from_json(to_json(protocol))
    assert again == protocol
    assert again.digest == protocol.digest


def test_tables_are_created_once_by_any_number_of_processes_at_once(url):
    code = f"from evaluator.store import RunStore; RunStore({url!r}).create_tables()"
    processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]


def test_a_new_run_holds_its_whole_plan_in_order(store, run_id):
    claims = finish_all(store)
    assert tuple(c.spec for c in claims) == plan(SMOKE)
    assert {c.protocol for c in claims} == {SMOKE}


def test_a_limit_is_part_of_what_the_run_measures(store):
    run_id = uuid4()
    store.create_run(run_id, DIGITS_LINF, SHA, limit=8)
    run = store.run(run_id)
    assert run.protocol == DIGITS_LINF.limited(8)
    assert run.limit == 8
    assert sum(stage.shards for stage in store.progress(run_id)) == len(plan(DIGITS_LINF.limited(8)))


def test_creating_the_same_run_again_changes_nothing(store, run_id):
    held = claim(store)
    assert not store.create_run(run_id, SMOKE, SHA)
    store.heartbeat(held)
    assert sum(stage.shards for stage in store.progress(run_id)) == len(plan(SMOKE))


def test_a_run_id_cannot_be_used_for_another_measurement(store, run_id):
    with pytest.raises(InvalidRequest, match="another run id"):
        store.create_run(run_id, SMOKE, "cd" * 32)
    with pytest.raises(InvalidRequest, match="another run id"):
        store.create_run(run_id, SMOKE, SHA, limit=2)


def test_threads_that_create_one_run_at_once_create_it_once(store):
    run_id = uuid4()
    with ThreadPoolExecutor(4) as pool:
        created = list(pool.map(lambda _: store.create_run(run_id, SMOKE, SHA), range(8)))
    assert sum(created) == 1


def test_threads_that_claim_at_once_never_get_the_same_shard(store, run_id):
    finish_clean(store, run_id)
    workers = 8
    barrier = threading.Barrier(workers)

    def claim_all(number: int) -> list[ShardSpec]:
        worker = f"worker {number}"
        specs = []
        barrier.wait()
        while store.waits(worker):
            claim = store.claim(worker, target_seconds=1.0)
            if claim is not None:
                specs.append(claim.spec)
        return specs

    with ThreadPoolExecutor(workers) as pool:
        specs = [spec for found in pool.map(claim_all, range(workers)) for spec in found]
    assert len(specs) > len(plan(SMOKE))  # stages were cut while others claimed
    for whole in plan(SMOKE)[2:]:
        pieces = [s for s in specs if replace(s, start=0, stop=whole.stop) == whole]
        assert sorted(i for s in pieces for i in range(s.start, s.stop)) == list(range(whole.stop))


def test_the_oldest_run_is_claimed_first_unless_one_is_asked_for(store, run_id):
    younger = uuid4()
    store.create_run(younger, SMOKE, SHA)
    assert claim(store).run_id == run_id
    assert store.claim("worker", run_id=younger).run_id == younger
    assert store.claim("worker", run_id=uuid4()) is None


def test_no_attack_begins_before_the_clean_images_are_done(store, run_id):
    first, second = claim(store), claim(store)
    assert {first.spec.stage, second.spec.stage} == {StageName.CLEAN}
    store.finish(first, report(SMOKE, first.spec))
    assert store.claim("worker") is None
    assert store.waits("worker")
    store.finish(second, report(SMOKE, second.spec))
    assert claim(store).spec.stage is not StageName.CLEAN


def test_a_piece_is_cut_by_what_the_workers_last_one_cost_and_the_rest_waits(store):
    run_id = uuid4()
    store.create_run(run_id, replace(DIGITS_DEMO, rankable=False), SHA)  # which has no probes
    finish_clean(store, run_id)
    for split in Split:
        held = claim(store)
        assert (held.spec.stage, held.spec.split) == (StageName.AUTOATTACK, split)  # the largest first
    pieces = []
    for _ in range(3):
        held = store.claim("worker", target_seconds=10)
        pieces.append(len(held.spec))
        store.finish(held, replace(report(DIGITS_DEMO, held.spec), seconds=0.25 * len(held.spec)))
    assert pieces == [4, 32, 40]  # nothing known; at most eightfold; ten seconds
    assert len(store.claim("another", target_seconds=10).spec) == 4  # whose speed is not known yet
    robust_loss = next(s for s in store.progress(run_id) if (s.stage, s.split) == (StageName.ROBUST_LOSS, Split.TEST))
    assert (robust_loss.examples, robust_loss.examples_done) == (400, 76)


def test_urgent_runs_go_first_then_those_of_the_owner_for_whom_least_is_done(store):
    runs = {name: uuid4() for name in ("first", "second", "other", "urgent")}
    for name, owner in (("first", "ann"), ("second", "ann"), ("other", "bob"), ("urgent", "ann")):
        store.create_run(runs[name], SMOKE, SHA, owner=owner, priority=int(name == "urgent"))
    names = {run_id: name for name, run_id in runs.items()}
    turn = [names[claim(store).run_id] for _ in range(8)]  # each has two shards that need no others
    assert turn == ["urgent", "urgent", "other", "other", "first", "first", "second", "second"]
    assert store.prioritise(runs["first"], 2)
    assert store.run(runs["first"]).priority == 2
    assert not store.prioritise(uuid4(), 2)


def test_an_example_that_is_wrong_without_attack_cannot_withstand_one(store, run_id):
    finish_clean(store, run_id)
    while (held := claim(store)).spec.stage is not StageName.AUTOATTACK:
        store.finish(held, report(SMOKE, held.spec))
    honest = report(SMOKE, held.spec)
    forged = replace(honest, values={"broken_by": ["robust"] * len(held.spec)})
    with pytest.raises(InvalidResult, match="misclassified without an attack"):
        store.finish(held, forged)
    store.finish(held, honest)


def test_numbers_do_not_depend_on_the_order_of_reports(store, run_id):
    other = uuid4()
    store.create_run(other, SMOKE, SHA)
    finish_clean(store, run_id)
    finish_clean(store, other)
    claims = []
    while (held := store.claim("worker", target_seconds=random.Random(len(claims)).random())) is not None:
        claims.append(held)
    random.Random(0).shuffle(claims)
    for held in claims:
        store.finish(held, report(SMOKE, held.spec))
    first, second = store.complete(run_id), store.complete(other)
    expected = combine(SMOKE, [report(SMOKE, spec) for spec in plan(SMOKE)], checkpoint_sha256=SHA)
    assert first.measurements == second.measurements == expected.measurements


def test_every_statement_of_a_claim_s_life_is_compiled_once_and_not_each_time(store, run_id):
    asked = []
    event.listen(store.engine, "before_cursor_execute", lambda *call: asked.append(call[4].compiled))
    finish_all(store)
    compiled = [statement for statement in asked if statement is not None]
    assert len(compiled) > 20
    assert [str(statement) for statement in compiled if statement.cache_key is None] == []


def test_a_run_is_completed_by_one_caller_only(store, run_id):
    finish_all(store)
    with ThreadPoolExecutor(4) as pool:
        results = [result for result in pool.map(lambda _: store.complete(run_id), range(4)) if result is not None]
    assert len(results) == 1
    assert store.result(run_id) == results[0]
    assert results[0].checkpoint_sha256 == SHA
    run = store.run(run_id)
    assert run.state is RunState.COMPLETE
    assert run.created_at <= run.started_at <= run.finished_at
    assert tuple(stage.summary for stage in store.progress(run_id)) == results[0].stages


def test_a_run_with_work_left_is_not_complete(store, run_id):
    held = claim(store)
    assert store.complete(run_id) is None
    store.finish(held, report(SMOKE, held.spec))
    assert store.complete(run_id) is None
    assert store.result(run_id) is None


def test_progress_counts_examples_and_names_workers(store, run_id):
    held = claim(store, "gpu 3")
    store.finish(held, report(SMOKE, held.spec))
    claim(store, "gpu 4")
    first, second, *_ = store.progress(run_id)
    assert (first.stage, first.split) == (held.spec.stage, held.spec.split)
    assert (first.examples, first.examples_done, first.shards_done) == (24, 24, 1)
    assert first.workers == ("gpu 3",)
    assert first.started_at <= first.finished_at
    assert (second.shards_running, second.examples_done, second.finished_at) == (1, 0, None)


def test_a_silent_worker_loses_its_shard_to_the_next_attempt(store, run_id):
    dead = claim(store, "dead", lease_seconds=-1)
    alive = claim(store, "alive")
    assert (alive.position, alive.attempt) == (dead.position, dead.attempt + 1)
    with pytest.raises(LostLease, match="refused"):
        store.finish(dead, report(SMOKE, dead.spec))
    with pytest.raises(LostLease):
        store.heartbeat(dead)
    store.finish(alive, report(SMOKE, alive.spec))


def test_a_heartbeat_keeps_the_shard(store, run_id):
    held = claim(store, lease_seconds=-1)
    store.heartbeat(replace(held, lease_seconds=60))
    assert claim(store).position == held.position + len(held.spec)


def test_a_report_is_taken_once(store, run_id):
    held = claim(store)
    store.finish(held, report(SMOKE, held.spec))
    with pytest.raises(LostLease):
        store.finish(held, report(SMOKE, held.spec))
    assert len(store.shard_results(run_id)) == 1


def test_a_shard_handed_back_is_claimed_again_and_counts_no_failure(store, run_id):
    for _ in range(MAX_FAILURES + 1):
        held = claim(store)
        assert held.position == 0
        store.release(held)
    with pytest.raises(LostLease):
        store.finish(held, report(SMOKE, held.spec))
    assert store.run(run_id).state is RunState.RUNNING


def test_a_poisonous_shard_fails_its_run_after_three_silent_workers_and_the_next_run_goes_on(store, run_id):
    younger = uuid4()
    store.create_run(younger, SMOKE, SHA)
    for attempt in range(1, MAX_FAILURES + 1):
        held = claim(store, lease_seconds=-1)
        assert (held.run_id, held.attempt) == (run_id, attempt)
    assert claim(store).run_id == younger
    run = store.run(run_id)
    assert (run.state, run.fault) == (RunState.FAILED, Fault.OURS)
    assert "fell silent" in run.error
    assert "3 times" in run.error
    assert any("fell silent" in event.text for event in store.events(run_id))


def test_errors_of_ours_are_tried_three_times(store, run_id):
    for _ in range(MAX_FAILURES):
        assert store.run(run_id).state is not RunState.FAILED
        store.fail(claim(store), RuntimeError("out of \x00 luck"))
    run = store.run(run_id)
    assert (run.state, run.fault) == (RunState.FAILED, Fault.OURS)
    assert "RuntimeError: out of" in run.error
    assert store.claim("worker") is None


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (InvalidCheckpoint("the weights are not finite; send finite ones"), Fault.SUBMITTER),
        (DatasetMissing("cifar10 is not in the data folder; put it there"), Fault.OPERATOR),
    ],
)
def test_what_no_retry_can_help_fails_the_run_at_once_with_the_sentence(store, run_id, error, fault):
    store.fail(claim(store), error)
    run = store.run(run_id)
    assert (run.state, run.fault, run.error) == (RunState.FAILED, fault, str(error))


def test_a_failed_run_names_the_class_of_its_failure_and_the_last_lines_of_its_log(store, run_id):
    error = InvalidCheckpoint("the weights are not finite; send finite ones")
    error.log = "Traceback\nValueError: nan"
    store.fail(claim(store), error)
    run = store.run(run_id)
    assert (run.failure, run.log) == ("InvalidCheckpoint", error.log)


def test_a_store_of_an_older_version_gets_the_columns_it_lacks_and_keeps_its_rows(store, run_id):
    with store.engine.begin() as connection:
        connection.execute(text("ALTER TABLE runs DROP COLUMN priority"))
        connection.execute(text("DROP INDEX shards_by_cost"))
        connection.execute(text("ALTER TABLE shards DROP COLUMN seconds"))
    store.create_tables()
    assert store.run(run_id).priority == 0
    finish_all(store)
    assert store.complete(run_id) is not None


def test_a_failed_attempt_cannot_fail_its_successor(store, run_id):
    dead = claim(store, lease_seconds=-1)
    claim(store)
    with pytest.raises(LostLease):
        store.fail(dead, InvalidCheckpoint("too late"))
    assert store.run(run_id).state is RunState.RUNNING


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0, None])
def test_a_report_of_impossible_numbers_is_refused_and_changes_nothing(store, run_id, value):
    held = claim(store)
    good = report(SMOKE, held.spec)
    forged = replace(good, values={**good.values, "loss": [value, *good.values["loss"][1:]]})
    with pytest.raises(InvalidResult):
        store.finish(held, forged)
    with pytest.raises(InvalidResult):
        store.finish(held, replace(good, seconds=float("nan")))
    assert store.shard_results(run_id) == ()
    store.finish(held, good)


def test_a_report_for_another_shard_is_refused(store, run_id):
    first, second = claim(store), claim(store)
    with pytest.raises(InvalidResult, match="claimed"):
        store.finish(first, report(SMOKE, second.spec))


def test_a_cancelled_run_ends_for_its_workers_too(store, run_id):
    held = claim(store)
    assert store.cancel(run_id)
    assert not store.cancel(run_id)
    for refused in (store.heartbeat, store.release, lambda c: store.finish(c, report(SMOKE, c.spec))):
        with pytest.raises(LostLease):
            refused(held)
    assert store.claim("worker") is None
    assert [run.id for run in store.runs(RunState.CANCELLED)] == [run_id]


def test_a_sweep_leaves_no_dead_lease_and_completes_what_is_done(store, run_id):
    others = [uuid4() for _ in range(3)]
    finish_all(store)
    cancelled, stuck, poisoned = others
    for other in others:
        store.create_run(other, SMOKE, SHA)
    store.claim("dead", run_id=cancelled, lease_seconds=-1)
    store.cancel(cancelled)
    for _ in range(MAX_FAILURES):
        store.claim("dead", run_id=poisoned, lease_seconds=-1)
    store.claim("dead", run_id=stuck, lease_seconds=-1)
    assert store.sweep() == Sweep(expired=2, failed=(poisoned,), completed=(run_id,))
    assert sum(stage.shards_running for other in others for stage in store.progress(other)) == 0
    assert store.sweep() == Sweep(expired=0, failed=(), completed=())
    assert [run.id for run in store.runs(RunState.RUNNING)] == [stuck]


def test_a_run_whose_reports_cannot_be_combined_fails_instead_of_being_tried_for_ever(store, run_id):
    finish_all(store)
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE shards SET result = (SELECT MAX(result) FROM shards)"))
    assert store.complete(run_id) is None
    run = store.run(run_id)
    assert (run.state, run.fault) == (RunState.FAILED, Fault.OURS)
    assert "cannot be combined" in run.error


def test_times_are_seconds_since_1970_by_the_database(store, run_id):
    with store.engine.connect() as connection:
        first, second = (connection.scalar(select(engine.now())) for _ in range(2))
    assert 1.7e9 < store.run(run_id).created_at.timestamp() <= first + 1e-3 <= second + 1e-3 < 1e11


def test_a_store_without_tables_says_so(tmp_path):
    with pytest.raises(StoreUnavailable, match="create its tables"):
        RunStore(f"sqlite:///{tmp_path / 'empty.sqlite3'}").runs()


def test_a_store_that_stays_away_is_named_without_its_password(monkeypatch):
    monkeypatch.setattr(engine, "PATIENCE_SECONDS", 0.1)
    with pytest.raises(StoreUnavailable, match="does not answer") as refusal:
        RunStore("postgresql://someone:secret@127.0.0.1:1/none").runs()
    assert "secret" not in str(refusal.value)


def test_a_report_whose_connection_dies_is_sent_again_and_counted_once(postgresql_url):
    store = RunStore(postgresql_url)
    store.create_tables()
    run_id = uuid4()
    store.create_run(run_id, SMOKE, SHA)
    held = store.claim("worker", run_id=run_id)
    with ThreadPoolExecutor(1) as pool, store.engine.connect() as other:
        other.execute(text("SELECT * FROM shards FOR UPDATE"))
        finished = pool.submit(store.finish, held, report(SMOKE, held.spec))
        blocked = text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
        with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as killer:
            while not killer.execute(blocked).all():
                assert not finished.done()
        other.commit()
        finished.result()
    assert store.shard_results(run_id) == (report(SMOKE, held.spec),)
    store.cancel(run_id)
    store.close()


def test_unknown_runs_are_empty_not_errors(store):
    nobody = uuid4()
    assert store.run(nobody) is None
    assert store.result(nobody) is None
    assert store.progress(nobody) == store.shard_results(nobody) == store.events(nobody) == ()
    assert store.complete(nobody) is None
    assert not store.cancel(nobody)
