"""Rows → chart specifications in one style, and their drawings (pure)."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import median
from typing import TYPE_CHECKING, Any

import altair as alt
import vl_convert

from evaluator.protocol import EvaluationProtocol
from evaluator.results import Measurement
from leaderboard.figures import AXES, Axis
from leaderboard.labels import FONT_SIZE, place_labels
from leaderboard.statistics import rank_correlation

if TYPE_CHECKING:
    from leaderboard.listing import Row
    from leaderboard.selectors import Board

WIDTH, HEIGHT = 860, 400
_WIDE = 400
"""More pixels than this take many ticks."""
_LONGEST_LABEL = 26
_FARTHEST = 3
_FEW = 6
"""Up to so many values of a path are all named."""
_ROWS = "rows"
_VEGA_BASE = "https://vega.github.io/vega-datasets/"
"""What the renderer puts before a link that names no host; ours are meant as paths of this site."""


@dataclass(frozen=True)
class Theme:
    """The colours of a drawing; `page` takes those of the page it stands in."""

    text: str
    muted: str
    grid: str
    point: str
    second: str
    third: str
    fourth: str
    background: str


THEMES = {
    "page": Theme(
        "currentColor",
        "currentColor",
        "var(--chart-grid)",
        "var(--chart-point)",
        "var(--chart-second)",
        "var(--chart-third)",
        "var(--chart-fourth)",
        "transparent",
    ),
    "light": Theme("#212529", "#495057", "#e4e7eb", "#0b5ed7", "#c2410c", "#15803d", "#7e22ce", "#ffffff"),
    "dark": Theme("#dee2e6", "#adb5bd", "#343a40", "#6ea8fe", "#fb923c", "#4ade80", "#d8b4fe", "#212529"),
}


@dataclass(frozen=True)
class Point:
    """One entry in a plane of two numbers."""

    label: str
    url: str
    x: Measurement
    y: Measurement


@dataclass(frozen=True)
class Scale:
    """A linear scale from numbers to pixels, with room around the intervals."""

    axis: Axis
    low: float
    high: float
    pixels: int

    @classmethod
    def around(cls, axis: Axis, numbers: Sequence[Any], pixels: int) -> "Scale":
        """Return the scale that shows all numbers with their intervals; counts never go below 0."""
        low, high = min(n.low for n in numbers), max(n.high for n in numbers)
        room = 0.08 * (high - low) or 0.5
        return cls(axis, low - room if axis.unit else max(0, low - room), high + room, pixels)

    def pixel(self, value: float) -> float:
        """Return where a value stands."""
        return (value - self.low) / (self.high - self.low) * self.pixels

    def moved(self, value: float, pixels: float) -> float:
        """Return the value that stands `pixels` further on."""
        return value + pixels * (self.high - self.low) / self.pixels

    def channel(self, **changes: Any) -> dict[str, Any]:
        """Return what x and y encodings share: title, scale and ticks."""
        form = {"format": ".0%"} if self.axis.unit == "%" else {}
        axis = alt.Axis(tickCount=8 if self.pixels >= _WIDE else 4, **form)
        scale = alt.Scale(domain=[self.low, self.high], nice=False, zero=False)
        return {"title": self.axis.title, "scale": scale, "axis": axis} | changes


def rloss_against_flatness(
    points: Sequence[Point], protocol: EvaluationProtocol, theme: str = "page", *, among: int = 0
) -> dict[str, Any]:
    """Return the chart of test robust loss against test flatness, one linked and labelled point an entry.

    Both axes carry 95 % intervals; the subtitle carries n and Spearman's ρ with its interval. Points so far out that
    they would squeeze the others into a corner are named there, with the ρ of all. Where the points are only the best
    `among` more entries, the subtitle says so. No points, no chart: an empty dict.
    """
    if not points:
        return {}
    colours = THEMES[theme]
    inside, outside = _framed(points)
    x = Scale.around(AXES["flatness_test"], [p.x for p in inside], WIDTH)
    y = Scale.around(AXES["robust_loss_test"], [p.y for p in inside], HEIGHT)
    drawing = scatter(inside, x, y, colours)
    return styled(drawing, "Robust loss against flatness", _subtitle(inside, outside, protocol, among), colours)


def board_figure(board: "Board", theme: str = "page") -> dict[str, Any]:
    """Return the chart of all entries of a board, the same however its table is sorted; empty without entries."""
    return rloss_against_flatness(board_points(board.rows), board.protocol, theme)


def board_points(rows: Iterable["Row"]) -> tuple[Point, ...]:
    """Return the points of entries that have both numbers, in an order that does not depend on the table's."""
    return tuple(
        Point(row.title, row.url, row.numbers["flatness_test"], row.numbers["robust_loss_test"])
        for row in sorted(rows, key=lambda row: row.slug)
        if {"flatness_test", "robust_loss_test"} <= row.numbers.keys()
    )


