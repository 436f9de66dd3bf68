"""Processes end with the one that started them, whatever they are doing and however that one died."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUSY = "print(os.getpid(), flush=True)\nwhile True: pass"
"""Says who it is and never ends by itself, nor reads."""


def started(code: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-c", f"import os\n{code}"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def innermost(pid: int) -> int:
    """Return the process that the walls `pid` stand around: its child's child, and so on."""
    with suppress(FileNotFoundError, ProcessLookupError):
        while children := Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            pid = int(children[0])
    return pid


def await_end(pid: int) -> None:
    deadline = time.monotonic() + 60
    while not gone(pid):
        assert time.monotonic() < deadline, f"process {pid} outlived its parent"
        time.sleep(0.05)


def test_a_process_that_ends_with_its_parent_ends_when_that_is_killed_though_it_ignores_requests():
    child = (
        "import os, signal; from evaluator.lifetime import end_with_parent; "
        "signal.signal(signal.SIGTERM, signal.SIG_IGN); end_with_parent(signal.SIGKILL)\n"
    )
    with started(f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child + BUSY!r}])") as parent:
        pid = int(parent.stdout.readline())
        assert not gone(pid)
        parent.kill()
    await_end(pid)


@pytest.mark.parametrize("when", ["before", "afterwards"])
def test_a_process_ends_in_the_middle_of_work_when_nobody_can_write_to_it_any_more(when):
    process = started(f"from evaluator.lifetime import end_at_hang_up; end_at_hang_up(0)\n{BUSY}")
    if when == "afterwards":
        assert process.stdout.readline()
        assert process.poll() is None
    with process:
        process.stdin.close()
        assert process.wait(60) == 1


def test_a_process_reads_what_was_written_before_and_after_it_began_to_watch():
    code = "from evaluator.lifetime import end_at_hang_up; end_at_hang_up(0)\nprint(input() + input(), flush=True)"
    with started(f"{code}\n{BUSY}") as process:
        for word in (b"a\n", b"b\n"):
            process.stdin.write(word)
            process.stdin.flush()
        assert process.stdout.readline() == b"ab\n"
        os.kill(process.pid, signal.SIGKILL)
