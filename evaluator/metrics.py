"""Every published number and curve declared once: key, symbol, unit, and the stage that makes it (torch-free)."""

from dataclasses import dataclass
from enum import StrEnum

from evaluator.types import Direction, Split


class StageName(StrEnum):
    """The measurements of a run, in the order in which they are claimed."""

    CLEAN = "clean"
    PREVIEW = "preview"
    """Where somebody asked for it; no part of any protocol, and no number of a result comes of it."""
    TRUST = "trust"
    ROBUST_LOSS = "robust_loss"
    FLATNESS = "flatness"
    LANDSCAPE = "landscape"
    WORST_CASE = "worst_case"
    AUTOATTACK = "autoattack"


class Unit(StrEnum):
    """What a number counts."""

    FRACTION = "fraction of examples"
    NATS = "nats"


@dataclass(frozen=True)
class Metric:
    """One published number. `per_split` metrics exist once for test and once for train; gaps are test − train."""

    key: str
    symbol: str
    label: str
    unit: Unit
    direction: Direction
    stage: StageName
    per_split: bool
    definition: str

    def columns(self) -> tuple[str, ...]:
        """Return the column names of this metric on the board, for example `robust_loss_test`."""
        return tuple(column(self.key, split) for split in Split) if self.per_split else (self.key,)


def column(metric: str, split: Split | None) -> str:
    """Return the name under which one number stands in tables, JSON and CSV."""
    return metric if split is None else f"{metric}_{split}"


_ALL = (
    Metric(
        "clean_error", "Err", "clean error", Unit.FRACTION, Direction.LOWER, StageName.CLEAN, True,
        "fraction of unperturbed examples that are misclassified",
    ),
    Metric(
        "clean_loss", "Loss", "clean loss", Unit.NATS, Direction.LOWER, StageName.CLEAN, True,
        "mean cross-entropy on unperturbed examples",
    ),
    Metric(
        "robust_loss", "RLoss", "robust loss", Unit.NATS, Direction.LOWER, StageName.ROBUST_LOSS, True,
        "mean over examples of the worst cross-entropy found by PGD with restarts, best iterate kept",
    ),
    Metric(
        "pgd_error", "PGD Err", "PGD error", Unit.FRACTION, Direction.LOWER, StageName.ROBUST_LOSS, True,
        "fraction of examples misclassified at the best iterate of any PGD restart",
    ),
    Metric(
        "robust_error", "RErr", "robust error", Unit.FRACTION, Direction.LOWER, StageName.AUTOATTACK, True,
        "fraction of examples that are wrong clean or broken by any attack of AutoAttack standard",
    ),
    Metric(
        "robust_error_without_square", "RErr w/o Square", "robust error without Square", Unit.FRACTION,
        Direction.LOWER, StageName.AUTOATTACK, True,
        "the same from APGD-CE, APGD-T and FAB-T alone, as in the paper's code",
    ),
    Metric(
        "flatness", "Flatness", "average-case flatness", Unit.NATS, Direction.LOWER, StageName.FLATNESS, True,
        "mean over random ν on the sphere of B_ξ(w) of RLoss(w+ν) with one restart, minus RLoss(w) with all restarts",
    ),
    Metric(
        "flatness_matched", "Flatness (matched)", "average-case flatness, matched reference", Unit.NATS,
        Direction.LOWER, StageName.FLATNESS, True,
        "the same, minus RLoss(w) of the first restart alone: equal attack strength on both sides",
    ),
    Metric(
        "worst_case_flatness", "Worst flatness", "worst-case flatness", Unit.NATS, Direction.LOWER,
        StageName.WORST_CASE, True,
        "RLoss(w+ν) with one restart at the worst ν of B_ξ(w) that ascents on weights and inputs found, minus RLoss(w)",
    ),
    Metric(
        "robust_loss_gap", "RLoss gap", "robust loss generalization gap", Unit.NATS, Direction.LOWER,
        StageName.ROBUST_LOSS, False, "robust loss on test minus robust loss on train",
    ),
    Metric(
        "robust_error_gap", "RErr gap", "robust error generalization gap", Unit.FRACTION, Direction.LOWER,
        StageName.AUTOATTACK, False, "robust error on test minus robust error on train",
    ),
)  # fmt: skip  # one metric a paragraph reads better than one argument a line

METRICS: dict[str, Metric] = {metric.key: metric for metric in _ALL}


@dataclass(frozen=True)
class CurveDefinition:
    """One published curve over the signed radius ξ of a displacement of the weights; once for test, once for train."""

    key: str
    symbol: str
    label: str
    unit: Unit
    stage: StageName
    definition: str


_CURVES = (
    CurveDefinition(
        "flatness_by_radius", "Flatness(ξ)", "average-case flatness by radius", Unit.NATS, StageName.LANDSCAPE,
        "mean over random ν of relative norm ξ of RLoss(w+ν) with one restart, minus RLoss(w) with all restarts",
    ),
    CurveDefinition(
        "landscape", "RLoss(ξ)", "robust loss along random directions", Unit.NATS, StageName.LANDSCAPE,
        "RLoss(w+ν) with one restart, mean over random directions of ν, at a signed distance ξ along each",
    ),
)  # fmt: skip  # as above

CURVES: dict[str, CurveDefinition] = {curve.key: curve for curve in _CURVES}