@lru_cache(maxsize=64)
def board_svg(points: tuple[Point, ...], protocol: EvaluationProtocol, among: int) -> str:
    """Return the chart of the best entries among more, as SVG for a page; empty where there is none."""
    spec = rloss_against_flatness(points, protocol, among=among)
    return render_svg(spec) if spec else ""


def render_svg(spec: dict[str, Any]) -> str:
    """Return the drawing as SVG; its texts are escaped and its links are paths of this site."""
    return _svg(json.dumps(spec, sort_keys=True))


def render_png(spec: dict[str, Any]) -> bytes:
    """Return the drawing as PNG at twice its size."""
    return _png(json.dumps(spec, sort_keys=True))


@lru_cache(maxsize=64)
def _svg(spec: str) -> str:
    return vl_convert.vegalite_to_svg(spec).replace(_VEGA_BASE, "")


@lru_cache(maxsize=16)
def _png(spec: str) -> bytes:
    return vl_convert.vegalite_to_png(spec, scale=2)


Drawing = tuple[Any, list[dict[str, Any]]]
"""A chart and its rows, which it names once instead of holding them in each layer."""


def styled(drawing: Drawing, title: str, subtitle: Sequence[str], colours: Theme) -> dict[str, Any]:
    """Return a drawing's specification, with the heading, axes and background that all charts have."""
    heading = alt.TitleParams(
        title, subtitle=list(subtitle), anchor="start", frame="group", offset=12, fontSize=16,
        subtitleFontSize=FONT_SIZE, subtitlePadding=4, color=colours.text, subtitleColor=colours.muted,
    )  # fmt: skip  # one setting a line would hide the chart
    axis = {
        "labelColor": colours.muted, "titleColor": colours.text, "gridColor": colours.grid,
        "domainColor": colours.grid, "tickColor": colours.grid, "labelFontSize": FONT_SIZE,
        "titleFontSize": FONT_SIZE, "titleFontWeight": "normal", "titlePadding": 10,
    }  # fmt: skip
    chart, rows = drawing
    chart = chart.properties(title=heading, background=colours.background)
    return chart.configure_view(stroke=None).configure_axis(**axis).to_dict() | {"datasets": {_ROWS: rows}}


def rows_of(points: Sequence[Any], path: int = 0) -> list[dict[str, Any]]:
    """Return what the layers know of points: place, intervals, label, link, and which stand on a path with a name."""
    return [
        {"label": short(p.label), "url": p.url, "x": p.x.value, "x_low": p.x.low, "x_high": p.x.high,
         "y": p.y.value, "y_low": p.y.low, "y_high": p.y.high,
         "path": path, "order": order, "named": len(points) <= _FEW or order in (0, len(points) - 1)}
        for order, p in enumerate(points)
    ]  # fmt: skip  # one point reads better on few lines


def on(x: dict[str, Any], y: dict[str, Any]) -> Any:
    """Return what a layer begins with: the rows in a plane, by two channels of scales."""
    return alt.Chart(alt.NamedData(_ROWS)).encode(x=alt.X("x:Q", **x), y=alt.Y("y:Q", **y))


def marked(base: Any, colour: str, size: int, links: dict[str, str]) -> list[Any]:
    """Return the layers every figure shares: both whiskers, and the points."""
    whisker = {"color": colour, "opacity": 0.4, "strokeWidth": 1.5}
    return [
        base.mark_rule(**whisker).encode(x=alt.X("x_low:Q"), x2="x_high:Q"),
        base.mark_rule(**whisker).encode(y=alt.Y("y_low:Q"), y2="y_high:Q"),
        base.mark_circle(size=size, color=colour, opacity=1).encode(**links),
    ]


