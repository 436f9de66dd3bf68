"""The part of the API that says what the board says: the same filters and orders, a page at a time."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from django.http import HttpRequest
from django.views.decorators.http import conditional_page
from ninja import Query, Router, Schema
from ninja.decorators import decorate_view
from ninja.responses import NinjaJSONEncoder

from evaluator.exceptions import InvalidRequest
from evaluator.protocol import EvaluationProtocol
from evaluator.results import Measurement
from leaderboard.access import Rule, access
from leaderboard.api_refusals import refusals
from leaderboard.board import Answer, answer_to
from leaderboard.listing import Row
from leaderboard.paging import Paging, cut
from leaderboard.throttling import limited

router = Router(tags=["board"])


class NumberOut(Schema):
    """A value between the ends of its 95 % interval, from n examples."""

    value: float
    low: float
    high: float
    n: int


class ProtocolOut(Schema):
    """Which protocol the numbers were measured under."""

    name: str
    version: int
    dataset: str
    digest: str


class EntryOut(Schema):
    """One row of the board; `tied_with` is the best rank that it cannot be told from at 5 %.

    `numbers` holds what the protocol asks for, under the names of the board's columns, and `beside` the same
    checkpoint's by the version that is asked for beside; `flags` are the sentences of the trust checks that it does not
    pass and of AutoAttack's warnings. Of an anonymous entry authors and paper are empty.
    """

    rank: int | None
    tied_with: int | None
    title: str
    slug: str
    url: str
    architecture: str
    is_reference: bool
    extra_data: str
    authors: str
    paper: str
    venue: str
    stored_numbers: int
    seconds: float
    published_at: datetime
    on_front: bool
    flags: list[str]
    numbers: dict[str, NumberOut]
    beside: dict[str, NumberOut]


class BoardOut(Schema):
    """One page of a view of a protocol's board: of all that are `published`, so many are `matching`."""

    query: str
    protocol: ProtocolOut
    sort: str
    as_of: datetime | None
    published: int
    matching: int
    entries: list[EntryOut]
    next: str | None


class BoardQuery(Paging):
    """What the board's page can be asked too; values of a facet stand with commas between. All columns by default."""

    protocol: str = ""
    version: str = ""
    dataset: str = ""
    norm: str = ""
    q: str = ""
    architecture: str = ""
    data: str = ""
    division: str = ""
    trust: str = ""
    sort: str = "rank"
    columns: str = "all"
    beside: str = ""


def board_json(protocol: EvaluationProtocol, sort: str = "rank") -> dict[str, Any]:
    """Return what `/api/v1/board` answers, with all entries on one page."""
    answer = _answer({"protocol": protocol.name, "version": str(protocol.version), "sort": sort, "columns": "all"})
    document = _document(answer, answer.rows, None).model_dump()
    return dict(json.loads(json.dumps(document, cls=NinjaJSONEncoder)))


@router.get("/board", response={200: BoardOut, 304: None, **refusals(400)})
@decorate_view(conditional_page)
@access(Rule.PUBLIC)
@limited("api")
def board(request: HttpRequest, asked: Query[BoardQuery]) -> BoardOut:
    """A page of the entries that a query leaves, in the order asked for (descending with a leading minus)."""
    answer = _answer(asked.model_dump(exclude={"after", "limit"}))
    return _document(answer, *cut(answer.rows, [row.slug for row in answer.rows], asked))


def _answer(query: Mapping[str, str]) -> Answer:
    answer = answer_to({name: [value] for name, value in query.items() if value})
    if answer.notes:
        raise InvalidRequest(" ".join(answer.notes))
    return answer


def _document(answer: Answer, rows: Sequence[Row], following: str | None) -> BoardOut:
    protocol = answer.view.protocol
    return BoardOut(
        query=answer.view.query(),
        protocol=ProtocolOut(
            name=protocol.name, version=protocol.version, dataset=protocol.dataset, digest=protocol.digest
        ),
        sort=answer.view.sort,
        as_of=answer.listing.as_of,
        published=len(answer.listing.rows),
        matching=len(answer.rows),
        entries=[_entry(answer, row) for row in rows],
        next=following,
    )


def _entry(answer: Answer, row: Row) -> EntryOut:
    pairs = {key: answer.numbers(row, key) for key in answer.view.shown}
    return EntryOut(
        rank=row.standing.rank if row.standing else None,
        tied_with=row.standing.tied_with if row.standing else None,
        title=row.title,
        slug=row.slug,
        url=row.url,
        architecture=row.architecture,
        is_reference=row.is_reference,
        extra_data=row.extra_data,
        authors=row.said.authors,
        paper=row.said.paper,
        venue=row.said.venue,
        stored_numbers=row.stored_numbers,
        seconds=row.seconds,
        published_at=row.published_at,
        on_front=row.on_front,
        flags=list(row.flags),
        numbers={key: _number(number) for key, (number, _) in pairs.items() if number},
        beside={key: _number(number) for key, (_, number) in pairs.items() if number},
    )


def _number(number: Measurement) -> NumberOut:
    return NumberOut(value=number.value, low=number.low, high=number.high, n=number.n)
