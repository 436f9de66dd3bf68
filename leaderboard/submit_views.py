"""The page on which people hand in a checkpoint; it works as a plain form, and by a script that shows progress."""

from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.csrf import csrf_exempt, csrf_protect
from django.views.decorators.http import require_http_methods

from evaluator.scratch import scratch_folder
from leaderboard import quotas
from leaderboard.access import Rule, access
from leaderboard.form_files import FIELD, FormFile
from leaderboard.models import Submission
from leaderboard.submit_form import SubmitForm
from leaderboard.throttling import limited
from leaderboard.uploads import REFUSALS, Taken, sentence_of, submit_file

_KNOWN = "This file was handed in under this protocol before. Here is how it stands."


@access(Rule.SIGNED_IN)
@csrf_exempt  # `_handed_in` is protected: where the file goes has to be known before the form is read for its token
@limited("submit")
@require_http_methods(["GET", "HEAD", "POST"])
def submit(request: HttpRequest) -> HttpResponse:
    """Show the form, or take in what was sent by it."""
    exceeded = _exceeded(request)
    if request.method != "POST":
        return _page(request, SubmitForm(), exceeded=exceeded)
    with scratch_folder() as folder:
        arriving = FormFile(request, folder, exceeded)
        request.upload_handlers = [arriving]
        return _handed_in(request, arriving)


@csrf_protect
def _handed_in(request: HttpRequest, arriving: FormFile) -> HttpResponse:
    form = SubmitForm(request.POST, request.FILES)
    if not form.is_valid():
        return _page(request, form, status=400)
    try:
        submission, is_new = submit_file(arriving.take(), request.user, form.wish())
    except tuple(REFUSALS) as error:
        if isinstance(error, Taken) and error.submission is not None:
            return _lead_to(request, error.submission, is_new=False)
        form.add_error(FIELD, sentence_of(error))
        status = next(REFUSALS[kind] for kind in type(error).__mro__ if kind in REFUSALS)
        return _page(request, form, status=status)
    return _lead_to(request, submission, is_new=is_new)


def _lead_to(request: HttpRequest, submission: Submission, *, is_new: bool) -> HttpResponse:
    """Send a browser on by 303, and tell a script, which would not see where it was sent, by 201."""
    if not is_new:
        messages.info(request, _KNOWN)
    status = 201 if request.headers.get("Accept") == "application/json" else 303
    address = reverse("submission", args=[submission.run_id])
    return HttpResponse(status=status, headers={"Location": address})


def _exceeded(request: HttpRequest) -> quotas.QuotaExceeded | None:
    try:
        quotas.check(request.user, 0)
    except quotas.QuotaExceeded as exceeded:
        return exceeded
    return None


def _page(
    request: HttpRequest, form: SubmitForm, *, status: int = 200, exceeded: quotas.QuotaExceeded | None = None
) -> HttpResponse:
    context = {"form": form, "exceeded": exceeded, "most_bytes": settings.UPLOAD_BYTES}
    return render(request, "leaderboard/submit.html", context, status=status)
