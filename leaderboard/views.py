"""Pages: each translates an address into a selector's answer and a template."""

from typing import Any

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_safe

from evaluator.combine import BROKEN_BY
from evaluator.metrics import StageName
from evaluator.shipped import PROTOCOLS
from evaluator.trust.findings import Verdict
from evaluator.types import Split
from leaderboard import curves, objections, page_charts, protocol_history, report, selectors, shape, sharing
from leaderboard.access import Rule, access
from leaderboard.analysis import STUDIES
from leaderboard.columns import COLUMNS, EARLY_STOPPED, SHOWN
from leaderboard.curve_views import charts_of
from leaderboard.details import details_of
from leaderboard.filters import HEADLINE
from leaderboard.paper_figures import FIGURES
from leaderboard.protocol_history import flat
from leaderboard.throttling import limited

CHANGELOG = settings.BASE_DIR / "CHANGELOG.md"


@access(Rule.VISIBLE)
@limited("page")
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
        "fields": flat(submission.protocol).items(),
        "objections": objections.readable(submission, request.user),
    }
    if found:
        (training,) = selectors.trainings([submission])
        numbers = selectors.numbers(found, training)
        outcomes = {s["split"]: s["outcomes"] for s in found.stages if s["stage"] == StageName.AUTOATTACK}
        attacked = [split for split in Split if split in outcomes]
        context |= {
            "headline": [(COLUMNS[key], numbers[key]) for key in HEADLINE if key in numbers][:4],
            "numbers": [
                (metric, [numbers.get(key) for key in metric.columns()])
                for metric in SHOWN.values()
                if not numbers.keys().isdisjoint(metric.columns())
            ],
            "early_stopped": EARLY_STOPPED,
            "snapshot": selectors.early_stopped(found, training),
            "training": training,
            "origin": selectors.origin_of(submission),
            "curves": charts_of(curves.of_one(training) if training else (), "entry-curves", slug),
            "outcomes": [(cause, [outcomes[split].get(cause, 0) for split in attacked]) for cause in BROKEN_BY],
            "splits": attacked,
            "bibtex": sharing.bibtex(found, request),
            "shape": shape.contents(submission),
            "findings": found.findings,
            "failed": sum(finding["verdict"] == Verdict.FAIL for finding in found.findings),
            "warned": sum(finding["verdict"] == Verdict.WARN for finding in found.findings),
        }
    return render(request, "leaderboard/entry.html", context)


@access(Rule.PUBLIC)
@limited("page")
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
@limited("page")
@require_safe
def analysis_file(request: HttpRequest, study: str, name: str) -> HttpResponse:
    """Give one file of a study: a figure as any of its kinds, the table as CSV, or all correlations as JSON."""
    if study not in STUDIES:
        raise Http404
    evidence = selectors.evidence(STUDIES[study])
    key, _, kind = name.partition(".")
    if key in FIGURES:
        figure = FIGURES[key].figure(evidence)
        if not figure.marks:
            raise Http404
        return page_charts.answer(request, kind, report.source(figure, STUDIES[study]))
    content = report.files(evidence).get(name)
    if content is None:
        raise Http404
    return HttpResponse(content(), content_type=page_charts.KINDS.get(kind, "application/json"))


@access(Rule.PUBLIC)
@require_safe
def protocols(request: HttpRequest) -> HttpResponse:
    """Show every version of every protocol: its exact fields, what changed in it, and since when it is used."""
    said = protocol_history.sentences(CHANGELOG.read_text(encoding="utf-8")) if CHANGELOG.exists() else {}
    every = {name: protocol_history.history(versions, said) for name, versions in PROTOCOLS.items()}
    digests = dict.fromkeys(protocol.digest for versions in PROTOCOLS.values() for protocol in versions)
    context = {"protocols": every, "published": digests | selectors.first_published()}
    return render(request, "leaderboard/protocols.html", context)


@access(Rule.PUBLIC)
@require_safe
def reported(request: HttpRequest) -> HttpResponse:
    """Show the numbers that others reported, apart from what is measured here."""
    return render(request, "leaderboard/reported.html", {"tables": selectors.tables(selectors.reported())})


@access(Rule.PUBLIC)
@require_safe
def about(request: HttpRequest) -> HttpResponse:
    """Explain what is measured and how to read it."""
    return render(request, "leaderboard/about.html", {"metrics": SHOWN.values()})
