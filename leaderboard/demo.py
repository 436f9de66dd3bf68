"""The main job on the bundled data: which reference variants the demo trains, and by what it measures them."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from django.conf import settings

from evaluator.environment import read_environment
from evaluator.protocol import find_protocol
from leaderboard import references
from leaderboard.analysis import STUDIES
from leaderboard.models import Submission
from trainers.fleet import Report, train_all
from trainers.recipe import load_recipe

if TYPE_CHECKING:
    from trainers.loop import TrainedVariant

STUDY = STUDIES["digits"]
PROTOCOL, CURVE, SHAPE = find_protocol(STUDY.protocol), find_protocol(STUDY.curve), find_protocol("digits-shape")
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

FOLDER = settings.BASE_DIR / "var" / "demo"
"""Where log, board, picture and report go."""


def train(*, processes: int, report: Report) -> list["TrainedVariant"]:
    """Train the demo's variants, each in a folder of its own; what was trained before is not trained again."""
    trainings = [(load_recipe(name), SEED) for name in VARIANTS]
    return train_all(trainings, folder=read_environment().training_dir, processes=processes, report=report)


def submit(variants: Iterable["TrainedVariant"]) -> list[Submission]:
    """Hand in every checkpoint as a stranger's would be, every other snapshot of plain adversarial training, and two
    checkpoints once more for the shape of their minima.
    """
    variants = list(variants)
    submissions = [references.submit(one.checkpoint, one.recipe.title, PROTOCOL) for one in variants]
    submissions += [
        references.submit(one.checkpoint, one.recipe.title, SHAPE) for one in variants if one.recipe.name in SHAPED
    ]
    baseline = variants[0]
    on_the_way = [*baseline.snapshots[1::2], baseline.final]
    return submissions + [
        references.submit(path, f"{baseline.recipe.title}, {path.stem}", CURVE) for path in on_the_way
    ]
