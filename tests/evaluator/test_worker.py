"""The Celery application, as real processes on a real broker."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from evaluator.artifacts import Artifacts
from evaluator.broker import WAKE_UPS
from evaluator.checkpoints import open_checkpoint
from evaluator.evaluation import evaluate
from evaluator.protocol import SMOKE, EvaluationProtocol
from evaluator.store import RunState, RunStore
from evaluator.work import network
from fixtures.make_tiny import TINY
from tests import servers

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 120

SHORT = SMOKE.limited(4)
LONG = replace(
    SMOKE,
    name="long",
    flatness=replace(SMOKE.flatness, samples=100, attack=replace(SMOKE.flatness.attack, steps=20)),
)
"""Some 200 shards that keep one worker busy for about ten seconds: time for another to join, and to die."""


class Place:
    """Where a set of processes meets: stores, broker, and the variables that name them."""

    def __init__(self, folder: Path, queue_url: str) -> None:
        self.folder = folder
        self.variables = {
            "RUN_STORE_URL": f"sqlite:///{folder / 'runs.sqlite3'}",
            "QUEUE_URL": queue_url,
            "ARTIFACTS_URL": str(folder / "artifacts"),
            "LEASE_SECONDS": "60",
            "EVALUATION_DEVICE": "cpu",
            "OMP_NUM_THREADS": "1",
        }
        self.store = RunStore(self.variables["RUN_STORE_URL"])
        self.store.create_tables()

    def python(self, code: str) -> str:
        """Run `code` in a process of its own and return what it prints."""
        command = [sys.executable, "-c", f"from uuid import UUID; from evaluator import worker; {code}"]
        return subprocess.run(
            command, cwd=ROOT, env=os.environ | self.variables, check=True, stdout=subprocess.PIPE, text=True
        ).stdout

    def create(self, protocol: EvaluationProtocol) -> UUID:
        run_id = uuid4()
        self.store.create_run(run_id, protocol, Artifacts(self.variables["ARTIFACTS_URL"]).put(TINY))
        return run_id

    def nudge(self, run_id: UUID) -> None:
        self.python(f"worker.nudge(UUID('{run_id}'))")

    def waiting(self, queue: str) -> int:
        """Return how many messages wait in `queue`."""
        code = f"worker.app.connection_for_read().channel().queue_declare({queue!r}).message_count"
        return int(self.python(f"print({code})"))

    @contextmanager
    def worker(self, name: str) -> Iterator[subprocess.Popen[bytes]]:
        command = [sys.executable, "-m", "celery", "-A", "evaluator.worker", "worker", "-P", "prefork", "-c", "1"]
        command += ["-Q", "evaluation", "-n", f"{name}@%h", "--loglevel", "INFO"]
        with (self.folder / f"{name}.log").open("wb") as log:
            worker = subprocess.Popen(command, cwd=ROOT, env=os.environ | self.variables, stdout=log, stderr=log)
        try:
            self.until(lambda: "ready." in self.log(name))
            yield worker
        finally:
            if worker.poll() is None:
                worker.kill()
            worker.wait()

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            logs = "\n".join(path.read_text() for path in self.folder.glob("*.log"))
            assert time.monotonic() < deadline, logs
            time.sleep(0.05)

    def until_complete(self, run_id: UUID) -> None:
        self.until(lambda: self.store.run(run_id).state.ended)
        assert self.store.run(run_id).state is RunState.COMPLETE, self.store.run(run_id).error

    def done(self, run_id: UUID) -> int:
        return sum(stage.shards_done for stage in self.store.progress(run_id))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path, f"sqla+sqlite:///{tmp_path / 'broker.sqlite3'}")
    yield place
    place.store.close()


@pytest.mark.parametrize("broker", ["sqlite", "redis"])
def test_a_nudged_run_is_measured_announced_to_the_site_and_torch_stays_in_the_child(tmp_path, broker):
    with servers.redis() if broker == "redis" else nullcontext(f"sqla+sqlite:///{tmp_path / 'broker'}") as url:
        place = Place(tmp_path, url)
        run_id = place.create(SHORT)
        with place.worker("one") as worker:
            place.nudge(run_id)
            place.until_complete(run_id)
            (child,) = {int(stage.workers[0].rpartition(":")[2]) for stage in place.store.progress(run_id)}
            assert "libtorch" in Path(f"/proc/{child}/maps").read_text()
            assert "libtorch" not in Path(f"/proc/{worker.pid}/maps").read_text()
            place.until(lambda: place.waiting("site") == 1)
            worker.terminate()
            assert worker.wait(PATIENCE_SECONDS) == 0
        place.store.close()


def test_any_number_of_nudges_leaves_few_wake_ups_and_delivered_ones_are_gone(place):
    for _ in range(2):
        place.nudge(uuid4())
    assert place.waiting("evaluation") == WAKE_UPS
    with place.worker("one"):
        place.until(lambda: place.log("one").count("succeeded") == WAKE_UPS)
    rows = (
        "from sqlite3 import connect; print(connect('{}').execute('SELECT COUNT(*) FROM kombu_message').fetchone()[0])"
    )
    assert int(place.python(rows.format(place.folder / "broker.sqlite3"))) == 0


def test_processes_that_open_an_embedded_broker_at_once_make_its_tables_once(place):
    code = f"from uuid import UUID; from evaluator import worker; worker.nudge(UUID('{uuid4()}'))"
    processes = [
        subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=os.environ | place.variables) for _ in range(3)
    ]
    assert [process.wait(PATIENCE_SECONDS) for process in processes] == [0, 0, 0]


def test_a_broker_that_is_away_is_an_operational_error_not_a_hang(tmp_path):
    place = Place(tmp_path, "redis://127.0.0.1:1/0")
    code = "exec('try:\\n worker.nudge(UUID(int=0))\\nexcept OperationalError:\\n print(1)')"
    assert place.python(f"from kombu.exceptions import OperationalError; {code}") == "1\n"
    place.store.close()


def test_two_workers_share_a_run_and_one_killed_in_the_middle_changes_no_number(place):
    place.variables["LEASE_SECONDS"] = "3"  # how long the dead worker's shard waits here
    with place.worker("doomed") as doomed, place.worker("survivor"):
        place.nudge(uuid4())  # a false alarm, so that both have their torch when it counts
        place.until(lambda: all("succeeded" in place.log(name) for name in ("doomed", "survivor")))
        run_id = place.create(LONG)
        place.nudge(run_id)
        place.until(lambda: len({w for stage in place.store.progress(run_id) for w in stage.workers}) == 2)
        place.until(lambda: place.done(run_id) > 20)
        doomed.kill()
        doomed.wait()
        kept = place.done(run_id)
        assert kept < sum(stage.shards for stage in place.store.progress(run_id))

        def swept() -> bool:
            place.store.sweep()
            return place.store.run(run_id).state.ended

        place.nudge(run_id)
        place.until(swept)
    assert place.store.run(run_id).state is RunState.COMPLETE
    stages = place.store.progress(run_id)
    assert sum(stage.shards_done for stage in stages) == sum(stage.shards for stage in stages)
    expected = evaluate(network(open_checkpoint(TINY), "cpu"), LONG)
    assert place.store.result(run_id).measurements == expected.measurements


def test_a_worker_told_to_end_hands_its_work_to_the_next_without_a_failure(place):
    run_id = place.create(LONG)
    with place.worker("old") as old:
        place.nudge(run_id)
        place.until(lambda: place.done(run_id) > 3)
        old.send_signal(signal.SIGTERM)
        assert old.wait(PATIENCE_SECONDS) == 0
    assert place.store.run(run_id).state is RunState.RUNNING
    assert sum(stage.shards_running for stage in place.store.progress(run_id)) == 0
    with place.worker("new"):
        place.until_complete(run_id)  # nobody nudges again
    assert not any("failed" in event.text for event in place.store.events(run_id))
