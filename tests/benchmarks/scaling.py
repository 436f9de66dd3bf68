"""What the queue costs and what more workers bring: real stores, real worker processes, a real network."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

from evaluator.artifacts import Artifacts
from evaluator.checkpoints import load_for_measuring, open_checkpoint
from evaluator.evaluation import evaluate
from evaluator.protocol import EvaluationProtocol, Examples
from evaluator.results import Measurement, ShardSpec
from evaluator.shipped import DIGITS_LINF
from evaluator.store import RunStore
from tests import servers
from tests.evaluator.reports import report

ROOT = Path(__file__).resolve().parents[2]
CHECKPOINT = ROOT / "fixtures" / "digits-at.safetensors"
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
NONE = Examples(test=0, train=0)
EMPTY = replace(
    DIGITS_LINF, name="empty", robust_loss_examples=Examples(test=800, train=797), autoattack_examples=NONE,
    flatness_examples=NONE, rankable=False,
)  # fmt: skip
"""Some hundreds of shards of 4 examples, as nothing says that larger ones would do."""


def attacked(points: int, restarts: int) -> EvaluationProtocol:
    """Return a protocol of PGD alone on so many test digits: with 1000 of them, a second and more a restart."""
    count = Examples(test=points, train=0)
    return replace(
        DIGITS_LINF, name="pgd", clean_examples=count, robust_loss_examples=count,
        robust_loss=replace(DIGITS_LINF.robust_loss, restarts=restarts),
        autoattack_examples=NONE, flatness_examples=NONE, rankable=False,
    )  # fmt: skip


def by_evaluate(points: int, restarts: int) -> str:
    """Measure by `evaluate`, without store or queue, from the start of a process to its result."""
    command = [
        sys.executable,
        "-c",
        f"from tests.benchmarks import scaling; print(scaling.in_memory({points}, {restarts}))",
    ]
    return subprocess.run(
        command, cwd=ROOT, env=os.environ | ONE_THREAD, check=True, capture_output=True, text=True
    ).stdout.strip()


def in_memory(points: int, restarts: int) -> tuple[Measurement, ...]:
    """Measure in this process, without store or queue."""
    return evaluate(load_for_measuring(open_checkpoint(CHECKPOINT)), attacked(points, restarts)).measurements


def by_workers(count: int, points: int, restarts: int) -> str:
    """Measure the same by `count` worker processes on a store of their own, from their start to the result."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        variables = {
            "RUN_STORE_URL": f"sqlite:///{folder / 'runs.sqlite3'}",
            "QUEUE_URL": f"sqla+sqlite:///{folder / 'broker.sqlite3'}",
            "ARTIFACTS_URL": str(folder / "artifacts"),
            "EVALUATION_DEVICE": "cpu",
        }
        store, run_id = RunStore(variables["RUN_STORE_URL"]), uuid4()
        store.create_tables()
        store.create_run(run_id, attacked(points, restarts), Artifacts(variables["ARTIFACTS_URL"]).put(CHECKPOINT))
        command = [sys.executable, "-m", "evaluator.worker"]
        workers = [
            subprocess.Popen(command, cwd=ROOT, env=os.environ | variables | ONE_THREAD, stderr=subprocess.DEVNULL)
            for _ in range(count)
        ]
        assert [worker.wait() for worker in workers] == [0] * count
        result = store.result(run_id)
        store.close()
        assert result is not None, "the run is not complete"
        return str(result.measurements)


def shards_a_second(kind: str, workers: int) -> float:
    """Return how many shards a second go through a store when `workers` threads claim and finish without working.

    Raises:
        AssertionError: an example was handed out twice, or not at all.
    """
    with _database(kind) as url:
        store, run_id = RunStore(url), uuid4()
        store.create_tables()
        store.create_run(run_id, EMPTY, "ab" * 32)
        started = time.perf_counter()
        with ThreadPoolExecutor(workers) as pool:
            each = pool.map(lambda number: _work(url, f"worker {number}"), range(workers))
            done = [spec for specs in each for spec in specs]
        seconds = time.perf_counter() - started
        assert store.complete(run_id) is not None, f"the run is {store.run(run_id)}"
        store.close()
    covered = [(spec.stage, spec.split, i) for spec in done for i in range(spec.start, spec.stop)]
    assert len(covered) == len(set(covered)), "an example was handed out twice"
    return len(done) / seconds


@contextmanager
def _database(kind: str) -> Iterator[str]:
    if kind == "postgresql":
        with servers.postgresql() as url:
            yield url
    else:
        with TemporaryDirectory() as folder:
            yield f"sqlite:///{folder}/runs.sqlite3"


def _work(url: str, worker: str) -> list[ShardSpec]:
    store, done, pause = RunStore(url), [], 0.05
    while True:
        claim = store.claim(worker, target_seconds=1.0)
        if claim is None:
            if not store.waits(worker):
                break
            time.sleep(pause)  # as a worker does that finds all shards in others' hands
            pause = min(2 * pause, 1.0)
            continue
        pause = 0.05
        slow = replace(report(claim.protocol, claim.spec), seconds=float(len(claim.spec)))  # so pieces stay small
        store.finish(claim, slow)
        done.append(claim.spec)
    store.close()
    return done
