"""A process that answers lines with lines, whose words are bounded and which can make nobody wait (torch-free)."""

import logging
import os
import select
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from evaluator.environment import ROOT
from evaluator.exceptions import InvalidResult, MeasuringDied
from evaluator.messages import printable

log = logging.getLogger(__name__)

WAIT_SECONDS = 0.2
"""How often somebody who waits for a line is called back."""

_CHUNK_BYTES = 1 << 16
_LOG_LINES = 40
_LINE_CHARACTERS = 200
_LOG_CHARACTERS = 4000
_PATIENCE_SECONDS = 10.0


class PipedProcess:
    """A measuring process and its pipes. Its standard error is read while an answer is awaited, and its end kept."""

    def __init__(self, command: list[str], environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the parent, which then ends this and all in its group
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._input, self._output, self._errors = self._process.stdin, self._process.stdout, self._process.stderr
        self._selector = selectors.DefaultSelector()
        for pipe in (self._input, self._output, self._errors):
            os.set_blocking(pipe.fileno(), False)
        for pipe in (self._output, self._errors):
            self._selector.register(pipe, selectors.EVENT_READ)
        self._tail = b""

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def last_lines(self) -> str:
        """The last lines it wrote to standard error since it was last asked."""
        lines = printable(self._tail.decode(errors="replace")).splitlines()
        return "\n".join(line[:_LINE_CHARACTERS] for line in lines[-_LOG_LINES:])[-_LOG_CHARACTERS:]

    def write(self, line: bytes) -> None:
        """Send a line.

        Raises:
            MeasuringDied: the process has ended.
            InvalidResult: it does not read.
        """
        self._tail = b""
        try:
            written = os.write(self._input.fileno(), line)
        except BrokenPipeError:
            raise MeasuringDied(self._how_it_ended()) from None
        except BlockingIOError:
            written = 0
        if written != len(line):
            raise InvalidResult("the measuring process does not read what it is asked; it was ended")

    def read_line(self, longest: int, wait: Callable[[], None]) -> bytes:
        """Return its next line, of at most `longest` bytes, and call `wait` several times a second until then.

        Raises:
            MeasuringDied: the process ended, or closed its output.
            InvalidResult: the line is longer.
        """
        line = bytearray()
        next_wait = 0.0
        while not line.endswith(b"\n"):
            if time.monotonic() >= next_wait:
                wait()
                next_wait = time.monotonic() + WAIT_SECONDS
            for key, _ in self._selector.select(WAIT_SECONDS):
                if key.fileobj is self._errors:
                    if not self._read_errors():
                        self._selector.unregister(self._errors)
                elif chunk := os.read(self._output.fileno(), _CHUNK_BYTES):
                    line += chunk
                else:
                    raise MeasuringDied(self._how_it_ended())
            if len(line) > longest:
                raise InvalidResult(f"the measuring process answered with more than {longest} bytes; it was ended")
        self._read_errors()
        return bytes(line)

    def end(self) -> None:
        """Kill the process, read the last it wrote to standard error, and close its pipes; twice is as good as once.

        Where it is the outermost of a sandbox, the others have let go of their memory too: the last closes the output.
        """
        if self._input.closed:
            return
        if self._process.poll() is None:
            os.killpg(self.pid, signal.SIGKILL)  # while bubblewrap begins, its processes do not yet end with each other
        with suppress(subprocess.TimeoutExpired):  # a driver may hold it: then nobody can end it, and nobody waits
            self._process.wait(_PATIENCE_SECONDS)
            hang_up = select.poll()
            hang_up.register(self._output, 0)
            hang_up.poll(1000 * _PATIENCE_SECONDS)
        self._read_errors()
        self._selector.close()
        for pipe in (self._input, self._output, self._errors):
            pipe.close()

    def _read_errors(self) -> bool:
        """Keep the end of what is in the pipe, which holds no more than a chunk; return whether the pipe is open."""
        with suppress(BlockingIOError):
            chunk = os.read(self._errors.fileno(), _CHUNK_BYTES)
            if not chunk:
                return False
            self._tail = (self._tail + chunk)[-4 * _LOG_CHARACTERS :]
            log.debug("process %d: %r", self.pid, chunk)
        return True

    def _how_it_ended(self) -> str:
        try:
            status = self._process.wait(_PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            return "the measuring process closed its output without an answer, and was ended"
        number = -status if status < 0 else status - 128  # a sandbox or shell says 128 + n for the signal n
        if number == signal.SIGKILL:
            return "the measuring process was killed (SIGKILL), most likely because the machine's memory ran out"
        if number in set(signal.Signals):
            return f"the measuring process was ended by {signal.Signals(number).name}; its last lines say where"
        return f"the measuring process ended with exit status {status} and without an answer; its last lines say why"
