"""What was said about a submission, changed by its owner or by staff: by page, API and command, by the form's rules.

Its address stays as it is, whatever it is called. What staff changes stands in the trail.
"""

from collections.abc import Mapping
from typing import Any

from django import forms
from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone

from evaluator.exceptions import InvalidRequest
from leaderboard import trail
from leaderboard.actions import NO_REASON, as_staff
from leaderboard.details_form import SAID, DetailsForm, text_field
from leaderboard.models import State, Submission

FIELDS = ("title", *SAID, "is_anonymous")
"""What can be changed."""


class EditForm(DetailsForm):
    """What is said about a submission; of staff also why it is changed."""

    title = text_field("title", help_text="how it is called on the board; its address stays as it is")
    reason = forms.CharField(
        max_length=500,
        label="Reason",
        help_text="for whoever reads the trail of what staff did",
        error_messages={"required": f"say why: {NO_REASON}"},
    )
    field_order = FIELDS

    def __init__(self, data: Any = None, *, submission: Submission, staff: bool) -> None:
        super().__init__(data, initial=_said(submission))
        if not staff:
            del self.fields["reason"]


def edit(submission: Submission, user: User | None, said: Mapping[str, Any], reason: str = "") -> tuple[str, ...]:
    """Change some of `FIELDS` of a submission, and return which are other than they were.

    Nobody in particular is the command line. What staff does is written into the trail in the same transaction.

    Raises:
        InvalidRequest: the form would refuse it, the submission was withdrawn, or staff does not say why; nothing is
            changed.
    """
    staff = user is None or as_staff(user, submission)
    if user is not None and staff and not reason.strip():
        raise InvalidRequest(NO_REASON)
    with transaction.atomic():
        now = Submission.objects.select_for_update().get(pk=submission.pk)
        if now.state == State.WITHDRAWN:
            raise InvalidRequest("the submission was withdrawn, and what is said of it stays as it is")
        wished = _checked(now, said)
        changed = {name: value for name, value in wished.items() if value != getattr(now, name)}
        if changed:
            if staff:
                trail.record(user, "edit", reason.strip(), submission=now, subject=f"{now}: {', '.join(changed)}")
            Submission.objects.filter(pk=now.pk).update(**changed, updated_at=timezone.now())
    submission.refresh_from_db()
    return tuple(changed)


def _checked(submission: Submission, said: Mapping[str, Any]) -> dict[str, Any]:
    form = EditForm({**_said(submission), **said}, submission=submission, staff=False)
    if not form.is_valid():
        name, sentences = next(iter(form.errors.items()))
        raise InvalidRequest(f"{name}: {sentences[0]}")
    return {name: form.cleaned_data[name] for name in FIELDS}


def _said(submission: Submission) -> dict[str, Any]:
    return {name: getattr(submission, name) for name in FIELDS}
