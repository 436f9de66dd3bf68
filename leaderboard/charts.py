"""Rows → chart specifications in one style, and their drawings (pure)."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Any, NamedTuple

import altair as alt
import vl_convert

from leaderboard.figures import Axis
from leaderboard.interaction import Zoom, interactive, tooltip
from leaderboard.labels import FONT_SIZE, place_labels

WIDTH, HEIGHT = 860, 400
_WIDE = 400
"""More pixels than this take many ticks."""
_LONGEST_LABEL = 26
_FEW = 6
"""Up to so many values of a path are all named."""
_ROWS = "rows"
_VEGA_BASE = "https://vega.github.io/vega-datasets/"
"""What the renderer puts before a link that names no host; ours are meant as paths of this site."""
_CLIP = re.compile(r'(<clipPath id="|clip-path="url\(#)(?=clip\d+[")])')
"""Where `clip1`, `clip2` … stand, counted anew in each drawing: in a page one's frame would cut another."""


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

    @property
    def ends(self) -> tuple[float, float]:
        """The least and the greatest value that it shows."""
        return self.low, self.high

    def channel(self, **changes: Any) -> dict[str, Any]:
        """Return what x and y encodings share: title, scale and ticks."""
        form = {"format": "~%"} if self.axis.unit == "%" else {}
        axis = alt.Axis(tickCount=8 if self.pixels >= _WIDE else 4, **form)
        scale = alt.Scale(domain=[self.low, self.high], nice=False, zero=False)
        return {"title": self.axis.title, "scale": scale, "axis": axis} | changes


def render_svg(spec: dict[str, Any]) -> str:
    """Return the drawing as SVG; its texts are escaped and its links are paths of this site."""
    return _svg(json.dumps(spec, sort_keys=True))


def render_png(spec: dict[str, Any]) -> bytes:
    """Return the drawing as PNG at twice its size."""
    return _png(json.dumps(spec, sort_keys=True))


def as_image(svg: str) -> str:
    """Return a drawing in the page's colours as one that stands alone: it brings them, light and dark."""
    light, dark = (f":root{{{_properties(THEMES[name])}}}" for name in ("light", "dark"))
    style = f"<style>{light}@media (prefers-color-scheme: dark){{{dark}}}</style>"
    return svg.replace(">", f">{style}", 1)


def _properties(theme: Theme) -> str:
    own = {
        "color": theme.text,
        "--chart-grid": theme.grid,
        "--chart-point": theme.point,
        "--chart-second": theme.second,
        "--chart-third": theme.third,
        "--chart-fourth": theme.fourth,
    }
    return ";".join(f"{name}:{colour}" for name, colour in own.items())


@lru_cache(maxsize=64)
def _svg(spec: str) -> str:
    prefix = f"d{blake2b(spec.encode(), digest_size=6).hexdigest()}-"
    return _CLIP.sub(rf"\g<1>{prefix}", vl_convert.vegalite_to_svg(spec).replace(_VEGA_BASE, ""))


@lru_cache(maxsize=16)
def _png(spec: str) -> bytes:
    return vl_convert.vegalite_to_png(spec, scale=2)


class Drawing(NamedTuple):
    """A chart and its rows, which it names once and no layer holds; what zooms, and which series can be hidden."""

    chart: Any
    rows: list[dict[str, Any]]
    zooms: Sequence[Zoom] = ()
    series: Sequence[str] = ()


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
    chart, rows, zooms, series = Drawing(*drawing)
    chart = chart.properties(title=heading, background=colours.background)
    spec = chart.configure_view(stroke=None).configure_axis(**axis).to_dict() | {"datasets": {_ROWS: rows}}
    return interactive(spec, zooms, series)


def rows_of(points: Sequence[Any], path: int = 0) -> list[dict[str, Any]]:
    """Return what the layers know of points: place, intervals, label, link, and which stand on a path with a name."""
    return [
        {"label": short(p.label), "url": p.url, "x": p.x.value, "x_low": p.x.low, "x_high": p.x.high,
         "y": p.y.value, "y_low": p.y.low, "y_high": p.y.high,
         "path": path, "order": order, "named": len(points) <= _FEW or order in (0, len(points) - 1)}
        for order, p in enumerate(points)
    ]  # fmt: skip  # one point reads better on few lines


