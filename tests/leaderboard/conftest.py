"""The site under test: the other stores in a folder of their own for each test."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from uuid import UUID

import pytest

from evaluator import intervals, worker
from leaderboard import health, monitoring, services


@pytest.fixture(autouse=True)
def nudges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[UUID]]:
    """Return the runs that the evaluation workers were nudged about; no message leaves the test."""
    sent: list[UUID] = []
    monkeypatch.setattr(worker, "nudge", sent.append)
    monkeypatch.setattr(intervals, "RESAMPLES", 100)  # a made number needs no precise interval
    monkeypatch.setenv("RUN_STORE_URL", f"sqlite:///{tmp_path / 'runs.sqlite3'}")
    monkeypatch.setenv("ARTIFACTS_URL", str(tmp_path / "artifacts"))
    monkeypatch.setenv("AUDIT_SHARE", "0")  # what is made up is not made up twice alike
    yield sent
    services.run_store().close()


@pytest.fixture
def no_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let whoever is asked how things stand answer as slowly as a busy machine does."""
    for question in (
        health.missing_migrations, health.clock, monitoring.status, monitoring.submissions, monitoring.wake_ups,
    ):  # fmt: skip
        monkeypatch.setattr(question, "_seconds", 120)


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], AbstractContextManager[None]]:
    """Return a block's way to look for the run store at another address."""

    @contextmanager
    def look(url: str) -> Iterator[None]:
        with monkeypatch.context() as patch:
            patch.setenv("RUN_STORE_URL", url)
            yield

    return look
