"""How the run store speaks to its database: engine, clock, and patience while it is away (torch-free)."""

import functools
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import psycopg
from sqlalchemy import Connection, Double, Engine, MetaData, create_engine, event, inspect
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session
from sqlalchemy.schema import CreateColumn
from sqlalchemy.sql.functions import FunctionElement

from evaluator.exceptions import StoreUnavailable

LOCK_SECONDS = 20
"""How long SQLite waits for another process's write."""

_IDLE_SECONDS = 10
"""How long PostgreSQL lets a transaction stand still: who froze or lost the network in one shall not keep its locks."""

_CONNECTION = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
}
"""How soon a connection to a server that has vanished without a word is given up, in libpq's words."""

PATIENCE_SECONDS = 15.0
"""How long a call waits, unless told otherwise, for a database that restarts, before it gives up."""


class now(FunctionElement[float]):  # noqa: N801  # reads as the SQL function it is
    """Seconds since 1970 by the database's clock, so that the clocks of workers never matter."""

    inherit_cache = True
    type = Double()


@compiles(now, "sqlite")
def _now_sqlite(*_: Any, **__: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(now, "postgresql")
def _now_postgresql(*_: Any, **__: Any) -> str:
    return "CAST(extract(epoch from clock_timestamp()) AS double precision)"


def open_engine(url: str) -> Engine:
    """Return an engine for `url`: SQLite in WAL mode where every writer begins IMMEDIATE, or PostgreSQL."""
    address = make_url(url)
    if address.get_backend_name() != "sqlite":
        engine = create_engine(
            address.set(drivername="postgresql+psycopg"), pool_pre_ping=True, connect_args=_CONNECTION
        )

        @event.listens_for(engine, "connect")
        def limit(connection: psycopg.Connection, _: object) -> None:
            connection.execute(f"SET idle_in_transaction_session_timeout = '{_IDLE_SECONDS}s'")
            connection.commit()

        return engine
    if address.database:
        Path(address.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(address, connect_args={"timeout": LOCK_SECONDS})

    @event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None  # the driver shall not begin transactions: `begin` below does
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        reading = connection.get_execution_options().get("reading", False)
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

    return engine


def add_what_is_missing(connection: Connection, metadata: MetaData) -> None:
    """Add to existing tables the columns and indexes that newer versions of the project declare.

    Such columns are NULL or have a default. Column by column, since an older version may have made some tables and not
    others.
    """
    there = inspect(connection)
    for table in metadata.sorted_tables:
        known = {column["name"] for column in there.get_columns(table.name)}
        for column in table.columns:
            if column.name not in known:
                definition = CreateColumn(column).compile(dialect=connection.dialect)
                connection.exec_driver_sql(f"ALTER TABLE {table.name} ADD COLUMN {definition}")
        for index in table.indexes:
            index.create(connection, checkfirst=True)


class Store:
    """A part of the run store at `url`: `sqlite:///path` or `postgresql://…`. Safe to use from several threads.

    Its calls wait `patience_seconds` for a database that is away; who only asks how things stand brings none.
    """

    def __init__(self, url: str, *, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self.engine = open_engine(url)
        self.patience_seconds = patience_seconds

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    def _reading(self) -> Session:
        return Session(self.engine.execution_options(reading=True))

    @contextmanager
    def _writing(self) -> Iterator[Session]:
        with Session(self.engine, expire_on_commit=False) as session, session.begin():
            yield session


P = ParamSpec("P")
R = TypeVar("R")


def patient(method: Callable[Concatenate[Any, P], R]) -> Callable[Concatenate[Any, P], R]:
    """Repeat a method that is one transaction while the database restarts or is locked.

    Every write compares before it swaps, so a repeat after a commit whose answer was lost changes nothing twice.

    Raises:
        StoreUnavailable: the database did not answer for the store's `patience_seconds`, or its tables do not exist.
    """

    @functools.wraps(method)
    def call(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> R:
        deadline = time.monotonic() + self.patience_seconds
        wait = 0.05
        while True:
            try:
                return method(self, *args, **kwargs)
            except DBAPIError as error:
                reason = str(error.orig).strip().splitlines()[0]
                missing = "no such table" in reason or "does not exist" in reason
                if not missing and not isinstance(error, OperationalError) and not error.connection_invalidated:
                    raise
                if missing or time.monotonic() + wait > deadline:
                    place = self.engine.url.render_as_string(hide_password=True)
                    raise StoreUnavailable(
                        f"the run store at {place} does not answer ({reason}); "
                        "start it, make room, or create its tables"
                    ) from error
            time.sleep(wait)
            wait = min(2 * wait, 1.0)

    return call
