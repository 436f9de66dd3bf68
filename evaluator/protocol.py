"""What is measured, exactly: immutable, versioned, hashed evaluation protocols (torch-free).

A protocol is never edited once numbers were published under it: the next version stands beside it.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from functools import cached_property
from typing import Any, NamedTuple

from pydantic import TypeAdapter

from evaluator.exceptions import InvalidRequest
from evaluator.metrics import METRICS, StageName, column
from evaluator.trust.findings import EXAMPLES
from evaluator.types import AutoAttackVersion, Neighborhood, Split, ThreatModel


class Initialization(StrEnum):
    """Where a PGD restart begins inside the budget."""

    UNIFORM = "uniform"
    """Uniform in the epsilon-cube (Madry et al. 2018); for L2, uniform in the ball."""
    NORM_UNIFORM = "norm-uniform"
    """A Gaussian direction scaled to a norm of U(0, 1) · epsilon (the paper's code)."""


class Selection(StrEnum):
    """Which restart's loss is an example's robust loss."""

    LOSS = "loss"
    """The restart with the largest cross-entropy."""
    WRONG_CLASS_CONFIDENCE = "wrong-class-confidence"
    """The restart with the largest probability of any wrong class (the paper's code)."""


@dataclass(frozen=True)
class PgdSettings:
    """Projected gradient ascent on the cross-entropy: `steps` steps of `step_size`, best of steps + 1 iterates."""

    steps: int
    step_size: float
    restarts: int
    initialization: Initialization = Initialization.UNIFORM
    selection: Selection = Selection.LOSS


@dataclass(frozen=True)
class AutoAttackSettings:
    """AutoAttack. The attacks re-seed for each chunk, so chunk size and seed decide the outcome."""

    chunk_size: int
    seed: int = 0
    version: AutoAttackVersion = AutoAttackVersion.STANDARD


@dataclass(frozen=True)
class FlatnessSettings:
    """Average-case flatness: mean over `samples` random ν on the sphere of B_xi(w) of RLoss(w + ν) − RLoss(w)."""

    neighborhood: Neighborhood
    samples: int
    attack: PgdSettings


@dataclass(frozen=True)
class Examples:
    """How many examples of each split a stage uses, none or more: the first ones, in the data set's own order."""

    test: int
    train: int

    def __post_init__(self) -> None:
        if min(self.test, self.train) < 0:
            raise InvalidRequest(f"a stage uses 0 or more examples, got {self.test} of test and {self.train} of train")

    def count(self, split: Split) -> int:
        """Return the number of examples of `split`."""
        return self.test if split is Split.TEST else self.train

    def limited(self, limit: int) -> "Examples":
        """Return the same with at most `limit` examples a split."""
        return Examples(min(self.test, limit), min(self.train, limit))


NO_EXAMPLES = Examples(test=0, train=0)


@dataclass(frozen=True)
class LandscapeSettings:
    """RLoss(w + ν) along the directions of average-case flatness, at signed radii ξ in ascending order.

    Directions, their number and the attack are those of flatness.
    """

    positions: tuple[float, ...]
    examples: Examples

    def __post_init__(self) -> None:
        if not self.positions or list(self.positions) != sorted(set(self.positions)):
            raise InvalidRequest(f"a landscape needs positions in ascending order, each once, got {self.positions}")


@dataclass(frozen=True)
class WorstCaseSettings:
    """Worst-case flatness: `restarts` ascents on weights and inputs together, of `steps` steps each.

    A step moves each tensor of ν by the share `step_size` of its radius, and the inputs by the step of the robust loss.
    """

    xi: float
    steps: int
    step_size: float
    restarts: int
    examples: Examples

    def __post_init__(self) -> None:
        if not (self.xi > 0 and self.step_size > 0 and self.steps > 0 and self.restarts > 0):
            raise InvalidRequest(f"worst-case flatness needs a radius, steps and restarts above 0, got {self}")


class Place(NamedTuple):
    """A place in weight space: the signed radius along one of the directions of flatness."""

    position: float
    direction: int


@dataclass(frozen=True)
class EvaluationProtocol:
    """Everything that decides a number, and nothing that does not (no batch size, no device, no worker count).

    A stage on 0 examples is not measured, and its numbers do not exist. What ranks must: `rankable` needs AutoAttack
    and robust loss on test. What became possible later is None where it is not asked for, and then not in the JSON.
    """

    name: str
    version: int
    dataset: str
    threat_model: ThreatModel
    seed: int
    clean_examples: Examples
    robust_loss: PgdSettings
    robust_loss_examples: Examples
    autoattack: AutoAttackSettings
    autoattack_examples: Examples
    flatness: FlatnessSettings
    flatness_examples: Examples
    rankable: bool = True
    landscape: LandscapeSettings | None = None
    worst_case: WorstCaseSettings | None = None

    def __post_init__(self) -> None:
        if not self.columns():
            raise InvalidRequest(f"protocol {self.name} measures nothing; give at least one stage some examples")
        for stage in (StageName.AUTOATTACK, StageName.ROBUST_LOSS):
            if self.rankable and not self.count(stage, Split.TEST):
                raise InvalidRequest(
                    f"protocol {self.name} is rankable but asks for 0 test examples of {stage}, by which entries are "
                    "ranked; give it some, or set rankable to False"
                )
        if self.rankable and self.autoattack.version is not AutoAttackVersion.STANDARD:
            raise InvalidRequest(
                f"protocol {self.name} is rankable but asks for AutoAttack {self.autoattack.version}; entries are "
                "ranked by AutoAttack standard: ask for it, or set rankable to False"
            )
        for stage in (StageName.FLATNESS, StageName.LANDSCAPE, StageName.WORST_CASE):
            for split in Split:
                if self.count(stage, split) > self.robust_loss_examples.count(split):
                    raise InvalidRequest(
                        f"protocol {self.name}: {stage} on {split} needs the robust loss of the same examples, "
                        f"but asks for {self.count(stage, split)} of {self.robust_loss_examples.count(split)}"
                    )

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON of all fields, as 64 hexadecimal digits."""
        return hashlib.sha256(to_json(self).encode()).hexdigest()

    def count(self, stage: StageName, split: Split) -> int:
        """Return how many examples of `split` a stage uses; what ranks is probed on some test examples besides."""
        if stage is StageName.TRUST:
            return min(EXAMPLES, self.robust_loss_examples.test) if self.rankable and split is Split.TEST else 0
        if stage is StageName.PREVIEW:
            return 0  # which is no part of a protocol
        examples = {
            StageName.CLEAN: self.clean_examples,
            StageName.ROBUST_LOSS: self.robust_loss_examples,
            StageName.FLATNESS: self.flatness_examples,
            StageName.LANDSCAPE: self.landscape.examples if self.landscape else NO_EXAMPLES,
            StageName.WORST_CASE: self.worst_case.examples if self.worst_case else NO_EXAMPLES,
            StageName.AUTOATTACK: self.autoattack_examples,
        }
        return examples[stage].count(split)

    def attack(self, stage: StageName) -> PgdSettings | None:
        """Return how PGD attacks in a stage; None where another attack or none does."""
        attacks = {
            StageName.ROBUST_LOSS: self.robust_loss,
            StageName.FLATNESS: self.flatness.attack,
            StageName.LANDSCAPE: self.flatness.attack,
            StageName.WORST_CASE: self.flatness.attack,
        }
        return attacks.get(stage)

    def places(self, stage: StageName) -> tuple[Place, ...]:
        """Return the places that a stage goes to, by weight sample; none where it stays at w or looks for the worst."""
        positions: tuple[float, ...] = ()
        if stage is StageName.FLATNESS:
            positions = (self.flatness.neighborhood.xi,)
        elif stage is StageName.LANDSCAPE and self.landscape:
            positions = self.landscape.positions
        return tuple(Place(position, k) for position in positions for k in range(self.flatness.samples))

    def weight_samples(self, stage: StageName) -> Sequence[int]:
        """Return what `ShardSpec.weight_sample` counts in a stage: places, or restarts; none where it stays at w."""
        if stage is StageName.WORST_CASE and self.worst_case:
            return range(self.worst_case.restarts)
        return range(len(self.places(stage)))

    def columns(self) -> tuple[str, ...]:
        """Return the columns of all numbers that are measured, in the order of `METRICS`; a gap needs both splits."""
        return tuple(
            column(metric.key, split)
            for metric in METRICS.values()
            for split in (tuple(Split) if metric.per_split else (None,))
            if all(self.count(metric.stage, one) for one in ((split,) if split else Split))
        )

    @property
    def label(self) -> str:
        """Name and version as people write them, for example `digits-linf v1`."""
        return f"{self.name} v{self.version}"

    def limited(self, limit: int | None) -> "EvaluationProtocol":
        """Return the protocol on at most `limit` examples a split: another digest, never rankable."""
        if limit is None:
            return self
        if limit < 1:
            raise InvalidRequest(f"a limit needs at least one example, got {limit}")
        return replace(
            self,
            clean_examples=self.clean_examples.limited(limit),
            robust_loss_examples=self.robust_loss_examples.limited(limit),
            autoattack_examples=self.autoattack_examples.limited(limit),
            flatness_examples=self.flatness_examples.limited(limit),
            landscape=self.landscape and replace(self.landscape, examples=self.landscape.examples.limited(limit)),
            worst_case=self.worst_case and replace(self.worst_case, examples=self.worst_case.examples.limited(limit)),
            rankable=False,
        )

    def in_low_precision(self) -> "EvaluationProtocol":
        """Return the protocol with AutoAttack's search in bfloat16: another digest, never rankable."""
        settings = replace(self.autoattack, version=AutoAttackVersion.LOW_PRECISION)
        return replace(self, autoattack=settings, rankable=False)


_PROTOCOL = TypeAdapter(EvaluationProtocol)


def to_fields(protocol: EvaluationProtocol) -> dict[str, Any]:
    """Return all fields, nested ones as dictionaries; without those that are None, as protocols had them before."""
    return {name: value for name, value in asdict(protocol).items() if value is not None}


def to_json(protocol: EvaluationProtocol) -> str:
    """Return the canonical JSON of all fields: sorted keys, no spaces. The digest is taken over it."""
    return json.dumps(to_fields(protocol), sort_keys=True, separators=(",", ":"))


def from_json(text: str) -> EvaluationProtocol:
    """Parse what `to_json` wrote, bit for bit; pydantic.ValidationError when it is anything else."""
    return _PROTOCOL.validate_json(text)
