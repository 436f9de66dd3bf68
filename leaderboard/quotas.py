"""How much one person may hand in; what failed by our fault or staff had rerun does not count; staff have no bounds."""

from datetime import timedelta
from math import ceil

from django.conf import settings
from django.contrib.auth.models import User
from django.db.models import Sum
from django.utils import timezone

from evaluator.exceptions import Fault
from leaderboard.access import is_staff
from leaderboard.models import State, Submission

_DAY = timedelta(days=1)
_WHEN_SOME_END = 300
"""Seconds after which it is worth asking again whether a submission has ended."""


class QuotaExceeded(Exception):
    """Somebody has handed in as much as one person may, until `seconds` have passed; without them, for good."""

    def __init__(self, sentence: str, seconds: int | None = None) -> None:
        super().__init__(sentence)
        self.seconds = seconds


def check(owner: User, size_bytes: int) -> None:
    """Let somebody hand in a file of that size.

    Raises:
        QuotaExceeded: too many of their submissions wait, they handed in too many today, or their files are too large.
    """
    if is_staff(owner):
        return
    own = Submission.objects.filter(owner=owner).exclude(staff_acts__what="rerun")
    counting = own.exclude(pk__in=own.filter(state=State.FAILED).exclude(fault=Fault.SUBMITTER).values("pk"))
    pending = own.filter(state__in=[state for state in State if not state.ended]).count()
    if pending >= settings.QUOTA_PENDING:
        raise QuotaExceeded(
            f"{pending} of your submissions are being measured or wait, which is as many as one person may have; "
            "hand this in when one has ended",
            _WHEN_SOME_END,
        )
    now = timezone.now()
    today = counting.filter(created_at__gt=now - _DAY).order_by("-created_at")
    times = list(today.values_list("created_at", flat=True)[: settings.QUOTA_DAILY])
    if len(times) == settings.QUOTA_DAILY:
        wait = ceil((times[-1] + _DAY - now).total_seconds())
        raise QuotaExceeded(
            f"you handed in {len(times)} submissions within a day, which is as many as one person may; "
            f"hand this in {ceil(wait / 60)} minutes from now",
            wait,
        )
    held = counting.aggregate(Sum("size_bytes"))["size_bytes__sum"] or 0
    if held + size_bytes > settings.QUOTA_BYTES:
        raise QuotaExceeded(
            f"with this file of {size_bytes} bytes your submissions hold {held + size_bytes}, and one person's may "
            f"hold {settings.QUOTA_BYTES}; ask the operator for more"
        )
