"""Words the whole instrument shares: norms, splits, directions, threat models, neighborhoods (torch-free)."""

from dataclasses import dataclass
from enum import StrEnum

from evaluator.exceptions import InvalidRequest


class Norm(StrEnum):
    """Norm of an input perturbation."""

    LINF = "Linf"
    L2 = "L2"


class AutoAttackVersion(StrEnum):
    """Which AutoAttack."""

    STANDARD = "standard"
    """The reference package's, whose outcome of every example it has."""
    LOW_PRECISION = "low-precision"
    """The attacks of `standard` search in bfloat16, and float32 confirms every success: other outcomes, not ranked."""


class Split(StrEnum):
    """The part of a data set that examples are drawn from."""

    TEST = "test"
    TRAIN = "train"


class Direction(StrEnum):
    """Which way a metric improves."""

    LOWER = "lower"
    HIGHER = "higher"

    @property
    def arrow(self) -> str:
        """The arrow every column header shows."""
        return "↓" if self is Direction.LOWER else "↑"


@dataclass(frozen=True)
class ThreatModel:
    """What the adversary may do to an image in [0, 1]: stay within `epsilon` in `norm`, and within the box."""

    norm: Norm
    epsilon: float

    def __post_init__(self) -> None:
        if not self.epsilon > 0:
            raise InvalidRequest(f"a threat model needs epsilon > 0, got {self.epsilon!r}")


@dataclass(frozen=True)
class Neighborhood:
    """B_xi(w): for each perturbed weight tensor l, ‖ν⁽ˡ⁾‖₂ ≤ xi · ‖w⁽ˡ⁾‖₂ (Stutz et al. 2021, Eq. 6)."""

    xi: float

    def __post_init__(self) -> None:
        if not self.xi > 0:
            raise InvalidRequest(f"a neighborhood needs xi > 0, got {self.xi!r}")
