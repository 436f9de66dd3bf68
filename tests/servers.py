"""Real PostgreSQL and Redis servers for tests: they can be stopped, killed and started again, and are gone afterwards.

Each has a port and a temporary folder of its own, which it keeps from one start to the next.
"""

import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from evaluator.lifetime import end_with_parent

START_SECONDS = 300


class Server:
    """A server; `url` is where it answers from `start` until `stop` or `kill`."""

    def __init__(self, url: str, command: list[str], folder: Path, answers: Callable[[], None]) -> None:
        self.url = url
        self._command = command
        self._folder = folder
        self._answers = answers
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers; nothing happens where it runs.

        A server that was killed may refuse to start until the last of its own processes have ended, hence the retries.
        """
        deadline = time.monotonic() + START_SECONDS
        while True:
            if self._process is None or self._process.poll() is not None:
                with (self._folder / "server.log").open("wb") as log:
                    self._process = subprocess.Popen(
                        self._command, cwd=self._folder, stdout=log, stderr=log, preexec_fn=end_with_parent
                    )
            try:
                self._answers()
                return
            except (psycopg.OperationalError, RedisConnectionError):
                if time.monotonic() > deadline:
                    log = (self._folder / "server.log").read_text()
                    raise RuntimeError(f"{self._command} did not start:\n{log}") from None
                time.sleep(0.1)

    def stop(self) -> None:
        """Let it end in order, whoever is connected."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """Kill it with -9."""
        self._end(signal.SIGKILL)

    def _end(self, by: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(by)
            self._process.wait(START_SECONDS)


@contextmanager
def postgresql_server() -> Iterator[Server]:
    """Yield PostgreSQL with an empty database; skips the test, loudly, where it is not installed."""
    initdb, postgres = _postgresql_program("initdb"), _postgresql_program("postgres")
    with tempfile.TemporaryDirectory(prefix="postgresql-") as name:
        folder = Path(name)
        # PostgreSQL refuses to run as root, so root lends it the account that its package made.
        account = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--pdeathsig=SIGTERM"]
        if os.geteuid() != 0:
            account.clear()
        else:
            shutil.chown(folder, "postgres", "postgres")
        data = ["-D", str(folder / "data")]
        make = [*account, initdb, *data, "-U", "tests", "--auth=trust", "--no-sync", "-E", "UTF8"]
        subprocess.run(make, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        port = _free_port()
        url = f"postgresql://tests@127.0.0.1:{port}/postgres"
        command = [*account, postgres, *data, f"-p{port}", f"-k{folder}", "-h127.0.0.1", "-F"]
        with _running(Server(url, command, folder, lambda: psycopg.connect(url).close())) as server:
            yield server


@contextmanager
def redis_server() -> Iterator[Server]:
    """Yield an empty Redis; skips the test, loudly, where it is not installed.

    Stopped, it keeps what it holds for its next start; killed, it has lost it.
    """
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed: nothing here says whether the Redis broker works")
    with tempfile.TemporaryDirectory(prefix="redis-") as name:
        port = _free_port()
        command = [program, "--port", str(port), "--bind", "127.0.0.1", "--dir", name, "--save", "3600 1"]

        def answers() -> None:
            with Redis(port=port) as client:
                client.ping()

        with _running(Server(f"redis://127.0.0.1:{port}/0", command, Path(name), answers)) as server:
            yield server


@contextmanager
def postgresql() -> Iterator[str]:
    """Yield the URL of an empty PostgreSQL database."""
    with postgresql_server() as server:
        yield server.url


@contextmanager
def redis() -> Iterator[str]:
    """Yield the URL of an empty Redis server."""
    with redis_server() as server:
        yield server.url


@contextmanager
def _running(server: Server) -> Iterator[Server]:
    try:
        server.start()
        yield server
    finally:
        server.stop()


def _postgresql_program(name: str) -> str:
    candidates = [
        shutil.which(name),
        *sorted(map(str, Path("/usr/lib/postgresql").glob(f"*/bin/{name}")), reverse=True),
    ]
    for candidate in candidates:
        if candidate is not None:
            return candidate
    pytest.skip(f"{name} is not installed: nothing here says whether the run store works on PostgreSQL")


def _free_port() -> int:
    """Return a free port below those that Linux lends to clients: while a server is down, its port shall stay free."""
    while True:
        port = random.randrange(10_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
