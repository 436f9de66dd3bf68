"""How times are told: how long ago something was, and between what a forecast says."""

from datetime import datetime

from django import template
from django.utils import timezone

from leaderboard.standing import foretold, told

register = template.Library()
register.filter(foretold)


@register.filter
def ago(moment: datetime) -> str:
    """Return how long ago something was: `just now`, `40 s ago`, `3 min ago`."""
    seconds = (timezone.now() - moment).total_seconds()
    if seconds < 5:
        return "just now"
    units = told(seconds)
    return f"{' '.join(units)} ago" if units else f"{seconds:.0f} s ago"
