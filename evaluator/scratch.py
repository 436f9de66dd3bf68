"""Temporary folders that outlive a killed process only until the next one comes (torch-free)."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PREFIX = "robust-leaderboard-"


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Yield a folder that is there for the length of a block, and remove those of processes that were killed in one.

    Who is in a block holds a lock on its folder, which the system takes back when the process ends, however it does.
    """
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        with _locked(folder, fcntl.LOCK_EX) as ours:
            if not ours:  # somebody came between and took it for a dead process's
                continue
            try:
                _remove_abandoned(folder.parent)
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)
                _remove_abandoned(folder.parent)
            return


def _remove_abandoned(where: Path) -> None:
    for folder in where.glob(f"{_PREFIX}*"):
        with suppress(OSError), _locked(folder, fcntl.LOCK_EX | fcntl.LOCK_NB) as abandoned:
            if abandoned and folder.stat().st_uid == os.geteuid():
                shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _locked(folder: Path, how: int) -> Iterator[bool]:
    """Hold the lock of a folder, and say whether it is still there."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except FileNotFoundError:
        yield False
        return
    try:
        fcntl.flock(descriptor, how)
        yield folder.exists()
    finally:
        os.close(descriptor)
