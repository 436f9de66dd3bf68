"""Real Celery workers for tests: where they meet, how they are started, killed and frozen, and what became of them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import ClassVar
from uuid import UUID, uuid4

from celery import Celery
from sqlalchemy import select
from sqlalchemy.orm import Session

from evaluator.artifacts import Artifacts
from evaluator.broker import EVALUATION_QUEUE, broker_settings, wake
from evaluator.lifetime import end_with_parent
from evaluator.protocol import EvaluationProtocol
from evaluator.store import RunState, RunStore, ShardState
from evaluator.store.rows import ShardRow
from fixtures.make_tiny import TINY
from tests.evaluator.test_lifetime import innermost

ROOT = Path(__file__).resolve().parents[1]
PATIENCE_SECONDS = 300
LAST_CHARACTERS = 1500


class Worker(subprocess.Popen[bytes]):
    """A Celery worker: this process listens, a child of it claims and reports, and a child of that measures."""

    @property
    def claiming(self) -> int | None:
        """The process id of the one that claims, if there is one at the moment."""
        return _child(self.pid, "spawn_main")

    @property
    def measuring(self) -> int | None:
        """The process id of the one that measures, behind its walls, if there is one at the moment."""
        claiming = self.claiming
        outermost = None if claiming is None else _child(claiming, "evaluator.measuring")
        return None if outermost is None else innermost(outermost)

    def kill_all(self) -> None:
        """Kill all its processes with -9, frozen ones too; the one that measures ends with the one that claims."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.wait()


class Place:
    """Where a set of processes meets: stores, broker, and the variables that name them."""

    application: ClassVar[str]
    """The module of the Celery application."""
    queue: ClassVar[str]

    def __init__(self, folder: Path, queue_url: str, store_url: str | None = None) -> None:
        self.folder = folder
        self.scratch = folder / "scratch"
        self.scratch.mkdir()
        self.variables = {
            "RUN_STORE_URL": store_url or f"sqlite:///{folder / 'runs.sqlite3'}",
            "QUEUE_URL": queue_url,
            "ARTIFACTS_URL": str(folder / "artifacts"),
            "TRAINING_DIR": str(folder / "training"),
            "LEASE_SECONDS": "60",
            "EVALUATION_DEVICE": "cpu",
            "OMP_NUM_THREADS": "1",
            "TMPDIR": str(self.scratch),
        }
        self.store = RunStore(self.variables["RUN_STORE_URL"])
        self.store.create_tables()

    def run(self, *arguments: str) -> str:
        """Run Python with `arguments` in a process of its own and return what it prints."""
        command = [sys.executable, *arguments]
        return subprocess.run(
            command, cwd=ROOT, env=os.environ | self.variables, check=True, stdout=subprocess.PIPE, text=True
        ).stdout

    def python(self, code: str) -> str:
        """Run `code`, which knows the application's module as `worker`, and return what it prints."""
        return self.run("-c", f"from uuid import UUID; import {self.application} as worker; {code}")

    def waiting(self, queue: str) -> int:
        """Return how many messages wait in `queue`."""
        code = f"worker.app.connection_for_read().channel().queue_declare({queue!r}).message_count"
        return int(self.python(f"print({code})"))

    def start(self, name: str, **variables: str) -> Worker:
        """Start a worker, with `variables` besides those of the place, and wait until it listens."""
        command = [sys.executable, "-m", "celery", "-A", self.application, "worker", "-P", "prefork", "-c", "1"]
        command += ["-Q", self.queue, "-n", f"{name}@%h", "--loglevel", "INFO"]
        earlier = self.log(name).count("ready.")
        environment = os.environ | self.variables | variables
        with (self.folder / f"{name}.log").open("ab") as log:
            worker = Worker(
                command,
                cwd=ROOT,
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=partial(end_with_parent, signal.SIGKILL),
            )
        try:
            self.until(lambda: self.log(name).count("ready.") > earlier)
        except BaseException:
            worker.kill_all()
            raise
        return worker

    @contextmanager
    def worker(self, name: str, **variables: str) -> Iterator[Worker]:
        """Yield a worker that is killed at the end, if it is still there."""
        worker = self.start(name, **variables)
        try:
            yield worker
        finally:
            worker.kill_all()

    def processes(self) -> list[int]:
        """Return the process ids of all that was started here, at any remove, and has not ended."""
        return [pid for pid in _process_ids() if f"TMPDIR={self.scratch}" in _environment(pid)]

    def log(self, name: str) -> str:
        path = self.folder / f"{name}.log"
        return path.read_text() if path.exists() else ""

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            assert time.monotonic() < deadline, self.story()
            time.sleep(0.05)

    def story(self) -> str:
        """Return the ends of all logs and which processes there are, for a test that has waited in vain."""
        ends = [f"{path.stem}:\n{path.read_text()[-LAST_CHARACTERS:]}" for path in self.folder.glob("*.log")]
        return "\n".join([*ends, *map(_in_words, self.processes())])


