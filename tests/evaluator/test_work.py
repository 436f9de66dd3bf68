"""The work loop, on a real store, a real checkpoint and real measurements of a few digits."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from uuid import UUID, uuid4

import pytest
import torch

from evaluator import work as room
from evaluator.artifacts import Artifacts
from evaluator.checkpoints import open_checkpoint
from evaluator.evaluation import evaluate
from evaluator.exceptions import Fault, StoreUnavailable
from evaluator.metrics import StageName
from evaluator.plan import plan
from evaluator.protocol import SMOKE
from evaluator.stages import measure
from evaluator.store import Claim, RunState, RunStore
from evaluator.work import network, work
from fixtures.make_tiny import TINY

PROTOCOL = SMOKE.limited(4)


class Watched(RunStore):
    """A run store that tells when it heard a heartbeat."""

    beaten: threading.Event

    def heartbeat(self, claim: Claim) -> None:
        super().heartbeat(claim)
        self.beaten.set()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Watched]:
    store = Watched(f"sqlite:///{tmp_path / 'runs.sqlite3'}")
    store.beaten = threading.Event()
    store.create_tables()
    yield store
    store.close()


@pytest.fixture
def artifacts(tmp_path: Path) -> Artifacts:
    return Artifacts(str(tmp_path / "artifacts"))


@pytest.fixture
def create(store: RunStore, artifacts: Artifacts) -> Callable[[], UUID]:
    sha256 = artifacts.put(TINY)

    def create() -> UUID:
        run_id = uuid4()
        store.create_run(run_id, PROTOCOL, sha256)
        return run_id

    return create


def measured(monkeypatch: pytest.MonkeyPatch, before: Callable[..., None]) -> None:
    """Let `before` see the arguments of each measurement."""

    def watched(*args, **kwargs):
        before(spec=args[3], **kwargs)
        return measure(*args, **kwargs)

    monkeypatch.setattr(room, "measure", watched)


def test_one_worker_measures_all_runs_to_the_end_with_the_numbers_of_a_measurement_in_memory(store, artifacts, create):
    runs, completed, shards = [create(), create()], [], []
    done = work(
        store,
        artifacts,
        worker="only",
        on_shard=lambda claim, result: shards.append((claim.spec, result.spec)),
        on_complete=completed.append,
    )
    assert done == 2 * len(plan(PROTOCOL))
    assert completed == runs
    assert shards == [(spec, spec) for spec in plan(PROTOCOL)] * 2
    expected = evaluate(network(open_checkpoint(TINY), "cpu"), PROTOCOL)
    for run_id in runs:
        assert store.result(run_id).measurements == expected.measurements
        assert store.result(run_id).checkpoint_sha256 == open_checkpoint(TINY).sha256


def test_a_worker_for_one_run_leaves_the_others_alone(store, artifacts, create):
    other, mine = create(), create()
    assert work(store, artifacts, worker="mine", run_id=mine) == len(plan(PROTOCOL))
    assert store.run(other).state is RunState.QUEUED


def test_a_worker_leaves_no_trace_in_its_process(store, artifacts, create, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    create()
    before = (
        torch.get_rng_state().tolist(),
        torch.get_num_threads(),
        torch.get_default_dtype(),
        threading.active_count(),
    )
    files = {path.name for path in tmp_path.iterdir() if path.is_dir()}
    work(store, artifacts, worker="tidy")
    after = (
        torch.get_rng_state().tolist(),
        torch.get_num_threads(),
        torch.get_default_dtype(),
        threading.active_count(),
    )
    assert after == before
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == files


def test_a_checkpoint_that_is_none_fails_its_run_as_the_submitters_fault_and_the_next_goes_on(
    store, artifacts, create, tmp_path
):
    (tmp_path / "junk").write_bytes(b"no tensors here")
    bad = uuid4()
    store.create_run(bad, PROTOCOL, artifacts.put(tmp_path / "junk"))
    good = create()
    work(store, artifacts, worker="w")
    assert (store.run(bad).state, store.run(bad).fault) == (RunState.FAILED, Fault.SUBMITTER)
    assert store.run(good).state is RunState.COMPLETE


def test_a_lost_artifact_is_the_operators_fault(store, artifacts):
    run_id = uuid4()
    store.create_run(run_id, PROTOCOL, "0" * 64)
    assert work(store, artifacts, worker="w") == 0
    assert (store.run(run_id).state, store.run(run_id).fault) == (RunState.FAILED, Fault.OPERATOR)


def test_an_unexpected_error_is_tried_three_times_and_named(store, artifacts, create, monkeypatch):
    run_id, calls = create(), []

    def before(**_):
        calls.append(1)
        raise ZeroDivisionError("a bug of ours")

    measured(monkeypatch, before)
    work(store, artifacts, worker="w")
    assert len(calls) == 3
    assert "ZeroDivisionError: a bug of ours" in store.run(run_id).error
    assert store.run(run_id).fault is Fault.OURS


def test_a_worker_told_to_stop_in_a_shard_hands_it_back_and_another_finishes_the_run(store, artifacts, create):
    run_id, asked = create(), []

    def stop() -> bool:
        asked.append(1)
        return len(asked) == 2  # not before the first claim, but at the first tick within it

    assert work(store, artifacts, worker="stopped", stop=lambda: stop() or len(asked) > 2) == 0
    assert store.progress(run_id)[0].shards_running == 0
    assert not any("failed" in event.text for event in store.events(run_id))
    work(store, artifacts, worker="next")
    assert store.run(run_id).state is RunState.COMPLETE


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])
def test_an_interrupted_worker_hands_its_shard_back(store, artifacts, create, monkeypatch, interruption):
    run_id = create()

    def before(**_):
        raise interruption

    measured(monkeypatch, before)
    with pytest.raises(interruption):
        work(store, artifacts, worker="w")
    again = store.claim("next", run_id=run_id)
    assert (again.position, again.attempt) == (0, 2)
    assert not any("failed" in event.text for event in store.events(run_id))


def test_a_run_cancelled_under_a_worker_costs_it_nothing_but_the_shard(store, artifacts, create, monkeypatch):
    cancelled, other = create(), create()
    measured(monkeypatch, lambda **_: store.cancel(cancelled))
    assert work(store, artifacts, worker="w") == len(plan(PROTOCOL))
    assert store.run(cancelled).state is RunState.CANCELLED
    assert store.run(other).state is RunState.COMPLETE
    assert store.shard_results(cancelled) == ()


def test_a_heartbeat_keeps_the_shard_through_one_long_call_and_ends_with_it(store, artifacts, create, monkeypatch):
    run_id = create()
    measured(monkeypatch, lambda **_: store.beaten.wait(30))
    assert work(store, artifacts, worker="w", run_id=run_id, lease_seconds=2) == len(plan(PROTOCOL))
    assert store.beaten.is_set()
    assert all(stage.attempts == 1 for stage in store.progress(run_id))


def test_a_heartbeat_that_finds_the_lease_lost_ends_the_measurement(store, artifacts, create, monkeypatch):
    run_id, ticked = create(), []

    def before(tick, **_):
        store.cancel(run_id)
        while True:  # as an attack of many batches would
            ticked.append(1)
            tick()
            threading.Event().wait(0.01)

    measured(monkeypatch, before)
    assert work(store, artifacts, worker="w", lease_seconds=1) == 0
    assert ticked


def test_memory_that_does_not_suffice_halves_the_batch_and_changes_no_number(store, artifacts, create, monkeypatch):
    sizes = []

    def before(spec, batch_size, **_):
        sizes.append(batch_size)
        if batch_size > 2 and spec.stage is not StageName.AUTOATTACK:
            raise torch.OutOfMemoryError("out of memory")

    run_id = create()
    measured(monkeypatch, before)
    work(store, artifacts, worker="w")
    assert sizes[:7] == [128, 64, 32, 16, 8, 4, 2]
    expected = evaluate(network(open_checkpoint(TINY), "cpu"), PROTOCOL)
    assert store.result(run_id).measurements == expected.measurements


def test_a_measurement_that_never_fits_fails_with_the_advice_to_find_more_memory(store, artifacts, create, monkeypatch):
    def before(**_):
        raise torch.OutOfMemoryError("out of memory")

    run_id = create()
    measured(monkeypatch, before)
    work(store, artifacts, worker="w")
    assert (store.run(run_id).state, store.run(run_id).fault) == (RunState.FAILED, Fault.OPERATOR)
    assert "more memory" in store.run(run_id).error


def test_a_chunk_of_autoattack_is_not_cut_and_not_tried_again_in_vain(store, artifacts, create, monkeypatch):
    tried = []

    def before(spec, **_):
        if spec.stage is StageName.AUTOATTACK:
            tried.append(spec)
            raise torch.OutOfMemoryError("out of memory")

    run_id = create()
    measured(monkeypatch, before)
    work(store, artifacts, worker="w")
    assert len(tried) == 1
    assert "more memory" in store.run(run_id).error


def test_a_forged_report_is_refused_and_the_shard_measured_again(store, artifacts, create, monkeypatch):
    forged = []

    def forge(*args, **kwargs):
        result = measure(*args, **kwargs)
        if forged:
            return result
        forged.append(1)
        return replace(result, values={**result.values, "loss": [float("nan")] * len(result.spec)})

    monkeypatch.setattr(room, "measure", forge)
    run_id = create()
    work(store, artifacts, worker="w")
    assert store.run(run_id).state is RunState.COMPLETE
    assert store.progress(run_id)[0].attempts == 2


def test_a_store_that_goes_away_ends_the_worker_with_its_sentence(store, artifacts, create, monkeypatch):
    def vanish(*_):
        raise StoreUnavailable("the run store does not answer; start it")

    create()
    monkeypatch.setattr(store, "finish", vanish)
    with pytest.raises(StoreUnavailable):
        work(store, artifacts, worker="w")
