"""`/metrics`: the stores' own numbers for who brings the token, whatever does not answer."""

from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from django.test import Client
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families
from pytest_django.fixtures import Settings
from sqlalchemy import text

from evaluator.environment import ROOT
from evaluator.exceptions import DatasetMissing
from evaluator.shipped import SMOKE
from evaluator.store import Role
from leaderboard import dispatch, services
from leaderboard.monitoring import WORKER_STATES
from tests.leaderboard import factory

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("no_hurry"),
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy"),  # of kombu's tables
]

TOKEN = "a token for tests alone".replace(" ", "-")


@pytest.fixture
def scraper(settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Client:
    """Return a client with the token of a site that has one; its broker is a file in the test's folder."""
    settings.METRICS_TOKEN = TOKEN
    settings.SECURE_SSL_REDIRECT = True
    monkeypatch.setattr(dispatch.app.conf, "broker_url", f"sqlite:///{tmp_path / 'broker.sqlite3'}")
    return Client(headers={"host": "10.1.2.3:8000", "authorization": f"Bearer {TOKEN}"})


@pytest.fixture
def register() -> Iterator[None]:
    """Close the register that the test opened."""
    yield
    services.worker_register().close()


Samples = dict[tuple[str, frozenset[str]], float]


def scrape(client: Client) -> Samples:
    """Return each sample's value by its name and the values of its labels."""
    response = client.get("/metrics")
    assert response.status_code == 200
    assert response["Content-Type"].startswith("text/plain; version=")
    families = text_string_to_metric_families(response.content.decode())
    return {
        (sample.name.removeprefix("leaderboard_"), frozenset(sample.labels.values())): sample.value
        for family in families
        for sample in family.samples
    }


def key(name: str, *labels: str) -> tuple[str, frozenset[str]]:
    return name, frozenset(labels)


def test_without_a_token_there_is_no_such_page(client: Client) -> None:
    assert client.get("/metrics", headers={"authorization": "Bearer "}).status_code == 404


@pytest.mark.parametrize("sent", ["", "Bearer ", "Bearer another-token-of-twenty", TOKEN, "Bearer ünïcode"])
def test_who_does_not_bring_the_token_sees_nothing(sent: str, scraper: Client) -> None:
    response = scraper.get("/metrics", headers={"authorization": sent})
    assert response.status_code == 401
    assert response["WWW-Authenticate"] == "Bearer"
    assert b"leaderboard_" not in response.content
    assert TOKEN.encode() not in response.content


def test_the_numbers_are_those_of_the_stores(scraper: Client, register: None, tmp_path: Path) -> None:
    store = services.run_store()
    factory.published(tmp_path, number=0)
    failing = factory.submit(tmp_path, number=1)
    claim = store.claim("worker", run_id=failing.run_id)
    assert claim is not None
    store.fail(claim, DatasetMissing("absent"))
    waiting = factory.submit(tmp_path, number=2)
    workers = services.worker_register()
    for name in ("idle", "busy", "draining", "silent"):
        workers.announce(name, Role.EVALUATION)
    workers.drain("draining")
    held = store.claim("busy", run_id=waiting.run_id)
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE workers SET seen_at = seen_at - 121 WHERE name = 'silent'"))  # two leases
    workers.pause(Role.TRAINING, "the disk is full")

    status, samples = store.status(), scrape(scraper)
    assert held is not None
    for service in ("run-store", "site-database", "broker"):
        assert samples[key("up", service)] == 1
    for name, counts in (("runs", status.runs), ("shards", status.shards), ("trainings", status.trainings)):
        assert {state: samples[key(name, state)] for state in counts} == counts
    assert samples[key("runs", "complete")] == samples[key("runs", "failed")] == samples[key("runs", "running")] == 1
    assert samples[key("shards", "running")] == 1
    assert 0 < samples[key("oldest_waiting_seconds", "evaluation")] <= status.oldest_seconds[Role.EVALUATION] + 60
    assert samples[key("oldest_waiting_seconds", "training")] == 0
    for state in WORKER_STATES:
        assert samples[key("workers", "evaluation", state)] == 1
        assert samples[key("workers", "training", state)] == 0
    assert (samples[key("paused", "evaluation")], samples[key("paused", "training")]) == (0, 1)
    assert status.costs
    for cost in status.costs:
        assert samples[key("shard_seconds_sum", cost.stage)] == cost.seconds
        assert samples[key("shard_seconds_count", cost.stage)] == cost.shards
    assert samples[key("failed_runs_total", "DatasetMissing", "operator")] == 1
    assert abs(samples[key("run_store_time_seconds")] - status.at.timestamp()) < 60
    assert (samples[key("submissions", "published")], samples[key("submissions", "queued")]) == (1, 2)
    assert samples[key("wake_ups", "evaluation")] == 0


def test_every_metric_is_documented(scraper: Client) -> None:
    services.run_store()
    document = (ROOT / "docs/operating.md").read_text()
    names = {f"leaderboard_{name}" for name, _ in scrape(scraper)}
    assert len(names) >= 10
    for name in names:
        assert f"`{name}`" in document


def test_without_run_store_and_broker_the_rest_is_said(
    scraper: Client,
    elsewhere: Callable,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(dispatch.app.conf, "broker_url", f"sqlite:///{tmp_path / 'file' / 'broker.sqlite3'}")
    with elsewhere("postgresql://runs:secret@127.0.0.1:1/runs"):
        samples = scrape(scraper)
    assert samples[key("up", "run-store")] == samples[key("up", "broker")] == 0
    assert samples[key("up", "site-database")] == 1
    assert samples[key("submissions", "published")] == 0
    assert not any(name in ("runs", "wake_ups") for name, _ in samples)
    assert "secret" not in caplog.text


def test_a_scraper_may_ask_for_openmetrics(scraper: Client) -> None:
    services.run_store().create_run(uuid4(), SMOKE, "ab" * 32)
    response = scraper.get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
    assert response["Content-Type"].startswith("application/openmetrics-text")
    names = {family.name for family in open_metrics(response.content.decode())}
    assert {"leaderboard_runs", "leaderboard_failed_runs"} <= names
