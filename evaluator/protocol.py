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
from evaluator.types import AutoAttackVersion, Neighborhood, Norm, Split, ThreatModel


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
            StageName.LANDSCAPE: self.landscape.examples if self.landscape else _NO_EXAMPLES,
            StageName.WORST_CASE: self.worst_case.examples if self.worst_case else _NO_EXAMPLES,
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
_NO_EXAMPLES = Examples(test=0, train=0)


def to_fields(protocol: EvaluationProtocol) -> dict[str, Any]:
    """Return all fields, nested ones as dictionaries; without those that are None, as protocols had them before."""
    return {name: value for name, value in asdict(protocol).items() if value is not None}


def to_json(protocol: EvaluationProtocol) -> str:
    """Return the canonical JSON of all fields: sorted keys, no spaces. The digest is taken over it."""
    return json.dumps(to_fields(protocol), sort_keys=True, separators=(",", ":"))


def from_json(text: str) -> EvaluationProtocol:
    """Parse what `to_json` wrote, bit for bit; pydantic.ValidationError when it is anything else."""
    return _PROTOCOL.validate_json(text)


_cifar_pgd = PgdSettings(steps=20, step_size=0.007, restarts=10)

CIFAR10_LINF = EvaluationProtocol(
    name="cifar10-linf",
    version=1,
    dataset="cifar10",
    threat_model=ThreatModel(Norm.LINF, 8 / 255),
    seed=0,
    clean_examples=Examples(test=10_000, train=50_000),
    robust_loss=_cifar_pgd,
    robust_loss_examples=Examples(test=1000, train=1000),
    autoattack=AutoAttackSettings(chunk_size=250),
    autoattack_examples=Examples(test=1000, train=1000),
    flatness=FlatnessSettings(Neighborhood(0.5), samples=10, attack=replace(_cifar_pgd, restarts=1)),
    flatness_examples=Examples(test=1000, train=1000),
)

CIFAR100_LINF = replace(CIFAR10_LINF, name="cifar100-linf", dataset="cifar100")

SVHN_LINF = replace(CIFAR10_LINF, name="svhn-linf", dataset="svhn", clean_examples=Examples(test=26_032, train=73_257))

_l2_pgd = replace(_cifar_pgd, step_size=0.1)

CIFAR10_L2 = replace(
    CIFAR10_LINF,
    name="cifar10-l2",
    threat_model=ThreatModel(Norm.L2, 0.5),
    robust_loss=_l2_pgd,
    flatness=FlatnessSettings(Neighborhood(0.5), samples=10, attack=replace(_l2_pgd, restarts=1)),
)

_paper_pgd = replace(_cifar_pgd, initialization=Initialization.NORM_UNIFORM, selection=Selection.WRONG_CLASS_CONFIDENCE)

STUTZ2021_CIFAR10 = replace(
    CIFAR10_LINF,
    name="stutz2021-cifar10",
    threat_model=ThreatModel(Norm.LINF, 0.0314),
    robust_loss=_paper_pgd,
    flatness=FlatnessSettings(Neighborhood(0.5), samples=10, attack=replace(_paper_pgd, restarts=1)),
)

# Snapshots on the way and early-stopped ones need a part of the numbers only. What is left is defined as in the full
# protocol: an early-stopped error is compared with the final one, and a curve ends near the final numbers.


def _curve_of(full: EvaluationProtocol, name: str, examples: Examples) -> EvaluationProtocol:
    """Return the part of `full` that follows a training: robust loss by 3 restarts, and flatness, on `examples`."""
    return replace(
        full,
        name=name,
        robust_loss=replace(full.robust_loss, restarts=3),
        robust_loss_examples=examples,
        autoattack_examples=_NO_EXAMPLES,
        flatness_examples=examples,
        rankable=False,
    )


def _stopped_of(full: EvaluationProtocol, name: str) -> EvaluationProtocol:
    """Return the part of `full` that early-stopped networks need: clean, and AutoAttack on the same test examples."""
    return replace(
        full,
        name=name,
        robust_loss_examples=_NO_EXAMPLES,
        autoattack_examples=replace(full.autoattack_examples, train=0),
        flatness_examples=_NO_EXAMPLES,
        rankable=False,
    )


_RADII = (0.1, 0.25, 0.5, 0.75, 1.0)


