"""The one training loop: step → schedule → log → monitor → save, and nothing else; the parts say what a step is."""

import json
import math
import os
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from evaluator.exceptions import InvalidRequest
from trainers.assembly import Assembly, assemble
from trainers.folder import Files
from trainers.monitors import HeldOut
from trainers.recipe import Recipe
from trainers.schedules import factor
from trainers.snapshots import save_snapshot
from trainers.state import Best, Cursor, read_cursor, restore, save


@dataclass(frozen=True)
class EpochRecord:
    """One line of the log. `loss` is the mean training loss in nats; `held_out` is there when the monitor looked."""

    epoch: int
    epochs: int
    learning_rate: float
    loss: float
    held_out: HeldOut | None
    seconds: float


@dataclass(frozen=True)
class TrainedVariant:
    """What a training leaves behind: its networks (`best` only under a monitor), its log, and its cost.

    `snapshots` are the networks on the way, in the order of their epochs, if the recipe asks for any.
    """

    recipe: Recipe
    seed: int
    final: Path
    best: Path | None
    snapshots: tuple[Path, ...]
    log: Path
    seconds: float

    @property
    def checkpoint(self) -> Path:
        """The snapshot that is the variant, by its recipe's word."""
        return self.best if self.best is not None and self.recipe.checkpoint == "best" else self.final


def train(
    recipe: Recipe,
    *,
    seed: int,
    folder: Path,
    device: str = "cpu",
    data_dir: Path | None = None,
    progress: Callable[[EpochRecord], None] | None = None,
    save_every: int = 10,
) -> TrainedVariant:
    """Train `recipe` in `folder`, or go on with what was begun there; a finished training is not done again.

    On the CPU the weights are a function of recipe, seed and the number of threads, however often the training was
    interrupted. The state is saved every `save_every` epochs; `progress` hears of every epoch.

    Where torch's default process group is there, all of its processes call this alike, with a folder that they share;
    the first of them writes, and it alone reports progress.

    Raises:
        InvalidRequest: the folder holds a training of other settings or another seed, or another process trains there;
            a setting does not fit; or the loss is no longer finite.
        DatasetMissing: the data set's files are not in `data_dir`.
    """
    files = Files(folder)
    cursor = _cursor(files, recipe, seed)
    if cursor.epoch < recipe.epochs:
        parts = assemble(recipe, seed=seed, device=torch.device(device), data_dir=data_dir)
        with files.locked() if parts.processes.writes else nullcontext():
            cursor = _cursor(files, recipe, seed)  # as it is now that nobody else trains here
            if files.state.exists():
                restore(files.state, parts.stateful)
            parts.processes.wait()  # until all have read what the first will write anew
            if parts.processes.writes:
                _begin_log(files, cursor)
            while cursor.epoch < recipe.epochs:
                record = _epoch(recipe, parts, cursor)
                if parts.processes.writes:
                    _keep(files, recipe, parts, cursor, record, save_every)
                    if progress is not None:
                        progress(record)
            parts.processes.wait()  # until all is written
    every = recipe.snapshot_every or recipe.epochs
    return TrainedVariant(
        recipe,
        seed,
        final=files.final,
        best=files.best if cursor.best else None,
        snapshots=tuple(files.snapshot(epoch) for epoch in range(every, recipe.epochs, every)),
        log=files.log,
        seconds=cursor.seconds,
    )


def _cursor(files: Files, recipe: Recipe, seed: int) -> Cursor:
    """Return where the training in a folder stands, or the beginning of a new one."""
    if not 0 <= seed < 2**32:
        raise InvalidRequest(f"a seed is a whole number from 0 to 2³² − 1, got {seed}")
    if not files.state.exists():
        return Cursor(digest=recipe.digest, seed=seed)
    cursor = read_cursor(files.state)
    if (cursor.digest, cursor.seed) != (recipe.digest, seed):
        raise InvalidRequest(
            f"{files.folder} holds a training with recipe digest {cursor.digest[:12]} and seed {cursor.seed}, but "
            f"{recipe.name} has {recipe.digest[:12]} and seed {seed} was asked for; give it a folder of its own"
        )
    return cursor


def _begin_log(files: Files, cursor: Cursor) -> None:
    """Cut the log to what the saved state knows: what was logged after it happens again."""
    files.log.touch()
    if files.log.stat().st_size < cursor.log_bytes:
        raise InvalidRequest(
            f"{files.log} is shorter than when {files.state.name} was saved; "
            "bring it back, or delete both to begin anew"
        )
    os.truncate(files.log, cursor.log_bytes)


def _keep(files: Files, recipe: Recipe, parts: Assembly, cursor: Cursor, record: EpochRecord, save_every: int) -> None:
    """Write down what an epoch leaves: networks, its line in the log, and now and then the state."""
    finished = cursor.epoch == recipe.epochs
    if cursor.best is not None and cursor.best.epoch == cursor.epoch:
        save_snapshot(parts.outcome, files.best, recipe, cursor)
    if finished:
        save_snapshot(parts.outcome, files.final, recipe, cursor)
    elif recipe.snapshot_every is not None and cursor.epoch % recipe.snapshot_every == 0:
        save_snapshot(parts.outcome, files.snapshot(cursor.epoch), recipe, cursor)
    with files.log.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(asdict(record)) + "\n")
    cursor.log_bytes = files.log.stat().st_size
    if finished or cursor.epoch % save_every == 0:
        save(files.state, cursor, parts.stateful)


def _epoch(recipe: Recipe, parts: Assembly, cursor: Cursor) -> EpochRecord:
    """Train and watch for one epoch, and move the cursor."""
    began = time.perf_counter()
    steps = parts.source.batches_per_epoch
    total = torch.zeros((), device=parts.device)
    parts.model.train()
    for step in range(cursor.epoch * steps, (cursor.epoch + 1) * steps):
        rate = recipe.optimizer.learning_rate * factor(recipe.schedule, step / (recipe.epochs * steps))
        for group in parts.optimizer.param_groups:
            group["lr"] = rate
        total += parts.step()
    cursor.epoch += 1
    loss = parts.processes.mean(total).item() / steps
    if not math.isfinite(loss):
        raise InvalidRequest(
            f"the loss of {recipe.name} is {loss} in epoch {cursor.epoch}; a smaller optimizer.learning_rate may help"
        )
    held_out = parts.monitor.look(parts.outcome, cursor.epoch) if parts.monitor is not None else None
    if held_out is not None and parts.monitor is not None:
        value = parts.monitor.value(held_out)
        if cursor.best is None or value < cursor.best.value:
            cursor.best = Best(epoch=cursor.epoch, value=value)
    cursor.seconds += time.perf_counter() - began
    return EpochRecord(cursor.epoch, recipe.epochs, rate, loss, held_out, cursor.seconds)
