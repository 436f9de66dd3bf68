"""What a trust check found: a number, its threshold, a verdict and a sentence (torch-free)."""

from dataclasses import dataclass
from enum import StrEnum

from pydantic import ConfigDict, with_config


class Verdict(StrEnum):
    """What a finding means for an entry: nothing, a flag on the board, or no rank."""

    PASS = "pass"  # noqa: S105  # a verdict, not a password
    WARN = "warn"
    FAIL = "fail"


@with_config(ConfigDict(extra="forbid", allow_inf_nan=False))
@dataclass(frozen=True)
class Finding:
    """What one check saw of a run. `threshold` is the one that decided: the one crossed, or the nearest one kept."""

    check: str
    seen: float
    threshold: float
    verdict: Verdict
    sentence: str
