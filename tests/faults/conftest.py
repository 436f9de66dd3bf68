"""A PostgreSQL and a Redis that may be harmed, and chance that can be repeated."""

import os
import random
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from redis import Redis

from tests import servers
from tests.workers import Evaluation


@pytest.fixture(scope="session")
def postgresql_to_harm() -> Iterator[servers.Server]:
    with servers.postgresql_server() as server:
        yield server


@pytest.fixture(scope="session")
def redis_to_harm() -> Iterator[servers.Server]:
    with servers.redis_server() as server:
        yield server


@pytest.fixture
def database(postgresql_to_harm: servers.Server) -> servers.Server:
    """Return PostgreSQL, and see that it runs, whatever the last test did to it."""
    postgresql_to_harm.start()
    return postgresql_to_harm


@pytest.fixture
def broker(redis_to_harm: servers.Server) -> servers.Server:
    """Return an empty Redis."""
    redis_to_harm.start()
    empty(redis_to_harm)
    return redis_to_harm


@pytest.fixture
def place(tmp_path: Path, database: servers.Server, broker: servers.Server) -> Iterator[Evaluation]:
    """Return where workers meet: on Redis, and in a PostgreSQL database of this test alone."""
    name = f"runs_{uuid4().hex}"
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    place = Evaluation(tmp_path, broker.url, f"{database.url.rpartition('/')[0]}/{name}")
    yield place
    place.close()


@pytest.fixture
def dice() -> random.Random:
    """Return chance; what it was stands in the output of a test that fails, and FAULTS_SEED repeats it."""
    seed = int(os.environ.get("FAULTS_SEED", random.randrange(1 << 16)))
    print(f"FAULTS_SEED={seed}")
    return random.Random(seed)


def empty(broker: servers.Server) -> None:
    """Take all that a Redis holds."""
    with Redis.from_url(broker.url) as client:
        client.flushall()


def messages(broker: servers.Server, queue: str) -> int:
    """Return how many messages wait in a queue of a Redis."""
    with Redis.from_url(broker.url) as client:
        return client.llen(queue)
