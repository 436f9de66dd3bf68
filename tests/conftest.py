"""Tests measure and train networks so small that a second thread only gets in their way, above all beside others."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported, here and in processes started from here
hypothesis.settings.register_profile("any machine", deadline=None)  # a busy one is slow at any moment
hypothesis.settings.load_profile("any machine")

MEMORY, ROOM_BYTES = Path("/dev/shm"), 4 << 30
"""Where Linux has a disk in memory, and how much of it must be free for the files of the tests."""

# They make and throw away thousands of databases, and a real disk is waited for at each
if "TMPDIR" not in os.environ and MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM_BYTES:
    os.environ["TMPDIR"] = tempfile.tempdir = str(MEMORY)

WAITING = {"docker", "end_to_end", "faults"}
"""Folders whose tests wait for other processes more than they work."""


@pytest.hookimpl(trylast=True)  # after pytest-django, which sorts by the database
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Spread the files that wait evenly over those that work, so that files run at a time leave no core idle."""
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    places: dict[Path, float] = {}
    for waits in (True, False):
        alike = [file for file in files if (file.parent.name in WAITING) is waits]
        places |= {file: (place + 0.5) / len(alike) for place, file in enumerate(alike)}
    items[:] = [item for file in sorted(files, key=places.__getitem__) for item in files[file]]


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings: None, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep the site's SQLite in a file, as sites do: one in memory lets nobody wait for a lock."""
    from django.conf import settings

    database = settings.DATABASES["default"]
    if "sqlite3" in database["ENGINE"]:
        database.setdefault("TEST", {})["NAME"] = str(tmp_path_factory.mktemp("site") / "site.sqlite3")


@pytest.fixture(scope="session")
def s3_server() -> Iterator[dict[str, str]]:
    from tests.object_stores import s3  # seconds of imports that few tests need

    with s3() as variables:
        yield variables


@pytest.fixture
def object_store(s3_server: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Return the environment variables of a real S3-compatible server, which are set here too."""
    for name, value in s3_server.items():
        monkeypatch.setenv(name, value)
    return s3_server
