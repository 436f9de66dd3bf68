"""Several processes as one: they start together, and when one ends or we are told to stop, all stop."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence

from django.conf import settings

from evaluator.lifetime import end_with_parent

STOP_SECONDS = 15
_POLL_SECONDS = 0.2


def manage(*arguments: str) -> list[str]:
    """Return the command line of a command of this site."""
    return [sys.executable, str(settings.BASE_DIR / "manage.py"), *arguments]


def supervise(commands: Sequence[Sequence[str]]) -> int:
    """Run `commands` side by side; return 0 when asked to stop, else the status of the one that ended first.

    A process that does not stop in time is killed with its children: leases make sure that no work is lost for good.
    None outlives this one, however it ended.
    """
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    # A session of its own each: Ctrl-C reaches this process alone, which then stops each of them once.
    processes = [
        subprocess.Popen(command, cwd=settings.BASE_DIR, start_new_session=True, preexec_fn=end_with_parent)
        for command in commands
    ]
    while not stop.is_set() and all(process.poll() is None for process in processes):
        stop.wait(_POLL_SECONDS)
    status = next((process.returncode for process in processes if process.returncode is not None), 0)
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return status
