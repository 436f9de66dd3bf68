"""The site under test: Django set up once, the other stores in a folder of their own for each test."""

import os
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import django
import pytest

os.environ["DJANGO_SETTINGS_MODULE"] = "leaderboard.settings"
os.environ.setdefault("SECRET_KEY", "for tests only")
django.setup()


@pytest.fixture(autouse=True)
def nudges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[UUID]]:
    """Return the runs that the evaluation workers were nudged about; no message leaves the test."""
    from evaluator import worker
    from leaderboard import services

    sent: list[UUID] = []
    monkeypatch.setattr(worker, "nudge", sent.append)
    monkeypatch.setenv("RUN_STORE_URL", f"sqlite:///{tmp_path / 'runs.sqlite3'}")
    monkeypatch.setenv("ARTIFACTS_URL", str(tmp_path / "artifacts"))
    yield sent
    services.run_store().close()
