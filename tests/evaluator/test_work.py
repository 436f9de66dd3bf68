"""The work loop, on a real store, a real checkpoint and real measurements of a few digits."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from evaluator.artifacts import Artifacts
from evaluator.checkpoints import load_for_measuring, open_checkpoint
from evaluator.child import MeasuringChild
from evaluator.datasets import load_dataset
from evaluator.evaluation import evaluate
from evaluator.exceptions import ArtifactsUnavailable, Fault, InvalidSetting, StoreUnavailable
from evaluator.metrics import StageName
from evaluator.protocol import Examples
from evaluator.results import ShardResult
from evaluator.shipped import SMOKE
from evaluator.stages import measure
from evaluator.store import Claim, Role, RunState, RunStore, WorkerRegister
from evaluator.work import work
from fixtures.make_tiny import TINY

PROTOCOL = replace(SMOKE.limited(4), name="quick", autoattack_examples=Examples(test=0, train=0))
DIGITS_AT = TINY.with_name("digits-at.safetensors")


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


class InProcess:
    """Measures in this process; `before` and `after` see each measurement."""

    def __init__(self, before: Callable[..., None] = lambda **_: None, after=lambda result: result) -> None:
        self.before, self.after = before, after
        self.opened: list[str] = []
        self.closed = 0

    def __call__(self, checkpoint: Path) -> "InProcess":
        self.model = load_for_measuring(open_checkpoint(checkpoint))
        self.opened.append(checkpoint.name)
        return self

    def measure(self, protocol, spec, *, tick, batch_size=None):
        self.before(spec=spec, tick=tick, batch_size=batch_size)
        return self.after(measure(self.model, load_dataset("digits"), protocol, spec, batch_size=batch_size, tick=tick))

    def close(self) -> None:
        self.closed += 1


def work_here(store: RunStore, artifacts: Artifacts, measurer: InProcess | None = None, **options) -> int:
    return work(store, artifacts, open_measurer=measurer or InProcess(), **({"worker": "w"} | options))


def measured(run_id: UUID, store: RunStore) -> int:
    return sum(stage.shards_done for stage in store.progress(run_id))


def test_one_worker_measures_all_runs_to_the_end_with_the_numbers_of_a_measurement_in_memory(store, artifacts, create):
    runs, completed, shards = [create(), create()], [], []
    done = work(
        store,
        artifacts,
        worker="only",
        device="cpu",
        on_shard=lambda claim, result: shards.append((claim.run_id, result.spec)),
        on_complete=completed.append,
    )
    assert completed == runs
    assert done == len(shards) == sum(measured(run_id, store) for run_id in runs)
    expected = evaluate(load_for_measuring(open_checkpoint(TINY)), PROTOCOL)
    for run_id in runs:
        assert store.result(run_id).measurements == expected.measurements
        assert store.result(run_id).checkpoint_sha256 == open_checkpoint(TINY).sha256


def test_a_worker_for_one_run_leaves_the_others_alone(store, artifacts, create):
    other, mine = create(), create()
    assert work_here(store, artifacts, run_id=mine) == measured(mine, store)
    assert store.run(mine).state is RunState.COMPLETE
    assert store.run(other).state is RunState.QUEUED


def test_a_measurer_stays_while_its_checkpoint_is_asked_for_and_is_closed_with_the_worker(store, artifacts, create):
    create()
    measurer = InProcess()
    create()
    work_here(store, artifacts, measurer)
    assert (len(measurer.opened), measurer.closed) == (1, 1)
    create()
    other = uuid4()
    store.create_run(other, PROTOCOL, artifacts.put(DIGITS_AT))
    work_here(store, artifacts, measurer)
    assert (len(measurer.opened), measurer.closed) == (3, 3)
    assert store.run(other).state is RunState.COMPLETE


def audited(store: RunStore, artifacts: Artifacts) -> UUID:
    """Create a run of which one piece is measured again."""
    run_id = uuid4()
    store.create_run(run_id, PROTOCOL, artifacts.put(TINY), audit_share=1e-9)
    return run_id


def test_a_worker_that_is_alone_measures_again_with_a_measurer_that_remembers_nothing(store, artifacts):
    run_id, measurer = audited(store, artifacts), InProcess()
    assert work_here(store, artifacts, measurer) == measured(run_id, store) + 1
    assert (len(measurer.opened), measurer.closed) == (2, 2)
    (finding,) = store.result(run_id).findings
    assert (finding.seen, finding.threshold) == (0.0, 0.0)
    assert "in a fresh process" in finding.sentence


class KilledOnce:
    """A real measuring process; the first one is killed at its first shard, of a stage if one is named."""

    def __init__(self, stage: StageName | None = None) -> None:
        self.killed = False
        self.stage = stage

    def __call__(self, checkpoint: Path) -> "KilledOnce":
        self.child = MeasuringChild(checkpoint, device="cpu", data_dir=None)
        return self

    def measure(self, protocol, spec, *, tick, batch_size=None):
        def harm():
            tick()
            if (
                not self.killed and self.child.device and self.stage in (None, spec.stage)
            ):  # it is ready, and at its first shard
                os.kill(self.child.pid, signal.SIGKILL)
                self.killed = True

        return self.child.measure(protocol, spec, tick=harm, batch_size=batch_size)

    def close(self) -> None:
        self.child.close()


def test_another_worker_agrees_to_the_bit_though_its_process_is_killed_while_it_measures_again(store, artifacts):
    run_id = audited(store, artifacts)
    register = WorkerRegister(store.engine.url.render_as_string())
    for name in ("ann:1", "bob:1"):
        register.announce(name, Role.EVALUATION)
    register.close()
    patient = {"device": "cpu", "lease_seconds": 600.0}  # for so long they are alive
    first = threading.Thread(target=work, args=(store, artifacts), kwargs=dict(patient, worker="ann:1"))
    first.start()
    while not any("drawn" in event.text for event in store.events(run_id)):
        assert first.is_alive()
        time.sleep(0.05)
    assert work(store, artifacts, worker="bob:1", open_measurer=KilledOnce(), **patient) == 1
    first.join()
    (finding,) = store.result(run_id).findings
    assert finding.seen == 0.0
    assert "by 1 worker;" in finding.sentence
    assert sum("on bob:1 failed" in event.text for event in store.events(run_id)) == 1


def test_a_preview_whose_process_is_killed_is_the_one_that_an_undisturbed_process_gives(store, artifacts):
    protocol = replace(PROTOCOL, autoattack_examples=Examples(test=4, train=0))
    seen = []

    def look(claim: Claim, _: ShardResult) -> None:
        seen.append(store.preview(claim.run_id))

    for measurer in (KilledOnce(StageName.PREVIEW), InProcess()):
        run_id = uuid4()
        store.create_run(run_id, protocol, artifacts.put(TINY), preview=True)
        work_here(store, artifacts, measurer, on_shard=look)
        assert store.run(run_id).state is RunState.COMPLETE
        (stage,) = (one for one in store.progress(run_id) if one.stage is StageName.PREVIEW)
        assert stage.attempts == (2 if isinstance(measurer, KilledOnce) else 1)
    assert len(set(seen)) == 2  # none, and the one
    assert seen.count(None) == 4  # after the clean images of either run


def test_a_worker_leaves_nothing_behind(store, artifacts, create, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    create()
    threads, files = threading.active_count(), {path.name for path in tmp_path.iterdir() if path.is_dir()}
    work_here(store, artifacts)
    assert threading.active_count() == threads
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == files


def test_a_worker_without_its_device_ends_with_a_sentence_and_the_run_waits_for_others(store, artifacts, create):
    run_id = create()
    with pytest.raises(InvalidSetting, match="torch sees"):
        work(store, artifacts, worker="w", device="cuda:77")
    assert store.run(run_id).state is RunState.RUNNING
    work_here(store, artifacts)
    assert store.run(run_id).state is RunState.COMPLETE


def test_artifacts_that_are_away_end_the_worker_and_cost_the_run_no_attempt(store, artifacts, create, monkeypatch):
    run_id = create()

    def away(*_):
        raise ArtifactsUnavailable("the artifacts cannot be used; try again")

    with monkeypatch.context() as patched:
        patched.setattr(artifacts, "fetch", away)
        with pytest.raises(ArtifactsUnavailable):
            work_here(store, artifacts)
    assert not any("failed" in event.text for event in store.events(run_id))
    work_here(store, artifacts)
    assert store.run(run_id).state is RunState.COMPLETE


def test_a_worker_waits_for_a_stage_that_another_is_at(store, artifacts, create):
    run_id = create()
    held = store.claim("another")
    waiting = threading.Thread(target=work_here, args=(store, artifacts))
    waiting.start()
    while measured(run_id, store) == 0:
        time.sleep(0.01)
    assert waiting.is_alive()
    store.finish(held, InProcess()(TINY).measure(held.protocol, held.spec, tick=lambda: None))
    waiting.join()
    assert store.run(run_id).state is RunState.COMPLETE


@pytest.mark.parametrize(("device", "seconds"), [("cpu (x86_64)", 10.0), ("NVIDIA H200", 120.0)])
def test_the_length_of_a_shard_is_the_devices(store, artifacts, create, monkeypatch, device, seconds):
    create()
    targets = []

    def claim(*args, target_seconds, **kwargs):
        targets.append(target_seconds)
        return RunStore.claim(store, *args, target_seconds=target_seconds, **kwargs)

    monkeypatch.setattr(store, "claim", claim)
    work_here(store, artifacts, InProcess(after=lambda result: replace(result, device=device)))
    assert set(targets[1:]) == {seconds}


def test_a_checkpoint_that_is_none_fails_its_run_as_the_submitters_fault_and_the_next_goes_on(
    store, artifacts, create, tmp_path
):
    (tmp_path / "junk").write_bytes(b"no tensors here")
    bad = uuid4()
    store.create_run(bad, PROTOCOL, artifacts.put(tmp_path / "junk"))
    good = create()
    work_here(store, artifacts)
    assert (store.run(bad).state, store.run(bad).fault) == (RunState.FAILED, Fault.SUBMITTER)
    assert store.run(good).state is RunState.COMPLETE


def test_a_lost_artifact_is_the_operators_fault(store, artifacts):
    run_id = uuid4()
    store.create_run(run_id, PROTOCOL, "0" * 64)
    assert work_here(store, artifacts) == 0
    assert (store.run(run_id).state, store.run(run_id).fault) == (RunState.FAILED, Fault.OPERATOR)


def test_an_unexpected_error_is_tried_three_times_with_smaller_batches_and_named(store, artifacts, create):
    run_id, batch_sizes = create(), []

    def before(batch_size, **_):
        batch_sizes.append(batch_size)
        raise ZeroDivisionError("a bug of ours")

    work_here(store, artifacts, InProcess(before))
    assert batch_sizes == [None, 32, 8]
    assert "ZeroDivisionError: a bug of ours" in store.run(run_id).error
    assert (store.run(run_id).fault, store.run(run_id).failure) == (Fault.OURS, "ZeroDivisionError")


def test_a_worker_told_to_stop_in_a_shard_hands_it_back_and_another_finishes_the_run(store, artifacts, create):
    run_id, asked = create(), []

    def stop() -> bool:
        asked.append(1)
        return len(asked) >= 2  # not before the first claim, but at the first tick within it

    assert work_here(store, artifacts, stop=stop) == 0
    assert store.progress(run_id)[0].shards_running == 0
    assert not any("failed" in event.text for event in store.events(run_id))
    work_here(store, artifacts)
    assert store.run(run_id).state is RunState.COMPLETE


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])
def test_an_interrupted_worker_hands_its_shard_back(store, artifacts, create, interruption):
    run_id = create()

    def before(**_):
        raise interruption

    with pytest.raises(interruption):
        work_here(store, artifacts, InProcess(before))
    again = store.claim("next", run_id=run_id)
    assert (again.position, again.attempt) == (0, 2)
    assert not any("failed" in event.text for event in store.events(run_id))


def test_a_run_cancelled_under_a_worker_costs_it_nothing_but_the_shard(store, artifacts, create):
    cancelled, other = create(), create()
    done = work_here(store, artifacts, InProcess(lambda **_: store.cancel(cancelled)))
    assert store.run(cancelled).state is RunState.CANCELLED
    assert store.run(other).state is RunState.COMPLETE
    assert done == measured(other, store)
    assert store.shard_results(cancelled) == ()


def test_a_heartbeat_keeps_the_shard_through_one_long_call_and_ends_with_it(store, artifacts, create):
    run_id = create()
    work_here(store, artifacts, InProcess(lambda **_: store.beaten.wait(30)), run_id=run_id, lease_seconds=2)
    assert store.beaten.is_set()
    assert all(stage.attempts == 1 for stage in store.progress(run_id))


def test_a_heartbeat_that_finds_the_lease_lost_ends_the_measurement(store, artifacts, create):
    run_id, ticked = create(), []

    def before(tick, **_):
        store.cancel(run_id)
        while True:  # as an attack of many batches would
            ticked.append(1)
            tick()
            threading.Event().wait(0.01)

    assert work_here(store, artifacts, InProcess(before), lease_seconds=1) == 0
    assert ticked


def test_a_forged_report_is_refused_and_the_shard_measured_again(store, artifacts, create):
    forged = []

    def forge(result):
        if forged:
            return result
        forged.append(1)
        return replace(result, values={**result.values, "loss": [float("nan")] * len(result.spec)})

    run_id = create()
    work_here(store, artifacts, InProcess(after=forge))
    assert store.run(run_id).state is RunState.COMPLETE
    assert store.progress(run_id)[0].attempts == 2


def test_a_store_that_goes_away_ends_the_worker_with_its_sentence(store, artifacts, create, monkeypatch):
    def vanish(*_):
        raise StoreUnavailable("the run store does not answer; start it")

    create()
    monkeypatch.setattr(store, "finish", vanish)
    with pytest.raises(StoreUnavailable):
        work_here(store, artifacts)
