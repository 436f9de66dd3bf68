"""The JSON API under /api/v1/; its documents are plain data that `manage.py demo` writes as well."""

import json
from datetime import datetime
from http import HTTPStatus
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from ninja import NinjaAPI, Schema
from ninja.errors import AuthenticationError
from ninja.responses import NinjaJSONEncoder

from evaluator.protocol import EvaluationProtocol, find_protocol
from leaderboard import selectors
from leaderboard.access import NotSignedIn, Rule, access
from leaderboard.submission_api import router
from leaderboard.throttling import TooManyRequests, limited
from leaderboard.uploads import REFUSALS, sentence_of

api = NinjaAPI(title="Robust leaderboard", version="1", docs_decorator=access(Rule.PUBLIC))
api.add_router("/submissions", router)


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

    `numbers` holds what the protocol asks for, under the names of the board's columns; `flags` are the sentences of the
    trust checks that it does not pass and of AutoAttack's warnings.
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
    flags: list[str]
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
@limited("api")
def board(request: HttpRequest, protocol: str, sort: str = "rank") -> BoardOut:
    """All entries of a protocol with every number, sorted by a column (descending with a leading minus)."""
    return _board(selectors.board(find_protocol(protocol), sort))


STATUS_OF_ERRORS: dict[type[Exception], int] = {
    **REFUSALS,
    AuthenticationError: 401,
    NotSignedIn: 401,
    PermissionDenied: 403,
    Http404: 404,
    TooManyRequests: 429,
}
"""How each refusal is answered; what was refused, and what would be right, is the error's own sentence."""


def refuse(request: HttpRequest, error: Exception) -> HttpResponse:
    """Answer with the sentence of an error, and when it is worth trying again."""
    status = STATUS_OF_ERRORS[next(kind for kind in type(error).__mro__ if kind in STATUS_OF_ERRORS)]
    sentence = _SENTENCES.get(type(error)) or sentence_of(error)
    answer = api.create_response(request, {"detail": sentence}, status=status)
    seconds = getattr(error, "seconds", None)
    if seconds is not None:
        answer.headers["Retry-After"] = str(seconds)
    if status == HTTPStatus.UNAUTHORIZED:
        answer.headers["WWW-Authenticate"] = "Bearer"
    return answer


_NOBODY = "send Authorization: Bearer, followed by a personal token that has neither expired nor been revoked"
_SENTENCES: dict[type[Exception], str] = {
    AuthenticationError: _NOBODY,
    NotSignedIn: _NOBODY,
    Http404: "there is nothing here, or nothing that is yours to see",
}
"""What is said instead of errors' own sentences, which say nothing or too much."""

for _error in STATUS_OF_ERRORS:
    api.add_exception_handler(_error, refuse)


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
                flags=list(row.flags),
                numbers={
                    key: NumberOut(value=number.value, low=number.low, high=number.high, n=number.n)
                    for key, number in row.numbers.items()
                },
            )
            for row in board.rows
        ],
    )
