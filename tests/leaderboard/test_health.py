"""Probes: a process that answers, and one that is ready, whoever does not answer it."""

import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder
from django.test import Client
from pytest_django.fixtures import Settings

from leaderboard import health, services
from leaderboard.health import Question

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("no_hurry")]


@pytest.fixture
def tables() -> None:
    """Make the run store's tables."""
    services.run_store()


def test_both_databases_answer(client: Client, tables: None) -> None:
    response = client.get("/readyz")
    assert (response.status_code, response.content) == (200, b"ready\n")
    assert response["Cache-Control"] == "no-store"


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_probes_come_by_address_over_plain_http(path: str, settings: Settings, tables: None) -> None:
    settings.SECURE_SSL_REDIRECT = True
    settings.ALLOWED_HOSTS = ["board.example.org"]
    client = Client(headers={"host": "10.1.2.3:8000"})
    assert client.get(path).status_code == 200
    assert client.head(path).status_code == 200
    assert client.post(path).status_code == 405
    assert client.get("/about/").status_code in (301, 400)


def test_a_process_is_alive_without_any_database(
    client: Client, elsewhere: Callable, django_assert_num_queries: Callable
) -> None:
    with elsewhere("postgresql://runs:secret@127.0.0.1:1/runs"), django_assert_num_queries(0):
        response = client.get("/healthz")
    assert (response.status_code, response.content) == (200, b"ok\n")


@pytest.mark.parametrize("kind", ["no server", "no tables"])
def test_a_run_store_that_is_not_there_is_named_without_its_address(
    kind: str, client: Client, elsewhere: Callable, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    urls = {
        "no server": "postgresql://runs:secret@127.0.0.1:1/runs",
        "no tables": f"sqlite:///{tmp_path / 'empty.sqlite3'}",
    }
    with elsewhere(urls[kind]):
        response = client.get("/readyz")
    page = response.content.decode()
    assert response.status_code == 503
    assert response["Content-Type"].startswith("text/plain")
    assert "the run store does not answer" in page
    assert "site's database" not in page
    assert "127.0.0.1" not in page
    assert "run store" in caplog.text  # with the reason
    assert "secret" not in page + caplog.text


def test_a_server_that_accepts_and_never_answers_makes_nobody_wait(
    client: Client, elsewhere: Callable, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(health, "clock", Question(health._clock, seconds=0.1))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with elsewhere(f"postgresql://runs@127.0.0.1:{port}/runs"):
            for _ in range(3):
                response = client.get("/readyz")
                assert response.status_code == 503
                assert "the run store does not answer" in response.content.decode()
    assert "no answer within 0.1 seconds" in caplog.text


def test_a_site_without_its_latest_tables_is_not_ready(client: Client, tables: None) -> None:
    recorder = MigrationRecorder(connection)
    app, name = next(key for key in health._last_migrations() if key[0] == "leaderboard")
    recorder.record_unapplied(app, name)
    try:
        response = client.get("/readyz")
    finally:
        recorder.record_applied(app, name)
    assert response.status_code == 503
    assert f"the site's database lacks leaderboard.{name}; run manage.py migrate" in response.content.decode()
    assert client.get("/readyz").status_code == 200


def test_a_question_without_an_answer_is_asked_once_and_again_when_it_was_answered() -> None:
    asked: list[int] = []
    gate = threading.Event()

    def ask() -> int:
        asked.append(1)
        gate.wait(60)
        return len(asked)

    question = Question(ask, seconds=0.01)
    for _ in range(5):
        with pytest.raises(TimeoutError, match=r"no answer within 0\.01 seconds"):
            question()
    assert len(asked) == 1
    gate.set()
    patient = Question(ask, seconds=60)
    assert patient() == 2
    assert patient() == 3


def test_what_is_raised_is_the_answer() -> None:
    question = Question(lambda: 1 / 0)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            question()
