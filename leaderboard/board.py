"""The board: one query of an address as page, CSV, JSON and chart."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, sqrt
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_safe

from evaluator.protocol import EvaluationProtocol
from evaluator.results import Measurement as Number
from evaluator.shipped import find_protocol
from leaderboard import board_chart, choices, page_charts
from leaderboard.access import Rule, access
from leaderboard.columns import COLUMNS
from leaderboard.figures import as_text
from leaderboard.filters import ABOUT, BoardView, every_column, known_values, narrow, ordered, parse
from leaderboard.listing import Listing, Row, Stamp, listing, stamps
from leaderboard.selectors import reported_under, tables
from leaderboard.throttling import limited

ROWS = 50
"""So many entries stand on one page."""

DRAWN = 25
"""So many points can be told apart in the chart, each with its label."""

SAID = ("authors", "paper", "venue")
"""What files of a board say of who made an entry."""

_ENDS = ("value", "low", "high", "n")


@dataclass(frozen=True)
class Answer:
    """What a query asks for: its view, the rows of all pages, and a sentence for everything asked in vain."""

    view: BoardView
    notes: tuple[str, ...]
    listing: Listing
    rows: tuple[Row, ...]
    best: tuple[Row, ...]
    """The first of the same rows by rank: what the chart has room for."""
    counts: Mapping[str, Mapping[str, int]]
    beside: Mapping[str, Row]
    sizes: Mapping[str, int]
    """How many entries each protocol has, by digest."""

    def numbers(self, row: Row, key: str) -> tuple[Number | None, Number | None]:
        """Return an entry's number, and the same checkpoint's by the version that stands beside."""
        other = self.beside.get(row.checkpoint)
        return row.numbers.get(key), other.numbers.get(key) if other else None


@access(Rule.PUBLIC)
@limited("page")
@require_safe
def board(request: HttpRequest) -> HttpResponse:
    """Show one page of the entries that a query leaves, with what else can be asked."""
    answer = answer_to(dict(request.GET.lists()))
    view, notes = answer.view, list(answer.notes)
    if not notes and any(len(values) > 1 or not values[0] for values in dict(request.GET.lists()).values()):
        return HttpResponseRedirect(f"?{view.query()}")  # a form wrote this; what people share is short
    last = max(1, ceil(len(answer.rows) / ROWS))
    if view.page > last:
        notes.append(f"Showing page {last} instead of {view.page}: it is the last one.")
        view = replace(view, page=last)
    start = ROWS * (view.page - 1)
    metrics = [key for key in view.shown if key in COLUMNS]
    examples = view.protocol.autoattack_examples.test
    context = {
        "view": view,
        "notes": notes,
        "as_of": answer.listing.as_of,
        "published": len(answer.listing.rows),
        "matching": len(answer.rows),
        "first": start + 1,
        "last": min(start + ROWS, len(answer.rows)),
        "metrics": [(COLUMNS[key], choices.order(view, key)) for key in metrics],
        "about": [(key, ABOUT[key][0], choices.order(view, key)) for key in view.shown if key in ABOUT],
        "always": {key: choices.order(view, key) for key in ("rank", "title")},
        "rows": [
            (row, answer.beside.get(row.checkpoint), [answer.numbers(row, key) for key in metrics])
            for row in answer.rows[start : start + ROWS]
        ],
        "pages": choices.pages(view, last),
        "protocols": choices.protocols(view, answer.sizes),
        "groups": choices.groups(view, answer.sizes, answer.counts),
        "asked": choices.asked(view),
        "picked": [(key, _title(key), key in view.shown) for key in every_column(view.protocol)],
        "unnarrowed": BoardView(view.protocol),
        "all_columns": view.but(columns=every_column(view.protocol)),
        "headline": view.but(columns=()),
        "reported": tables(reported_under(view.protocol)),
        "noise": 98 / sqrt(examples) if examples else None,
        "chart": _chart(answer),
    }
    return render(request, "leaderboard/board.html", context)


@access(Rule.PUBLIC)
@limited("page")
@require_safe
def board_csv(request: HttpRequest) -> HttpResponse:
    """Give all pages of a view as CSV: one row an entry, each number with its interval and n."""
    answer = answer_to(dict(request.GET.lists()))
    if answer.notes:
        return _refused(answer)
    view = answer.view
    response = HttpResponse(
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{view.protocol.name}-v{view.protocol.version}.csv"'},
    )
    metrics = [key for key in view.shown if key in COLUMNS]
    versions = ["", *([f"_v{view.beside}"] if view.beside else [])]
    writer = csv.writer(response)
    about = ("rank", "tied_with", "title", "slug", "architecture", "is_reference", "extra_data", "stored_numbers")
    ends = [f"{version}{end}" for version in versions for end in ("", "_low", "_high", "_n")]
    head = [*about, "seconds", "published_at", "on_pareto_front", "flags", *SAID]
    writer.writerow([*head, *(f"{key}{end}" for key in metrics for end in ends)])
    for row in answer.rows:
        standing = (row.standing.rank, row.standing.tied_with) if row.standing else ("", "")
        cells = [
            *standing, as_text(row.title), *(getattr(row, name) for name in about[3:]), row.seconds,
            row.published_at.isoformat(), row.on_front, len(row.flags),
            *(as_text(getattr(row.said, name)) for name in SAID),
        ]  # fmt: skip
        for key in metrics:
            for number in answer.numbers(row, key)[: len(versions)]:
                cells += [getattr(number, end) for end in _ENDS] if number else [""] * len(_ENDS)
        writer.writerow(cells)
    return response


@access(Rule.PUBLIC)
@limited("page")
@require_safe
def board_json(request: HttpRequest) -> HttpResponse:
    """Give all pages of a view as JSON."""
    answer = answer_to(dict(request.GET.lists()))
    if answer.notes:
        return _refused(answer)
    view, protocol = answer.view, answer.view.protocol
    metrics = [key for key in view.shown if key in COLUMNS]
    return JsonResponse(
        {
            "query": view.query(),
            "protocol": {
                "name": protocol.name, "version": protocol.version,
                "dataset": protocol.dataset, "digest": protocol.digest,
            },
            "as_of": answer.listing.as_of,
            "published": len(answer.listing.rows),
            "beside": view.beside,
            "entries": [_document(answer, row, metrics) for row in answer.rows],
        }
    )  # fmt: skip


@access(Rule.PUBLIC)
@limited("page")
@require_safe
def figure(request: HttpRequest, kind: str) -> HttpResponse:
    """Give the chart of a view as a file, in the theme asked for."""
    answer = answer_to(dict(request.GET.lists()))
    if answer.notes:
        raise Http404
    points, protocol, among = board_chart.board_points(answer.best), answer.view.protocol, len(answer.rows)
    if not points:
        raise Http404
    source = page_charts.Source(
        made_of=(points, protocol.digest, among),
        specify=lambda theme: board_chart.rloss_against_flatness(points, protocol, theme, among=among),
        numbers=lambda: board_chart.points_csv(points),
    )
    return page_charts.answer(request, kind, source)


def answer_to(query: Mapping[str, Sequence[str]]) -> Answer:
    """Return what an address's query, values by name, asks for."""
    now = stamps()
    sizes = {digest: stamp.count for digest, stamp in now.items()}
    view, notes = parse(query, sizes)
    found = _entries(view.protocol, now)
    view, unknown = known_values(view, found)
    narrowed = narrow(view, found)
    other = _entries(find_protocol(view.protocol.name, view.beside), now).rows if view.beside else ()
    beside = {row.checkpoint: row for row in other}
    rows, best = ordered(narrowed.rows, view.sort), narrowed.rows[:DRAWN]
    return Answer(view, (*notes, *unknown), found, rows, best, narrowed.counts, beside, sizes)


