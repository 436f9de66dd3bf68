"""Every view declares whom it answers, and answers nobody else."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from django.contrib.auth.models import AnonymousUser, User
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest
from django.urls import URLPattern, URLResolver, get_resolver
from ninja.openapi.views import default_home

from leaderboard.access import NotSignedIn, Rule, Scope, access, is_staff, owns
from leaderboard.api import api
from tests.leaderboard import factory


def patterns(resolver: URLResolver, prefix: str = "/") -> Iterator[tuple[str, URLPattern]]:
    """Yield every address of the site with its pattern."""
    for pattern in resolver.url_patterns:
        route = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from patterns(pattern, route)
        else:
            yield route, pattern


def views() -> dict[str, Any]:
    """Return the functions that answer, by method and address; the API's answer by method."""
    found: dict[str, Any] = {}
    for route, pattern in patterns(get_resolver()):
        view = pattern.callback
        if isinstance(view, partial) and view.func is default_home:
            continue  # the API's own root names its address for the schema, and is never found
        if not hasattr(view, "rule") and route.startswith("/api/"):
            continue  # its operations follow
        found[f"GET {route}"] = view
    for prefix, router in api._routers:
        for path, answers in router.path_operations.items():
            for operation in answers.operations:
                for method in operation.methods:
                    found[f"{method} /api/v1{prefix}{path}"] = operation.view_func
    return found


@pytest.mark.parametrize("address", views())
def test_every_view_declares_whom_it_answers(address: str) -> None:
    assert isinstance(getattr(views()[address], "rule", None), Rule), "decorate it with @access(Rule.…)"


def test_the_api_has_no_address_whose_operations_were_not_looked_at() -> None:
    addresses = {address.partition(" ")[2] for address in views()}
    found = {route for route, _ in patterns(get_resolver()) if route.startswith("/api/")} - {"/api/v1/"}
    assert {route.replace("<", "{").replace(">", "}") for route in found} <= addresses


@pytest.fixture
def people(db: None) -> dict[str, AnonymousUser | User]:
    people: dict[str, AnonymousUser | User] = {"anonymous": AnonymousUser()}
    for name in ("owner", "other", "trainee", "staff"):
        people[name] = User.objects.create_user(name, is_staff=name in ("trainee", "staff"))
    Authenticator.objects.create(user=people["staff"], type=Authenticator.Type.TOTP, data={})
    return people


def answer(rule: Rule, user: AnonymousUser | User, scope: Scope | None = None, **named: Any) -> str:
    request = HttpRequest()
    request.user = user
    view: Callable[..., str] = access(rule, scope)(lambda request, **named: "answered")
    try:
        return view(request, **named)
    except (NotSignedIn, PermissionDenied, Http404) as refusal:
        return type(refusal).__name__


def test_a_rule_answers_those_it_names_and_nobody_else(people: dict[str, Any], tmp_path: Path) -> None:
    submission = factory.submit(tmp_path)
    submission.owner = people["owner"]
    submission.save()
    found = {
        rule: [answer(rule, user, run_id=submission.run_id) for user in people.values()]
        for rule in (Rule.PUBLIC, Rule.SIGNED_IN, Rule.OWNER, Rule.STAFF)
    }
    yes, no, absent, unknown = "answered", "PermissionDenied", "Http404", "NotSignedIn"
    assert found == {
        Rule.PUBLIC: [yes, yes, yes, yes, yes],
        Rule.SIGNED_IN: [unknown, yes, yes, yes, yes],
        Rule.OWNER: [unknown, yes, absent, absent, yes],
        Rule.STAFF: [unknown, no, no, no, yes],
    }


def test_a_submission_that_is_not_there_and_one_of_somebody_else_look_alike(people: dict[str, Any]) -> None:
    assert answer(Rule.OWNER, people["other"], slug="none") == "Http404"
    assert answer(Rule.OWNER, people["other"]) == "Http404"


def test_an_account_that_was_closed_has_no_powers(people: dict[str, Any], tmp_path: Path) -> None:
    people["staff"].is_active = False
    assert not is_staff(people["staff"])
    assert not owns(people["staff"], factory.submit(tmp_path))


def test_a_submission_of_nobody_belongs_to_staff_alone(people: dict[str, Any], tmp_path: Path) -> None:
    submission = factory.submit(tmp_path)
    assert [name for name, user in people.items() if owns(user, submission)] == ["staff"]
