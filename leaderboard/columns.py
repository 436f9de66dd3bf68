"""The columns of numbers that the site shows: those that are measured, and the early-stopped robust error (pure)."""

from dataclasses import dataclass
from functools import cache

from evaluator.metrics import METRICS, Metric, StageName, Unit
from evaluator.metrics import column as column_name
from evaluator.protocol import EvaluationProtocol
from evaluator.shipped import PROTOCOLS
from evaluator.types import Direction, Split
from leaderboard.analysis import STUDIES

EARLY_STOPPED = Metric(
    "robust_error_early_stopped", "RErr early-stopped", "early-stopped robust error", Unit.FRACTION, Direction.LOWER,
    StageName.AUTOATTACK, False,
    "robust error on test of the snapshot of the same training that PGD on held-out examples chose",
)  # fmt: skip  # as its like in evaluator/metrics.py
"""No run measures it for its own checkpoint alone: `early_stopping` finds the snapshot's entry and takes its number."""

SHOWN: dict[str, Metric] = METRICS | {EARLY_STOPPED.key: EARLY_STOPPED}
"""Every number that pages show, by the key of its metric."""


@dataclass(frozen=True)
class Column:
    """One column of numbers: a metric on a split, a gap, or the early-stopped robust error."""

    key: str
    metric: Metric
    split: Split | None

    @property
    def title(self) -> str:
        """What stands in the header, for example `RErr test`."""
        return f"{self.metric.symbol} {self.split}" if self.split else self.metric.symbol


COLUMNS: dict[str, Column] = {
    column_name(metric.key, split): Column(column_name(metric.key, split), metric, split)
    for metric in SHOWN.values()
    for split in (tuple(Split) if metric.per_split else (None,))
}
"""Every column by its name in tables, JSON and CSV; a board has those of `columns_of`."""


def columns_of(protocol: EvaluationProtocol) -> tuple[str, ...]:
    """Return the columns of a protocol's board: what it measures, and for a study's what its snapshots add."""
    return (*protocol.columns(), *((EARLY_STOPPED.key,) if stopped_of(protocol) else ()))


@cache
def stopped_of(protocol: EvaluationProtocol) -> tuple[EvaluationProtocol, ...]:
    """Return the protocols of early-stopped snapshots whose robust errors on test compare with those of `protocol`.

    They are its study's, in the versions that attack the same test examples in the same way.
    """
    names = [study.stopped for study in STUDIES.values() if study.protocol == protocol.name]
    return tuple(one for name in names for one in PROTOCOLS[name] if _attack(one) == _attack(protocol))


def _attack(protocol: EvaluationProtocol) -> tuple[object, ...]:
    return protocol.dataset, protocol.threat_model, protocol.autoattack, protocol.autoattack_examples.test
