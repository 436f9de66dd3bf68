"""A figure as data: axes, points, a sentence, and the same numbers as table and CSV (pure)."""

import csv
import io
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import linear_regression
from typing import Any, Literal

from evaluator.results import Measurement
from leaderboard.analysis import Spread

_FEWEST_ON_A_LINE = 3

Drawing = Literal["points", "lines", "panels"]


@dataclass(frozen=True)
class Axis:
    """A direction of a figure: its title, its name in tables, and how its numbers are written."""

    title: str
    name: str
    unit: Literal["nats", "%", ""] = "nats"

    @property
    def label(self) -> str:
        """The name with its unit, if it has one."""
        return f"{self.name} ({self.unit})" if self.unit else self.name

    def written(self, value: float) -> str:
        """Return a number as tables show it."""
        text = {"nats": f"{value:.3f}", "%": f"{100 * value:.1f}", "": f"{value:g}"}[self.unit]
        return text.replace("-", "−")

    def ranged(self, spread: Spread | Measurement) -> str:
        """Return a mean with the range of its seeds, or a number with its interval, if there is one."""
        middle = self.written(spread.value)
        if spread.low == spread.high:
            return middle
        return f"{middle} [{self.written(spread.low)}, {self.written(spread.high)}]"


# Turned with the vertical title, a left arrow points down: towards better on both axes.
AXES = {
    "epoch": Axis("epoch", "epoch", ""),
    "flatness_test": Axis("← flatter · average-case flatness on test (nats)", "flatness test"),
    "flatness_train": Axis("← flatter · average-case flatness on train (nats)", "flatness train"),
    "robust_loss": Axis("← better · robust loss (nats)", "RLoss"),
    "robust_loss_test": Axis("← better · robust loss on test (nats)", "RLoss test"),
    "robust_loss_gap": Axis("← better · robust loss, test − train (nats)", "RLoss gap"),
    "robust_error_test": Axis("← better · robust error on test (%)", "RErr test", "%"),
    "robust_error_train": Axis("← better · robust error on train (%)", "RErr train", "%"),
}


@dataclass(frozen=True)
class Table:
    """The numbers of a chart as readers see them: columns with their unit, rows whose first cell names them."""

    columns: tuple[tuple[str, str], ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Mark:
    """One point of a figure, over seeds; points of one series are joined where the figure joins."""

    series: str
    label: str
    url: str
    x: Spread
    y: Spread
    control: bool = False


@dataclass(frozen=True)
class Figure:
    """A figure with its numbers, measured under `protocol`.

    `key` names its files, `x_key` and `y_key` its axes; `shows` says what it is, `finding` what the numbers say. It is
    drawn as loose points, as lines in one frame, or with a frame for each series. At `bend` on the horizontal axis a
    line stands upright; with `trends` each series has the straight line that its points lie about.
    """

    key: str
    number: str
    title: str
    shows: str
    x_key: str
    y_key: str
    drawing: Drawing
    protocol: str
    marks: tuple[Mark, ...]
    finding: str
    bend: float | None = None
    trends: bool = False

    @property
    def x(self) -> Axis:
        """The horizontal axis."""
        return AXES[self.x_key]

    @property
    def y(self) -> Axis:
        """The vertical axis."""
        return AXES[self.y_key]

    @property
    def series(self) -> dict[str, list[Mark]]:
        """The marks by series, both in the order in which they came."""
        groups: dict[str, list[Mark]] = defaultdict(list)
        for mark in self.marks:
            groups[mark.series].append(mark)
        return groups

    @property
    def trend_lines(self) -> dict[str, tuple[float, float]]:
        """Slope and intercept of the trend of each series, by least squares, where it has 3 points or more."""
        series = self.series.items() if self.trends else ()
        points = {name: ([m.x.value for m in marks], [m.y.value for m in marks]) for name, marks in series}
        return {
            name: (line.slope, line.intercept)
            for name, (x, y) in points.items()
            if len(x) >= _FEWEST_ON_A_LINE and len(set(x)) > 1
            for line in [linear_regression(x, y)]
        }

    @property
    def table(self) -> Table:
        """The numbers as a page shows them: series, label, both axes with their range, seeds."""
        columns = (("series", ""), ("point", ""), (self.x.name, self.x.unit), (self.y.name, self.y.unit), ("seeds", ""))
        rows = ((m.series, m.label, self.x.ranged(m.x), self.y.ranged(m.y), str(m.y.seeds)) for m in self.marks)
        return Table(columns, tuple(rows))

    def csv(self) -> str:
        """Return the numbers in full."""
        columns = [f"{key}{end}" for key in (self.x_key, self.y_key) for end in ("", "_low", "_high")]
        rows = (
            (m.series, m.label, *(end for s in (m.x, m.y) for end in (s.value, s.low, s.high)), m.y.seeds)
            for m in self.marks
        )
        return as_csv(["series", "label", *columns, "seeds"], rows)


def as_csv(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a table as CSV, in which no spreadsheet takes a text for a formula."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(head)
    writer.writerows([as_text(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)
    return text.getvalue()


def as_text(title: str) -> str:
    """Return a title that no spreadsheet takes for a formula."""
    return f"'{title}" if title.startswith(("=", "+", "-", "@")) else title
