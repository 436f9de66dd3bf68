"""How a Celery worker that is told to end tells its child, which may be at work for hours, to stop (torch-free)."""

import os
from contextlib import ExitStack
from pathlib import Path

from celery.signals import worker_init, worker_shutdown, worker_shutting_down

from evaluator.scratch import scratch_folder

_DRAIN = "WORKER_DRAIN_FILE"
"""Names the file by whose existence a worker tells its child to hand its work back and end."""

_open_folder = ExitStack()


def draining() -> bool:
    """Whether the worker that this process belongs to, if it does, was told to end."""
    return _DRAIN in os.environ and Path(os.environ[_DRAIN]).exists()


def _name_drain_file(**_: object) -> None:
    os.environ[_DRAIN] = str(_open_folder.enter_context(scratch_folder()) / "drain")


def _drain(**_: object) -> None:
    Path(os.environ[_DRAIN]).touch()


def _remove_drain_file(**_: object) -> None:
    del os.environ[_DRAIN]
    _open_folder.close()


worker_init.connect(_name_drain_file)
worker_shutting_down.connect(_drain)
worker_shutdown.connect(_remove_drain_file)
