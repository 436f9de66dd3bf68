"""Several recipes at once, each in a process and a folder of its own; what was trained before is not trained again."""

import multiprocessing
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from evaluator.lifetime import end_with_parent
from trainers.folder import Files, training_folder
from trainers.recipe import Recipe

if TYPE_CHECKING:
    from trainers.loop import TrainedVariant

_POLL_SECONDS = 0.3

Report = Callable[[str, int, int], None]
"""Told how far something is: its title, what is done, and the total."""


class _Job(NamedTuple):
    recipe: Recipe
    seed: int
    folder: Path
    device: str


def train_all(
    trainings: Sequence[tuple[Recipe, int]], *, folder: Path, processes: int, report: Report, device: str = "cpu"
) -> list["TrainedVariant"]:
    """Train recipes with seeds, one thread each and `processes` at a time, in folders below `folder`.

    They share the GPU that `device` names, or finds as `auto`. Recipes that differ only in the snapshot they choose
    share one training. Progress is in epochs, under the label of recipe and seed. An error or an interruption ends all;
    the same call goes on from the last saved epochs.
    """
    jobs: dict[tuple[str, int], _Job] = {}
    for recipe, seed in trainings:
        jobs.setdefault((recipe.digest, seed), _Job(recipe, seed, training_folder(folder, recipe, seed), device))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context, initializer=_become_trainer) as pool:
        try:
            futures = {key: pool.submit(_train, job) for key, job in jobs.items()}
            pending = set(futures.values())
            while pending:
                done, pending = wait(pending, _POLL_SECONDS, return_when=FIRST_EXCEPTION)
                for job in jobs.values():
                    report(job.recipe.label(job.seed), _epochs(job.folder), job.recipe.epochs)
                for future in done:
                    future.result()
            return [replace(futures[recipe.digest, seed].result(), recipe=recipe) for recipe, seed in trainings]
        except BaseException:
            for process in multiprocessing.active_children():
                process.terminate()
            raise


def _become_trainer() -> None:
    import torch

    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears Ctrl-C and ends us
    torch.set_num_threads(1)


def _train(job: _Job) -> "TrainedVariant":
    from evaluator.devices import find_device
    from trainers.loop import train

    return train(job.recipe, seed=job.seed, folder=job.folder, device=str(find_device(job.device)))


def _epochs(folder: Path) -> int:
    log = Files(folder).log
    return log.read_bytes().count(b"\n") if log.exists() else 0
