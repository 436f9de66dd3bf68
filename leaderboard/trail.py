"""The trail: every act of staff with its reason, written in the transaction of the act and never changed.

The run store is another database. What changes it is done before the transaction ends that writes the act, so that an
act that fails leaves no trace, and at worst an act whose process was killed in that instant has none.
"""

from typing import Any

from django.contrib.auth.models import User
from django.db.models import Q, QuerySet

from leaderboard.models import StaffAct, Submission

COMMAND_LINE = "command line"
"""Who acts by a command of `manage.py`."""

_LONGEST = StaffAct._meta.get_field("subject").max_length


def record(
    actor: User | None, what: str, reason: str = "", *, submission: Submission | None = None, subject: str = ""
) -> None:
    """Write down what somebody did; nobody in particular is the command line."""
    StaffAct.objects.create(
        actor=actor.get_username() if actor else COMMAND_LINE,
        what=what,
        submission=submission,
        run_id=submission and submission.run_id,
        subject=(subject or str(submission or ""))[:_LONGEST],
        reason=reason,
    )


def acts(*, actor: str = "", what: str = "", words: str = "") -> QuerySet[StaffAct]:
    """Return the acts of somebody, of a kind, and with words in subject or reason, latest first; all where none is."""
    found = StaffAct.objects.select_related("submission")
    if actor:
        found = found.filter(actor=actor)
    if what:
        found = found.filter(what=what)
    for word in words.split():
        found = found.filter(Q(subject__icontains=word) | Q(reason__icontains=word) | Q(submission__slug=word))
    return found


def known(field: str) -> list[str]:
    """Return all values of a field that the trail holds, by alphabet."""
    return sorted(StaffAct.objects.order_by().values_list(field, flat=True).distinct())


def document(act: StaffAct) -> dict[str, Any]:
    """Return an act as plain JSON."""
    return {
        "at": act.at.isoformat(),
        "actor": act.actor,
        "what": act.what,
        "subject": act.subject,
        "submission": act.submission and act.submission.slug,
        "run_id": act.run_id and str(act.run_id),
        "reason": act.reason,
    }
