"""How times are told: how long ago something was, and between what a forecast says."""

from datetime import datetime
from math import ceil

from django import template
from django.utils import timezone

from evaluator.forecast import Forecast

register = template.Library()

_UNITS = ((86_400, "d", 2 * 86_400), (3600, "h", 2 * 3600), (60, "min", 60))
"""Seconds of a unit, its sign, and from how many seconds on it is used."""


@register.filter
def foretold(forecast: Forecast) -> str:
    """Return a forecast as people say it: `about 4 min`, `3 to 5 min`, `up to 2 h`; never more exact than it is."""
    low, high = _told(forecast.low), _told(forecast.high)
    if high is None:
        return "less than a minute"
    if low is None:
        return f"up to {' '.join(high)}"
    if low == high:
        return f"about {' '.join(high)}"
    return f"{low[0]} to {' '.join(high)}" if low[1] == high[1] else f"{' '.join(low)} to {' '.join(high)}"


@register.filter
def ago(moment: datetime) -> str:
    """Return how long ago something was: `just now`, `40 s ago`, `3 min ago`."""
    seconds = (timezone.now() - moment).total_seconds()
    if seconds < 5:
        return "just now"
    told = _told(seconds)
    return f"{' '.join(told)} ago" if told else f"{seconds:.0f} s ago"


def _told(seconds: float) -> tuple[str, str] | None:
    """Return a number of whole units, rounded up, and the unit; None below a minute."""
    return next(((str(ceil(seconds / size)), sign) for size, sign, least in _UNITS if seconds >= least), None)
