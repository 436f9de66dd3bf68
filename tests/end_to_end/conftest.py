"""Each test has stores in a folder of its own; processes learn of them from their environment."""

import os
from pathlib import Path

import pytest

from tests.leaderboard.conftest import nudges

__all__ = ["nudges", "variables"]


@pytest.fixture
def variables(tmp_path: Path) -> dict[str, str]:
    return os.environ | {
        "DJANGO_SETTINGS_MODULE": "leaderboard.settings",
        "SECRET_KEY": "for tests only",
        "DATABASE_URL": f"sqlite:///{tmp_path}/site.sqlite3",
        "RUN_STORE_URL": f"sqlite:///{tmp_path}/runs.sqlite3",
        "QUEUE_URL": f"sqla+sqlite:///{tmp_path}/broker.sqlite3",
        "ARTIFACTS_URL": f"{tmp_path}/artifacts",
        "EVALUATION_DEVICE": "cpu",
        "LEASE_SECONDS": "5",
    }
