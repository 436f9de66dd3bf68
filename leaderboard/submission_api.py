"""The part of the API by which programs hand in checkpoints and follow them, each as the owner of a personal token."""

from uuid import UUID

from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from ninja import Query, Router, Schema, Status
from ninja.params import HeaderEx, P

from evaluator.manifest import Manifest, read_options
from evaluator.protocol import find_protocol
from leaderboard.access import Rule, Scope, access
from leaderboard.actions import perform
from leaderboard.models import Submission
from leaderboard.throttling import limited
from leaderboard.tokens import Bearer
from leaderboard.uploads import Wish, hand_in
from leaderboard.watching import SubmissionStatus, status_of

router = Router(auth=Bearer(), tags=["submissions"])

_BODY = {"required": True, "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}


class WishIn(Schema):
    """What is said about the file: the title of its entry, by which protocol it is measured, and who may see it.

    For a file that does not say so itself, plain safetensors or a state dict of `torch.save`: the architecture it
    is for, its options as JSON, and the data set, if not the protocol's.
    """

    title: str
    protocol: str
    private: bool = False
    architecture: str = ""
    options: str = "{}"
    dataset: str = ""


class Refusal(Schema):
    """Why a request was refused, in a sentence."""

    detail: str


_REFUSALS = dict.fromkeys((400, 401, 403, 404, 409, 413, 429, 503), Refusal)


@router.post("/", response={201: SubmissionStatus, 200: SubmissionStatus, **_REFUSALS},
             openapi_extra={"requestBody": _BODY})  # fmt: skip
@access(Rule.MACHINE, Scope.SUBMIT)
@limited("submit")
def submit(
    request: HttpRequest,
    response: HttpResponse,
    wish: Query[WishIn],
    idempotency_key: HeaderEx[str, P(alias="Idempotency-Key", max_length=100, pattern=r"^[!-~]*$")] = "",
) -> Status[SubmissionStatus]:
    """Hand in a checkpoint as the body of the request: safetensors, or a state dict saved by torch.save.

    The same file under the same protocol is one submission: sent again it is answered with 200. With an
    Idempotency-Key a repeated request never starts a new run, and the same key for another file is refused.
    """
    protocol, manifest = find_protocol(wish.protocol), None
    if wish.architecture:
        manifest = Manifest(wish.architecture, wish.dataset or protocol.dataset, read_options(wish.options))
    asked = Wish(wish.title, protocol, wish.private, idempotency_key, manifest)
    submission, is_new = hand_in(request, _asking(request), asked)
    response.headers["Location"] = reverse("api-1:submission", args=[submission.run_id])
    return Status(201 if is_new else 200, status_of(submission, insider=True))


@router.get("/{uuid:run_id}/", response={200: SubmissionStatus, **_REFUSALS}, url_name="submission")
@access(Rule.OWNER, Scope.READ)
@limited("api")
def submission(request: HttpRequest, run_id: UUID) -> SubmissionStatus:
    """How a submission of yours stands."""
    return status_of(Submission.objects.get(run_id=run_id), insider=True)


@router.post("/{uuid:run_id}/cancel", response={200: SubmissionStatus, **_REFUSALS}, url_name="submission-cancel")
@access(Rule.OWNER, Scope.SUBMIT)
@limited("api")
def cancel(request: HttpRequest, run_id: UUID) -> SubmissionStatus:
    """End the measuring of a submission of yours; one that has ended stays as it is."""
    perform("cancel", Submission.objects.get(run_id=run_id), _asking(request), "cancelled by the API")
    return status_of(Submission.objects.get(run_id=run_id), insider=True)


def _asking(request: HttpRequest) -> User:
    assert isinstance(request.user, User)
    return request.user
