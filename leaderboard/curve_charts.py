"""Trainings from epoch to epoch → one chart: a frame for each number, a line for each split or training (pure)."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import altair as alt

from leaderboard.charts import (
    THEMES,
    Drawing,
    Scale,
    Theme,
    channels_of,
    described,
    labels,
    named,
    on,
    render_svg,
    rows_of,
    styled,
)
from leaderboard.curves import Curves, Dot, Frame
from leaderboard.interaction import shown_series
from leaderboard.labels import FONT_SIZE

_FRAME = (376, 210)
_FRAMES_A_ROW = 2
_ALONE = 840
"""How wide a frame is that has its row to itself: a page shows every chart as wide as it is."""
_ASIDE = 4
"""By so many pixels the bars of two lines stand beside each other."""

_DASHES = [[1, 0], [6, 3], [2, 2], [8, 2, 2, 2]]


def curves_chart(curves: Curves, theme: str = "page") -> dict[str, Any]:
    """Return the chart of trainings; on a page its title stands beside it."""
    return _chart(curves.frames, "" if theme == "page" else curves.title, curves.note, theme)


def curves_svg(curves: Curves) -> str:
    """Return the chart as SVG for a page; the same frames are drawn once."""
    return _svg(curves.frames, curves.note)


@lru_cache(maxsize=64)
def _svg(frames: tuple[Frame, ...], note: str) -> str:
    return render_svg(_chart(frames, "", note, "page"))


def _chart(frames: Sequence[Frame], title: str, note: str, theme: str) -> dict[str, Any]:
    colours = THEMES[theme]
    names = list(dict.fromkeys(name for frame in frames for name, _ in frame.lines))
    epochs = [dot.x for frame in frames if frame.over_epochs for _, dots in frame.lines for dot in dots]
    drawn, rows, zooms = [], [], []
    width = _FRAME[0] if len(frames) > 1 else _ALONE
    for number, frame in enumerate(frames):
        dots = [dot for _, line in frame.lines for dot in line]
        x = Scale.around(frame.x, epochs if frame.over_epochs else [dot.x for dot in dots], width)
        y = Scale.around(frame.y, [dot.y for dot in dots], _FRAME[1])
        drawn.append(_frame(frame, (x, y), number, names, colours))
        zooms.append({"x": x.ends, "y": y.ends})
        found = [row for name, line in frame.lines for row in _rows(frame, number, name, line, names)]
        rows += named(found, x, y, joined=True)
    chart = alt.concat(*drawn, columns=_FRAMES_A_ROW)
    return styled(Drawing(chart, rows, zooms, names), title, [note], colours)


def _rows(frame: Frame, number: int, name: str, line: Sequence[Dot], names: Sequence[str]) -> list[dict[str, Any]]:
    """Return what the layers know of a line: of a path, its ends are named; over epochs, bars stand aside."""
    path = names.index(name)
    aside = (path - (len(names) - 1) / 2) * _ASIDE
    known = {"frame": number, "line": name, "aside": aside if frame.over_epochs else 0}
    ends = () if frame.over_epochs else (0, len(line) - 1)
    rows = described(rows_of(line, path), line, frame.x, frame.y, of=name)
    return [row | known | {"named": row["order"] in ends} for row in rows]


def _frame(frame: Frame, scales: tuple[Scale, Scale], number: int, names: Sequence[str], colours: Theme) -> Any:
    x, y = scales
    domain = {"domain": list(names)}
    every = [colours.point, colours.second, colours.third, colours.fourth][: len(names)]
    legend = alt.Legend(
        orient="top", title=None, labelFontSize=FONT_SIZE, labelColor=colours.text, labelLimit=300,
        symbolType="stroke", symbolSize=500, symbolStrokeWidth=2, symbolOpacity=1,
    )  # fmt: skip  # one setting a line would hide the chart
    colour = alt.Color("line:N", scale=alt.Scale(**domain, range=every), legend=legend)
    dash = alt.StrokeDash("line:N", scale=alt.Scale(**domain, range=_DASHES[: len(names)]), legend=legend)
    channels = channels_of([dot for _, line in frame.lines for dot in line], frame.x, frame.y)
    base = shown_series(on(x.channel(), y.channel()).transform_filter(f"datum.frame == {number}"))
    whisker = base.encode(colour).mark_rule(
        opacity=0.5 if frame.over_epochs else 0.25, strokeWidth=1.5, xOffset=alt.ExprRef("datum.aside")
    )
    layers = [
        base.encode(colour, dash, order="order:Q").mark_line(strokeWidth=2),
        whisker.encode(y=alt.Y("y_low:Q"), y2="y_high:Q"),
        whisker.encode(x=alt.X("x_low:Q"), x2="x_high:Q"),
        base.encode(colour, **channels).mark_circle(size=36, opacity=1),
    ]
    if not frame.over_epochs:
        layers += labels(base.transform_filter("datum.named"), colours, channels)
    title = alt.TitleParams(frame.title, anchor="start", frame="group", fontSize=FONT_SIZE + 1, color=colours.text)
    return alt.layer(*layers).properties(width=x.pixels, height=y.pixels, title=title)
