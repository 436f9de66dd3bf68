"""Personal API tokens: made once, shown once, known by their SHA-256; and the page where people keep them."""

import secrets
from collections.abc import Iterable
from datetime import timedelta
from hashlib import sha256
from typing import Any

from allauth.account.decorators import reauthentication_required
from django import forms
from django.contrib import messages
from django.contrib.auth.models import User
from django.db.models import Q
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST
from ninja.security import HttpBearer

from leaderboard.access import Rule, Scope, access
from leaderboard.models import Token

PREFIX = "rlb_"
"""By which scanners for leaked secrets know a token."""

_RANDOM_BYTES = 32
_SHOWN = len(PREFIX) + 4
_MINUTE = timedelta(minutes=1)


class TokenForm(forms.Form):
    """What a new token is called, what it is for and for how long."""

    name = forms.CharField(max_length=60)
    scopes = forms.MultipleChoiceField(
        choices=[
            (Scope.READ, "read your submissions"),
            (Scope.SUBMIT, "submit, and edit or cancel what you submitted"),
        ],
        widget=forms.CheckboxSelectMultiple,
        initial=[Scope.READ],
    )
    days = forms.TypedChoiceField(
        label="Expires after", choices=[(7, "7 days"), (30, "30 days"), (90, "90 days"), (365, "a year")], coerce=int,
        initial=90,
    )  # fmt: skip


class Bearer(HttpBearer):
    """Knows who asks the API by `Authorization: Bearer` and a personal token; a session counts for nothing there."""

    def authenticate(self, request: HttpRequest, token: str) -> Token | None:
        """Return the token if it is good, and let the request be its owner's."""
        found = find(token)
        if found is not None:
            request.user, request.scopes = found.owner, frozenset(found.scopes)  # type: ignore[attr-defined]
        return found


def make(owner: User, name: str, scopes: Iterable[str], days: int) -> str:
    """Return the text of a new token, which nobody can find out again."""
    text = PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)
    expires_at = timezone.now() + timedelta(days=days)
    Token.objects.create(
        owner=owner, name=name, digest=_digest(text), start=text[:_SHOWN], scopes=sorted(scopes), expires_at=expires_at
    )
    return text


def find(text: str) -> Token | None:
    """Return the token of a text unless it is unknown, expired, revoked or of an account that was closed."""
    now = timezone.now()
    good = Token.objects.filter(digest=_digest(text), revoked_at=None, expires_at__gt=now, owner__is_active=True)
    found = good.select_related("owner").first()
    if found is not None:
        recent = Q(last_used_at__gt=now - _MINUTE)
        Token.objects.filter(pk=found.pk).exclude(recent).update(last_used_at=now)
    return found


@access(Rule.SIGNED_IN)
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@reauthentication_required
def tokens(request: HttpRequest) -> HttpResponse:
    """Show somebody's tokens, and make new ones."""
    form = TokenForm(request.POST or None)
    context: dict[str, Any] = {"form": form}
    if form.is_valid():
        context = {"form": TokenForm(), "made": make(request.user, **form.cleaned_data)}
    context |= {"tokens": Token.objects.filter(owner=request.user), "now": timezone.now()}
    return render(request, "leaderboard/tokens.html", context)


@access(Rule.SIGNED_IN)
@require_POST
def revoke(request: HttpRequest, pk: int) -> HttpResponse:
    """Let a token be good for nothing any more."""
    mine = Token.objects.filter(owner=request.user, pk=pk)
    if not mine.exists():
        raise Http404
    mine.filter(revoked_at=None).update(revoked_at=timezone.now())
    messages.success(request, "The token is revoked.")
    return redirect("tokens")


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()
