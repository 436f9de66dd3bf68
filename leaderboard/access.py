"""Who may ask for what: every view declares one rule, and is guarded by it.

`tests/leaderboard/test_access.py` fails for a view that declares none, and asks every address in every role; what is
answered stands in docs/security.md.
"""

from collections.abc import Callable
from enum import StrEnum
from functools import wraps
from typing import Any, TypeVar

from allauth.mfa.utils import is_mfa_enabled
from django.contrib.auth.models import AnonymousUser, User
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest

from leaderboard.models import Submission

View = TypeVar("View", bound=Callable[..., Any])


class Rule(StrEnum):
    """Whom a view answers."""

    PUBLIC = "everybody"
    VISIBLE = "everybody, but for a private submission its owner and staff alone; for others it does not exist"
    SIGNED_IN = "whoever is signed in"
    OWNER = "the owner of the submission in the address, and staff; for others it does not exist"
    STAFF = "staff with a second factor"
    MACHINE = "whoever brings a personal token"


class Scope(StrEnum):
    """What a personal token is for."""

    READ = "read"
    SUBMIT = "submit"


class NotSignedIn(Exception):
    """A view needs to know who asks."""


def access(rule: Rule, scope: Scope | None = None) -> Callable[[View], View]:
    """Declare who may ask for a view, and refuse everybody else.

    Pages know people by their session, the API by personal tokens alone, which need the `scope`. The submission of
    `Rule.VISIBLE` and `Rule.OWNER` is the one that the address names, by `run_id` or `slug`; of one that there is not,
    the view of `Rule.VISIBLE` has to say so.
    """

    def declared(view: View) -> View:
        @wraps(view)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            _refuse_others(rule, scope, request, kwargs)
            return view(request, *args, **kwargs)

        guarded.rule, guarded.scope = rule, scope  # type: ignore[attr-defined]
        return guarded  # type: ignore[return-value]

    return declared


def is_staff(user: User | AnonymousUser) -> bool:
    """Say whether a user has the powers of staff: only with a second factor."""
    return user.is_active and user.is_staff and is_mfa_enabled(user)


def owns(user: User | AnonymousUser, submission: Submission) -> bool:
    """Say whether a submission is a user's to see and to change; staff may do so with all."""
    return user.is_authenticated and (submission.owner_id == user.pk or is_staff(user))


def _refuse_others(rule: Rule, scope: Scope | None, request: HttpRequest, named: dict[str, Any]) -> None:
    if rule is Rule.PUBLIC:
        return
    if rule is Rule.VISIBLE:
        submission = _named(named)
        if submission is not None and submission.is_private and not owns(request.user, submission):
            raise Http404
        return
    if not request.user.is_authenticated:
        raise NotSignedIn
    if scope is not None and scope not in getattr(request, "scopes", ()):
        raise PermissionDenied(f"this token is not for that; make one with the scope {scope}")
    if rule is Rule.STAFF and not is_staff(request.user):
        raise PermissionDenied("this is for staff, who need a second factor: add one under /account/mfa/")
    if rule is Rule.OWNER:
        submission = _named(named)
        if submission is None or not owns(request.user, submission):
            raise Http404


def _named(named: dict[str, Any]) -> Submission | None:
    key = {name: named[name] for name in ("run_id", "slug") if name in named}
    return Submission.objects.filter(**key).first() if key else None
