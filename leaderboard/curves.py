"""Trainings from epoch to epoch, as far as their snapshots are published: figures as data, with table and CSV (pure).

They follow figures 2 and 5 of D. Stutz, M. Hein, B. Schiele, "Relating Adversarially Robust Generalization to Flat
Minima" (2021).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from evaluator.metrics import METRICS, StageName, Unit
from evaluator.results import Measurement as Number
from evaluator.shipped import find_protocol
from evaluator.types import Split
from leaderboard.analysis import STUDIES, Spread
from leaderboard.columns import COLUMNS, stopped_of
from leaderboard.figures import AXES, Axis, Table, as_csv
from leaderboard.trainings import Snapshot, Training

_EPOCH, _FLATNESS, _LOSS = (AXES[key] for key in ("epoch", "flatness_test", "robust_loss_test"))

ENDS = ("value", "low", "high", "n")
"""What stands in a file of each number."""


@dataclass(frozen=True)
class Kind:
    """A figure to be made of trainings: metrics over epochs, and, where it has a path, RLoss against flatness."""

    key: str
    title: str
    shows: str
    metrics: Mapping[str, Axis]
    has_path: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        """All that its table may hold."""
        metrics = (*self.metrics, *(("robust_loss",) if self.has_path else ()))
        return tuple(column for metric in metrics for column in METRICS[metric].columns())


KINDS: dict[str, Kind] = {
    kind.key: kind
    for kind in (
        Kind(
            "robust-overfitting", "Robust overfitting",
            "From epoch to epoch. The paper’s Fig. 2: robust loss and error keep falling on train and rise on test.",
            {
                "robust_loss": Axis("← better · robust loss (nats)", "RLoss"),
                "pgd_error": Axis("← better · PGD error (%)", "PGD Err", "%"),
                "robust_error": Axis("← better · robust error (%)", "RErr", "%"),
            },
        ),
        Kind(
            "flatness", "Flatness along training",
            "The paper’s Fig. 5: as a training overfits, its minima become sharper.",
            {"flatness": Axis("← flatter · average-case flatness (nats)", "Flatness")},
            has_path=True,
        ),
    )
}  # fmt: skip  # one figure a paragraph
"""Every figure by the name of its files."""


@dataclass(frozen=True)
class Dot:
    """One snapshot in a frame."""

    label: str
    url: str
    x: Spread | Number
    y: Number


@dataclass(frozen=True)
class Frame:
    """One frame of a figure: its lines by name, each with its points from epoch to epoch."""

    title: str
    x: Axis
    y: Axis
    lines: tuple[tuple[str, tuple[Dot, ...]], ...]

    @property
    def over_epochs(self) -> bool:
        """Whether it follows time, and not a path in the plane of two numbers."""
        return self.x is _EPOCH


@dataclass(frozen=True)
class Curves:
    """A figure with its numbers; `rows` are the snapshots by the names of their trainings, `columns` what is drawn."""

    kind: str
    title: str
    shows: str
    frames: tuple[Frame, ...]
    columns: tuple[str, ...]
    rows: tuple[tuple[str, Snapshot], ...]
    finding: str = ""

    @property
    def note(self) -> str:
        """What bars are, and what the snapshots were measured under."""
        return f"bars: 95 % intervals · {', '.join(dict.fromkeys(one.label for _, one in self.rows))}"

    def table(self) -> Table:
        """Return the numbers as a page shows them: one row a snapshot."""
        axes = [_axis(column) for column in self.columns]
        rows = (
            (
                f"{name}, epoch {one.origin.epoch}" if name else f"epoch {one.origin.epoch}",
                one.label,
                *(axis.ranged(n) if n else "–" for axis, n in zip(axes, self.numbers(one), strict=True)),
            )
            for name, one in self.rows
        )
        return Table((("snapshot", ""), ("protocol", ""), *((axis.name, axis.unit) for axis in axes)), tuple(rows))

    def numbers(self, one: Snapshot) -> list[Number | None]:
        """Return a snapshot's numbers, those that its protocol measures as the others' do."""
        return [one.numbers.get(column) if one.digest in _sources(column) else None for column in self.columns]

    def document(self) -> dict[str, Any]:
        """Return the numbers as JSON has them."""
        return {
            "figure": self.kind,
            "snapshots": [
                {
                    "training": name, "recipe": one.origin.recipe, "seed": one.origin.seed, "epoch": one.origin.epoch,
                    "slug": one.slug, "protocol": one.protocol, "protocol_version": one.version,
                    "numbers": {
                        column: {end: getattr(number, end) for end in ENDS}
                        for column, number in zip(self.columns, self.numbers(one), strict=True) if number
                    },
                }
                for name, one in self.rows
            ],
        }  # fmt: skip  # one snapshot a paragraph

    def csv(self) -> str:
        """Return the numbers in full."""
        ends = [f"{column}{'' if end == 'value' else f'_{end}'}" for column in self.columns for end in ENDS]
        rows = (
            (
                name, one.origin.recipe, one.origin.seed, one.origin.epoch, one.slug, one.label,
                *(getattr(number, end) if number else "" for number in self.numbers(one) for end in ENDS),
            )
            for name, one in self.rows
        )  # fmt: skip  # what a row holds stands on few lines
        return as_csv(["training", "recipe", "seed", "epoch", "slug", "protocol", *ends], rows)


def of_one(training: Training) -> tuple[Curves, ...]:
    """Return the figures of one training, test and train in one frame; none where fewer than two epochs are known."""
    return tuple(filter(None, (_one(kind, training) for kind in KINDS.values())))


def of_several(trainings: Mapping[str, Training]) -> tuple[Curves, ...]:
    """Return the figures of trainings by name, a frame for each number and in it a line for each training."""
    return tuple(filter(None, (_several(kind, trainings) for kind in KINDS.values())))


def _one(kind: Kind, training: Training) -> Curves | None:
    frames = [
        Frame(METRICS[metric].label, _EPOCH, axis, _lines({s.value: _over(training, f"{metric}_{s}") for s in Split}))
        for metric, axis in kind.metrics.items()
    ]
    if kind.has_path:
        frames.append(Frame("robust loss against flatness", _FLATNESS, _LOSS, _lines({"test": _path(training)})))
    return _curves(kind, frames, {"": training}, _finding(training, f"{next(iter(kind.metrics))}_test"))


def _several(kind: Kind, trainings: Mapping[str, Training]) -> Curves | None:
    frames = [
        Frame(COLUMNS[column].title, _EPOCH, axis, _lines({name: _over(t, column) for name, t in trainings.items()}))
        for metric, axis in kind.metrics.items()
        for column in METRICS[metric].columns()
    ]
    if kind.has_path:
        paths = _lines({name: _path(training) for name, training in trainings.items()})
        frames.append(Frame("RLoss against flatness", _FLATNESS, _LOSS, paths))
    return _curves(kind, frames, trainings)


def _curves(kind: Kind, frames: Iterable[Frame], trainings: Mapping[str, Training], finding: str = "") -> Curves | None:
    drawn = tuple(frame for frame in frames if frame.lines)
    columns = tuple(column for column in kind.columns if any(_over(one, column) for one in trainings.values()))
    rows = tuple(
        (name, one)
        for name, training in trainings.items()
        for one in training.under({digest for column in columns for digest in _sources(column)})
    )
    return Curves(kind.key, kind.title, kind.shows, drawn, columns, rows, finding) if drawn else None


def _lines(found: Mapping[str, Sequence[Dot]]) -> tuple[tuple[str, tuple[Dot, ...]], ...]:
    return tuple((name, tuple(dots)) for name, dots in found.items() if dots)


def _over(training: Training, column: str) -> tuple[Dot, ...]:
    """Return a number from epoch to epoch; none where a single epoch is known."""
    known = {one.origin.epoch: one for one in training.under(_sources(column)) if column in one.numbers}
    dots = (
        Dot(str(epoch), one.url, Spread(epoch, epoch, epoch, 1), one.numbers[column]) for epoch, one in known.items()
    )
    return tuple(dots) if len(known) > 1 else ()


def _path(training: Training) -> tuple[Dot, ...]:
    flat, loss = (_over(training, column) for column in ("flatness_test", "robust_loss_test"))
    losses = {dot.label: dot.y for dot in loss}
    return tuple(Dot(dot.label, dot.url, dot.y, losses[dot.label]) for dot in flat if dot.label in losses)


def _finding(training: Training, column: str) -> str:
    dots = _over(training, column)
    if not dots:
        return ""
    lowest, last = min(dots, key=lambda dot: dot.y.value), dots[-1]
    name = f"{COLUMNS[column].metric.label} on test"
    low = f"{name} is lowest after epoch {lowest.label}: {_said(lowest.y)}".capitalize()
    return f"{low}." if lowest is last else f"{low}; after epoch {last.label} it is {_said(last.y)}."


def _said(number: Number) -> str:
    return f"{number.value:.2f} [{number.low:.2f}, {number.high:.2f}]".replace("-", "−")


def _axis(column: str) -> Axis:
    """Return how the numbers of a column are written."""
    found = COLUMNS[column]
    return Axis(
        "", f"{found.title} {found.metric.direction.arrow}", "%" if found.metric.unit is Unit.FRACTION else "nats"
    )


@cache
def _sources(column: str) -> frozenset[str]:
    """Return the digests of the protocols whose values of a column make one curve: only like is joined with like."""
    if COLUMNS[column].metric.stage is not StageName.AUTOATTACK:
        return frozenset(find_protocol(study.curve).digest for study in STUDIES.values())
    full = [find_protocol(study.protocol) for study in STUDIES.values()]
    return frozenset(one.digest for protocol in full for one in (protocol, *stopped_of(protocol)))