def _shape_of(full: EvaluationProtocol, name: str, examples: Examples) -> EvaluationProtocol:
    """Return what shows the shape of a minimum: robust loss, landscape to both sides, worst case, on `examples`."""
    positions = (*(-radius for radius in reversed(_RADII)), 0.0, *_RADII)
    return replace(
        full,
        name=name,
        robust_loss_examples=examples,
        autoattack_examples=_NO_EXAMPLES,
        flatness_examples=_NO_EXAMPLES,
        rankable=False,
        landscape=LandscapeSettings(positions, examples),
        worst_case=WorstCaseSettings(xi=0.003, steps=20, step_size=0.25, restarts=10, examples=examples),
    )


CIFAR10_SHAPE = _shape_of(CIFAR10_LINF, "cifar10-shape", Examples(test=500, train=500))

STUTZ2021_CURVE = _curve_of(STUTZ2021_CIFAR10, "stutz2021-curve", Examples(test=500, train=500))

STUTZ2021_STOPPED = _stopped_of(STUTZ2021_CIFAR10, "stutz2021-stopped")

# Radius, budget and counts of digits: docs/decisions/0005-digits-protocol.md holds the measurements behind them.
_digits_pgd = PgdSettings(steps=20, step_size=0.03, restarts=10)

DIGITS_LINF = EvaluationProtocol(
    name="digits-linf",
    version=1,
    dataset="digits",
    threat_model=ThreatModel(Norm.LINF, 0.15),
    seed=0,
    clean_examples=Examples(test=1000, train=400),
    robust_loss=_digits_pgd,
    robust_loss_examples=Examples(test=1000, train=400),
    autoattack=AutoAttackSettings(chunk_size=200),
    autoattack_examples=Examples(test=1000, train=400),
    flatness=FlatnessSettings(Neighborhood(0.5), samples=10, attack=replace(_digits_pgd, restarts=1)),
    flatness_examples=Examples(test=1000, train=400),
)

DIGITS_DEMO = replace(
    DIGITS_LINF,
    name="digits-demo",
    robust_loss_examples=Examples(test=400, train=100),
    autoattack_examples=Examples(test=160, train=20),
    flatness_examples=Examples(test=400, train=100),
)

DIGITS_CURVE = _curve_of(DIGITS_DEMO, "digits-curve", Examples(test=200, train=100))

DIGITS_STOPPED = _stopped_of(DIGITS_DEMO, "digits-stopped")

DIGITS_SHAPE = _shape_of(DIGITS_DEMO, "digits-shape", Examples(test=80, train=40))

_smoke_pgd = PgdSettings(steps=3, step_size=0.06, restarts=2)

SMOKE = replace(
    DIGITS_LINF,
    name="smoke",
    clean_examples=Examples(test=24, train=16),
    robust_loss=_smoke_pgd,
    robust_loss_examples=Examples(test=12, train=8),
    autoattack=AutoAttackSettings(chunk_size=4),
    autoattack_examples=Examples(test=4, train=4),
    flatness=FlatnessSettings(Neighborhood(0.25), samples=2, attack=replace(_smoke_pgd, restarts=1)),
    flatness_examples=Examples(test=12, train=8),
    rankable=False,
)

PROTOCOLS: dict[str, tuple[EvaluationProtocol, ...]] = {
    "digits-linf": (DIGITS_LINF,),
    "digits-demo": (DIGITS_DEMO,),
    "digits-curve": (DIGITS_CURVE,),
    "digits-stopped": (DIGITS_STOPPED,),
    "digits-shape": (DIGITS_SHAPE,),
    "cifar10-linf": (CIFAR10_LINF,),
    "cifar10-l2": (CIFAR10_L2,),
    "cifar100-linf": (CIFAR100_LINF,),
    "svhn-linf": (SVHN_LINF,),
    "cifar10-shape": (CIFAR10_SHAPE,),
    "stutz2021-cifar10": (STUTZ2021_CIFAR10,),
    "stutz2021-curve": (STUTZ2021_CURVE,),
    "stutz2021-stopped": (STUTZ2021_STOPPED,),
    "smoke": (SMOKE,),
}
"""Every shipped protocol by name, oldest version first."""


def find_protocol(name: str, version: int | None = None) -> EvaluationProtocol:
    """Return the named protocol, its newest version unless one is asked for.

    Raises:
        InvalidRequest: no such name or version; the message lists what there is.
    """
    versions = PROTOCOLS.get(name)
    if versions is None:
        raise InvalidRequest(f"no protocol is called {name!r}; there are {', '.join(PROTOCOLS)}")
    if version is None:
        return versions[-1]
    for protocol in versions:
        if protocol.version == version:
            return protocol
    raise InvalidRequest(
        f"protocol {name} has no version {version}; it has {', '.join(str(p.version) for p in versions)}"
    )
