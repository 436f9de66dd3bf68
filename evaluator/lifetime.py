"""Processes that do not outlive the one that started them (torch-free)."""

import ctypes
import os
import select
import signal
import sys
import threading

_PR_SET_PDEATHSIG = 1


def end_with_parent(by: signal.Signals = signal.SIGTERM) -> None:
    """Let Linux send this process `by` when its parent is gone, however that died; elsewhere do nothing.

    For Linux the parent is the thread that started this process: start it from one that lives as long as it shall.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, by)


def end_at_hang_up(descriptor: int) -> None:
    """End this process at once when nobody is left who could write to the pipe that it reads from at `descriptor`.

    A thread waits for that. Unlike `end_with_parent`, this holds on every system and in a process namespace, and also
    when the parent had died before it was called; but not while a library holds Python's lock.
    """
    threading.Thread(target=_await_hang_up, args=(descriptor,), name="hang-up", daemon=True).start()


def _await_hang_up(descriptor: int) -> None:
    pipe = select.poll()
    pipe.register(descriptor, 0)  # no event is asked for, so that only a hang-up wakes us
    pipe.poll()
    os._exit(1)