def links_of(points: Sequence[Any]) -> dict[str, str]:
    """Return the encoding that links points to their pages; none where they have none."""
    return {"href": "url:N"} if any(p.url for p in points) else {}


def named(rows: Sequence[dict[str, Any]], x: Scale, y: Scale, *, joined: bool) -> list[dict[str, Any]]:
    """Return rows with the places of the labels that shall stand there, beside their line where they are `joined`."""
    centers = [(x.pixel(row["x"]), y.pixels - y.pixel(row["y"])) for row in rows]
    shown = [index for index, row in enumerate(rows) if row["named"] or not joined]
    texts = [rows[index]["label"] for index in shown]
    places = place_labels(texts, [centers[i] for i in shown], (x.pixels, y.pixels), centers if joined else ())
    placed = [dict(row) for row in rows]
    for index, place in zip(shown, places, strict=True):
        row = placed[index]
        ends = {"label_x": x.moved(row["x"], place.dx), "label_y": y.moved(row["y"], -place.dy)}
        row |= {"align": place.align, "dx": place.dx, "dy": place.dy} | ends
    return placed


def labels(base: Any, colours: Theme, links: dict[str, str]) -> list[Any]:
    """Return the layers of labels: each where it was placed, with a thin line to its point."""
    placed = {name: alt.ExprRef(f"datum.{name}") for name in ("align", "dx", "dy")}
    return [
        base.mark_rule(color=colours.muted, opacity=0.6, strokeWidth=0.75).encode(x2="label_x", y2="label_y"),
        base.mark_text(**placed, color=colours.text, fontSize=FONT_SIZE).encode(text="label:N", **links),
    ]


def scatter(points: Sequence[Any], x: Scale, y: Scale, colours: Theme) -> Drawing:
    """Return loose points with whiskers, each with its label."""
    base, links = on(x.channel(), y.channel()), links_of(points)
    chart = alt.layer(*marked(base, colours.point, 70, links), *labels(base, colours, links))
    return chart.properties(width=x.pixels, height=y.pixels), named(rows_of(points), x, y, joined=False)


def short(label: str) -> str:
    """Return a label that leaves room for others."""
    return label if len(label) <= _LONGEST_LABEL else label[: _LONGEST_LABEL - 1] + "…"


def _framed(points: Sequence[Point]) -> tuple[list[Point], list[Point]]:
    """Return the points to draw and those beyond `_FARTHEST` times the median of a side (an undefended model, say)."""
    limits = [_FARTHEST * median(abs(n.value) for n in side) for side in ([p.x for p in points], [p.y for p in points])]
    near = [abs(p.x.value) <= limits[0] and abs(p.y.value) <= limits[1] for p in points]
    inside = [point for point, close in zip(points, near, strict=True) if close]
    return (inside, [p for p, close in zip(points, near, strict=True) if not close]) if inside else (list(points), [])


def _subtitle(inside: Sequence[Point], outside: Sequence[Point], protocol: EvaluationProtocol, among: int) -> list[str]:
    n, drawn = inside[0].y.n, len(inside) + len(outside)
    shown = f"{len(inside)} entries" if not outside else f"{len(inside)} entries in the frame"
    if among > drawn:
        shown += f", the best of {among} by rank"
    lines = [f"{_rho(inside)} · {shown} · n = {n} test examples · bars: 95 % intervals · {protocol.label}"]
    if outside:
        far = ", ".join(f"{short(p.label)} ({p.x.value:.2f}, {p.y.value:.2f})" for p in outside)
        lines.append(f"Outside the frame (flatness, robust loss): {far}. With all: {_rho([*inside, *outside])}")
    return lines


def _rho(points: Sequence[Point]) -> str:
    found = rank_correlation([p.x.value for p in points], [p.y.value for p in points])
    if found is None:
        return "too few entries for a rank correlation"
    return f"Spearman ρ = {found.rho:.2f} [{found.low:.2f}, {found.high:.2f}]"
