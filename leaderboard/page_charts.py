"""A chart as a page shows it: its drawing, the specification that makes it live, its files, its numbers as a table.

`leaderboard/chart.html` shows a `Chart` given as `chart`, and a page that has one brings the script by including
`leaderboard/chart_head.html` in its head. `answer` gives the files.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.utils.cache import get_conditional_response
from django.utils.safestring import SafeString, mark_safe

from leaderboard import drawings
from leaderboard.charts import THEMES, as_image, render_png, render_svg
from leaderboard.figures import Table

Specify = Callable[[str], dict[str, Any]]
"""From a theme's name to a chart's specification in it."""

KINDS = {
    "svg": "image/svg+xml",
    "png": "image/png",
    "csv": "text/csv; charset=utf-8",
    "vl.json": "application/json",
}
"""What a chart can be had as, and how each is announced."""

_NAMES = {"svg": "SVG", "png": "PNG", "csv": "CSV", "vl.json": "Vega-Lite"}


@dataclass(frozen=True)
class Chart:
    """A chart for `chart.html`.

    `label` says what it shows to whoever does not see it; `address` and `query` are those of its files, without their
    kinds. One that is not `live` stays a drawing: its page has no server. `notes` and `finding` stand below it. Without
    a drawing, the page asks for it as an image, `size` pixels wide and high.
    """

    label: str
    address: str
    table: Table
    svg: str = ""
    query: str = ""
    live: bool = True
    notes: Sequence[str] = ()
    finding: str = ""
    size: tuple[int, int] = (0, 0)

    @property
    def files(self) -> list[tuple[str, str]]:
        """The name and address of each of its files."""
        return [(name, self._file(kind)) for kind, name in _NAMES.items()]

    @property
    def specification(self) -> str:
        """Where the page's script fetches what it draws; empty where it has to leave the drawing as it is."""
        return self._file("vl.json", "theme=page") if self.live else ""

    @property
    def image(self) -> str:
        """Where the drawing is to be had in the colours of a page."""
        return self._file("svg", "theme=page")

    def _file(self, kind: str, more: str = "") -> str:
        query = "&".join(part for part in (self.query, more) if part)
        return f"{self.address}.{kind}" + (f"?{query}" if query else "")


@dataclass(frozen=True)
class Source:
    """What a chart's files are made from.

    Whatever `made_of` holds decides by its `repr` how the chart looks. Where a `place` is named, the drawing for the
    page is kept there for all processes: for charts that are few, and not for every view that somebody can think up.
    """

    made_of: Any
    specify: Specify
    numbers: Callable[[], str]
    place: str = ""

    @property
    def digest(self) -> str:
        """What tells this chart from every other."""
        return drawings.digest(self.made_of)

    def for_the_page(self) -> drawings.Drawn:
        """Return the chart in the page's colours."""
        if self.place:
            return drawings.drawn(self.place, self.digest, lambda: self.specify("page"))
        return drawings.draw(self.specify("page"))


def answer(request: HttpRequest, kind: str, source: Source) -> HttpResponse:
    """Give a chart as a file of one of the `KINDS`, in the theme asked for; one that the reader has is not sent again.

    Raises:
        Http404: there is no such kind or theme.
    """
    theme = request.GET.get("theme", "light")
    if kind not in KINDS or theme not in THEMES:
        raise Http404
    etag = f'"{drawings.digest((kind, theme, source.digest))}"'
    response = get_conditional_response(request, etag=etag)
    if response is None:
        response = HttpResponse(_content(kind, theme, source), content_type=KINDS[kind], headers={"ETag": etag})
    response.headers["Cache-Control"] = "no-cache"  # kept by the reader, and asked about each time
    return response


def _content(kind: str, theme: str, source: Source) -> str | bytes:
    if kind == "csv":
        return source.numbers()
    if theme == "page" and kind in ("svg", "vl.json"):
        spec, svg = source.for_the_page()
        return as_image(svg) if kind == "svg" else spec
    spec = source.specify(theme)
    return {"svg": render_svg, "png": render_png, "vl.json": json.dumps}[kind](spec)


def inline(svg: str) -> SafeString:
    """Return a drawing as markup that stands in a page."""
    # The renderer escapes every text; tests/leaderboard sends it a title full of markup.
    return mark_safe(svg)  # noqa: S308
