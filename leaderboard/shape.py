"""The shape of an entry's minimum: curves that any published run of the same checkpoint measured, as page and files."""

from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse
from django.views.decorators.http import require_safe

from evaluator.metrics import CURVES
from evaluator.results import Curve, curves_from_fields
from evaluator.shipped import PROTOCOLS
from leaderboard import selectors
from leaderboard.access import Rule, access
from leaderboard.models import Submission
from leaderboard.page_charts import Chart, Source, answer, inline
from leaderboard.shape_chart import shape_csv, shape_figure, shape_svg, shape_table


def contents(submission: Submission) -> dict[str, Any]:
    """Return what the section shows: the curves, and under which entry they were measured or could be.

    Nothing where there are no curves, and the entry is not of those that rank or no protocol measures its data set.
    """
    entry = selectors.shape(submission)
    if entry is None:
        dataset = submission.protocol["rankable"] and submission.manifest["dataset"]
        companions = [p[-1].name for p in PROTOCOLS.values() if p[-1].landscape and p[-1].dataset == dataset]
        return {"companions": companions} if companions else {}
    measured, label = entry.submission, entry.submission.protocol_label
    every = curves_from_fields(entry.curves)
    found = {key: tuple(curve for curve in every if curve.key == key) for key in CURVES}
    return {
        "measured": measured,
        "worst": [number for number in selectors.numbers(entry).values() if number.metric == "worst_case_flatness"],
        "protocol": measured.protocol,
        "shown": [(CURVES[key], _chart(submission, curves, label)) for key, curves in found.items() if curves],
    }


def _chart(submission: Submission, curves: tuple[Curve, ...], label: str) -> Chart:
    definition = CURVES[curves[0].key]
    return Chart(
        label=f"Chart of {definition.label}",
        address=reverse("shape-file", args=[submission.slug, definition.key]),
        table=shape_table(curves),
        svg=inline(shape_svg(curves, label)),
        notes=("the directions are the same for all entries of an architecture",),
    )


@access(Rule.VISIBLE)
@require_safe
def shape_file(request: HttpRequest, slug: str, name: str) -> HttpResponse:
    """Give one curve of an entry as a file."""
    submission = selectors.submission(slug)
    entry = selectors.shape(submission) if submission else None
    key, _, kind = name.partition(".")
    if submission is None or entry is None or selectors.entry(slug) is None:
        raise Http404
    curves = tuple(curve for curve in curves_from_fields(entry.curves) if curve.key == key)
    if not curves:
        raise Http404
    label = entry.submission.protocol_label
    source = Source(
        made_of=("shape", curves, label),
        specify=lambda theme: shape_figure(curves, label, theme),
        numbers=lambda: shape_csv(curves),
    )
    return answer(request, kind, source)
