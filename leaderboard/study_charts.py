"""The figures of a study → chart specifications, in the style of all charts (pure)."""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from math import ceil
from typing import Any

import altair as alt

from leaderboard.charts import (
    HEIGHT,
    THEMES,
    WIDTH,
    Drawing,
    Scale,
    Theme,
    channels_of,
    described,
    labels,
    marked,
    named,
    on,
    render_svg,
    rows_of,
    scatter,
    short,
    styled,
)
from leaderboard.figures import Figure, Mark
from leaderboard.interaction import shown_series
from leaderboard.labels import FONT_SIZE

_TALL = 520
_PANEL = (236, 170)
_PANELS_A_ROW = 3


def study_figure(figure: Figure, theme: str = "page", *, linked: bool = True) -> dict[str, Any]:
    """Return the chart of a study's figure; bars are the range of seeds. Without numbers an empty dict.

    On a page, title and notes stand beside it. Where points are `linked`, they lead to the entries of this site.
    """
    if not figure.marks:
        return {}
    inside, _ = _without_far_controls(figure.marks)
    marks = tuple(m if linked else replace(m, url="") for m in inside)
    drawing = _DRAWINGS[figure.drawing](replace(figure, marks=marks), THEMES[theme])
    title = "" if theme == "page" else f"{figure.number} · {figure.title}"
    return styled(drawing, title, study_notes(figure), THEMES[theme])


@lru_cache(maxsize=64)
def study_svg(figure: Figure, *, linked: bool) -> str:
    """Return the chart for a page, as SVG; nothing where there is no chart. The same figure is drawn once."""
    spec = study_figure(figure, linked=linked)
    return render_svg(spec) if spec else ""


def study_size(figure: Figure) -> tuple[int, int]:
    """Return about how wide and high a drawing is, so that a page can leave the room for it."""
    if figure.drawing == "panels":
        rows = ceil(len(figure.series) / _PANELS_A_ROW)
        return _PANELS_A_ROW * (_PANEL[0] + 45), rows * (_PANEL[1] + 65) + 45
    return WIDTH + 65, (_TALL if figure.drawing == "points" else HEIGHT) + 90


def study_notes(figure: Figure) -> list[str]:
    """Return what a chart's points are, and which controls are far out: they would squeeze the others into a corner."""
    if not figure.marks:
        return []
    inside, outside = _without_far_controls(figure.marks)
    far = [f"Outside the frame: {', '.join(_far(mark, figure) for mark in outside)}"] if outside else []
    return [f"{_seeds(inside)} · {figure.protocol}", *far]


def _points(figure: Figure, colours: Theme) -> Drawing:
    x, y = _scales(figure, WIDTH, _TALL)
    drawing = scatter(figure.marks, x, y, colours)
    if figure.bend is None or not x.low < figure.bend < x.high:
        return drawing
    at = alt.Chart(alt.NamedData("rows")).encode(x=alt.datum(figure.bend))
    rule = at.mark_rule(color=colours.second, strokeDash=[5, 4], strokeWidth=1.25)
    name = at.mark_text(align="left", dx=5, baseline="top", color=colours.second, fontSize=FONT_SIZE).encode(
        y=alt.value(0)
    )
    return drawing._replace(chart=drawing.chart + rule + name.encode(text=alt.value(figure.x.written(figure.bend))))


def _lines(figure: Figure, colours: Theme) -> Drawing:
    """Return the series as lines in one frame, each named at its end."""
    x, y = _scales(figure, WIDTH, HEIGHT)
    layers, rows = [], []
    for path, (name, marks) in enumerate(figure.series.items()):
        colour = (colours.point, colours.second)[path]
        rows += described(rows_of(marks, path), marks, x.axis, y.axis, of=name)
        base = shown_series(on(x.channel(), y.channel()).transform_filter(f"datum.path == {path}"))
        layers += [base.mark_line(color=colour, strokeWidth=2).encode(order="order:Q")]
        layers += marked(base, colour, 30, channels_of(marks, x.axis, y.axis))
        end = base.transform_filter(f"datum.order == {len(marks) - 1}")
        text = end.mark_text(align="right", dy=-14, color=colour, fontSize=FONT_SIZE + 1)
        layers += [text.encode(text=alt.value(name))]
    chart = alt.layer(*layers).properties(width=x.pixels, height=y.pixels)
    return Drawing(chart, rows, [{"x": x.ends, "y": y.ends}], tuple(figure.series))


