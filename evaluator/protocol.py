"""What is measured, exactly: immutable, versioned, hashed evaluation protocols (torch-free).

A protocol is never edited once numbers were published under it: the next version stands beside it.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from functools import cached_property

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
class EvaluationProtocol:
    """Everything that decides a number, and nothing that does not (no batch size, no device, no worker count).

    A stage on 0 examples is not measured, and its numbers do not exist. What ranks must: `rankable` needs AutoAttack
    and robust loss on test.
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
        for split in Split:
            if self.flatness_examples.count(split) > self.robust_loss_examples.count(split):
                raise InvalidRequest(
                    f"protocol {self.name}: flatness on {split} needs the robust loss of the same examples, "
                    f"but asks for {self.flatness_examples.count(split)} of "
                    f"{self.robust_loss_examples.count(split)}"
                )

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON of all fields, as 64 hexadecimal digits."""
        return hashlib.sha256(to_json(self).encode()).hexdigest()

    def count(self, stage: StageName, split: Split) -> int:
        """Return how many examples of `split` a stage uses; what ranks is probed on some test examples besides."""
        if stage is StageName.TRUST:
            return min(EXAMPLES, self.robust_loss_examples.test) if self.rankable and split is Split.TEST else 0
        examples = {
            StageName.CLEAN: self.clean_examples,
            StageName.ROBUST_LOSS: self.robust_loss_examples,
            StageName.FLATNESS: self.flatness_examples,
            StageName.AUTOATTACK: self.autoattack_examples,
        }
        return examples[stage].count(split)

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
            rankable=False,
        )

    def in_low_precision(self) -> "EvaluationProtocol":
        """Return the protocol with AutoAttack's search in bfloat16: another digest, never rankable."""
        settings = replace(self.autoattack, version=AutoAttackVersion.LOW_PRECISION)
        return replace(self, autoattack=settings, rankable=False)


_PROTOCOL = TypeAdapter(EvaluationProtocol)


def to_json(protocol: EvaluationProtocol) -> str:
    """Return the canonical JSON of all fields: sorted keys, no spaces. The digest is taken over it."""
    return json.dumps(asdict(protocol), sort_keys=True, separators=(",", ":"))


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
_NO_EXAMPLES = Examples(test=0, train=0)


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
    "cifar10-linf": (CIFAR10_LINF,),
    "cifar10-l2": (CIFAR10_L2,),
    "cifar100-linf": (CIFAR100_LINF,),
    "svhn-linf": (SVHN_LINF,),
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
