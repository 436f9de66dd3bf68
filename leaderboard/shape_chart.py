"""Curves around a minimum → one chart with a frame for each split, as in Fig. 4 of Stutz et al. 2021 (pure)."""

import csv
import io
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import altair as alt

from evaluator.metrics import CURVES
from evaluator.results import Curve
from leaderboard.charts import THEMES, Drawing, Scale, Theme, on, render_svg, styled
from leaderboard.figures import Axis, Table
from leaderboard.interaction import tooltip
from leaderboard.labels import FONT_SIZE

POSITION = Axis("distance ξ, relative to each weight tensor's norm", "ξ", "")
_VALUES = {
    "flatness_by_radius": Axis("← flatter · flatness (nats)", "flatness"),
    "landscape": Axis("← better · robust loss (nats)", "RLoss"),
}
_FRAME = (390, 260)


def shape_figure(curves: Sequence[Curve], protocol: str, theme: str = "page") -> dict[str, Any]:
    """Return the chart of one curve on each of its splits; empty without curves.

    The thick line with 95 % intervals is the mean over directions, the thin lines are the directions.
    """
    if not curves:
        return {}
    colours, key = THEMES[theme], curves[0].key
    points = [point for curve in curves for point in curve.points]
    x = Scale.around(POSITION, [_Place(point.position) for point in points], _FRAME[0])
    x = Scale(x.axis, min(p.position for p in points) - 0.05, x.high, x.pixels)
    ends = [_Place(value) for point in points for value in (*point.by_direction, point.low, point.high)]
    y = Scale.around(_VALUES[key], ends, _FRAME[1])
    frames = [_frame(curve, x, y, colours, first=curve is curves[0]) for curve in curves]
    rows = [row for curve in curves for row in _rows(curve)]
    directions = len(points[0].by_direction)
    said = f"thick: mean over {directions} directions with its 95 % interval · thin: each direction · {protocol}"
    title = "" if theme == "page" else CURVES[key].label.capitalize()
    drawing = Drawing(alt.concat(*frames, columns=2), rows, [{"x": x.ends, "y": y.ends}])
    return styled(drawing, title, [said], colours)


@lru_cache(maxsize=64)
def shape_svg(curves: tuple[Curve, ...], protocol: str) -> str:
    """Return the chart as SVG for a page; empty where there is none."""
    spec = shape_figure(curves, protocol)
    return render_svg(spec) if spec else ""


def shape_table(curves: Sequence[Curve]) -> Table:
    """Return the numbers of one curve as readers see them: a row a position, a column a split."""
    symbol, axis = CURVES[curves[0].key].symbol, _VALUES[curves[0].key]
    return Table(
        columns=(("ξ", ""), *((f"{symbol} {curve.split}", f"nats, n = {curve.n}") for curve in curves)),
        rows=tuple(
            (POSITION.written(points[0].position), *(axis.ranged(point) for point in points))
            for points in zip(*(curve.points for curve in curves), strict=True)
        ),
    )


def shape_csv(curves: Sequence[Curve]) -> str:
    """Return the numbers of one curve in full: a row a split and position."""
    text = io.StringIO()
    writer = csv.writer(text)
    directions = len(curves[0].points[0].by_direction)
    head = ["split", "position", "value", "low", "high", "n", *(f"direction_{k}" for k in range(directions))]
    writer.writerow(head)
    for curve in curves:
        for p in curve.points:
            writer.writerow([curve.split, p.position, p.value, p.low, p.high, curve.n, *p.by_direction])
    return text.getvalue()


class _Place:
    """A number as `Scale.around` reads it, without an interval."""

    def __init__(self, value: float) -> None:
        self.low = self.high = value


def _rows(curve: Curve) -> list[dict[str, Any]]:
    """Return what the layers know: the mean as path −1, and each direction as a path of its own."""
    mean = [
        {"split": curve.split, "path": -1, "x": p.position, "y": p.value, "y_low": p.low, "y_high": p.high,
         "name": f"{curve.split}, ξ = {POSITION.written(p.position)}", "y_shown": _VALUES[curve.key].ranged(p)}
        for p in curve.points
    ]  # fmt: skip  # one point reads better on few lines
    return mean + [
        {"split": curve.split, "path": k, "x": p.position, "y": value}
        for p in curve.points
        for k, value in enumerate(p.by_direction)
    ]


def _frame(curve: Curve, x: Scale, y: Scale, colours: Theme, *, first: bool) -> Any:
    across, up = x.channel(), y.channel() if first else y.channel(title=None)
    every = on(across, up).transform_filter(f"datum.split == '{curve.split}'")
    mean = every.transform_filter("datum.path == -1")
    colour = {"test": colours.point, "train": colours.second}[curve.split]
    layers = (
        every.transform_filter("datum.path >= 0")
        .mark_line(color=colours.muted, opacity=0.45, strokeWidth=1)
        .encode(detail="path:N"),
        mean.mark_line(color=colour, strokeWidth=2.5),
        mean.mark_rule(color=colour, strokeWidth=1.5).encode(y=alt.Y("y_low:Q"), y2="y_high:Q"),
        mean.mark_circle(size=45, color=colour, opacity=1).encode(
            tooltip=tooltip(name="mean", y_shown=_VALUES[curve.key].label)
        ),
    )
    title = alt.TitleParams(
        f"{curve.split}, n = {curve.n}", anchor="start", frame="group", fontSize=FONT_SIZE + 1, color=colours.text
    )
    return alt.layer(*layers).properties(width=x.pixels, height=y.pixels, title=title)
