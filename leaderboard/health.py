"""Whether this process can serve: `/healthz` asks nobody, `/readyz` both databases, and neither can be made to wait."""

import logging
from collections.abc import Callable
from concurrent.futures import Future
from datetime import datetime
from functools import cache
from threading import Lock, Thread
from typing import Generic, TypeVar

from django.db import connection, connections
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

from evaluator.environment import read_environment
from evaluator.store import RunStore

SECONDS = 2.0
"""How long whoever is asked may take to answer."""

log = logging.getLogger(__name__)

T = TypeVar("T")


class Question(Generic[T]):
    """Is asked in a thread of its own, one at a time: who never answers holds one thread, and nobody who asks."""

    def __init__(self, ask: Callable[[], T], *, seconds: float = SECONDS) -> None:
        self._ask = ask
        self._seconds = seconds
        self._lock = Lock()
        self._answer: Future[T] | None = None

    def __call__(self) -> T:
        """Return the answer, or raise what was raised instead of it.

        Raises:
            TimeoutError: it takes longer than `seconds`.
        """
        with self._lock:
            if self._answer is None or self._answer.done():
                self._answer = Future()
                Thread(target=self._run, args=(self._answer,), daemon=True).start()
            answer = self._answer
        try:
            return answer.result(self._seconds)
        except TimeoutError as late:
            raise TimeoutError(f"no answer within {self._seconds:g} seconds") from late

    def _run(self, answer: Future[T]) -> None:
        try:
            answer.set_result(self._ask())
        except BaseException as error:
            answer.set_exception(error)
        finally:
            connections.close_all()  # those of this thread


def from_run_store(ask: Callable[[RunStore], T]) -> T:
    """Return what the run store answers over a connection of its own; StoreUnavailable at once where it does not."""
    store = RunStore(read_environment().run_store_url, patience_seconds=0)
    try:
        return ask(store)
    finally:
        store.close()


def _missing_migrations() -> list[str]:
    """Return the migrations that the site's database lacks."""
    applied = MigrationRecorder(connection).applied_migrations()
    return [f"{app}.{name}" for app, name in _last_migrations() if (app, name) not in applied]


@cache
def _last_migrations() -> tuple[tuple[str, str], ...]:
    return tuple(MigrationLoader(None).graph.leaf_nodes())


def _clock() -> datetime:
    return from_run_store(RunStore.clock)


missing_migrations, clock = Question(_missing_migrations), Question(_clock)


@require_safe
def healthz(request: HttpRequest) -> HttpResponse:
    """Say that the process answers."""
    return _text("ok")


@require_safe
def readyz(request: HttpRequest) -> HttpResponse:
    """Say whether both databases answer and have their tables; without a broker the site serves as well as with one.

    Anybody may ask, so what a database said stands in the log alone.
    """
    troubles = []
    try:
        if missing := missing_migrations():
            troubles.append(f"the site's database lacks {', '.join(missing)}; run manage.py migrate")
    except Exception as error:  # whatever it is, we are not ready
        troubles.append(_absence("the site's database", error))
    try:
        clock()
    except Exception as error:
        troubles.append(_absence("the run store", error))
    return _text("; ".join(troubles), status=503) if troubles else _text("ready")


def _absence(name: str, error: Exception) -> str:
    log.warning("%s does not answer: %s", name, error)
    return f"{name} does not answer, or not as it should; the log of this process says more"


def _text(sentence: str, status: int = 200) -> HttpResponse:
    headers = {"Cache-Control": "no-store"}
    return HttpResponse(f"{sentence}\n", status=status, content_type="text/plain; charset=utf-8", headers=headers)
