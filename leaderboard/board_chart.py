"""The board's chart: robust loss against flatness, one point an entry (pure)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import median
from typing import TYPE_CHECKING, Any

from evaluator.protocol import EvaluationProtocol
from evaluator.results import Measurement
from leaderboard.charts import HEIGHT, THEMES, WIDTH, Scale, render_svg, scatter, short, styled
from leaderboard.figures import AXES, Table, as_csv
from leaderboard.statistics import rank_correlation

if TYPE_CHECKING:
    from leaderboard.listing import Row
    from leaderboard.selectors import Board

X, Y = AXES["flatness_test"], AXES["robust_loss_test"]
_FARTHEST = 3


@dataclass(frozen=True)
class Point:
    """One entry in a plane of two numbers."""

    label: str
    url: str
    x: Measurement
    y: Measurement


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
    x = Scale.around(X, [p.x for p in inside], WIDTH)
    y = Scale.around(Y, [p.y for p in inside], HEIGHT)
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


def points_table(points: Sequence[Point]) -> Table:
    """Return the numbers of points as readers see them."""
    rows = ((p.label, X.ranged(p.x), Y.ranged(p.y), str(p.y.n)) for p in points)
    return Table((("entry", ""), (X.name, X.unit), (Y.name, Y.unit), ("n", "")), tuple(rows))


def points_csv(points: Sequence[Point]) -> str:
    """Return the numbers of points in full."""
    ends = [f"{key}{end}" for key in ("flatness_test", "robust_loss_test") for end in ("", "_low", "_high", "_n")]
    rows = ((p.label, p.url, *(end for m in (p.x, p.y) for end in (m.value, m.low, m.high, m.n))) for p in points)
    return as_csv(["title", "url", *ends], rows)


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
