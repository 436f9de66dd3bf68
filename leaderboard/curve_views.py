"""Training curves as charts: of an entry's training, and of a comparison's together, on pages and as files."""

from collections.abc import Iterable

from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse
from django.views.decorators.http import require_safe

from leaderboard import comparing, curves, selectors
from leaderboard.access import Rule, access
from leaderboard.curve_charts import curves_chart, curves_svg
from leaderboard.curves import Curves
from leaderboard.page_charts import Chart, Source, answer, inline


@access(Rule.VISIBLE)
@require_safe
def entry_curves(request: HttpRequest, slug: str, figure: str, kind: str) -> HttpResponse:
    """Give a figure of the training that an entry comes from as a file."""
    entry = selectors.entry(slug)
    if entry is None:
        raise Http404
    (training,) = selectors.trainings([entry.submission])
    return _file(request, curves.of_one(training) if training else (), figure, kind)


@access(Rule.PUBLIC)
@require_safe
def compared_curves(request: HttpRequest, figure: str, kind: str) -> HttpResponse:
    """Give a figure of the trainings of the entries asked for as a file."""
    asked = comparing.compare(request.GET.getlist("e"))
    return _file(request, () if asked.notes else asked.curves, figure, kind)


def charts_of(found: Iterable[Curves], view: str, *slugs: str, query: str = "") -> list[tuple[Curves, Chart]]:
    """Return figures with their charts for a page; `view` is what gives their files, of an entry or of a query."""
    return [
        (
            one,
            Chart(
                label=one.title,
                address=reverse(view, args=[*slugs, one.kind, "-"]).removesuffix(".-"),
                query=query,
                table=one.table(),
                svg=inline(curves_svg(one)),
                notes=(one.shows, one.note),
                finding=one.finding,
            ),
        )
        for one in found
    ]


def _file(request: HttpRequest, found: Iterable[Curves], figure: str, kind: str) -> HttpResponse:
    curves = next((one for one in found if one.kind == figure), None)
    if curves is None:
        raise Http404
    source = Source(
        made_of=(curves.title, curves.note, curves.frames),
        specify=lambda theme: curves_chart(curves, theme),
        numbers=curves.csv,
    )
    return answer(request, kind, source)
