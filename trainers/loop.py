"""The one training loop: step → schedule → log → monitor → save, and nothing else; the parts say what a step is."""

import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from evaluator.exceptions import InvalidRequest
from trainers.assembly import Assembly, assemble
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
    """What a training leaves behind: two snapshots (`best` only under a monitor), its log, and its cost."""

    recipe: Recipe
    seed: int
    final: Path
    best: Path | None
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

    Raises:
        InvalidRequest: the folder holds a training of other settings or another seed, a setting does not fit, or the
            loss is no longer finite.
        DatasetMissing: the data set's files are not in `data_dir`.
    """
    log, saved = folder / "log.jsonl", folder / "state.safetensors"
    final, best = folder / "final.safetensors", folder / "best.safetensors"
    cursor = _cursor(saved, recipe, seed)
    if cursor.epoch < recipe.epochs:
        parts = assemble(recipe, seed=seed, device=torch.device(device), data_dir=data_dir)
        if saved.exists():
            restore(saved, parts.stateful)
        folder.mkdir(parents=True, exist_ok=True)
        log.touch()
        os.truncate(log, cursor.log_bytes)  # what was logged after the last save happens again
    while cursor.epoch < recipe.epochs:
        record = _epoch(recipe, parts, cursor)
        if record.held_out is not None and parts.monitor is not None:
            value = parts.monitor.value(record.held_out)
            if cursor.best is None or value < cursor.best.value:
                cursor.best = Best(epoch=cursor.epoch, value=value)
                save_snapshot(parts.outcome, best, recipe, cursor)
        with log.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(asdict(record)) + "\n")
        cursor.log_bytes = log.stat().st_size
        finished = cursor.epoch == recipe.epochs
        if finished:
            save_snapshot(parts.outcome, final, recipe, cursor)
        if finished or cursor.epoch % save_every == 0:
            save(saved, cursor, parts.stateful)
        if progress is not None:
            progress(record)
    return TrainedVariant(recipe, seed, final, best if cursor.best else None, log, cursor.seconds)


def _cursor(saved: Path, recipe: Recipe, seed: int) -> Cursor:
    """Return where the training saved at `saved` stands, or the beginning of a new one."""
    if not 0 <= seed < 2**32:
        raise InvalidRequest(f"a seed is a whole number from 0 to 2³² − 1, got {seed}")
    if not saved.exists():
        return Cursor(digest=recipe.digest, seed=seed)
    cursor = read_cursor(saved)
    if (cursor.digest, cursor.seed) != (recipe.digest, seed):
        raise InvalidRequest(
            f"{saved.parent} holds a training with recipe digest {cursor.digest[:12]} and seed {cursor.seed}, but "
            f"{recipe.name} has {recipe.digest[:12]} and seed {seed} was asked for; give it a folder of its own"
        )
    return cursor


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
    loss = total.item() / steps
    if not math.isfinite(loss):
        raise InvalidRequest(
            f"the loss of {recipe.name} is {loss} in epoch {cursor.epoch}; a smaller optimizer.learning_rate may help"
        )
    held_out = parts.monitor.look(parts.outcome, cursor.epoch) if parts.monitor is not None else None
    cursor.seconds += time.perf_counter() - began
    return EpochRecord(cursor.epoch, recipe.epochs, rate, loss, held_out, cursor.seconds)
