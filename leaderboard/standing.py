"""How a submission stands, in one line as commands print it; and how long times are told (pure, no Django)."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any
from uuid import UUID

from pydantic import TypeAdapter, ValidationError

from evaluator.exceptions import Fault, InvalidResult
from evaluator.forecast import Forecast
from evaluator.preview import Preview

GOOD = ("published", "measured")
"""How submissions end that have numbers."""

_UNITS = ((86_400, "d", 2 * 86_400), (3600, "h", 2 * 3600), (60, "min", 60))
"""Seconds of a unit, its sign, and from how many seconds on it is used."""


@dataclass(frozen=True)
class Trouble:
    """Why a submission failed, whose fault it is and what can be done."""

    fault: Fault
    reason: str
    hint: str


@dataclass(frozen=True)
class Standing:
    """What a command has to know of `watching.SubmissionStatus`, whichever site says it."""

    run_id: UUID
    state: str
    ended: bool
    examples: int
    examples_done: int
    position: int | None
    forecast: Forecast | None
    obstacle: str | None
    failure: Trouble | None
    preview: Preview | None = None

    @property
    def has_numbers(self) -> bool:
        """Whether it ended well."""
        return self.state in GOOD

    def line(self) -> str:
        """Return in a line how it stands."""
        parts = [self.state]
        if self.position:
            parts.append(f"place {self.position} in the queue")
        if self.examples:
            parts.append(f"{self.examples_done} of {self.examples} examples")
        if self.preview:
            low, value, high = (f"{100 * one:.1f}" for one in (self.preview.low, self.preview.value, self.preview.high))
            parts.append(f"preview: robust error {value} % [{low}, {high}]")
        if self.forecast:
            parts.append(f"done in {foretold(self.forecast)}")
        if self.obstacle and not self.ended:
            parts.append(self.obstacle)
        return ", ".join(parts)

    def complaint(self) -> str:
        """Return in sentences why it came to nothing; nothing where it has numbers, or has not ended."""
        if self.failure is not None:
            return f"{self.failure.reason}\n{self.failure.hint}"
        if self.ended and not self.has_numbers:
            return f"the submission is {self.state}, and has no numbers"
        return ""


_STANDING = TypeAdapter(Standing)


def standing(document: Mapping[str, Any]) -> Standing:
    """Return how a submission stands from `SubmissionStatus.document`.

    Raises:
        InvalidResult: it is something else.
    """
    try:
        return _STANDING.validate_python(document)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise InvalidResult(
            f"no submission stands like this ({place}: {first['msg']}); is it a site of ours?"
        ) from None


def foretold(forecast: Forecast) -> str:
    """Return a forecast as people say it: `about 4 min`, `3 to 5 min`, `up to 2 h`; never more exact than it is."""
    low, high = told(forecast.low), told(forecast.high)
    if high is None:
        return "less than a minute"
    if low is None:
        return f"up to {' '.join(high)}"
    if low == high:
        return f"about {' '.join(high)}"
    return f"{low[0]} to {' '.join(high)}" if low[1] == high[1] else f"{' '.join(low)} to {' '.join(high)}"


def told(seconds: float) -> tuple[str, str] | None:
    """Return a number of whole units, rounded up, and the unit; None below a minute."""
    return next(((str(ceil(seconds / size)), sign) for size, sign, least in _UNITS if seconds >= least), None)
