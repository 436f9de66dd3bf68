"""The main job on the bundled data: train reference variants, submit, evaluate by workers, publish.

Each step asks what is there already, so a demo that was killed goes on where it was: trainings resume from their last
saved epoch, a submission is taken in once, and the run store knows which shards are done.
"""

import os
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from django.conf import settings

from evaluator.protocol import find_protocol
from leaderboard import services
from leaderboard.models import State, Submission
from leaderboard.supervision import STOP_SECONDS, manage
from trainers.fleet import Report, train_all
from trainers.recipe import load_recipe

if TYPE_CHECKING:
    from trainers.loop import TrainedVariant

PROTOCOL = find_protocol("digits-demo")
SEED = 0
CONTROL = "digits/clean"
VARIANTS = (
    "digits/at",
    "digits/at-early-stopped",
    "digits/trades",
    "digits/awp",
    "digits/label-smoothing",
    "digits/weight-decay",
    "digits/weight-averaging",
    CONTROL,
)
"""Recipes: what overfits robustly, what prevents it, and a control without adversary."""

FOLDER = settings.BASE_DIR / "var" / "demo"
"""Where trainings, logs, board and picture go."""

_POLL_SECONDS = 0.3


class WorkersEnded(Exception):
    """The workers that were to evaluate the submissions are gone; the message names their log."""


def train(*, processes: int, report: Report) -> list["TrainedVariant"]:
    """Train the demo's variants, each in a folder of its own."""
    recipes = [load_recipe(name) for name in VARIANTS]
    return train_all(recipes, seed=SEED, folder=FOLDER / "training", processes=processes, report=report)


def submit(variants: Iterable["TrainedVariant"]) -> list[Submission]:
    """Hand in every checkpoint as a stranger's would be; one that was handed in before is found again."""
    return [
        services.submit(variant.checkpoint, title=variant.recipe.title, protocol=PROTOCOL, is_reference=True)
        for variant in variants
    ]


def unfinished(submissions: Iterable[Submission]) -> list[Submission]:
    """Return those that are neither published nor failed, as far as their rows say."""
    return [one for one in submissions if one.state not in (State.PUBLISHED, State.FAILED)]


def watch(submissions: Sequence[Submission], workers: "subprocess.Popen[bytes]", log: Path, report: Report) -> None:
    """Wait until every submission is published or has failed.

    Raises:
        WorkersEnded: the workers are gone before that.
    """
    store = services.run_store()
    while waiting := unfinished(submissions):
        for submission in waiting:
            submission.refresh_from_db()
            stages = store.progress(submission.run_id)
            report(submission.title, sum(s.shards_done for s in stages), sum(s.shards for s in stages))
        if unfinished(waiting) and workers.poll() is not None:
            raise WorkersEnded(f"the workers ended with status {workers.returncode}; their log is {log}")
        time.sleep(_POLL_SECONDS)


@contextmanager
def running_workers(processes: int, log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Run `processes` evaluation processes and a site worker for the length of a block, on the queue of the site."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}  # one core a process is the fastest share of a small machine
    command = manage("worker", "--role=all", f"--concurrency={processes}", "--end-with-parent")
    with log.open("ab") as stream:
        workers = subprocess.Popen(command, env=environment, stdout=stream, stderr=stream, start_new_session=True)
    try:
        yield workers
    finally:
        workers.terminate()
        try:
            workers.wait(2 * STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(workers.pid, signal.SIGKILL)
