"""What a measuring process and the one that started it say to each other, a JSON line each way (torch-free).

The one that answers has opened a stranger's weights, so what it says is taken for hostile: its length is bounded, its
form strict, its texts are cut and freed of control characters, and it can name nothing but an error of a short list.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError, with_config

from evaluator.exceptions import (
    DatasetMissing,
    EvaluatorError,
    InvalidCheckpoint,
    InvalidRequest,
    InvalidResult,
    InvalidSetting,
    MeasuringFailed,
    OutOfMemory,
)
from evaluator.protocol import EvaluationProtocol
from evaluator.results import ShardResult, ShardSpec

FORESEEN: dict[str, type[EvaluatorError]] = {
    error.__name__: error for error in (DatasetMissing, InvalidCheckpoint, InvalidRequest, InvalidSetting, OutOfMemory)
}
"""What can go wrong in a measurement, by name; anything else is a MeasuringFailed."""

_LONGEST_TEXT = 1000
_FRAME_BYTES = 1 << 16
_VALUE_BYTES = 100
"""More than the digits of one restart of one example."""


def printable(text: str) -> str:
    """Return `text` with U+FFFD for every control character, newline and tab excepted, and every lone surrogate."""
    return "".join(character if character.isprintable() or character in "\n\t" else "\ufffd" for character in text)


Text = Annotated[str, AfterValidator(lambda text: printable(text[:_LONGEST_TEXT]))]

_strict = with_config(ConfigDict(extra="forbid", allow_inf_nan=False))


@_strict
@dataclass(frozen=True)
class Request:
    """Measure `spec` under `protocol`, which is its canonical JSON, in batches of `batch_size` or the fastest."""

    protocol: str
    spec: ShardSpec
    batch_size: int | None


@_strict
@dataclass(frozen=True)
class Ready:
    """The checkpoint is open; `device` and `versions` as results name them."""

    device: Text
    versions: dict[Text, Text]
    kind: Literal["ready"] = "ready"


@_strict
@dataclass(frozen=True)
class Measured:
    """The shard that was asked for."""

    result: ShardResult
    kind: Literal["measured"] = "measured"


@_strict
@dataclass(frozen=True)
class Failed:
    """What went wrong: the name of an error's class, and its sentence."""

    error: Text
    message: Text
    kind: Literal["failed"] = "failed"

    def to_error(self) -> EvaluatorError:
        """Return the error itself, of a class of `FORESEEN` or ours."""
        if self.error in FORESEEN:
            return FORESEEN[self.error](self.message)
        return MeasuringFailed(f"{self.error}: {self.message}")


Answer = Ready | Measured | Failed

_REQUEST = TypeAdapter(Request)
_ANSWER: TypeAdapter[Answer] = TypeAdapter(Annotated[Answer, Field(discriminator="kind")])


def request_to_line(request: Request) -> bytes:
    """Return `request` as a line."""
    return _REQUEST.dump_json(request) + b"\n"


def request_from_line(line: bytes) -> Request:
    """Parse what `request_to_line` wrote."""
    return _REQUEST.validate_json(line)


def answer_to_line(answer: Answer) -> bytes:
    """Return `answer` as a line."""
    return _ANSWER.dump_json(answer) + b"\n"


def answer_from_line(line: bytes) -> Answer:
    """Parse what `answer_to_line` wrote.

    Raises:
        InvalidResult: it is anything else.
    """
    try:
        return _ANSWER.validate_json(line)
    except ValidationError as error:
        first = printable(error.errors(include_url=False)[0]["msg"][:200])
        raise InvalidResult(
            f"the measuring process answered what is no answer ({len(line)} bytes: {first}); if its checkpoint is "
            "trusted, this is a bug of ours"
        ) from None


def longest_answer(protocol: EvaluationProtocol, spec: ShardSpec) -> int:
    """Return how many bytes the answer for `spec` can have at most."""
    restarts = max(1, protocol.robust_loss.restarts, protocol.flatness.attack.restarts)
    return _FRAME_BYTES + len(spec) * restarts * _VALUE_BYTES


def check_result(result: ShardResult, spec: ShardSpec, ready: Ready, seconds: float) -> None:
    """Check what can be known of `result`, asked for `seconds` ago; its values are checked with the run's.

    Raises:
        InvalidResult: it is for another shard, or claims what cannot be.
    """
    if result.spec != spec:
        raise InvalidResult(f"the measuring process was asked for {spec} and answered with {result.spec}")
    passes = (result.passes.forward, result.passes.backward)
    if not 0 <= result.seconds <= seconds + 1 or not all(0 <= count < 1 << 53 for count in passes):
        raise InvalidResult(
            f"{spec} reports {result.seconds:g} seconds and passes {str(passes)[:100]}, but took {seconds:g} seconds"
        )
    texts = [result.device, *result.versions, *result.versions.values(), *result.warnings]
    if (result.device, result.versions) != (ready.device, ready.versions) or texts != [printable(t) for t in texts]:
        raise InvalidResult(f"{spec} reports a device, versions or warnings other than its process has")