def _entries(protocol: EvaluationProtocol, now: Mapping[str, Stamp]) -> Listing:
    return listing(protocol, now)


def _chart(answer: Answer) -> page_charts.Chart | None:
    points = board_chart.board_points(answer.best)
    if not points:
        return None
    return page_charts.Chart(
        label="Test robust loss against test flatness, one point an entry",
        address=reverse("figure", args=["-"]).removesuffix(".-"),
        query=answer.view.query(),
        table=board_chart.points_table(points),
        svg=page_charts.inline(board_chart.board_svg(points, answer.view.protocol, len(answer.rows))),
        notes=("Each point is an entry and links to its page",),
    )


def _refused(answer: Answer) -> HttpResponse:
    return HttpResponse("\n".join(answer.notes), status=400, content_type="text/plain; charset=utf-8")


def _document(answer: Answer, row: Row, metrics: Sequence[str]) -> dict[str, Any]:
    pairs = {key: answer.numbers(row, key) for key in metrics}
    document = {
        "rank": row.standing.rank if row.standing else None,
        "tied_with": row.standing.tied_with if row.standing else None,
        **{name: getattr(row, name) for name in (
            "title", "slug", "url", "architecture", "is_reference", "extra_data", "stored_numbers", "seconds",
            "published_at", "on_front", "flags",
        )},
        **{name: getattr(row.said, name) for name in SAID},
        "numbers": {key: _ends(number) for key, (number, _) in pairs.items() if number},
    }  # fmt: skip
    if answer.view.beside:
        document["beside"] = {key: _ends(number) for key, (_, number) in pairs.items() if number}
    return document


def _ends(number: Number) -> dict[str, float]:
    return {end: getattr(number, end) for end in _ENDS}


def _title(key: str) -> str:
    return COLUMNS[key].title if key in COLUMNS else ABOUT[key][0]
