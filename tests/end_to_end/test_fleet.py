"""A fleet as it is deployed: PostgreSQL, Redis, a web process, a site worker, two measuring workers; one is killed."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from uuid import UUID

import psycopg

from evaluator.checkpoints import load_for_measuring, open_checkpoint
from evaluator.evaluation import evaluate
from evaluator.results import EvaluationResult
from evaluator.store import RunStore
from fixtures.make_tiny import TINY
from tests import servers
from tests.end_to_end.test_serve import DEADLINE_SECONDS, ROOT, wait_for

SUBMIT = """
import django
django.setup()
from dataclasses import replace
from pathlib import Path
from evaluator.shipped import SMOKE
from leaderboard import services
long = replace(SMOKE, flatness=replace(SMOKE.flatness, samples=60, attack=replace(SMOKE.flatness.attack, steps=20)))
submission = services.submit(Path("fixtures/tiny.safetensors"), title="Tiny", protocol=long)
print(submission.run_id, submission.get_absolute_url())
"""


def test_a_run_goes_from_submission_to_board_though_one_of_its_two_workers_is_killed(
    tmp_path: Path, variables: dict[str, str]
) -> None:
    with ExitStack() as stack:
        url = stack.enter_context(servers.postgresql())
        with psycopg.connect(url, autocommit=True) as connection:
            for name in ("site", "runs"):
                connection.execute(f"CREATE DATABASE {name}")
        variables = variables | {
            "DATABASE_URL": url.replace("/postgres", "/site"),
            "RUN_STORE_URL": url.replace("/postgres", "/runs"),
            "QUEUE_URL": stack.enter_context(servers.redis()),
            "OMP_NUM_THREADS": "1",
        }
        host = _free_host()
        subprocess.run(_manage("migrate", "--verbosity=0"), cwd=ROOT, env=variables, check=True)
        run_id, path = _submitted(variables)
        store = RunStore(variables["RUN_STORE_URL"])
        stack.callback(store.close)
        stack.enter_context(_running(_manage("runserver", "--noreload", host), tmp_path / "web", variables))
        stack.enter_context(_running(_manage("worker", "--role=site"), tmp_path / "site", variables))
        workers = {
            name: stack.enter_context(_running(_manage("worker", "--role=evaluation"), tmp_path / name, variables))
            for name in ("doomed", "survivor")
        }
        _wait(lambda: len(_workers(store, run_id)) == 2)  # both have brought a report
        os.killpg(workers["doomed"].pid, signal.SIGKILL)
        done_before = sum(stage.shards_done for stage in store.progress(run_id))
        page = wait_for(f"http://{host}{path}", "What broke the examples")
        assert "RErr test" in page
        stages = store.progress(run_id)
        assert 0 < done_before < sum(stage.shards for stage in stages)
        assert sum(stage.shards_done for stage in stages) == sum(stage.shards for stage in stages)
        run = store.run(run_id)
        assert run is not None
        expected = evaluate(load_for_measuring(open_checkpoint(TINY)), run.protocol)
        result = store.result(run_id)
        assert result is not None
        assert _values(result) == _values(expected)


def _values(result: EvaluationResult) -> list[tuple[str, float, int]]:
    """Return the numbers without their intervals, which tests here resample less often than the workers do."""
    return [(measurement.column, measurement.value, measurement.n) for measurement in result.measurements]


def _manage(*arguments: str) -> list[str]:
    return [sys.executable, "manage.py", *arguments]


def _submitted(variables: dict[str, str]) -> tuple[UUID, str]:
    command = [sys.executable, "-c", SUBMIT]
    printed = subprocess.run(command, cwd=ROOT, env=variables, check=True, capture_output=True, text=True).stdout
    run_id, path = printed.split()
    return UUID(run_id), path


@contextmanager
def _running(command: list[str], log: Path, variables: dict[str, str]) -> "Iterator[subprocess.Popen[bytes]]":
    """Run a command, in a process group of its own, for the length of a block."""
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command, cwd=ROOT, env=variables, stdout=stream, stderr=stream, start_new_session=True
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _workers(store: RunStore, run_id: UUID) -> set[str]:
    return {worker for stage in store.progress(run_id) if stage.shards_done for worker in stage.workers}


def _wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _free_host() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"
