"""How the API refuses: each error's own sentence, under the status that says whose turn it is."""

from http import HTTPStatus

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from ninja import NinjaAPI, Schema
from ninja.errors import AuthenticationError, ValidationError

from leaderboard.access import NotSignedIn
from leaderboard.throttling import TooManyRequests
from leaderboard.uploads import REFUSALS, sentence_of


class Refusal(Schema):
    """Why a request was refused, in a sentence."""

    detail: str


STATUS_OF_ERRORS: dict[type[Exception], int] = {
    **REFUSALS,
    AuthenticationError: 401,
    NotSignedIn: 401,
    PermissionDenied: 403,
    Http404: 404,
    ValidationError: 422,
    TooManyRequests: 429,
}
"""How each refusal is answered; what was refused, and what would be right, is the error's own sentence."""

_NOBODY = "send Authorization: Bearer, followed by a personal token that has neither expired nor been revoked"
_SENTENCES: dict[type[Exception], str] = {
    AuthenticationError: _NOBODY,
    NotSignedIn: _NOBODY,
    Http404: "there is nothing here, or nothing that is yours to see",
}
"""What is said instead of errors' own sentences, which say nothing or too much."""


def refusals(*statuses: int) -> dict[int, type[Refusal]]:
    """Return what an operation declares that it may be refused with; wrong words and haste every one may."""
    return dict.fromkeys((*statuses, 422, 429), Refusal)


def refuse_by_sentences(api: NinjaAPI) -> None:
    """Let an API answer every error that it foresees with a sentence, and when it is worth trying again."""

    def refuse(request: HttpRequest, error: Exception) -> HttpResponse:
        status = STATUS_OF_ERRORS[next(kind for kind in type(error).__mro__ if kind in STATUS_OF_ERRORS)]
        answer = api.create_response(request, {"detail": _sentence(error)}, status=status)
        seconds = getattr(error, "seconds", None)
        if seconds is not None:
            answer.headers["Retry-After"] = str(seconds)
        if status == HTTPStatus.UNAUTHORIZED:
            answer.headers["WWW-Authenticate"] = "Bearer"
        return answer

    for error in STATUS_OF_ERRORS:
        api.add_exception_handler(error, refuse)


def _sentence(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return "; ".join(f"{one['loc'][-1]}: {one['msg']}" for one in error.errors)
    return _SENTENCES.get(type(error)) or sentence_of(error)
