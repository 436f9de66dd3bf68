"""The pages on which people watch: one submission while it is measured, and the queue.

Each has a part that a page asks for again and again; who has seen it already gets 304, and what has ended is not asked
for any more.
"""

import json
from hashlib import sha256
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotModified, JsonResponse
from django.shortcuts import redirect, render
from django.utils.cache import patch_cache_control
from django.views.decorators.http import require_POST, require_safe

from evaluator.exceptions import InvalidRequest, StoreUnavailable
from leaderboard import services, trail
from leaderboard.access import Rule, access, is_staff, owns
from leaderboard.actions import ACTIONS, as_staff, offered, perform
from leaderboard.details import details_of
from leaderboard.details_form import SAID
from leaderboard.hints import WHOSE
from leaderboard.models import State, Submission
from leaderboard.waiting import QueueStatus, queue_status
from leaderboard.watching import status_of, successor


@access(Rule.VISIBLE)
@require_safe
def submission(request: HttpRequest, run_id: UUID) -> HttpResponse:
    """Show how a submission stands, and what its owner can do; the run before a new one leads to the new one."""
    found = Submission.objects.filter(run_id=run_id).first() or successor(run_id)
    if found is None or (found.is_private and not owns(request.user, found)):
        raise Http404
    if found.run_id != run_id:
        return redirect("submission", found.run_id)
    context = _standing(request, found) | {"details": details_of(found, request.user)}
    context["may_edit"] = owns(request.user, found) and found.state != State.WITHDRAWN
    return render(request, "leaderboard/submission.html", context)


@access(Rule.VISIBLE)
@require_safe
def submission_live(request: HttpRequest, run_id: UUID) -> HttpResponse:
    """Give the part of the page that changes; the buttons only if they are not those the page says that it has."""
    found = Submission.objects.filter(run_id=run_id).first()
    if found is None:
        raise Http404
    context = _standing(request, found)
    context["other_buttons"] = request.GET.get("buttons") != context["buttons"]
    return _unless_seen(request, context["etag"], "leaderboard/submission_live.html", context)


@access(Rule.VISIBLE)
@require_safe
def submission_json(request: HttpRequest, run_id: UUID) -> HttpResponse:
    """Give how a submission stands as JSON, to its owner and staff with what the measuring process wrote."""
    found = Submission.objects.filter(run_id=run_id).first()
    if found is None:
        raise Http404
    status = status_of(found, insider=owns(request.user, found))
    said = details_of(found, request.user)
    details = {name: getattr(said, name) for name in SAID}
    return JsonResponse(
        status.document() | {"slug": found.slug, "architecture": found.manifest["architecture"], **details}
    )


@access(Rule.OWNER)
@require_POST
def act(request: HttpRequest, run_id: UUID, action: str) -> HttpResponse:
    """Do with a submission what its owner or staff asked for, and show what came of it where it was asked."""
    if action not in ACTIONS:
        raise Http404
    found = Submission.objects.get(run_id=run_id)
    try:
        if perform(action, found, request.user, request.POST.get("reason", "")):
            messages.success(request, ACTIONS[action].done)
        else:
            messages.warning(request, "Nothing was changed: the submission does not stand as it did when you asked.")
    except InvalidRequest as refusal:
        messages.warning(request, f"Nothing was changed: {refusal}.")
    return redirect("moderation") if "moderation" in request.POST else redirect("submission", found.run_id)


@access(Rule.PUBLIC)
@require_safe
def queue(request: HttpRequest) -> HttpResponse:
    """Show everybody what waits, who works, what is paused and what stages take."""
    return render(request, "leaderboard/queue.html", {"queue": _queue()})


@access(Rule.PUBLIC)
@require_safe
def queue_live(request: HttpRequest) -> HttpResponse:
    """Give the part of the page that changes."""
    found = _queue()
    etag = _etag(found.document() if found else None)
    return _unless_seen(request, etag, "leaderboard/queue_live.html", {"queue": found})


@access(Rule.PUBLIC)
@require_safe
def queue_json(request: HttpRequest) -> HttpResponse:
    """Give the same as JSON."""
    found = _queue()
    return JsonResponse(
        found.document() if found else {"detail": "the run store does not answer"}, status=200 if found else 503
    )


def _queue() -> QueueStatus | None:
    try:
        return queue_status()
    except StoreUnavailable:
        return None


def _standing(request: HttpRequest, found: Submission) -> dict[str, Any]:
    insider = owns(request.user, found)
    status = status_of(found, insider=insider)
    staff = insider and as_staff(request.user, found)
    actions = offered(status, staff=staff) if insider else {}
    private = insider and status.state is State.MEASURED
    return {
        "submission": found,
        "status": status,
        "whose": WHOSE[status.failure.fault] if status.failure else "",
        "percent": 100 * status.examples_done // status.examples if status.examples else 0,
        "actions": actions,
        "needs_reason": staff,
        "acts": trail.acts().filter(submission=found) if is_staff(request.user) else None,
        "buttons": " ".join(actions),
        "etag": _etag([status.document(), list(actions)]),
        "result": services.run_store().result(found.run_id) if private else None,
    }


def _etag(document: Any) -> str:
    return f'"{sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:32]}"'


def _unless_seen(request: HttpRequest, etag: str, template: str, context: dict[str, Any]) -> HttpResponse:
    """Render a part of a page, unless whoever asks has it already."""
    seen = [tag.strip().removeprefix("W/") for tag in request.headers.get("If-None-Match", "").split(",")]
    response = HttpResponseNotModified() if etag in seen else render(request, template, context | {"etag": etag})
    response.headers["ETag"] = etag
    patch_cache_control(response, private=True, no_cache=True)
    return response
