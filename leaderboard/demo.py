"""The main job on the bundled data: which reference variants the demo trains, and by what it measures them."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from django.conf import settings

from evaluator.environment import read_environment
from evaluator.shipped import find_protocol
from leaderboard import references
from leaderboard.analysis import STUDIES
from leaderboard.models import Submission
from trainers.fleet import Report, train_all
from trainers.recipe import load_recipe

if TYPE_CHECKING:
    from trainers.loop import TrainedVariant

STUDY = STUDIES["digits"]
PROTOCOL, CURVE, STOPPED = (find_protocol(name) for name in (STUDY.protocol, STUDY.curve, STUDY.stopped))
SHAPE = find_protocol("digits-shape")
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
"""Recipes: plain adversarial training, what makes its minima flatter, and a control without adversary."""

SHAPED = ("digits/at", "digits/awp")
"""Of these the shape of the minimum is measured, too: a sharp one and a flat one."""
EARLY_STOPPED = ("digits/trades",)
"""Of these the early-stopped snapshot is measured as well; that of plain adversarial training is a variant itself."""

FOLDER = settings.BASE_DIR / "var" / "demo"
"""Where log, board, picture and report go."""


def train(*, processes: int, report: Report) -> list["TrainedVariant"]:
    """Train the demo's variants, each in a folder of its own; what was trained before is not trained again."""
    trainings = [(load_recipe(name), SEED) for name in VARIANTS]
    return train_all(trainings, folder=read_environment().training_dir, processes=processes, report=report)


def submit(variants: Iterable["TrainedVariant"]) -> list[Submission]:
    """Hand in every checkpoint as a stranger's would be; of some trainings, what was on the way to it as well.

    That is every other snapshot of plain adversarial training, and the early-stopped ones of `EARLY_STOPPED`. Two
    checkpoints are handed in once more for the shape of their minima.
    """
    variants = list(variants)
    submissions = [references.submit(one.checkpoint, one.recipe.title, PROTOCOL) for one in variants]
    submissions += [
        references.submit(one.checkpoint, one.recipe.title, SHAPE) for one in variants if one.recipe.name in SHAPED
    ]
    baseline = variants[0]
    on_the_way = [*baseline.snapshots[1::2], baseline.final]
    submissions += [references.submit(path, f"{baseline.recipe.title}, {path.stem}", CURVE) for path in on_the_way]
    return submissions + [
        references.submit(one.best, f"{one.recipe.title}, early stopped", STOPPED)
        for one in variants
        if one.recipe.name.split()[0] in EARLY_STOPPED and one.best is not None
    ]
