"""The page on which owners and staff change what is said about a submission."""

from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from evaluator.exceptions import InvalidRequest
from leaderboard.access import Rule, access
from leaderboard.actions import as_staff
from leaderboard.editing import FIELDS, EditForm, edit
from leaderboard.models import State, Submission
from leaderboard.throttling import limited

_WITHDRAWN = "It was withdrawn, and what is said of it stays as it is."


@access(Rule.OWNER)
@limited("edit")
@require_http_methods(["GET", "HEAD", "POST"])
def submission_edit(request: HttpRequest, run_id: UUID) -> HttpResponse:
    """Show what is said about a submission in a form, or keep what was sent by it."""
    found = Submission.objects.get(run_id=run_id)
    if found.state == State.WITHDRAWN:
        messages.warning(request, _WITHDRAWN)
        return redirect("submission", run_id)
    form = EditForm(request.POST or None, submission=found, staff=as_staff(request.user, found))
    if request.method == "POST" and form.is_valid():
        said = {name: form.cleaned_data[name] for name in FIELDS}
        try:
            changed = edit(found, request.user, said, form.cleaned_data.get("reason", ""))
        except InvalidRequest as refusal:  # it was withdrawn in the meantime
            messages.warning(request, f"Nothing was changed: {refusal}.")
        else:
            messages.success(request, "It is changed everywhere." if changed else "It stays as it was.")
        return redirect("submission", run_id)
    context = {"submission": found, "form": form}
    return render(request, "leaderboard/edit.html", context, status=400 if request.method == "POST" else 200)
