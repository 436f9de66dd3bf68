"""The shape of an entry's minimum: curves that any published run of the same checkpoint measured, as page and files."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

from evaluator.metrics import CURVES, CurveDefinition
from evaluator.protocol import PROTOCOLS
from evaluator.results import Curve, CurvePoint, curves_from_fields
from leaderboard import charts, report, selectors
from leaderboard.access import Rule, access
from leaderboard.models import Submission
from leaderboard.shape_chart import POSITION, shape_csv, shape_figure, shape_svg


@dataclass(frozen=True)
class Shown:
    """One curve as a page shows it, on each split that has it."""

    definition: CurveDefinition
    curves: tuple[Curve, ...]
    svg: str

    @property
    def directions(self) -> int:
        """How many directions a point is the mean of."""
        return len(self.curves[0].points[0].by_direction)

    @property
    def rows(self) -> list[tuple[str, tuple[CurvePoint, ...]]]:
        """The numbers by position: one point a split."""
        columns = zip(*(curve.points for curve in self.curves), strict=True)
        return [(POSITION.written(points[0].position), points) for points in columns]


def contents(submission: Submission) -> dict[str, Any]:
    """Return what the section shows: the curves, and under which entry they were measured or could be.

    Nothing where there are no curves, and the entry is not of those that rank or no protocol measures its data set.
    """
    entry = selectors.shape(submission)
    if entry is None:
        dataset = submission.protocol["rankable"] and submission.manifest["dataset"]
        companions = [p[-1].name for p in PROTOCOLS.values() if p[-1].landscape and p[-1].dataset == dataset]
        return {"companions": companions} if companions else {}
    measured = entry.submission
    label = f"{measured.protocol_name} v{measured.protocol_version}"
    every = curves_from_fields(entry.curves)
    found = {key: tuple(curve for curve in every if curve.key == key) for key in CURVES}
    return {
        "measured": measured,
        "label": label,
        "worst": [number for number in selectors.numbers(entry).values() if number.metric == "worst_case_flatness"],
        "protocol": measured.protocol,
        "shown": [
            Shown(CURVES[key], curves, report.inline(shape_svg(curves, label)))
            for key, curves in found.items()
            if curves
        ],
    }


@access(Rule.VISIBLE)
@require_safe
def shape_file(request: HttpRequest, slug: str, name: str) -> HttpResponse:
    """Give one curve of an entry as SVG, PNG or CSV."""
    submission = selectors.submission(slug)
    entry = selectors.shape(submission) if submission else None
    key, _, kind = name.partition(".")
    if submission is None or entry is None or selectors.entry(slug) is None or kind not in _KINDS:
        raise Http404
    curves = tuple(curve for curve in curves_from_fields(entry.curves) if curve.key == key)
    if not curves:
        raise Http404
    measured = entry.submission
    content_type, content = _KINDS[kind]
    return HttpResponse(
        content(curves, f"{measured.protocol_name} v{measured.protocol_version}"), content_type=content_type
    )


_KINDS: dict[str, tuple[str, Callable[[tuple[Curve, ...], str], str | bytes]]] = {
    "svg": ("image/svg+xml", lambda curves, label: charts.render_svg(shape_figure(curves, label, "light"))),
    "png": ("image/png", lambda curves, label: charts.render_png(shape_figure(curves, label, "light"))),
    "csv": ("text/csv; charset=utf-8", lambda curves, _: shape_csv(curves)),
}
