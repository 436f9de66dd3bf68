"""What the API's own description allows, and what it does not: nothing breaks it, and its answers are as described."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from django.contrib.auth.models import User
from django.core.signals import request_finished, request_started
from django.db import close_old_connections
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    ignored_auth,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from leaderboard import throttling, tokens
from leaderboard.access import Scope
from leaderboard.api import api
from leaderboard.wsgi import application
from tests.leaderboard import factory

pytestmark = pytest.mark.django_db

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    ignored_auth,
]
"""Not among them: that all wrong requests are refused, for parameters that nobody knows are ignored."""


def site(environ: dict[str, Any], start_response: Any) -> Any:
    """Answer as to a client that does not read gzip, at an address."""
    return application(environ | {"REMOTE_ADDR": "127.0.0.1", "HTTP_ACCEPT_ENCODING": "identity"}, start_response)


SCHEMA = schemathesis.openapi.from_wsgi("/api/v1/openapi.json", site)
NEVER_WRONG = {f"GET /api/v1/{name}" for name in ("queue", "protocols", "metrics", "reported", "entries/{slug}/")}
"""Who asks nothing, or for any word, asks nothing that the description forbids."""

OPERATIONS = [one.ok() for one in SCHEMA.get_all_operations()]


@pytest.fixture(autouse=True)
def connected() -> Iterator[None]:
    """Let no request close the connection whose transaction the test is in, as Django's own client does."""
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


@pytest.fixture
def bearer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Let somebody have a published submission, and return what lets a program act as that person."""
    owner = User.objects.create_user("owner")
    submission = factory.published(tmp_path)
    submission.owner = owner
    submission.save()
    monkeypatch.setitem(throttling.RATES, "api", throttling.Rate(10_000, 60))
    monkeypatch.setitem(throttling.RATES, "submit", throttling.Rate(10_000, 60))
    return {"Authorization": f"Bearer {tokens.make(owner, 'script', [Scope.READ, Scope.SUBMIT], days=1)}"}


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_whatever_is_asked_is_answered_as_the_description_says(mode: GenerationMode, bearer: dict[str, str]) -> None:
    for operation in OPERATIONS:
        if mode is GenerationMode.NEGATIVE and operation.label in NEVER_WRONG:
            continue

        @settings(
            max_examples=15, derandomize=True, database=None, phases=[Phase.generate],
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        )  # fmt: skip
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask(case: Case) -> None:
            case.call_and_validate(headers=bearer, checks=CHECKS)

        ask()


def test_every_operation_was_asked() -> None:
    paths = api.get_openapi_schema()["paths"]
    described = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    assert {operation.label for operation in OPERATIONS} == described
