"""The read-only JSON API under /api/v1/; its documents are plain data that `manage.py demo` writes as well."""

import json
from datetime import datetime
from typing import Any

from django.http import HttpRequest, HttpResponse
from ninja import NinjaAPI, Schema
from ninja.responses import NinjaJSONEncoder

from evaluator.exceptions import InvalidRequest
from evaluator.protocol import EvaluationProtocol, find_protocol
from leaderboard import selectors
from leaderboard.access import Rule, access

api = NinjaAPI(title="Robust leaderboard", version="1", docs_url=None, docs_decorator=access(Rule.PUBLIC))


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

    `numbers` holds what the protocol asks for, under the names of the board's columns.
    """

    rank: int | None
    tied_with: int | None
    title: str
    slug: str
    url: str
    architecture: str
    is_reference: bool
    stored_numbers: int
    seconds: float
    published_at: datetime
    numbers: dict[str, NumberOut]


class BoardOut(Schema):
    """The board of one protocol."""

    protocol: ProtocolOut
    sort: str
    as_of: datetime | None
    entries: list[EntryOut]


def board_json(protocol: EvaluationProtocol, sort: str = "rank") -> dict[str, Any]:
    """Return exactly what `/api/v1/board` answers."""
    document = _board(selectors.board(protocol, sort)).model_dump()
    return dict(json.loads(json.dumps(document, cls=NinjaJSONEncoder)))


@api.get("/board", response=BoardOut)
@access(Rule.PUBLIC)
def board(request: HttpRequest, protocol: str, sort: str = "rank") -> BoardOut:
    """All entries of a protocol with every number, sorted by a column (descending with a leading minus)."""
    return _board(selectors.board(find_protocol(protocol), sort))


@api.exception_handler(InvalidRequest)
def refuse(request: HttpRequest, error: InvalidRequest) -> HttpResponse:
    """Answer a request for what does not exist with its sentence."""
    return api.create_response(request, {"detail": str(error)}, status=400)


def _board(board: selectors.Board) -> BoardOut:
    protocol = board.protocol
    return BoardOut(
        protocol=ProtocolOut(
            name=protocol.name, version=protocol.version, dataset=protocol.dataset, digest=protocol.digest
        ),
        sort=board.sort,
        as_of=board.as_of,
        entries=[
            EntryOut(
                rank=row.standing.rank if row.standing else None,
                tied_with=row.standing.tied_with if row.standing else None,
                title=row.title,
                slug=row.slug,
                url=row.url,
                architecture=row.architecture,
                is_reference=row.is_reference,
                stored_numbers=row.stored_numbers,
                seconds=row.seconds,
                published_at=row.published_at,
                numbers={
                    key: NumberOut(value=number.value, low=number.low, high=number.high, n=number.n)
                    for key, number in row.numbers.items()
                },
            )
            for row in board.rows
        ],
    )
