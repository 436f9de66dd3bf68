"""What a measurement says: shard, measurement and evaluation results, to and from JSON (torch-free)."""

from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import ConfigDict, TypeAdapter, with_config

from evaluator.metrics import StageName, column
from evaluator.trust.findings import Finding, Verdict
from evaluator.types import AutoAttackVersion, Split

SCHEMA_VERSION = 2
"""Version of the JSON below; a reader of version n reads every version ≤ n. Version 2 added `curves`."""

_strict = with_config(ConfigDict(extra="forbid", allow_inf_nan=False))


@_strict
@dataclass(frozen=True)
class ShardSpec:
    """The claimable piece of a stage: examples start … stop − 1 of a split, for one weight sample or none."""

    stage: StageName
    split: Split
    start: int
    stop: int
    weight_sample: int | None = None

    def __len__(self) -> int:
        return self.stop - self.start

    def __str__(self) -> str:
        sample = "" if self.weight_sample is None else f" at weight sample {self.weight_sample}"
        return f"{self.stage} on {self.split} examples {self.start}…{self.stop - 1}{sample}"


@_strict
@dataclass(frozen=True)
class PassCounts:
    """Examples pushed forward and backward through the network."""

    forward: int = 0
    backward: int = 0

    def __add__(self, other: "PassCounts") -> "PassCounts":
        return PassCounts(self.forward + other.forward, self.backward + other.backward)


@_strict
@dataclass(frozen=True)
class ShardResult:
    """Per-example outcomes of one shard: each value is a list over its examples (of lists over restarts, where named).

    stage → values: clean → loss, prediction, label · robust_loss, flatness and landscape → loss[restart],
    wrong_class_confidence[restart], correct[restart] · autoattack → broken_by (see `combine.BROKEN_BY`). Of trust, each
    of `trust.findings.PROBES` is one number for all examples, or none where there is nothing to probe.
    """

    spec: ShardSpec
    values: dict[str, list[Any]]
    passes: PassCounts
    seconds: float
    device: str
    versions: dict[str, str]
    warnings: tuple[str, ...] = ()
    sandbox: str = ""
    """The walls around the process that measured, as the one that started it knows; empty where nobody said."""


@_strict
@dataclass(frozen=True)
class Measurement:
    """One published number with its 95 % interval. `split` is None for gaps (test − train)."""

    metric: str
    split: Split | None
    value: float
    low: float
    high: float
    n: int

    @property
    def column(self) -> str:
        """The name under which this number stands in tables, JSON and CSV."""
        return column(self.metric, self.split)


@_strict
@dataclass(frozen=True)
class CurvePoint:
    """The value of a curve at a signed radius, with its 95 % interval, and its mean over examples by direction."""

    position: float
    value: float
    low: float
    high: float
    by_direction: tuple[float, ...]


@_strict
@dataclass(frozen=True)
class Curve:
    """One of `metrics.CURVES` on a split, from n examples; its points in ascending order of position."""

    key: str
    split: Split
    n: int
    points: tuple[CurvePoint, ...]


@_strict
@dataclass(frozen=True)
class StageSummary:
    """What one stage cost on one split, where it ran, and what it warned of."""

    stage: StageName
    split: Split
    shards: int
    passes: PassCounts
    seconds: float
    devices: tuple[str, ...]
    warnings: tuple[str, ...]
    outcomes: dict[str, int] = field(default_factory=dict)
    """AutoAttack only: how many examples were first broken by what (`clean`, `apgd-ce`, …, `robust`)."""
    sandboxes: tuple[str, ...] = ()
    """The walls that stood around what measured it."""


@_strict
@dataclass(frozen=True)
class EvaluationResult:
    """All numbers that a run's protocol asked for, with everything needed to repeat them."""

    schema_version: int
    protocol: str
    protocol_version: int
    protocol_digest: str
    rankable: bool
    limit: int | None
    seed: int
    checkpoint_sha256: str | None
    versions: dict[str, tuple[str, ...]]
    """Library → every version that took part (one, unless workers differ)."""
    measurements: tuple[Measurement, ...]
    stages: tuple[StageSummary, ...]
    autoattack: AutoAttackVersion = AutoAttackVersion.STANDARD
    """Which AutoAttack gave the robust error; only `standard` ranks."""
    findings: tuple[Finding, ...] = ()
    """What the trust checks found; a result that fails one is not rankable."""
    curves: tuple[Curve, ...] = ()

    def measurement(self, column: str) -> Measurement:
        """Return the number of one column, for example `robust_loss_test`; KeyError where it was not asked for."""
        return {m.column: m for m in self.measurements}[column]

    def with_findings(self, *findings: Finding) -> "EvaluationResult":
        """Return the result with `findings` after those it has; not rankable if one of them is a failed check."""
        failed = any(finding.verdict is Verdict.FAIL for finding in findings)
        return replace(self, findings=(*self.findings, *findings), rankable=self.rankable and not failed)


_SHARD = TypeAdapter(ShardResult)
_EVALUATION = TypeAdapter(EvaluationResult)
_CURVES = TypeAdapter(tuple[Curve, ...])


def shard_to_json(result: ShardResult) -> str:
    """Return `result` as JSON; finite numbers only."""
    return _SHARD.dump_json(result).decode()


def shard_from_json(text: str) -> ShardResult:
    """Parse what `shard_to_json` wrote; pydantic.ValidationError when it is anything else."""
    return _SHARD.validate_json(text)


def evaluation_to_json(result: EvaluationResult, *, indent: int | None = None) -> str:
    """Return `result` as JSON."""
    return _EVALUATION.dump_json(result, indent=indent).decode()


def evaluation_from_json(text: str) -> EvaluationResult:
    """Parse what `evaluation_to_json` wrote; pydantic.ValidationError when it is anything else."""
    return _EVALUATION.validate_json(text)


def curves_to_fields(curves: tuple[Curve, ...]) -> list[dict[str, Any]]:
    """Return curves as what JSON is made of."""
    fields: list[dict[str, Any]] = _CURVES.dump_python(curves, mode="json")
    return fields


def curves_from_fields(fields: list[dict[str, Any]]) -> tuple[Curve, ...]:
    """Return what `curves_to_fields` was given; pydantic.ValidationError when it is anything else."""
    return _CURVES.validate_python(fields)
