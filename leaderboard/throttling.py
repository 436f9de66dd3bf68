"""How often somebody may do something: counted in the site's database, so that all web processes agree.

A window has fixed ends. Who did what is kept as a keyed hash, until its window is over.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import wraps
from ipaddress import IPv6Address, ip_address
from typing import Any, TypeVar

from allauth.account.adapter import get_adapter
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.crypto import salted_hmac

from leaderboard.models import Attempts

View = TypeVar("View", bound=Callable[..., Any])


@dataclass(frozen=True)
class Rate:
    """So many times in so many seconds, of an account, or of an address where nobody is signed in."""

    times: int
    seconds: int


RATES: dict[str, Rate] = {
    "sign-in": Rate(30, 300),
    "sign-up": Rate(10, 3600),
    "mail": Rate(10, 3600),
    "api": Rate(240, 60),
    "page": Rate(600, 60),
    "submit": Rate(60, 3600),
    "edit": Rate(60, 3600),
    "object": Rate(10, 86_400),
}

_OPENED = ("api", "page")
"""What counts whenever it is asked for, and not only when a form is sent."""

_nobody_counts: ContextVar[bool] = ContextVar("nobody_counts", default=False)

_COUNT = """
    INSERT INTO leaderboard_attempts (key, count, ends_at) VALUES (%s, 1, %s)
    ON CONFLICT (key) DO UPDATE SET count = leaderboard_attempts.count + 1
    RETURNING count
"""


class TooManyRequests(Exception):
    """Somebody did something too often, and may do it again after some seconds."""

    def __init__(self, seconds: int) -> None:
        super().__init__(f"too many requests; wait {seconds} seconds, then try again")
        self.seconds = seconds


def count(action: str, who: str) -> None:
    """Count that somebody does something.

    Raises:
        TooManyRequests: it is more often than `RATES` allow.
    """
    rate, now = RATES[action], int(time.time())
    ends_at = (now // rate.seconds + 1) * rate.seconds
    key = salted_hmac("leaderboard.throttling", f"{action} {who} {ends_at}", algorithm="sha256").hexdigest()
    with connection.cursor() as cursor:
        cursor.execute(_COUNT, [key, ends_at])
        if cursor.fetchone()[0] > rate.times:
            raise TooManyRequests(ends_at - now)


def limited(action: str) -> Callable[[View], View]:
    """Count every request to a view; forms count when they are sent, and not when they are opened."""

    def counted(view: View) -> View:
        @wraps(view)
        def counting(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            if (request.method == "POST" or action in _OPENED) and not _nobody_counts.get():
                count(action, _who(request))
            return view(request, *args, **kwargs)

        return counting  # type: ignore[return-value]

    return counted


@contextmanager
def unlimited() -> Iterator[None]:
    """Count nothing in a block, in which this process asks the site itself for all of its pages."""
    before = _nobody_counts.set(True)
    try:
        yield
    finally:
        _nobody_counts.reset(before)


def forget() -> None:
    """Remove the counts of windows that are over."""
    Attempts.objects.filter(ends_at__lt=time.time()).delete()


def too_many(request: HttpRequest, seconds: int = 60) -> HttpResponse:
    """Answer whoever asks too often."""
    answer = render(request, "429.html", {"seconds": seconds}, status=429)
    answer.headers["Retry-After"] = str(seconds)
    return answer


def _who(request: HttpRequest) -> str:
    """Return the account, or the address; of IPv6 the network, since who has one address has 2⁶⁴."""
    if request.user.is_authenticated:
        return f"user {request.user.pk}"
    address = ip_address(get_adapter().get_client_ip(request))
    return str(int(address) >> 64) if isinstance(address, IPv6Address) else str(address)
