"""Pages: each translates an address into a selector's answer and a template."""

import csv
from dataclasses import asdict
from math import sqrt
from typing import Any
from urllib.parse import urlencode

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_safe

from evaluator.combine import BROKEN_BY
from evaluator.exceptions import InvalidRequest
from evaluator.metrics import METRICS, StageName
from evaluator.protocol import PROTOCOLS, EvaluationProtocol, find_protocol
from evaluator.types import Split
from leaderboard import charts, report, selectors
from leaderboard.access import Rule, access
from leaderboard.analysis import STUDIES

_CONTENT_TYPES = {
    "svg": "image/svg+xml",
    "png": "image/png",
    "csv": "text/csv; charset=utf-8",
    "json": "application/json",
}
_RENDERERS = {"svg": charts.render_svg, "png": charts.render_png}


@access(Rule.PUBLIC)
@require_safe
def board(request: HttpRequest) -> HttpResponse:
    """Show the ranked entries of one protocol, its chart above them."""
    counts = selectors.protocols()
    protocol, sort, messages = _asked(request, counts)
    try:
        found = selectors.board(protocol, sort)
    except InvalidRequest as error:
        messages.append(f"Sorted by rank instead: {error}.")
        found = selectors.board(protocol)
    everything = request.GET.get("columns") == "all"
    measured = protocol.columns()
    keys = measured if everything else [key for key in selectors.HEADLINE if key in measured]
    view = {"protocol": protocol.name, **({"columns": "all"} if everything else {})}
    columns = [selectors.COLUMNS[key] for key in keys]
    chart = charts.board_figure(found)
    n = protocol.autoattack_examples.test
    context = {
        "board": found,
        "messages": messages,
        "counts": counts,
        "columns": [(column, _header(column.key, found.sort, view)) for column in columns],
        "headers": {key: _header(key, found.sort, view) for key in ("rank", "title", "architecture", "seconds")},
        "rows": [(row, [row.numbers.get(column.key) for column in columns]) for row in found.rows],
        "by_rank": found.sort == "rank",
        "everything": everything,
        "n": n,
        "noise": 98 / sqrt(n) if n else None,
        "figure": report.inline(charts.render_svg(chart)) if chart else "",
        "query": urlencode({"protocol": protocol.name, "sort": found.sort}),
    }
    return render(request, "leaderboard/board.html", context)


@access(Rule.PUBLIC)
@require_safe
def board_csv(request: HttpRequest) -> HttpResponse:
    """Give the board as CSV: one row an entry, each number with its interval and n."""
    protocol, sort, messages = _asked(request, selectors.protocols())
    try:
        found = selectors.board(protocol, sort)
    except InvalidRequest as error:
        messages.append(str(error))
    if messages:
        return HttpResponse("\n".join(messages), status=400, content_type="text/plain; charset=utf-8")
    response = HttpResponse(
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{protocol.name}-v{protocol.version}.csv"'},
    )
    writer = csv.writer(response)
    about = ("rank", "tied_with", "title", "slug", "architecture", "is_reference", "stored_numbers", "seconds")
    ends = ("", "_low", "_high", "_n")
    writer.writerow([*about, *(f"{key}{end}" for key in protocol.columns() for end in ends)])
    for row in found.rows:
        standing = (row.standing.rank, row.standing.tied_with) if row.standing else ("", "")
        cells: list[Any] = [*standing, *(getattr(row, name) for name in about[2:])]
        for key in protocol.columns():
            number = row.numbers.get(key)
            cells += (number.value, number.low, number.high, number.n) if number else ("",) * len(ends)
        writer.writerow(cells)
    return response


@access(Rule.PUBLIC)
@require_safe
def figure(request: HttpRequest, kind: str) -> HttpResponse:
    """Give the chart of the board as a file, in the theme asked for."""
    if kind not in _RENDERERS:
        raise Http404
    protocol, _, messages = _asked(request, selectors.protocols())
    theme = request.GET.get("theme", "light")
    spec = charts.board_figure(selectors.board(protocol), theme) if theme in charts.THEMES and not messages else {}
    if not spec:
        raise Http404
    return HttpResponse(_RENDERERS[kind](spec), content_type=_CONTENT_TYPES[kind])


@access(Rule.PUBLIC)
@require_safe
def entry(request: HttpRequest, slug: str) -> HttpResponse:
    """Show all that is known of one submission: its numbers, or what became of it."""
    found = selectors.entry(slug)
    submission = found.submission if found else selectors.submission(slug)
    if submission is None:
        raise Http404
    context: dict[str, Any] = {"submission": submission, "entry": found, "fields": _flat(submission.protocol)}
    if found:
        numbers = selectors.numbers(found)
        outcomes = {s["split"]: s["outcomes"] for s in found.stages if s["stage"] == StageName.AUTOATTACK}
        attacked = [split for split in Split if split in outcomes]
        context |= {
            "headline": [(selectors.COLUMNS[key], numbers[key]) for key in selectors.HEADLINE if key in numbers][:4],
            "numbers": [
                (metric, [numbers.get(key) for key in metric.columns()])
                for metric in METRICS.values()
                if not numbers.keys().isdisjoint(metric.columns())
            ],
            "outcomes": [(cause, [outcomes[split].get(cause, 0) for split in attacked]) for cause in BROKEN_BY],
            "splits": attacked,
        }
    return render(request, "leaderboard/entry.html", context)


@access(Rule.PUBLIC)
@require_safe
def analysis(request: HttpRequest) -> HttpResponse:
    """Show a study: the paper's figures and table from our own entries."""
    default = next(iter(STUDIES))
    name = request.GET.get("study", default)
    messages = []
    if name not in STUDIES:
        messages.append(f"Showing {default} instead: no study is called {name!r}.")
        name = default
    base = reverse("analysis-file", args=[name, "-"]).removesuffix("-")
    context = report.contents(selectors.evidence(STUDIES[name]), base=base, linked=True)
    return render(request, "leaderboard/analysis.html", context | {"studies": STUDIES, "messages": messages})


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


def _asked(request: HttpRequest, counts: dict[str, int]) -> tuple[EvaluationProtocol, str, list[str]]:
    """Return the protocol and order of an address, with a sentence for what it asks in vain."""
    fullest = max(counts, key=lambda name: counts[name])
    name = request.GET.get("protocol", fullest)
    try:
        return find_protocol(name), request.GET.get("sort", "rank"), []
    except InvalidRequest as error:
        message = f"Showing {fullest} instead: {error}."
        return find_protocol(fullest), request.GET.get("sort", "rank"), [message]


def _header(key: str, sort: str, view: dict[str, str]) -> dict[str, str]:
    """Return how a sortable header links to its order, or to the opposite of the present one."""
    state = {key: "ascending", f"-{key}": "descending"}.get(sort, "")
    target = f"-{key}" if state == "ascending" else key
    return {"url": "?" + urlencode({**view, "sort": target}), "state": state}


def _flat(fields: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Return nested fields as dotted names with their values."""
    rows: list[tuple[str, Any]] = []
    for name, value in fields.items():
        rows += _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else [(f"{prefix}{name}", value)]
    return rows
