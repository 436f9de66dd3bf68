"""How all work stands, on SQLite and PostgreSQL alike."""

from datetime import UTC
from uuid import UUID, uuid4

import pytest
from sqlalchemy import inspect, text

from evaluator.exceptions import DatasetMissing, Fault, InvalidRequest, StoreUnavailable
from evaluator.metrics import StageName
from evaluator.shipped import SMOKE
from evaluator.store import Role, RunState, RunStore, ShardState, TrainingOrder, TrainingStore, WorkerRegister
from tests.evaluator.reports import report

SHA = "ab" * 32


def created(store: RunStore) -> UUID:
    run_id = uuid4()
    store.create_run(run_id, SMOKE, SHA)
    return run_id


def test_where_there_is_no_work_every_state_and_role_has_a_zero(store):
    status = store.status()
    assert status.runs == dict.fromkeys(RunState, 0)
    assert status.shards == status.trainings == dict.fromkeys(ShardState, 0)
    assert status.oldest_seconds == dict.fromkeys(Role, 0.0)
    assert (status.workers, status.pauses, status.costs, status.failures, status.last_failures) == ((),) * 5


def test_runs_are_counted_by_state_and_shards_only_of_those_that_have_not_ended(store):
    running, _, ended = created(store), created(store), created(store)
    store.claim("worker", run_id=running)
    store.claim("worker", run_id=ended)
    store.cancel(ended)
    status = store.status()
    assert status.runs == dict.fromkeys(RunState, 0) | {
        RunState.QUEUED: 1, RunState.RUNNING: 1, RunState.CANCELLED: 1
    }  # fmt: skip
    shards = sum(stage.shards for stage in store.progress(running))
    assert status.shards == dict.fromkeys(ShardState, 0) | {ShardState.QUEUED: 2 * shards - 1, ShardState.RUNNING: 1}


def test_the_oldest_is_the_run_of_which_a_shard_waits_whoever_else_is_older(store):
    oldest, older = created(store), created(store)
    created(store)
    with store.engine.begin() as connection:
        for run_id, age in ((oldest, 500), (older, 200)):
            connection.execute(
                text("UPDATE runs SET created_at = created_at - :age WHERE id = :id"),
                {"age": age, "id": run_id if store.engine.dialect.name == "postgresql" else run_id.hex},
            )
    assert 500 <= store.status().oldest_seconds[Role.EVALUATION] < 600
    store.cancel(oldest)
    assert 200 <= store.status().oldest_seconds[Role.EVALUATION] < 300


def test_trainings_are_counted_and_the_oldest_that_waits_is_known(store, url):
    trainings = TrainingStore(url)
    for seed in range(2):
        order = TrainingOrder("digest", seed, "at", "{}", 10, "final", "AT", SMOKE)
        trainings.queue([order])
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE trainings SET queued_at = queued_at - 100 * (1 + seed)"))
    assert trainings.claim("worker").seed == 1
    status = store.status()
    assert status.trainings == dict.fromkeys(ShardState, 0) | {ShardState.QUEUED: 1, ShardState.RUNNING: 1}
    assert 100 <= status.oldest_seconds[Role.TRAINING] < 200
    trainings.close()


def test_the_time_of_measured_shards_is_summed_by_stage_also_of_ended_runs(store):
    run_id = created(store)
    claim = store.claim("worker", run_id=run_id)
    result = report(claim.protocol, claim.spec)
    store.finish(claim, result)
    store.cancel(run_id)
    (cost,) = store.status().costs
    assert (cost.stage, cost.shards, cost.seconds) == (StageName.CLEAN, 1, result.seconds)


def test_the_index_that_makes_this_cheap_is_added_to_tables_that_are_older(store):
    with store.engine.begin() as connection:
        connection.execute(text("DROP INDEX shards_by_cost"))
    for _ in range(2):
        store.create_tables()
    with store.engine.begin() as connection:
        assert "shards_by_cost" in {index["name"] for index in inspect(connection).get_indexes("shards")}


def test_failures_are_counted_by_kind_and_fault_and_the_last_ones_say_why(store):
    errors = (DatasetMissing("no data"), InvalidRequest("no such option"), DatasetMissing("still no data"))
    for second, error in enumerate(errors):
        run_id = created(store)
        store.fail(store.claim("worker", run_id=run_id), error)
        with store.engine.begin() as connection:  # two may fall into one tick of the clock
            latest = text("UPDATE runs SET finished_at = finished_at + :second WHERE error = :error")
            connection.execute(latest, {"second": second, "error": str(error)})
    status = store.status(last_failures=2)
    assert [(one.failure, one.fault, one.runs) for one in status.failures] == [
        ("DatasetMissing", Fault.OPERATOR, 2), ("InvalidRequest", Fault.SUBMITTER, 1)
    ]  # fmt: skip
    assert [(one.failure, one.error) for one in status.last_failures] == [
        ("DatasetMissing", "still no data"), ("InvalidRequest", "no such option")
    ]  # fmt: skip
    assert status.last_failures[0].run_id == run_id
    with store.engine.begin() as connection:  # as runs are that failed before kinds were recorded
        connection.execute(text("UPDATE runs SET failure = NULL, fault = NULL, error = NULL, finished_at = NULL"))
    assert [(one.failure, one.fault, one.runs) for one in store.status().failures] == [("unknown", None, 3)]
    assert {one.error for one in store.status().last_failures} == {"no reason was recorded"}


def test_workers_and_pauses_are_as_the_register_knows_them(store, url):
    register = WorkerRegister(url)
    register.announce("gpu 3", Role.EVALUATION, device="NVIDIA H200")
    register.pause(Role.TRAINING, "the disk is full")
    created(store)
    store.claim("gpu 3")
    status = store.status()
    (worker,) = status.workers
    assert worker.busy_with == register.workers()[0].busy_with is not None
    assert status.pauses == register.pauses()
    register.close()


def test_times_are_the_databases(store):
    first, status, last = store.clock(), store.status(), store.clock()
    assert first <= status.at <= last
    assert first.tzinfo is UTC


def test_who_asks_without_patience_hears_at_once_that_tables_or_database_are_missing(tmp_path):
    for url in (f"sqlite:///{tmp_path / 'empty.sqlite3'}", "postgresql://runs:secret@127.0.0.1:1/runs"):
        store = RunStore(url, patience_seconds=0)
        for ask in (store.clock, store.status):
            with pytest.raises(StoreUnavailable, match="does not answer") as absence:
                ask()
            assert "secret" not in str(absence.value)
        store.close()