class Evaluation(Place):
    """Where measuring workers meet."""

    application = "evaluator.worker"
    queue = EVALUATION_QUEUE

    def __init__(self, folder: Path, queue_url: str, store_url: str | None = None) -> None:
        super().__init__(folder, queue_url, store_url)
        self._sender = Celery("tests", set_as_current=False)
        self._sender.conf.update(broker_settings(queue_url))

    def close(self) -> None:
        self._sender.close()
        self.store.close()

    def create(self, protocol: EvaluationProtocol) -> UUID:
        run_id = uuid4()
        self.store.create_run(run_id, protocol, Artifacts(self.variables["ARTIFACTS_URL"]).put(TINY))
        return run_id

    def nudge(self, run_id: UUID) -> None:
        wake(self._sender, "evaluator.evaluate", str(run_id))

    def send_message(self, run_id: UUID) -> None:
        """Send one more wake-up, however many there are."""
        self._sender.send_task("evaluator.evaluate", args=[str(run_id)])

    def shards(self, run_id: UUID) -> list[ShardRow]:
        """Return a run's shards as the store has them, in order."""
        with Session(self.store.engine) as session:
            return list(session.scalars(select(ShardRow).filter_by(run_id=run_id).order_by(ShardRow.position)))

    def story(self) -> str:
        with Session(self.store.engine) as session:
            running = session.scalars(select(ShardRow).filter_by(state=ShardState.RUNNING))
            shards = [f"{row.run_id} {row.position}: attempt {row.attempt} by {row.worker}" for row in running]
        return "\n".join([super().story(), *shards])

    def done(self, run_id: UUID) -> int:
        return sum(stage.shards_done for stage in self.store.progress(run_id))

    def until_complete(self, run_id: UUID) -> None:
        self.until(lambda: self.store.run(run_id).state.ended)
        assert self.store.run(run_id).state is RunState.COMPLETE, self.store.run(run_id).error


def send(pid: int | None, what: signal.Signals) -> bool:
    """Send a signal to a process; False when there is none."""
    try:
        if pid is not None:
            os.kill(pid, what)
    except ProcessLookupError:
        return False
    return pid is not None


def parent(pid: int) -> int | None:
    """Return the process that `pid` is a child of; None when it has ended, though nobody may know that yet."""
    try:
        state, number, *_ = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if state == "Z" else int(number)


def _child(pid: int, words: str) -> int | None:
    children = (found for found in _process_ids() if parent(found) == pid)
    return next((found for found in children if words in _read(found, "cmdline")), None)


def _process_ids() -> list[int]:
    return [int(path.name) for path in Path("/proc").glob("[0-9]*")]


def _in_words(pid: int) -> str:
    command = _read(pid, "cmdline").replace("\0", " ")
    state = _read(pid, "stat").rpartition(")")[2].split()[:2]
    return f"process {pid} (state and parent {' '.join(state)}, in {_read(pid, 'wchan')}): {command}"


def _environment(pid: int) -> list[str]:
    return _read(pid, "environ").split("\0")


def _read(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes().decode(errors="replace")
    except OSError:  # it has ended, or is not ours
        return ""
