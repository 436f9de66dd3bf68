"""A few entries side by side: one query of an address as page, CSV, JSON and chart."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_safe

from evaluator.combine import BROKEN_BY
from leaderboard import page_charts
from leaderboard.access import Rule, access
from leaderboard.columns import COLUMNS
from leaderboard.comparing import Comparison, query, slug
from leaderboard.comparing import compare as compared
from leaderboard.comparison_chart import LETTERS, MOST, comparison, comparison_csv, comparison_svg, comparison_table
from leaderboard.curve_views import charts_of
from leaderboard.listing import Row
from leaderboard.pairs import Pair
from leaderboard.throttling import limited

FEWEST = 2
_OFFERED = 24
"""So many entries of the board, the best, can be picked on the page itself."""

_ENDS = ("value", "low", "high", "n")


@access(Rule.PUBLIC)
@limited("page")
@require_safe
def compare(request: HttpRequest) -> HttpResponse:
    """Show two to four entries side by side, or how to pick them."""
    answer = _answer(request)
    chosen = [slug(entry) for entry in answer.entries]
    rows = answer.rows
    context: dict[str, Any] = {
        "answer": answer,
        "most": MOST,
        "letters": dict(zip(chosen, LETTERS, strict=False)),
        "entries": [
            (letter, entry, rows.get(slug(entry)), query([name for name in chosen if name != slug(entry)]))
            for letter, entry in zip(LETTERS, answer.entries, strict=False)
        ],
        "offered": [(row, row.slug in chosen) for row in _offered(rows, chosen)],
        "enough": len(chosen) >= FEWEST,
    }
    if context["enough"]:
        context |= {
            "numbers": [(COLUMNS[key], cells) for key, cells in answer.numbers.items()],
            "outcomes": [
                (split, [(cause, [counts.get(cause, 0) for counts in of_split]) for cause in BROKEN_BY])
                for split, of_split in answer.outcomes.items()
            ],
            "curves": charts_of(answer.curves, "compared-curves", query=answer.query),
            "chart": _chart(answer),
        }
    return render(request, "leaderboard/compare.html", context)


@access(Rule.PUBLIC)
@limited("page")
@require_safe
def compare_csv(request: HttpRequest) -> HttpResponse:
    """Give the numbers side by side as CSV: one row a number, each entry's value with its interval and n."""
    answer = _answer(request)
    if refusal := _refused(answer):
        return refusal
    response = HttpResponse(
        content_type="text/csv; charset=utf-8", headers={"Content-Disposition": 'attachment; filename="comparison.csv"'}
    )
    writer = csv.writer(response)
    writer.writerow(
        ["number", *(f"{slug(entry)}{end}" for entry in answer.entries for end in ("", "_low", "_high", "_n"))]
    )
    for key, cells in answer.numbers.items():
        writer.writerow([key, *(getattr(number, end) if number else "" for number in cells for end in _ENDS)])
    return response


@access(Rule.PUBLIC)
@limited("page")
@require_safe
def compare_json(request: HttpRequest) -> HttpResponse:
    """Give everything that the page says as JSON."""
    answer = _answer(request)
    if refusal := _refused(answer):
        return refusal
    protocol = answer.protocol
    return JsonResponse(
        {
            "query": answer.query,
            "protocol": protocol and {"name": protocol.name, "version": protocol.version, "digest": protocol.digest},
            "entries": [
                {
                    "slug": slug(entry),
                    "title": entry.submission.title,
                    "url": entry.submission.get_absolute_url(),
                    "numbers": {
                        key: {end: getattr(number, end) for end in _ENDS}
                        for key, cells in answer.numbers.items()
                        if (number := cells[position])
                    },
                    "outcomes": {split: counts[position] for split, counts in answer.outcomes.items()},
                }
                for position, entry in enumerate(answer.entries)
            ],
            "pairs": [_document(pair) for pair in answer.pairs],
            "curves": [one.document() for one in answer.curves],
            "settings": answer.settings,
            "facts": answer.facts,
        }
    )


@access(Rule.PUBLIC)
@limited("page")
@require_safe
def compare_figure(request: HttpRequest, kind: str) -> HttpResponse:
    """Give the chart of a comparison as a file, in the theme asked for."""
    answer = _answer(request)
    protocol = answer.protocol
    if _refused(answer) or protocol is None or not comparison_svg(answer.compared, protocol.label):
        raise Http404
    source = page_charts.Source(
        made_of=(answer.compared, protocol.label),
        specify=lambda theme: comparison(answer.compared, protocol.label, theme),
        numbers=lambda: comparison_csv(answer.compared),
    )
    return page_charts.answer(request, kind, source)


def _chart(answer: Comparison) -> page_charts.Chart | None:
    svg = comparison_svg(answer.compared, answer.protocol.label) if answer.protocol else ""
    if not svg:
        return None
    return page_charts.Chart(
        label="The headline numbers with their intervals, one row an entry",
        address=reverse("compare-figure", args=["-"]).removesuffix(".-"),
        query=answer.query,
        table=comparison_table(answer.compared),
        svg=page_charts.inline(svg),
    )


def _answer(request: HttpRequest) -> Comparison:
    return compared(request.GET.getlist("e"))


def _refused(answer: Comparison) -> HttpResponse | None:
    notes = answer.notes or ([] if len(answer.entries) >= FEWEST else [f"Name {FEWEST} to {MOST} entries: ?e=…&e=…"])
    return HttpResponse("\n".join(notes), status=400, content_type="text/plain; charset=utf-8") if notes else None


def _offered(rows: Mapping[str, Row], chosen: Sequence[str]) -> list[Row]:
    """Return the rows to pick from: those chosen, then the best others."""
    others = [row for slug, row in rows.items() if slug not in chosen]
    return [*(rows[slug] for slug in chosen if slug in rows), *others[: _OFFERED - len(chosen)]]


def _document(pair: Pair) -> dict[str, Any]:
    document: dict[str, Any] = {"first": pair.first, "second": pair.second, "error": None, "loss": None}
    if pair.error:
        difference = pair.error.difference._asdict()
        document["error"] = asdict(pair.error) | {"difference": difference, "separable": pair.error.separable}
    if pair.loss:
        document["loss"] = {"difference": pair.loss._asdict(), "separable": pair.losses_separable}
    return document
