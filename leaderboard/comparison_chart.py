"""A few entries → one chart: each number in a frame of its own, a row with its interval for each entry (pure)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import altair as alt

from evaluator.results import Measurement as Number
from leaderboard.charts import THEMES, Drawing, Scale, Theme, on, render_svg, short, styled
from leaderboard.figures import Axis, Table, as_csv
from leaderboard.interaction import tooltip
from leaderboard.labels import FONT_SIZE

MOST = 4
"""More entries than this do not fit side by side."""

LETTERS = "ABCD"
_PANELS = {
    "robust_error_test": Axis("← better · RErr test (%)", "RErr test", "%"),
    "robust_loss_test": Axis("← better · RLoss test (nats)", "RLoss test"),
    "flatness_test": Axis("← flatter · flatness test (nats)", "flatness test"),
    "clean_error_test": Axis("← better · Err test (%)", "Err test", "%"),
}
_PANEL_WIDTH = 280
_ROW_HEIGHT = 30
_PANELS_A_ROW = 2


@dataclass(frozen=True)
class Compared:
    """One entry: its name, its page and its numbers by column."""

    label: str
    url: str
    numbers: tuple[tuple[str, Number], ...]


def comparison(entries: Sequence[Compared], protocol: str, theme: str = "page") -> dict[str, Any]:
    """Return the chart of entries side by side; empty where none has one of the numbers it shows."""
    colours = THEMES[theme]
    names = [f"{letter} · {short(entry.label)}" for letter, entry in zip(LETTERS, entries, strict=False)]
    frames, rows, zooms = [], [], []
    for key, axis in _PANELS.items():
        cells = [(name, entry.url, dict(entry.numbers).get(key)) for name, entry in zip(names, entries, strict=True)]
        found = [(name, url, number) for name, url, number in cells if number]
        if found:
            scale = Scale.around(axis, [number for *_, number in found], _PANEL_WIDTH)
            frames.append(_frame(scale, key, names, colours, named=len(frames) % _PANELS_A_ROW == 0))
            zooms.append({"x": scale.ends})
            rows += [
                {"panel": key, "y": name, "url": url, "x": number.value, "x_low": number.low, "x_high": number.high,
                 "shown": axis.ranged(number)}
                for name, url, number in found
            ]  # fmt: skip  # one number reads better on few lines
    if not frames:
        return {}
    chart = alt.concat(*frames, columns=_PANELS_A_ROW)
    return styled(Drawing(chart, rows, zooms), "Side by side", [f"bars: 95 % intervals · {protocol}"], colours)


def comparison_table(entries: Sequence[Compared]) -> Table:
    """Return the numbers that the chart shows, as readers see them: one row an entry."""
    columns = (("entry", ""), *((axis.name, axis.unit) for axis in _PANELS.values()))
    return Table(
        columns, tuple((name, *(axis.ranged(n) if n else "–" for axis, n in cells)) for name, cells in _cells(entries))
    )


def comparison_csv(entries: Sequence[Compared]) -> str:
    """Return the numbers that the chart shows in full: one row an entry."""
    ends = ("value", "low", "high", "n")
    head = ["entry", *(f"{key}{end}" for key in _PANELS for end in ("", "_low", "_high", "_n"))]
    rows = (
        (name, *(getattr(n, end) if n else "" for _, n in cells for end in ends)) for name, cells in _cells(entries)
    )
    return as_csv(head, rows)


def _cells(entries: Sequence[Compared]) -> Iterator[tuple[str, list[tuple[Axis, Number | None]]]]:
    for letter, entry in zip(LETTERS, entries, strict=False):
        numbers = dict(entry.numbers)
        yield f"{letter} · {entry.label}", [(axis, numbers.get(key)) for key, axis in _PANELS.items()]


@lru_cache(maxsize=64)
def comparison_svg(entries: tuple[Compared, ...], protocol: str) -> str:
    """Return the chart as SVG for a page; empty where there is none."""
    spec = comparison(entries, protocol)
    return render_svg(spec) if spec else ""


def _frame(scale: Scale, key: str, names: Sequence[str], colours: Theme, *, named: bool) -> Any:
    axis = alt.Axis(labels=named, labelLimit=230, ticks=False, domain=False, labelFontSize=FONT_SIZE)
    rows = {"type": "nominal", "sort": list(names), "title": None, "axis": axis, "scale": alt.Scale(domain=list(names))}
    base = on(scale.channel(), {}).encode(y=alt.Y("y", **rows)).transform_filter(f"datum.panel == '{key}'")
    told = tooltip(y="entry", shown=scale.axis.label)
    layers = (
        base.mark_circle(size=80, color=colours.point, opacity=1).encode(href="url:N", tooltip=told),
        base.mark_rule(color=colours.point, strokeWidth=2).encode(x2="x_high:Q", x=alt.X("x_low:Q")),
    )
    return alt.layer(*layers).properties(width=scale.pixels, height=_ROW_HEIGHT * len(names))