def described(rows: list[dict[str, Any]], points: Sequence[Any], x: Axis, y: Axis, of: str = "") -> list[Any]:
    """Return rows with what stands beside the pointer: the name, `of` which series, both numbers and intervals."""
    return [
        row | {"name": f"{of} · {p.label}" if of else p.label, "x_shown": x.ranged(p.x), "y_shown": y.ranged(p.y)}
        for row, p in zip(rows, points, strict=True)
    ]


def on(x: dict[str, Any], y: dict[str, Any]) -> Any:
    """Return what a layer begins with: the rows in a plane, by two channels of scales."""
    return alt.Chart(alt.NamedData(_ROWS)).encode(x=alt.X("x:Q", **x), y=alt.Y("y:Q", **y))


def marked(base: Any, colour: str, size: int, channels: dict[str, Any]) -> list[Any]:
    """Return the layers every figure shares: both whiskers, and the points with their link and tooltip `channels`."""
    whisker = {"color": colour, "opacity": 0.4, "strokeWidth": 1.5}
    return [
        base.mark_rule(**whisker).encode(x=alt.X("x_low:Q"), x2="x_high:Q"),
        base.mark_rule(**whisker).encode(y=alt.Y("y_low:Q"), y2="y_high:Q"),
        base.mark_circle(size=size, color=colour, opacity=1).encode(**channels),
    ]


def links_of(points: Sequence[Any]) -> dict[str, str]:
    """Return the encoding that links points to their pages; none where they have none."""
    return {"href": "url:N"} if any(p.url for p in points) else {}


def channels_of(points: Sequence[Any], x: Axis, y: Axis) -> dict[str, Any]:
    """Return the encodings of points whose rows are `described`: where they lead, what stands beside the pointer."""
    return links_of(points) | {"tooltip": tooltip(name="entry", x_shown=x.label, y_shown=y.label)}


def named(rows: Sequence[dict[str, Any]], x: Scale, y: Scale, *, joined: bool) -> list[dict[str, Any]]:
    """Return rows with the places of the labels that shall stand there, beside their line where they are `joined`."""
    centers = [(x.pixel(row["x"]), y.pixels - y.pixel(row["y"])) for row in rows]
    shown = [index for index, row in enumerate(rows) if row["named"] or not joined]
    texts = [rows[index]["label"] for index in shown]
    places = place_labels(texts, [centers[i] for i in shown], (x.pixels, y.pixels), centers if joined else ())
    placed = [dict(row) for row in rows]
    for index, place in zip(shown, places, strict=True):
        row = placed[index]
        row |= {"align": place.align, "dx": place.dx, "dy": place.dy}
    return placed


def labels(base: Any, colours: Theme, channels: dict[str, Any]) -> list[Any]:
    """Return the layers of labels: each where it was placed, with a thin line to its point."""
    placed = {name: alt.ExprRef(f"datum.{name}") for name in ("align", "dx", "dy")}
    ends = {"x2Offset": placed["dx"], "y2Offset": placed["dy"]}  # in pixels, however far a reader zooms in
    return [
        base.mark_rule(color=colours.muted, opacity=0.6, strokeWidth=0.75, **ends).encode(x2="x", y2="y"),
        base.mark_text(**placed, color=colours.text, fontSize=FONT_SIZE).encode(text="label:N", **channels),
    ]


def scatter(points: Sequence[Any], x: Scale, y: Scale, colours: Theme) -> Drawing:
    """Return loose points with whiskers, each with its label."""
    base, channels = on(x.channel(), y.channel()), channels_of(points, x.axis, y.axis)
    lines, texts = labels(base, colours, channels)
    chart = alt.layer(lines, *marked(base, colours.point, 70, channels), texts)
    rows = described(named(rows_of(points), x, y, joined=False), points, x.axis, y.axis)
    return Drawing(chart.properties(width=x.pixels, height=y.pixels), rows, [{"x": x.ends, "y": y.ends}])


def short(label: str) -> str:
    """Return a label that leaves room for others."""
    return label if len(label) <= _LONGEST_LABEL else label[: _LONGEST_LABEL - 1] + "…"
