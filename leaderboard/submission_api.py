"""The part of the API by which programs hand in checkpoints and follow them, each as the owner of a personal token."""

from datetime import datetime
from uuid import UUID

from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.views.decorators.http import conditional_page
from ninja import Query, Router, Schema, Status
from ninja.decorators import decorate_view
from ninja.params import HeaderEx, P
from pydantic import ConfigDict

from evaluator.exceptions import InvalidRequest
from evaluator.manifest import Manifest, read_options
from evaluator.shipped import find_protocol
from leaderboard.access import Rule, Scope, access
from leaderboard.actions import perform
from leaderboard.api_refusals import refusals
from leaderboard.details import Details
from leaderboard.details_form import NO_CONSENT, SAID, read_details
from leaderboard.editing import edit
from leaderboard.models import ExtraData, State, Submission
from leaderboard.paging import Paging, newest_first
from leaderboard.throttling import limited
from leaderboard.tokens import Bearer
from leaderboard.uploads import Wish, hand_in
from leaderboard.watching import SubmissionStatus, status_of

router = Router(auth=Bearer(), tags=["submissions"])

_BODY = {"required": True, "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}


class WishIn(Schema):
    """What is said about the file: the title of its entry, by which protocol it is measured, and who may see it.

    For a file that does not say so itself, plain safetensors or a state dict of `torch.save`: the architecture it
    is for, its options as JSON, and the data set, if not the protocol's. With `preview` there is a quick estimate of
    the robust error while it is measured, for you alone. Then who made it, where it is described and
    what it was trained on. `consent` says that you may hand in the file, and agree that it is kept to be measured and
    that, unless it is private, its numbers and what is said here are published for everybody to use.
    """

    title: str
    protocol: str
    consent: bool
    private: bool = False
    preview: bool = False
    architecture: str = ""
    options: str = "{}"
    dataset: str = ""
    authors: str = ""
    paper: str = ""
    venue: str = ""
    extra_data: ExtraData = ExtraData.NOT_STATED
    anonymous: bool = False

    def details(self) -> Details:
        """Return what is said beside the file, by the rules of the form.

        Raises:
            InvalidRequest: without consent, or where the form would refuse it.
        """
        if not self.consent:
            raise InvalidRequest(f"say consent=true: {NO_CONSENT}")
        said = {name: getattr(self, name) for name in SAID}
        return read_details({**said, "is_anonymous": self.anonymous}, consents=True)


class EditIn(Schema):
    """What shall be said of a submission from now on; what is left out stays as it is. Staff has to give a `reason`."""

    model_config = ConfigDict(extra="forbid")

    title: str = ""
    authors: str = ""
    paper: str = ""
    venue: str = ""
    extra_data: ExtraData = ExtraData.NOT_STATED
    anonymous: bool = False
    reason: str = ""


class SubmissionLine(Schema):
    """One submission of the list: the file, what is said of it, and where it stands."""

    run_id: UUID
    slug: str
    title: str
    protocol: str
    protocol_version: int
    checkpoint_sha256: str
    state: State
    is_private: bool
    is_anonymous: bool
    authors: str
    paper: str
    venue: str
    extra_data: ExtraData
    created_at: datetime
    consented_at: datetime | None
    url: str


class SubmissionsOut(Schema):
    """One page of the list; `next` is the slug after which the next one begins."""

    submissions: list[SubmissionLine]
    next: str | None


_REFUSALS = refusals(400, 401, 403, 404, 409, 413, 503)


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
    asked = Wish(wish.title, protocol, wish.private, idempotency_key, manifest, wish.details(), wish.preview)
    submission, is_new = hand_in(request, _asking(request), asked)
    response.headers["Location"] = reverse("api-1:submission", args=[submission.run_id])
    return Status(201 if is_new else 200, status_of(submission, insider=True))


@router.get("/", response={200: SubmissionsOut, 304: None, **refusals(400, 401, 403)})
@decorate_view(conditional_page)
@access(Rule.MACHINE, Scope.READ)
@limited("api")
def submissions(request: HttpRequest, asked: Query[Paging]) -> SubmissionsOut:
    """Your submissions, the newest first."""
    mine = Submission.objects.filter(owner=_asking(request))
    page, following = newest_first(mine, asked, slug="slug", at="created_at")
    return SubmissionsOut(submissions=[_line(submission) for submission in page], next=following)


@router.get("/{run_id}/", response={200: SubmissionStatus, 304: None, **_REFUSALS}, url_name="submission")
@decorate_view(conditional_page)
@access(Rule.OWNER, Scope.READ)
@limited("api")
def submission(request: HttpRequest, run_id: UUID) -> SubmissionStatus:
    """How a submission of yours stands."""
    return status_of(Submission.objects.get(run_id=run_id), insider=True)


@router.patch("/{run_id}/", response={200: SubmissionLine, **_REFUSALS}, url_name="submission-edit")
@access(Rule.OWNER, Scope.SUBMIT)
@limited("api")
def change(request: HttpRequest, run_id: UUID, said: EditIn) -> SubmissionLine:
    """Change what is said of a submission of yours, by the rules of the form; its slug stays as it is."""
    found = Submission.objects.get(run_id=run_id)
    wished = said.model_dump(exclude_unset=True, exclude={"reason"})
    names = {name: "is_anonymous" if name == "anonymous" else name for name in wished}
    edit(found, _asking(request), {names[name]: value for name, value in wished.items()}, said.reason)
    return _line(found)


@router.post("/{run_id}/cancel", response={200: SubmissionStatus, **_REFUSALS}, url_name="submission-cancel")
@access(Rule.OWNER, Scope.SUBMIT)
@limited("api")
def cancel(request: HttpRequest, run_id: UUID) -> SubmissionStatus:
    """End the measuring of a submission of yours; one that has ended stays as it is."""
    perform("cancel", Submission.objects.get(run_id=run_id), _asking(request), "cancelled by the API")
    return status_of(Submission.objects.get(run_id=run_id), insider=True)


def _line(submission: Submission) -> SubmissionLine:
    said = {name: getattr(submission, name) for name in SubmissionLine.model_fields if hasattr(submission, name)}
    return SubmissionLine(
        **{**said, "protocol": submission.protocol_name, "url": reverse("submission", args=[submission.run_id])}
    )


def _asking(request: HttpRequest) -> User:
    assert isinstance(request.user, User)
    return request.user
