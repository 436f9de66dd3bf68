"""Made evidence of a study, without a site: numbers that follow from one `badness` a checkpoint."""

from evaluator.results import Measurement
from evaluator.shipped import DIGITS_DEMO
from evaluator.types import Split
from leaderboard.analysis import STUDIES, Evidence, Measured
from trainers.recipe import load_recipe

STUDY = STUDIES["digits"]
VARIANTS = ("digits/at", "digits/awp", "digits/trades", "digits/mart", "digits/weight-decay", "digits/silu")


def measured(name: str, badness: float, *, seed: int = 0, epoch: int | None = None, flatness: float | None = None):
    """Return a checkpoint whose test loss, flatness and error all grow with badness, while its train loss falls."""
    recipe = load_recipe(name)
    flat = badness if flatness is None else flatness

    def number(metric: str, split: Split | None, value: float) -> Measurement:
        return Measurement(metric, split, value, value - 0.01, value + 0.01, 100)

    numbers = (
        number("robust_loss", Split.TEST, 1 + badness),
        number("robust_loss", Split.TRAIN, 1 - badness),
        number("robust_loss_gap", None, 2 * badness),
        number("flatness", Split.TEST, flat),
        number("flatness", Split.TRAIN, flat / 2),
        number("robust_error", Split.TEST, 0.2 + badness / 10),
        number("robust_error", Split.TRAIN, 0.1),
    )
    ended = recipe.epochs if epoch is None else epoch
    title, url = recipe.label(seed), f"/entries/{badness}/"
    return Measured(recipe, seed, ended, title, url, {one.column: one for one in numbers})


def variants(sign: int = 1) -> list[Measured]:
    """Return six variants with two seeds each, whose flatness grows with the loss, or falls for sign −1."""
    return [
        measured(name, 0.1 * index + 0.01 * seed, seed=seed, flatness=1 + sign * 0.1 * index)
        for index, name in enumerate(VARIANTS)
        for seed in range(2)
    ]


def evidence(**measured) -> Evidence:
    """Return the evidence of the digits study."""
    return Evidence.of(STUDY, DIGITS_DEMO, **measured)
