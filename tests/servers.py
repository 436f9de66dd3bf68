"""Real PostgreSQL and Redis servers for tests: on free ports, in temporary folders, gone afterwards."""

import os
import shutil
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

START_SECONDS = 60


@contextmanager
def postgresql() -> Iterator[str]:
    """Yield the URL of an empty PostgreSQL database; skips the test, loudly, where PostgreSQL is not installed."""
    initdb, postgres = _postgresql_program("initdb"), _postgresql_program("postgres")
    with tempfile.TemporaryDirectory(prefix="postgresql-") as name:
        folder = Path(name)
        # PostgreSQL refuses to run as root, so root lends it the account that its package made.
        account = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []
        if account:
            shutil.chown(folder, "postgres", "postgres")
        data = folder / "data"
        _run([*account, initdb, "-D", str(data), "-U", "tests", "--auth=trust", "--no-sync", "-E", "UTF8"], folder)
        port = _free_port()
        options = [f"-p{port}", f"-k{folder}", "-h127.0.0.1", "-F"]
        url = f"postgresql://tests@127.0.0.1:{port}/postgres"
        with _serving([*account, postgres, "-D", str(data), *options], folder, lambda: psycopg.connect(url).close()):
            yield url


@contextmanager
def redis() -> Iterator[str]:
    """Yield the URL of an empty Redis server; skips the test, loudly, where Redis is not installed."""
    server = shutil.which("redis-server")
    if server is None:
        pytest.skip("redis-server is not installed: nothing here says whether the Redis broker works")
    with tempfile.TemporaryDirectory(prefix="redis-") as name:
        port = _free_port()
        command = [server, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", name]

        def answers() -> None:
            with Redis(port=port) as client:
                client.ping()

        with _serving(command, Path(name), answers):
            yield f"redis://127.0.0.1:{port}/0"


def _postgresql_program(name: str) -> str:
    candidates = [
        shutil.which(name),
        *sorted(map(str, Path("/usr/lib/postgresql").glob(f"*/bin/{name}")), reverse=True),
    ]
    for candidate in candidates:
        if candidate is not None:
            return candidate
    pytest.skip(f"{name} is not installed: nothing here says whether the run store works on PostgreSQL")


@contextmanager
def _serving(command: list[str], folder: Path, answers: Callable[[], None]) -> Iterator[None]:
    log = folder / "server.log"
    with log.open("wb") as output:
        server = subprocess.Popen(command, cwd=folder, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                answers()
                break
            except (psycopg.OperationalError, RedisConnectionError):
                if server.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{command[-1]} did not start:\n{log.read_text()}") from None
                time.sleep(0.05)
        yield
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _run(command: list[str], folder: Path) -> None:
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
