"""Pages by which readers object to entries, and on which staff decides and reads what staff did."""

from typing import Any

from django.contrib import messages
from django.core.paginator import Page, Paginator
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from evaluator.exceptions import InvalidRequest
from evaluator.shipped import PROTOCOLS, find_protocol
from leaderboard import objections, reruns, trail
from leaderboard.access import Rule, access
from leaderboard.models import Entry, Objection, Submission
from leaderboard.moderation import desk, document
from leaderboard.throttling import limited

ACTS_ON_A_PAGE = 50
_ASKED = ("actor", "what", "words")


@access(Rule.SIGNED_IN)
@limited("object")
@require_http_methods(["GET", "HEAD", "POST"])
def objection(request: HttpRequest, slug: str) -> HttpResponse:
    """Let somebody object to a published entry."""
    submission = get_object_or_404(Entry.objects.select_related("submission"), submission__slug=slug).submission
    context: dict[str, Any] = {"submission": submission, "lengths": objections.LENGTHS}
    if request.method != "POST":
        return render(request, "leaderboard/object.html", context)
    text = request.POST.get("text", "")
    try:
        objections.object_to(submission, request.user, text)
    except InvalidRequest as refusal:
        return render(request, "leaderboard/object.html", context | {"text": text, "refusal": refusal}, status=400)
    messages.success(request, "Thank you. Staff reads your objection; the answer will stand on this page.")
    return redirect(submission)


@access(Rule.VISIBLE)
@require_safe
def objections_json(request: HttpRequest, slug: str) -> HttpResponse:
    """Give the objections to an entry that were answered, and the answers."""
    submission = get_object_or_404(Submission, slug=slug)
    found = objections.readable(submission, request.user)
    return JsonResponse({"entry": slug, "objections": [objections.document(one) for one in found]})


@access(Rule.STAFF)
@require_safe
def moderation(request: HttpRequest) -> HttpResponse:
    """Show what waits for a decision."""
    context = {"desk": desk(), "answers": objections.ANSWERS, "at_once": reruns.AT_ONCE}
    return render(request, "leaderboard/moderation.html", context)


@access(Rule.STAFF)
@require_safe
def moderation_json(request: HttpRequest) -> HttpResponse:
    """Give the same as JSON."""
    return JsonResponse(document(desk()))


@access(Rule.STAFF)
@require_POST
def answer(request: HttpRequest, pk: int) -> HttpResponse:
    """Answer an objection as staff decided."""
    found = Objection.objects.select_related("submission").filter(pk=pk).first()
    if found is None:
        raise Http404
    try:
        if objections.answer(found, request.user, request.POST.get("answer", ""), request.POST.get("text", "")):
            messages.success(request, f"The objection to {found.submission.title} is answered.")
        else:
            messages.warning(request, "Nothing was changed: somebody answered it before.")
    except InvalidRequest as refusal:
        messages.warning(request, f"Nothing was changed: {refusal}.")
    return redirect("moderation")


@access(Rule.STAFF)
@require_POST
def rerun(request: HttpRequest, name: str) -> HttpResponse:
    """Queue entries of older versions of a protocol under its newest, so many at a time."""
    reason = request.POST.get("reason", "").strip()
    if name not in PROTOCOLS:
        raise Http404
    if not reason:
        messages.warning(request, "Nothing was changed: say why, for whoever reads the trail of what staff did.")
        return redirect("moderation")
    found = reruns.outdated(name)
    queued = [one for one in found[: reruns.AT_ONCE] if reruns.rerun(one, request.user, reason)]
    messages.success(request, f"{len(queued)} entries wait to be measured under {find_protocol(name).label}.")
    return redirect("moderation")


@access(Rule.STAFF)
@require_safe
def staff_acts(request: HttpRequest) -> HttpResponse:
    """Show what staff did, narrowed as the address says."""
    asked, page = _acts(request)
    context = {"asked": asked, "acts": page, "actors": trail.known("actor"), "kinds": trail.known("what")}
    return render(request, "leaderboard/trail.html", context)


@access(Rule.STAFF)
@require_safe
def staff_acts_json(request: HttpRequest) -> HttpResponse:
    """Give the same as JSON."""
    asked, page = _acts(request)
    pages = {"page": page.number, "pages": page.paginator.num_pages, "total": page.paginator.count}
    return JsonResponse({"asked": asked, **pages, "acts": [trail.document(act) for act in page]})


def _acts(request: HttpRequest) -> tuple[dict[str, str], Page]:
    asked = {name: request.GET.get(name, "") for name in _ASKED}
    return asked, Paginator(trail.acts(**asked), ACTS_ON_A_PAGE).get_page(request.GET.get("page"))
