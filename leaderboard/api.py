"""The JSON API under /api/v1/, put together from its parts."""

from django.http import Http404, HttpRequest
from django.views.decorators.http import conditional_page
from ninja import NinjaAPI, Router
from ninja.decorators import decorate_view

from leaderboard import board_api, entry_api, reference_api, submission_api
from leaderboard.access import Rule, access
from leaderboard.api_refusals import refusals, refuse_by_sentences
from leaderboard.throttling import limited
from leaderboard.waiting import QueueStatus, queue_status

api = NinjaAPI(title="Robust leaderboard", version="1", docs_decorator=access(Rule.PUBLIC))
refuse_by_sentences(api)
nowhere = Router()


@api.get("/queue", response={200: QueueStatus, 304: None, **refusals(503)}, tags=["queue"])
@decorate_view(conditional_page)
@access(Rule.PUBLIC)
@limited("api")
def queue(request: HttpRequest) -> QueueStatus:
    """How the queue stands: what waits in which order, who works, what is paused, what stages take."""
    return queue_status()


@nowhere.api_operation(["GET", "POST", "PUT", "PATCH", "DELETE"], "/{path:rest}", include_in_schema=False)
@access(Rule.PUBLIC)
def nothing(request: HttpRequest, rest: str) -> None:
    """Say that there is nothing at any other address."""
    raise Http404


api.add_router("", board_api.router)
api.add_router("/entries", entry_api.router)
api.add_router("/submissions", submission_api.router)
api.add_router("", reference_api.router)
api.add_router("", nowhere)
