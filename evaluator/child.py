"""The parent's side of a measuring process: one for a checkpoint, which can be ended at any instant (torch-free)."""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from evaluator.environment import read_environment
from evaluator.exceptions import EvaluatorError, InvalidResult, OutOfMemory, ShardTimeout
from evaluator.messages import (
    Failed,
    Measured,
    Ready,
    Request,
    answer_from_line,
    check_result,
    longest_answer,
    request_to_line,
)
from evaluator.metrics import StageName
from evaluator.pipes import PipedProcess
from evaluator.protocol import EvaluationProtocol, to_json
from evaluator.results import ShardResult, ShardSpec
from evaluator.sandbox import find_sandbox

_PASSED_ON = frozenset(
    {"HOME", "LANG", "LANGUAGE", "LD_LIBRARY_PATH", "LD_PRELOAD", "PATH", "PYTHONPATH", "TMPDIR", "TZ"}
)
_PASSED_ON_PREFIXES = (
    "ATEN_", "CUBLAS_", "CUDA_", "CUDNN_", "DNNL_", "GOMP_", "KMP_", "LC_", "MALLOC_", "MKL_", "NVIDIA_", "OMP_",
    "OPENBLAS_", "PYTORCH_", "TORCH_",
)  # fmt: skip
"""What finds libraries and devices, and what decides how they compute; above all no address of a store, no secret."""

_KEEP = str(1 << 30)
_ALLOCATION = {"MALLOC_MMAP_THRESHOLD_": _KEEP, "MALLOC_TRIM_THRESHOLD_": _KEEP}
"""glibc would otherwise give large blocks back to the system at every step of an attack and ask for them again."""

_TRIED = 32
"""The batch that follows where memory did not suffice for what the process chose by itself."""

_LONGEST_READY = 1 << 16


def clean_environment(variables: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the few of `variables` that a measuring process gets, and what it needs besides."""
    passed_on = {
        name: value for name, value in variables.items() if name in _PASSED_ON or name.startswith(_PASSED_ON_PREFIXES)
    }
    return _ALLOCATION | passed_on


class MeasuringChild:
    """A process that measures shards of one checkpoint; started when first needed, and anew whenever it has ended.

    It gets its command line, the checkpoint, the data and its pipes, and nothing else: `sandbox`, the setting SANDBOX
    unless given, says which walls see to that. It ends with this process, and with the thread that first called
    `measure`. `memory_bytes` bounds what it allocates; on a GPU it has no effect.

    Raises:
        InvalidSetting: such walls cannot be put up here.
    """

    def __init__(
        self,
        checkpoint: Path,
        *,
        device: str,
        data_dir: Path | None,
        shard_seconds: float | None = None,
        memory_bytes: int | None = None,
        sandbox: str | None = None,
    ) -> None:
        here = read_environment()
        file, folder = checkpoint.resolve(), (data_dir or here.data_dir).resolve()
        self._sandbox = find_sandbox(sandbox or here.sandbox)
        self._command = self._sandbox.command(
            "evaluator.measuring",
            str(file),
            f"--device={device}",
            f"--data-dir={folder}",
            reads=[file, folder],
            device=device,
            memory_bytes=memory_bytes,
        )
        self._shard_seconds = shard_seconds
        self._process: PipedProcess | None = None
        self._ready = Ready("", {})
        self._fitting: dict[StageName, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    @property
    def device(self) -> str:
        """What people call its device; empty before the first shard."""
        return self._ready.device

    @property
    def versions(self) -> dict[str, str]:
        """The versions of its libraries; empty before the first shard."""
        return self._ready.versions

    @property
    def pid(self) -> int | None:
        """Its process id, or that of the walls around it, while there is a process."""
        return None if self._process is None else self._process.pid

    def measure(
        self,
        protocol: EvaluationProtocol,
        spec: ShardSpec,
        *,
        tick: Callable[[], None],
        batch_size: int | None = None,
    ) -> ShardResult:
        """Return what the process measures, and call `tick` several times a second until then.

        The process chooses its batches unless `batch_size` bounds them. Where memory does not suffice, another process
        tries again with a smaller batch, and so on: no number depends on it (see `smaller`). What `tick` raises ends
        the process and goes through. The process lives on only where it answered in order, with a result or an error.
        Each error holds in `log` what the process last wrote to its standard error.

        Raises:
            InvalidCheckpoint, InvalidRequest, InvalidSetting, DatasetMissing: as measured in this process.
            OutOfMemory: the smallest batch does not fit.
            ShardTimeout: `shard_seconds` have passed, all starts of processes included.
            MeasuringDied: it ended without an answer.
            MeasuringFailed: it met any other error.
            InvalidResult: its answer is none, or not to the question.
        """
        started = time.monotonic()

        def wait() -> None:
            if self._shard_seconds is not None and time.monotonic() - started > self._shard_seconds:
                raise ShardTimeout(
                    f"{spec} was not measured within {self._shard_seconds:g} seconds, and the measuring process was "
                    "ended; look whether the device hangs, or allow more time"
                )
            tick()

        size = min((known for known in (batch_size, self._fitting.get(spec.stage)) if known), default=None)
        while True:
            answer = self._ask(protocol, Request(to_json(protocol), spec, size), wait)
            if isinstance(answer, Measured):
                return replace(answer.result, sandbox=str(self._sandbox))
            error = answer.to_error()
            error.log = "" if self._process is None else self._process.last_lines
            if not isinstance(error, OutOfMemory):
                raise error
            self.close()  # memory that an attempt has left in pieces may be too little for any batch
            if size == 1:
                raise error
            size = self._fitting[spec.stage] = min(_TRIED, len(spec)) if size is None else smaller(size)

    def close(self) -> None:
        """End the process, if there is one."""
        process, self._process = self._process, None
        if process is not None:
            process.end()

    def _ask(self, protocol: EvaluationProtocol, request: Request, wait: Callable[[], None]) -> Measured | Failed:
        """Return the answer of the process, which ends if it gives none; start one if there is none."""
        started = time.monotonic()
        try:
            process = self._process or self._start(wait)
            process.write(request_to_line(request))
            answer = answer_from_line(process.read_line(longest_answer(protocol, request.spec), wait))
            if isinstance(answer, Ready):
                raise InvalidResult("the measuring process said that it is ready where a result was expected")
            if isinstance(answer, Measured):
                check_result(answer.result, request.spec, self._ready, time.monotonic() - started)
        except BaseException as error:
            ended = self._process
            self.close()
            if isinstance(error, EvaluatorError) and ended is not None:
                error.log = ended.last_lines
            raise
        return answer

    def _start(self, wait: Callable[[], None]) -> PipedProcess:
        self._process = PipedProcess(self._command, clean_environment())
        match answer_from_line(self._process.read_line(_LONGEST_READY, wait)):
            case Ready() as ready:
                self._ready = ready
            case Failed() as failed:
                raise failed.to_error()
            case Measured():
                raise InvalidResult("the measuring process sent a result before it was asked for one")
        return self._process


def smaller(batch_size: int) -> int:
    """Return half a batch, a multiple of 4 if it can be: oneDNN's bits are the same for any batch of 4 or more."""
    half = batch_size // 2
    return half if half < 4 else half - half % 4
