"""What a study's numbers say: correlations, robust overfitting, and the paper's Table 1 beside ours (pure)."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from leaderboard.analysis import Evidence, Spread, Variant
from leaderboard.statistics import (
    Correlation,
    Difference,
    correlation_within_groups,
    paired_difference,
    rank_correlation,
)
from trainers.recipe import Recipe

PAIRS = (
    ("flatness_test", "robust_loss_test"),
    ("flatness_train", "robust_loss_test"),
    ("flatness_test", "robust_loss_gap"),
    ("robust_loss_test", "robust_error_test"),
    ("flatness_test", "robust_error_test"),
)
"""Columns whose rank correlation is reported; the paper finds each positive."""


@dataclass(frozen=True)
class Related:
    """How two columns go together over the means of variants; None where there are too few."""

    x: str
    y: str
    defended: Correlation | None
    everything: Correlation | None
    equal_schedules: Correlation | None


@dataclass(frozen=True)
class Cell:
    """One number of Table 1: ours over seeds, and the paper's."""

    ours: Spread | None
    paper: float | None


@dataclass(frozen=True)
class TableRow:
    """One row of Table 1; `title` is our variant's, or None where there is none."""

    number: int
    method: str
    title: str | None
    url: str
    cells: tuple[Cell, ...]


TABLE = {
    "RErr test": ("robust_error_test", "robust_error_test"),
    "RErr train": ("robust_error_train", "robust_error_train"),
    "Flatness": ("flatness_test", "flatness"),
    "RErr test, early stopped": ("robust_error_test", "robust_error_test_early_stopped"),
}
"""The columns of Table 1: our column, and what the paper's rows call it. The last is of early-stopped checkpoints."""

EARLY_STOPPED = "RErr test, early stopped"


@dataclass(frozen=True)
class Overfitting:
    """How much robust error the end of a training has more than its early-stopped snapshot; None below two pairs."""

    baseline: Difference | None
    every_variant: Difference | None


@dataclass(frozen=True)
class Group:
    """Variants that generalize about as well: how many, their mean numbers with the least and greatest of them."""

    name: str
    variants: tuple[str, ...]
    numbers: Mapping[str, Spread]


GROUPED = ("robust_error_test", "robust_loss_test", "flatness_test", "flatness_train")
"""The columns whose means are shown of good, average and poor variants; the first one tells which is which."""

_PERCENTILES = (30, 70)


def groups(evidence: Evidence) -> tuple[Group, ...]:
    """Return the variants trained against the adversary, split at the 30 and 70 % percentiles of robust error on test.

    The paper asks whether good, average and poor generalization come with flat, average and sharp minima. None below
    three variants.
    """
    told = [v for v in evidence.defended if all(key in v.numbers for key in GROUPED)]
    if len(told) < 3:
        return ()
    of = {v.recipe.name: v.numbers[GROUPED[0]].value for v in told}
    low, high = np.percentile(list(of.values()), _PERCENTILES)
    places = {
        "good": [v for v in told if of[v.recipe.name] <= low],
        "average": [v for v in told if low < of[v.recipe.name] <= high],
        "poor": [v for v in told if of[v.recipe.name] > high],
    }
    return tuple(
        Group(
            name,
            tuple(v.recipe.title for v in sorted(members, key=lambda v: of[v.recipe.name])),
            {key: Spread.of([v.numbers[key].value for v in members]) for key in GROUPED},
        )
        for name, members in places.items()
        if members
    )


def correlation(
    variants: Sequence[Variant], x: str, y: str, group: Callable[[Recipe], str] = lambda recipe: ""
) -> Correlation | None:
    """Return the rank correlation of two columns over variants that have both, within groups of them if asked."""
    points = [
        (group(v.recipe), v.recipe.name, one.numbers[x].value, one.numbers[y].value)
        for v in variants
        for one in v.by_seed.values()
        if x in v.numbers and y in v.numbers
    ]
    return correlation_within_groups(*zip(*points, strict=True)) if points else None


def related(evidence: Evidence) -> tuple[Related, ...]:
    """Return the correlation of each pair of columns."""
    return tuple(
        Related(
            x,
            y,
            defended=correlation(evidence.defended, x, y),
            everything=correlation(evidence.variants, x, y),
            equal_schedules=correlation(evidence.defended, x, y, schedule),
        )
        for x, y in PAIRS
    )


def overfitting(evidence: Evidence) -> Overfitting:
    """Return what early stopping gains in robust error on test, paired by training."""
    key = "robust_error_test"
    pairs = [
        (v.recipe.name, one.numbers[key].value, stopped.by_seed[seed].numbers[key].value)
        for v in evidence.defended
        if (stopped := evidence.stopped.get(v.recipe.name)) and v.recipe.checkpoint == "final"
        for seed, one in v.by_seed.items()
        if seed in stopped.by_seed
    ]
    baseline = [pair for pair in pairs if pair[0] == evidence.baseline]
    return Overfitting(
        paired_difference([p[1] for p in baseline], [p[2] for p in baseline]),
        paired_difference([p[1] for p in pairs], [p[2] for p in pairs], [p[0] for p in pairs]),
    )


def schedule(recipe: Recipe) -> str:
    """Return what two recipes share that train equally long in equal steps; weight decay is not among it."""
    optimizer = recipe.optimizer.model_dump(mode="json", exclude={"weight_decay"})
    return json.dumps([recipe.epochs, recipe.schedule.model_dump(mode="json"), optimizer], sort_keys=True)


def table(evidence: Evidence) -> tuple[TableRow, ...]:
    """Return all rows of Table 1 that we or the paper have, in the paper's order."""
    ours = {v.recipe.row: v for v in evidence.variants if v.recipe.row and v.recipe.checkpoint == "final"}
    rows = []
    for number in sorted({*ours, *evidence.reported}):
        variant, reported = ours.get(number), evidence.reported.get(number)
        cells = []
        for title, (column, name) in TABLE.items():
            stopped = evidence.stopped.get(variant.recipe.name) if variant else None
            source = stopped if title == EARLY_STOPPED else variant
            mean = source.numbers.get(column) if source else None
            cells.append(Cell(mean, reported.values.get(name) if reported else None))
        method = reported.method if reported else variant.recipe.title
        own = (variant.recipe.title, variant.url) if variant else (None, "")
        rows.append(TableRow(number, method, *own, tuple(cells)))
    return tuple(rows)


def order(rows: Sequence[TableRow]) -> dict[str, Correlation | None]:
    """Return, for each column of Table 1, the rank correlation of our numbers with the paper's."""
    found = {}
    for index, title in enumerate(TABLE):
        both = [c for c in (row.cells[index] for row in rows) if c.ours is not None and c.paper is not None]
        found[title] = rank_correlation([c.ours.value for c in both], [c.paper for c in both])
    return found
