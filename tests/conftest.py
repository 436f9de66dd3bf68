"""Tests measure and train networks so small that a second thread only gets in their way, above all beside others."""

import os
from collections.abc import Iterator

import hypothesis
import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported, here and in processes started from here
hypothesis.settings.register_profile("any machine", deadline=None)  # a busy one is slow at any moment
hypothesis.settings.load_profile("any machine")


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
