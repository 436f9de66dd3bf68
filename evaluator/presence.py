"""How the child of a Celery worker says, for as long as it lives, that it is there (torch-free)."""

import logging
import os
import platform
import threading

from celery import Celery, current_app
from celery.signals import worker_process_init, worker_process_shutdown

from evaluator.environment import read_environment
from evaluator.exceptions import StoreUnavailable
from evaluator.store import Role, WorkerRegister

log = logging.getLogger(__name__)


def worker_name() -> str:
    """Return the name under which this process claims work."""
    return f"{platform.node()}:{os.getpid()}"


class Presence:
    """Announces a worker four times a lease from a thread of its own, until it leaves."""

    def __init__(self, url: str, role: Role, lease_seconds: float) -> None:
        self._register = WorkerRegister(url)
        self._role = role
        self._seconds = lease_seconds / 4
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._stay, name="presence", daemon=True)
        self._thread.start()

    def leave(self) -> None:
        """Say that the worker has ended."""
        self._left.set()
        self._thread.join()
        try:
            self._register.leave(worker_name())
        except StoreUnavailable as absence:
            log.warning("%s", absence)
        self._register.close()

    def _stay(self) -> None:
        while True:
            try:
                self._register.announce(worker_name(), self._role)
            except StoreUnavailable as absence:  # it may be back next time
                log.warning("%s", absence)
            if self._left.wait(self._seconds):
                return


def keep_present(app: Celery, role: Role) -> None:
    """Let each process of the pool of this application's workers be present from its start to its end.

    The site knows the application too, to send messages, and Celery's signals are for all that a process knows.
    """
    presences: list[Presence] = []

    def arrive(**_: object) -> None:
        if current_app.main != app.main:  # another object of that name in a spawned process
            return
        here = read_environment()
        presences.append(Presence(here.run_store_url, role, here.lease_seconds))

    def leave(**_: object) -> None:
        while presences:
            presences.pop().leave()

    worker_process_init.connect(arrive, weak=False)
    worker_process_shutdown.connect(leave, weak=False)
