"""The files of training curves: of an entry's training, and of a comparison's together, as CSV and as drawings."""

from collections.abc import Iterable

from django.http import Http404, HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

from leaderboard import charts, curves, report, selectors
from leaderboard.access import Rule, access
from leaderboard.comparing import compare
from leaderboard.curve_charts import curves_chart, curves_svg
from leaderboard.curves import Curves

_KINDS = {"svg": ("image/svg+xml", charts.render_svg), "png": ("image/png", charts.render_png)}


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
    answer = compare(request.GET.getlist("e"))
    return _file(request, () if answer.notes else answer.curves, figure, kind)


def _file(request: HttpRequest, found: Iterable[Curves], figure: str, kind: str) -> HttpResponse:
    curve, theme = next((one for one in found if one.kind == figure), None), request.GET.get("theme", "light")
    if curve is None or theme not in charts.THEMES or kind not in ("csv", *_KINDS):
        raise Http404
    if kind == "csv":
        return HttpResponse(
            curve.csv(),
            content_type="text/csv; charset=utf-8",
            headers={"Content-Disposition": f'attachment; filename="{figure}.csv"'},
        )
    content_type, draw = _KINDS[kind]
    return HttpResponse(draw(curves_chart(curve, theme)), content_type=content_type)


def drawn(found: Iterable[Curves]) -> list[tuple[Curves, str]]:
    """Return figures with their drawings for a page."""
    return [(one, report.inline(curves_svg(one))) for one in found]