def _panels(figure: Figure, colours: Theme) -> Drawing:
    """Return a frame for each series on common axes: its path, few values or its ends named, the others behind."""
    x, y = _scales(figure, *_PANEL)
    frames, rows = [], []
    for path, (name, marks) in enumerate(figure.series.items()):
        placed = named(rows_of(marks, path), x, y, joined=True)
        rows += described(placed, marks, x.axis, y.axis, of=name)
        beside = y.axis.label if path % _PANELS_A_ROW == 0 else None
        below = x.axis.label if path + _PANELS_A_ROW >= len(figure.series) else None
        every = shown_series(on(x.channel(title=below), y.channel(title=beside)).encode(order="order:Q"))
        base = every.transform_filter(f"datum.path == {path}")
        between = _trend(figure, name, marks, base, colours)
        layers = (
            every.mark_line(color=colours.muted, opacity=0.25, strokeWidth=1.5).encode(detail="path:N"),
            base.mark_line(color=colours.point, strokeWidth=1.5),
            *between,
            *marked(base, colours.point, 34, channels_of(marks, x.axis, y.axis)),
            *labels(base.transform_filter("datum.named"), colours, channels_of(marks, x.axis, y.axis)),
        )
        title = alt.TitleParams(name, anchor="start", frame="group", fontSize=FONT_SIZE + 1, color=colours.text)
        frames.append(alt.layer(*layers).properties(width=x.pixels, height=y.pixels, title=title))
    chart = alt.concat(*frames, columns=_PANELS_A_ROW)
    return Drawing(chart, rows, [{"x": x.ends, "y": y.ends}], tuple(figure.series))


_DRAWINGS = {"points": _points, "lines": _lines, "panels": _panels}


def _trend(figure: Figure, name: str, marks: Sequence[Mark], base: Any, colours: Theme) -> list[Any]:
    """Return the layer of a series' trend, over the width of its points, if it has one."""
    if name not in figure.trend_lines:
        return []
    slope, intercept = figure.trend_lines[name]
    ends = [end(m.x.value for m in marks) for end in (min, max)]
    places = {key: alt.datum(value) for key, value in zip(("x", "x2"), ends, strict=True)}
    places |= {key: alt.datum(slope * end + intercept) for key, end in zip(("y", "y2"), ends, strict=True)}
    first = base.transform_filter("datum.order == 0")
    return [first.mark_rule(color=colours.second, strokeDash=[5, 4], strokeWidth=1.5).encode(**places)]


def _scales(figure: Figure, width: int, height: int) -> tuple[Scale, Scale]:
    return (
        Scale.around(figure.x, [m.x for m in figure.marks], width),
        Scale.around(figure.y, [m.y for m in figure.marks], height),
    )


def _seeds(marks: Sequence[Mark]) -> str:
    fewest, most = min(m.y.seeds for m in marks), max(m.y.seeds for m in marks)
    if most == 1:
        return "one seed"
    return f"means over {most if fewest == most else f'{fewest} to {most}'} seeds · bars: range of seeds"


def _far(mark: Mark, figure: Figure) -> str:
    x, y = figure.x.written(mark.x.value), figure.y.written(mark.y.value)
    return f"{short(mark.label)} ({figure.x.name} {x}, {figure.y.name} {y})"


def _without_far_controls(marks: Sequence[Mark]) -> tuple[list[Mark], list[Mark]]:
    """Return the marks to draw and the controls too far from them; all are drawn where there are only controls."""
    others = [m for m in marks if not m.control]
    if not others:
        return list(marks), []
    near = [True] * len(marks)
    for side in ("x", "y"):
        low, high = min(getattr(m, side).low for m in others), max(getattr(m, side).high for m in others)
        room = (high - low) / 2
        near = [n and low - room <= getattr(m, side).value <= high + room for n, m in zip(near, marks, strict=True)]
    return (
        [m for m, close in zip(marks, near, strict=True) if close],
        [m for m, close in zip(marks, near, strict=True) if not close],
    )
