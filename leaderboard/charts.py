"""Rows → chart specifications, and their drawings (pure)."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import median
from typing import TYPE_CHECKING, Any

import altair as alt
import vl_convert

from evaluator.protocol import EvaluationProtocol
from evaluator.results import Measurement
from leaderboard.statistics import rank_correlation

if TYPE_CHECKING:
    from leaderboard.selectors import Board

WIDTH, HEIGHT = 860, 400
_FONT_SIZE = 12
_CHARACTER_WIDTH = 0.58 * _FONT_SIZE
_LONGEST_LABEL = 26
_FARTHEST = 4
_VEGA_BASE = "https://vega.github.io/vega-datasets/"
"""What the renderer puts before a link that names no host; ours are meant as paths of this site."""


@dataclass(frozen=True)
class Theme:
    """The colours of a drawing; `page` takes those of the page it stands in."""

    text: str
    muted: str
    grid: str
    point: str
    background: str


THEMES = {
    "page": Theme("currentColor", "currentColor", "var(--chart-grid)", "var(--chart-point)", "transparent"),
    "light": Theme("#212529", "#495057", "#e4e7eb", "#0b5ed7", "#ffffff"),
    "dark": Theme("#dee2e6", "#adb5bd", "#343a40", "#6ea8fe", "#212529"),
}


@dataclass(frozen=True)
class Point:
    """One entry in a plane of two numbers."""

    label: str
    url: str
    x: Measurement
    y: Measurement


@dataclass(frozen=True)
class _Axis:
    """A linear scale from numbers to pixels, with room around the intervals."""

    low: float
    high: float
    pixels: int

    @classmethod
    def around(cls, numbers: Sequence[Measurement], pixels: int) -> "_Axis":
        low, high = min(n.low for n in numbers), max(n.high for n in numbers)
        room = 0.08 * (high - low) or 0.5
        return cls(low - room, high + room, pixels)

    def pixel(self, value: float) -> float:
        return (value - self.low) / (self.high - self.low) * self.pixels


def rloss_against_flatness(
    points: Sequence[Point], protocol: EvaluationProtocol, theme: str = "page"
) -> dict[str, Any]:
    """Return the chart of test robust loss against test flatness, one linked and labelled point an entry.

    Both axes carry 95 % intervals; the subtitle carries n and Spearman's ρ with its interval. Points so far out that
    they would squeeze the others into a corner are named there, with the ρ of all. No points, no chart: an empty dict.
    """
    if not points:
        return {}
    colours = THEMES[theme]
    inside, outside = _framed(points)
    x = _Axis.around([p.x for p in inside], WIDTH)
    y = _Axis.around([p.y for p in inside], HEIGHT)
    rows = [
        {"label": _short(p.label), "url": p.url, "x": p.x.value, "x_low": p.x.low, "x_high": p.x.high,
         "y": p.y.value, "y_low": p.y.low, "y_high": p.y.high, "align": align, "dx": dx, "dy": dy}
        for p, (align, dx, dy) in zip(inside, _place_labels(inside, x, y), strict=True)
    ]  # fmt: skip  # one entry reads better on few lines
    # Turned with the vertical title, a left arrow points down: towards better on both axes.
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("x:Q", title="← flatter · average-case flatness on test (nats)", scale=_scale(x)),
        y=alt.Y("y:Q", title="← better · robust loss on test (nats)", scale=_scale(y)),
    )
    whisker = {"color": colours.point, "opacity": 0.4, "strokeWidth": 1.5}
    placed = {name: alt.ExprRef(f"datum.{name}") for name in ("align", "dx", "dy")}
    chart = alt.layer(
        base.mark_rule(**whisker).encode(x=alt.X("x_low:Q"), x2="x_high:Q"),
        base.mark_rule(**whisker).encode(y=alt.Y("y_low:Q"), y2="y_high:Q"),
        base.mark_circle(size=70, color=colours.point, opacity=1).encode(href="url:N"),
        base.mark_text(**placed, color=colours.text, fontSize=_FONT_SIZE).encode(text="label:N", href="url:N"),
    )
    title = alt.TitleParams(
        "Robust loss against flatness", subtitle=_subtitle(inside, outside, protocol), anchor="start", frame="group",
        offset=12, fontSize=16, subtitleFontSize=_FONT_SIZE, subtitlePadding=4,
        color=colours.text, subtitleColor=colours.muted,
    )  # fmt: skip  # one setting a line would hide the chart
    axis = {
        "labelColor": colours.muted, "titleColor": colours.text, "gridColor": colours.grid,
        "domainColor": colours.grid, "tickColor": colours.grid, "labelFontSize": _FONT_SIZE,
        "titleFontSize": _FONT_SIZE, "titleFontWeight": "normal", "titlePadding": 10, "tickCount": 8,
    }  # fmt: skip
    return (
        chart.properties(width=WIDTH, height=HEIGHT, title=title, background=colours.background)
        .configure_view(stroke=None)
        .configure_axis(**axis)
        .to_dict()
    )


def board_figure(board: "Board", theme: str = "page") -> dict[str, Any]:
    """Return the chart of all entries of a board, the same however its table is sorted; empty without entries."""
    points = [
        Point(row.title, row.url, row.numbers["flatness_test"], row.numbers["robust_loss_test"])
        for row in sorted(board.rows, key=lambda row: row.slug)
    ]
    return rloss_against_flatness(points, board.protocol, theme)


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


def _scale(axis: _Axis) -> alt.Scale:
    return alt.Scale(domain=[axis.low, axis.high], nice=False, zero=False)


def _short(label: str) -> str:
    return label if len(label) <= _LONGEST_LABEL else label[: _LONGEST_LABEL - 1] + "…"


def _framed(points: Sequence[Point]) -> tuple[list[Point], list[Point]]:
    """Return the points to draw and those beyond `_FARTHEST` times the median of a side (an undefended model, say)."""
    limits = [_FARTHEST * median(abs(n.value) for n in side) for side in ([p.x for p in points], [p.y for p in points])]
    near = [abs(p.x.value) <= limits[0] and abs(p.y.value) <= limits[1] for p in points]
    inside = [point for point, close in zip(points, near, strict=True) if close]
    return (inside, [p for p, close in zip(points, near, strict=True) if not close]) if inside else (list(points), [])


def _subtitle(inside: Sequence[Point], outside: Sequence[Point], protocol: EvaluationProtocol) -> list[str]:
    n = inside[0].y.n
    shown = f"{len(inside)} entries" if not outside else f"{len(inside)} entries in the frame"
    lines = [f"{_rho(inside)} · {shown} · n = {n} test examples · bars: 95 % intervals · {protocol.label}"]
    if outside:
        far = ", ".join(f"{_short(p.label)} ({p.x.value:.2f}, {p.y.value:.2f})" for p in outside)
        lines.append(f"Outside the frame (flatness, robust loss): {far}. With all: {_rho([*inside, *outside])}")
    return lines


def _rho(points: Sequence[Point]) -> str:
    found = rank_correlation([p.x.value for p in points], [p.y.value for p in points])
    if found is None:
        return "too few entries for a rank correlation"
    return f"Spearman ρ = {found.rho:.2f} [{found.low:.2f}, {found.high:.2f}]"


_Box = tuple[float, float, float, float]


def _place_labels(points: Sequence[Point], x: _Axis, y: _Axis) -> list[tuple[str, int, int]]:
    """Return (align, dx, dy) of each label: the first place of eight that covers least of what is already there."""
    centers = [(x.pixel(p.x.value), HEIGHT - y.pixel(p.y.value)) for p in points]
    taken: list[_Box] = [(cx - 6, cy - 6, cx + 6, cy + 6) for cx, cy in centers]
    places = []
    for point, (cx, cy) in zip(points, centers, strict=True):
        width = _CHARACTER_WIDTH * len(_short(point.label))
        options = []
        for align, dx, dy in _PLACES:
            left = cx + dx - (0 if align == "left" else width)
            box = (left, cy + dy - _FONT_SIZE / 2, left + width, cy + dy + _FONT_SIZE / 2)
            outside = max(0.0, -box[0]) + max(0.0, box[2] - WIDTH) + max(0.0, -box[1]) + max(0.0, box[3] - HEIGHT)
            options.append((sum(_overlap(box, other) for other in taken) + 100 * outside, align, dx, dy, box))
        _, align, dx, dy, box = min(options)
        taken.append(box)
        places.append((align, dx, dy))
    return places


_PLACES = (
    ("left", 8, -9), ("right", -8, -9), ("left", 8, 9), ("right", -8, 9),
    ("left", 8, -22), ("right", -8, -22), ("left", 8, 22), ("right", -8, 22),
)  # fmt: skip


def _overlap(one: _Box, other: _Box) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(0.0, width) * max(0.0, height)
