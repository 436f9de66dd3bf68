"""One attempt at claimed work: its lease is kept, and however it ends, the store hears of it (torch-free)."""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import copy_context
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar

from evaluator.exceptions import ArtifactsUnavailable, InvalidSetting, LostLease, StoreUnavailable
from evaluator.logs import about

log = logging.getLogger(__name__)


class Leased(Protocol):
    """A claim that holds for so long."""

    @property
    def lease_seconds(self) -> float:
        """Return how long it holds after each heartbeat."""

    @property
    def ids(self) -> Mapping[str, Any]:
        """Return what a log says of everything that happens under it."""


C = TypeVar("C", bound=Leased)
C_contra = TypeVar("C_contra", bound=Leased, contravariant=True)


class LeasingStore(Protocol[C_contra]):
    """Where claims come from; each call raises LostLease once the claim does not hold any more."""

    def heartbeat(self, claim: C_contra, /) -> None:
        """Extend the lease."""

    def release(self, claim: C_contra, /) -> None:
        """Hand the work back."""

    def fail(self, claim: C_contra, error: Exception, /) -> None:
        """Record why the attempt failed."""


class HandBack(Exception):
    """The work cannot be ended here and now, and nobody has failed."""


@contextmanager
def attempt(store: LeasingStore[C], claim: C, stop: Callable[[], bool]) -> Iterator[Callable[[], None]]:
    """Keep the lease for the length of a block, which calls the yielded function now and then.

    That function ends the block when the lease is lost or `stop` says so. What ends the block, the last report's
    refusal too, is recorded in the store and goes no further, but for what ends the process, the absence of a store,
    and a setting of this worker that others may have right: these count as no failure. Every line that is logged
    meanwhile carries the claim's ids.
    """
    with about(claim.ids), _recorded(store, claim, stop) as tick:
        yield tick


@contextmanager
def _recorded(store: LeasingStore[C], claim: C, stop: Callable[[], bool]) -> Iterator[Callable[[], None]]:
    try:
        with _Heartbeat(store, claim) as heartbeat:

            def tick() -> None:
                heartbeat.check()
                if stop():
                    raise HandBack

            yield tick
    except StoreUnavailable:
        raise
    except LostLease as loss:
        log.warning("%s", loss)
    except (InvalidSetting, ArtifactsUnavailable):
        store.release(claim)
        raise
    except Exception as error:
        try:
            if isinstance(error, HandBack):
                store.release(claim)
            else:
                log.exception("%s failed", claim)
                store.fail(claim, error)
        except LostLease as loss:
            log.warning("%s", loss)
    except BaseException:  # the process is being stopped: somebody else shall not have to wait for the lease
        store.release(claim)
        raise


class _Heartbeat(Generic[C]):
    """Keeps a lease from a thread of its own, because one call may take longer than a lease."""

    def __init__(self, store: LeasingStore[C], claim: C) -> None:
        self._store = store
        self._claim = claim
        self._stopped = threading.Event()
        self._loss: LostLease | None = None
        self._thread = threading.Thread(target=copy_context().run, args=(self._beat,), daemon=True)

    def __enter__(self) -> "_Heartbeat[C]":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._stopped.set()
        self._thread.join()

    def check(self) -> None:
        """Raise the LostLease that a beat met, if one did."""
        if self._loss is not None:
            raise self._loss

    def _beat(self) -> None:
        while not self._stopped.wait(self._claim.lease_seconds / 4):
            try:
                self._store.heartbeat(self._claim)
            except LostLease as loss:
                self._loss = loss
                return
            except StoreUnavailable as absence:  # it may be back before the lease ends
                log.warning("%s", absence)
