"""The work loop: claim a shard, measure it, report it, until none waits. Any number of processes may run it at once."""

import functools
import logging
import tempfile
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import torch
from torch import nn

from evaluator.artifacts import Artifacts
from evaluator.attempts import attempt
from evaluator.checkpoint_file import Checkpoint, open_checkpoint
from evaluator.checkpoints import load_model
from evaluator.datasets import load_dataset
from evaluator.devices import find_device
from evaluator.exceptions import OutOfMemory
from evaluator.metrics import StageName
from evaluator.results import ShardResult
from evaluator.stages import DEFAULT_BATCH_SIZE, measure
from evaluator.store import Claim, RunStore

log = logging.getLogger(__name__)

Models = Callable[[str], nn.Module]
"""From the SHA-256 of a checkpoint to its network on the device."""


def work(
    store: RunStore,
    artifacts: Artifacts,
    *,
    worker: str,
    run_id: UUID | None = None,
    device: str = "auto",
    data_dir: Path | None = None,
    lease_seconds: float = 60.0,
    stop: Callable[[], bool] = lambda: False,
    on_shard: Callable[[Claim, ShardResult], None] | None = None,
    on_complete: Callable[[UUID], None] | None = None,
) -> int:
    """Measure waiting shards, of `run_id` or of any run, and return how many reports were accepted.

    What goes wrong with a shard is recorded in the store and does not end the loop. Once `stop` says so, also in the
    middle of a shard, the shard is handed back and the loop ends. `on_complete` is called for each run whose last
    report this worker brought.

    Raises:
        InvalidSetting: there is no such device here.
        StoreUnavailable: the store stayed away; unreported work will be done again by somebody else.
    """
    place = find_device(device)
    done = 0
    with tempfile.TemporaryDirectory(prefix="evaluation-") as folder:

        @functools.lru_cache(maxsize=1)
        def model_of(sha256: str) -> nn.Module:
            return network(open_checkpoint(artifacts.fetch(sha256, Path(folder))), place)

        while not stop():
            claim = store.claim(worker, run_id=run_id, lease_seconds=lease_seconds)
            if claim is None:
                break
            result = _attempt(store, claim, model_of, place, data_dir, stop)
            if result is None:
                continue
            done += 1
            if on_shard is not None:
                on_shard(claim, result)
            if store.complete(claim.run_id) is not None and on_complete is not None:
                on_complete(claim.run_id)
    return done


def network(checkpoint: Checkpoint, device: torch.device | str) -> nn.Module:
    """Return the checkpoint's network as workers measure it: in the layout in which convolutions run fastest.

    Weights are the same; results differ from another layout's by float rounding.
    """
    model = load_model(checkpoint, device=device)
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]  # torch's stub


def _attempt(
    store: RunStore,
    claim: Claim,
    model_of: Models,
    device: torch.device,
    data_dir: Path | None,
    stop: Callable[[], bool],
) -> ShardResult | None:
    """Measure and report one shard; None when it was handed back, lost or failed, which the store then knows."""
    log.info("run %s: attempt %d of %s", claim.run_id, claim.attempt, claim.spec)
    with attempt(store, claim, stop) as tick:  # whatever ends it early is recorded there, and None is returned
        result = _measure(claim, model_of, device, data_dir, tick)
        store.finish(claim, result)
        return result


def _measure(
    claim: Claim, model_of: Models, device: torch.device, data_dir: Path | None, tick: Callable[[], None]
) -> ShardResult:
    """Measure, with half the batch for as long as memory does not suffice: no number depends on the batch size."""
    model, dataset = model_of(claim.checkpoint_sha256), load_dataset(claim.protocol.dataset, data_dir=data_dir)
    batch_size = DEFAULT_BATCH_SIZE
    while True:
        try:
            return measure(model, dataset, claim.protocol, claim.spec, device=device, batch_size=batch_size, tick=tick)
        except torch.OutOfMemoryError as error:
            # AutoAttack's batch is the protocol's chunk, which decides outcomes and cannot be cut.
            if batch_size == 1 or claim.spec.stage is StageName.AUTOATTACK:
                raise OutOfMemory(f"{claim.spec} needs more memory than {device} has in its smallest batch") from error
            batch_size //= 2
