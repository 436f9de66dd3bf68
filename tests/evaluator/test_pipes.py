"""A process that answers lines with lines, on small real processes that do all they should not."""

import os
import signal
import sys
from collections.abc import Callable, Iterator

import pytest

from evaluator import pipes as room
from evaluator.exceptions import InvalidResult, MeasuringDied
from evaluator.pipes import PipedProcess

Start = Callable[[str], PipedProcess]


@pytest.fixture
def start() -> Iterator[Start]:
    processes = []

    def start(code: str) -> PipedProcess:
        code = f"import faulthandler, os, signal, sys, time; faulthandler.enable()\n{code}"
        processes.append(PipedProcess([sys.executable, "-c", code], dict(os.environ)))
        return processes[-1]

    yield start
    for process in processes:
        process.end()


def patiently() -> None:
    """Wait on."""


def test_each_line_is_answered_and_standard_error_kept_line_by_line(start):
    process = start(
        "for line in sys.stdin: print('heard', line, file=sys.stderr); print(line.upper(), end='', flush=True)"
    )
    for word in (b"one\n", b"two\n"):
        process.write(word)
        assert process.read_line(100, patiently) == word.upper()
        assert process.last_lines.strip() == f"heard {word.decode().strip()}"


def test_who_waits_is_called_back_until_the_answer_comes(start):
    process = start("print(input(), flush=True)")
    calls = []

    def wait() -> None:
        calls.append(1)
        if len(calls) == 3:
            process.write(b"now\n")

    assert process.read_line(100, wait) == b"now\n"
    assert len(calls) >= 3


def test_what_a_wait_raises_goes_through(start):
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        start("time.sleep(1000)").read_line(100, interrupted)


def test_a_chatty_process_is_neither_blocked_nor_remembered(start):
    process = start("sys.stderr.write(''.join(f'line {i}\\n' for i in range(300_000))); print('done', flush=True)")
    assert process.read_line(100, patiently) == b"done\n"
    assert process.last_lines.splitlines() == [f"line {i}" for i in range(299_960, 300_000)]


def test_the_last_lines_are_bounded_and_printable(start):
    process = start("sys.stderr.buffer.write(b'\\x00\\xff\\x1b[31m' + b'x' * 100_000); print(flush=True)")
    process.read_line(100, patiently)
    assert len(process.last_lines) == 200
    process = start("sys.stderr.write(('x' * 150 + '\\n') * 100); print(flush=True)")
    process.read_line(100, patiently)
    assert len(process.last_lines) == 4000
    process = start("sys.stderr.buffer.write(b'\\x00\\xff\\x1b[31m red'); print(flush=True)")
    process.read_line(100, patiently)
    assert process.last_lines == "\ufffd\ufffd\ufffd[31m red"


def test_an_endless_line_is_cut_short(start):
    with pytest.raises(InvalidResult, match="more than 1000 bytes"):
        start("while True: sys.stdout.write('x' * 100)").read_line(1000, patiently)


def test_a_process_that_does_not_read_makes_nobody_wait(start):
    process = start("time.sleep(1000)")
    with pytest.raises(InvalidResult, match="does not read"):
        process.write(b"x" * (1 << 20))


@pytest.mark.parametrize(
    ("end", "sentence"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL.*memory"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
        ("os.abort()", "SIGABRT"),
        ("os._exit(128 + 11)", "SIGSEGV"),
        ("os._exit(3)", "exit status 3"),
        ("os._exit(0)", "exit status 0"),
    ],
)
def test_how_a_process_ended_is_said(start, end, sentence):
    with pytest.raises(MeasuringDied, match=sentence):
        start(end).read_line(100, patiently)


def test_a_crash_leaves_the_stack_in_the_last_lines(start):
    process = start("def measure(): os.kill(os.getpid(), signal.SIGSEGV)\nmeasure()")
    with pytest.raises(MeasuringDied):
        process.read_line(100, patiently)
    process.end()
    assert "Segmentation fault" in process.last_lines
    assert "in measure" in process.last_lines


def test_a_process_that_has_ended_cannot_be_asked(start):
    process = start("os._exit(3)")
    process._process.wait()
    with pytest.raises(MeasuringDied, match="exit status 3"):
        process.write(b"measure\n")


def test_a_process_that_lives_on_without_its_output_is_no_longer_waited_for(start, monkeypatch):
    monkeypatch.setattr(room, "_PATIENCE_SECONDS", 0.1)
    with pytest.raises(MeasuringDied, match="closed its output"):
        start("os.close(1); time.sleep(1000)").read_line(100, patiently)


def test_a_stopped_process_can_be_ended(start):
    process = start("time.sleep(1000)")
    os.kill(process.pid, signal.SIGSTOP)
    process.end()
    assert process._process.returncode == -signal.SIGKILL
