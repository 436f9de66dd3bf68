"""Real Celery workers for tests: where they meet, how they are started, and what became of them."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from evaluator.store import RunStore

ROOT = Path(__file__).resolve().parents[1]
PATIENCE_SECONDS = 120


class Place:
    """Where a set of processes meets: stores, broker, and the variables that name them."""

    application: ClassVar[str]
    """The module of the Celery application."""
    queue: ClassVar[str]

    def __init__(self, folder: Path, queue_url: str) -> None:
        self.folder = folder
        self.variables = {
            "RUN_STORE_URL": f"sqlite:///{folder / 'runs.sqlite3'}",
            "QUEUE_URL": queue_url,
            "ARTIFACTS_URL": str(folder / "artifacts"),
            "TRAINING_DIR": str(folder / "training"),
            "LEASE_SECONDS": "60",
            "EVALUATION_DEVICE": "cpu",
            "OMP_NUM_THREADS": "1",
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

    @contextmanager
    def worker(self, name: str) -> Iterator["subprocess.Popen[bytes]"]:
        command = [sys.executable, "-m", "celery", "-A", self.application, "worker", "-P", "prefork", "-c", "1"]
        command += ["-Q", self.queue, "-n", f"{name}@%h", "--loglevel", "INFO"]
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
