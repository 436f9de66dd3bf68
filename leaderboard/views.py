"""Pages: each translates an address into a selector's answer and a template."""

from dataclasses import asdict
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_safe

from evaluator.combine import BROKEN_BY
from evaluator.metrics import METRICS, StageName
from evaluator.protocol import PROTOCOLS
from evaluator.trust.findings import Verdict
from evaluator.types import Split
from leaderboard import objections, report, selectors, sharing
from leaderboard.access import Rule, access
from leaderboard.analysis import STUDIES
from leaderboard.details import details_of
from leaderboard.filters import HEADLINE

_CONTENT_TYPES = {
    "svg": "image/svg+xml",
    "png": "image/png",
    "csv": "text/csv; charset=utf-8",
    "json": "application/json",
}


@access(Rule.VISIBLE)
@require_safe
def entry(request: HttpRequest, slug: str) -> HttpResponse:
    """Show all that is known of one submission: its numbers, or what became of it."""
    found = selectors.entry(slug)
    submission = found.submission if found else selectors.submission(slug)
    if submission is None:
        raise Http404
    context: dict[str, Any] = {
        "submission": submission,
        "details": details_of(submission, request.user),
        "entry": found,
        "fields": _flat(submission.protocol),
        "objections": objections.readable(submission, request.user),
    }
    if found:
        numbers = selectors.numbers(found)
        outcomes = {s["split"]: s["outcomes"] for s in found.stages if s["stage"] == StageName.AUTOATTACK}
        attacked = [split for split in Split if split in outcomes]
        context |= {
            "headline": [(selectors.COLUMNS[key], numbers[key]) for key in HEADLINE if key in numbers][:4],
            "numbers": [
                (metric, [numbers.get(key) for key in metric.columns()])
                for metric in METRICS.values()
                if not numbers.keys().isdisjoint(metric.columns())
            ],
            "outcomes": [(cause, [outcomes[split].get(cause, 0) for split in attacked]) for cause in BROKEN_BY],
            "splits": attacked,
            "bibtex": sharing.bibtex(found, request),
            "findings": found.findings,
            "failed": sum(finding["verdict"] == Verdict.FAIL for finding in found.findings),
            "warned": sum(finding["verdict"] == Verdict.WARN for finding in found.findings),
        }
    return render(request, "leaderboard/entry.html", context)


@access(Rule.PUBLIC)
@require_safe
def analysis(request: HttpRequest) -> HttpResponse:
    """Show a study: the paper's figures and table from our own entries."""
    default = next(iter(STUDIES))
    name = request.GET.get("study", default)
    notes = []
    if name not in STUDIES:
        notes.append(f"Showing {default} instead: no study is called {name!r}.")
        name = default
    base = reverse("analysis-file", args=[name, "-"]).removesuffix("-")
    context = report.contents(selectors.evidence(STUDIES[name]), base=base, linked=True)
    return render(request, "leaderboard/analysis.html", context | {"studies": STUDIES, "notes": notes})


@access(Rule.PUBLIC)
@require_safe
def analysis_file(request: HttpRequest, study: str, name: str) -> HttpResponse:
    """Give one file of a study: a figure as SVG, PNG or CSV, the table as CSV, or all correlations as JSON."""
    content = report.files(selectors.evidence(STUDIES[study])).get(name) if study in STUDIES else None
    if content is None:
        raise Http404
    return HttpResponse(content(), content_type=_CONTENT_TYPES[name.rpartition(".")[2]])


@access(Rule.PUBLIC)
@require_safe
def protocols(request: HttpRequest) -> HttpResponse:
    """Show every protocol's exact fields, from the code."""
    every = [(protocol, _flat(asdict(protocol))) for versions in PROTOCOLS.values() for protocol in versions]
    return render(request, "leaderboard/protocols.html", {"protocols": every})


@access(Rule.PUBLIC)
@require_safe
def reported(request: HttpRequest) -> HttpResponse:
    """Show the numbers that others reported, apart from what is measured here."""
    return render(request, "leaderboard/reported.html", {"rows": selectors.reported()})


@access(Rule.PUBLIC)
@require_safe
def about(request: HttpRequest) -> HttpResponse:
    """Explain what is measured and how to read it."""
    return render(request, "leaderboard/about.html", {"metrics": METRICS.values()})


def _flat(fields: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Return nested fields as dotted names with their values."""
    rows: list[tuple[str, Any]] = []
    for name, value in fields.items():
        rows += _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else [(f"{prefix}{name}", value)]
    return rows
