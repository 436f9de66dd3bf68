"""Several recipes at once, each in a process and a folder of its own; what was trained before is not trained again."""

import multiprocessing
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from evaluator.lifetime import end_with_parent
from trainers.recipe import Recipe

if TYPE_CHECKING:
    from trainers.loop import TrainedVariant

_POLL_SECONDS = 0.3

Report = Callable[[str, int, int], None]
"""Told how far something is: its title, what is done, and the total."""


def train_all(
    recipes: Sequence[Recipe], *, seed: int, folder: Path, processes: int, report: Report
) -> list["TrainedVariant"]:
    """Train `recipes` with one thread each, `processes` at a time, in folders below `folder`; progress is in epochs.

    Recipes that differ only in the snapshot they choose share one training. An error or an interruption stops all;
    the same call goes on from the last saved epochs.
    """
    trained: dict[str, Recipe] = {}
    for recipe in recipes:
        trained.setdefault(recipe.digest, recipe)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context, initializer=_become_trainer) as pool:
        try:
            futures = {digest: pool.submit(_train, recipe, seed, folder / digest) for digest, recipe in trained.items()}
            pending = set(futures.values())
            while pending:
                done, pending = wait(pending, _POLL_SECONDS, return_when=FIRST_EXCEPTION)
                for digest, recipe in trained.items():
                    report(recipe.title, _epochs(folder / digest), recipe.epochs)
                for future in done:
                    future.result()
            return [replace(futures[recipe.digest].result(), recipe=recipe) for recipe in recipes]
        except BaseException:
            for process in multiprocessing.active_children():
                process.terminate()
            raise


def _become_trainer() -> None:
    import torch

    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears Ctrl-C and ends us
    torch.set_num_threads(1)


def _train(recipe: Recipe, seed: int, folder: Path) -> "TrainedVariant":
    from trainers.loop import train

    return train(recipe, seed=seed, folder=folder)


def _epochs(folder: Path) -> int:
    log = folder / "log.jsonl"
    return log.read_bytes().count(b"\n") if log.exists() else 0
