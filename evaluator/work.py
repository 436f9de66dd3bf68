"""The work loop: claim a shard, let a process of its own measure it, report it, until none waits (torch-free).

Any number of processes may run it at once. This one holds the address of the run store and never opens a checkpoint.
"""

import logging
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol
from uuid import UUID

from evaluator.artifacts import Artifacts
from evaluator.attempts import attempt
from evaluator.child import MeasuringChild
from evaluator.protocol import EvaluationProtocol
from evaluator.results import ShardResult, ShardSpec
from evaluator.scratch import scratch_folder
from evaluator.store import Claim, RunStore

TARGET_SECONDS = {"cpu": 10.0, "gpu": 120.0}
"""How long a shard should take: the longer, the less it costs to start one, and the more is lost with one."""

_RETRY_BATCH_SIZES = (None, 32, 8)
"""Batch size by the number of failures: a process that the system killed for its memory could not halve it itself."""

_LONGEST_PAUSE_SECONDS = 2.0

log = logging.getLogger(__name__)


class Measurer(Protocol):
    """What measures the shards of one checkpoint: `evaluator.child.MeasuringChild`."""

    def measure(
        self,
        protocol: EvaluationProtocol,
        spec: ShardSpec,
        *,
        tick: Callable[[], None],
        batch_size: int | None = None,
    ) -> ShardResult:
        """Return the outcomes of a shard; `tick` is called now and then, and what it raises goes through."""

    def close(self) -> None:
        """End it."""


def work(
    store: RunStore,
    artifacts: Artifacts,
    *,
    worker: str,
    run_id: UUID | None = None,
    device: str = "auto",
    data_dir: Path | None = None,
    lease_seconds: float = 60.0,
    shard_seconds: float | None = None,
    stop: Callable[[], bool] = lambda: False,
    on_shard: Callable[[Claim, ShardResult], None] | None = None,
    on_complete: Callable[[UUID], None] | None = None,
    open_measurer: Callable[[Path], Measurer] | None = None,
) -> int:
    """Measure waiting shards, of `run_id` or of any run, and return how many reports were accepted.

    What goes wrong with a shard is recorded in the store and does not end the loop; a shard that takes longer than
    `shard_seconds` is such a thing. Once `stop` says so, also in the middle of a shard, the shard is handed back and
    the loop ends. `on_complete` is called for each run whose last report this worker brought.

    Raises:
        InvalidSetting: there is no such device here.
        ArtifactsUnavailable: checkpoints cannot be had at present; the shard is handed back.
        StoreUnavailable: the store stayed away; unreported work will be done again by somebody else.
    """
    start = open_measurer or partial(MeasuringChild, device=device, data_dir=data_dir, shard_seconds=shard_seconds)
    done, target_seconds, pause = 0, TARGET_SECONDS["cpu"], 0.05
    with scratch_folder() as folder, _Bench(artifacts, folder, start) as bench:
        while not stop():
            claim = store.claim(worker, run_id=run_id, lease_seconds=lease_seconds, target_seconds=target_seconds)
            if claim is None:
                if not store.waits(worker, run_id=run_id):
                    break
                threading.Event().wait(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
                continue
            pause = 0.05
            result = _attempt(store, claim, bench, stop)
            if result is None:
                continue
            done += 1
            target_seconds = TARGET_SECONDS["cpu" if result.device.startswith("cpu") else "gpu"]
            if on_shard is not None:
                on_shard(claim, result)
            if store.complete(claim.run_id) is not None and on_complete is not None:
                on_complete(claim.run_id)
    return done


class _Bench:
    """The measurer at work: it stays while its checkpoint is the next claim's too."""

    def __init__(self, artifacts: Artifacts, folder: Path, start: Callable[[Path], Measurer]) -> None:
        self._artifacts = artifacts
        self._folder = folder
        self._start = start
        self._sha256: str | None = None
        self._measurer: Measurer | None = None

    def __enter__(self) -> "_Bench":
        return self

    def __exit__(self, *_: object) -> None:
        self._clear()

    def measurer_of(self, sha256: str, *, fresh: bool) -> Measurer:
        """Return what measures the checkpoint of this address; a `fresh` one remembers nothing of earlier shards.

        Raises:
            ArtifactMissing: there is no such checkpoint, or its bytes are others.
        """
        if fresh or self._measurer is None or self._sha256 != sha256:
            self._clear()
            self._measurer = self._start(self._artifacts.fetch(sha256, self._folder))
            self._sha256 = sha256
        return self._measurer

    def _clear(self) -> None:
        if self._measurer is not None:
            self._measurer.close()
            (self._folder / str(self._sha256)).unlink()
            self._measurer = None


def _attempt(store: RunStore, claim: Claim, bench: _Bench, stop: Callable[[], bool]) -> ShardResult | None:
    """Measure and report one shard; None when it was handed back, lost or failed, which the store then knows."""
    with attempt(store, claim, stop) as tick:  # whatever ends it early is recorded there, and None is returned
        log.info("run %s: attempt %d of %s", claim.run_id, claim.attempt, claim.spec)
        measurer = bench.measurer_of(claim.checkpoint_sha256, fresh=claim.audit > 0)
        batch_size = _RETRY_BATCH_SIZES[min(claim.failures, len(_RETRY_BATCH_SIZES) - 1)]
        result = measurer.measure(claim.protocol, claim.spec, tick=tick, batch_size=batch_size)
        store.finish(claim, result)
        return result
