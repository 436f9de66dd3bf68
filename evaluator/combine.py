"""Per-example outcomes → published numbers (torch-free); the order in which shards arrive never matters."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from evaluator.exceptions import InvalidResult
from evaluator.intervals import Estimate, bootstrap_grand_mean, bootstrap_mean, difference, wilson
from evaluator.metrics import CURVES, METRICS, StageName
from evaluator.preview import CHEAPLY_BROKEN_BY, examples
from evaluator.protocol import EvaluationProtocol, Selection
from evaluator.results import (
    SCHEMA_VERSION,
    Curve,
    CurvePoint,
    EvaluationResult,
    Measurement,
    PassCounts,
    ShardResult,
    StageSummary,
)
from evaluator.trust.findings import PROBES
from evaluator.trust.judgement import check_probes, judge
from evaluator.types import Split

AUTOATTACK_ORDER = ("apgd-ce", "apgd-t", "fab-t", "square")
"""The attacks of AutoAttack standard, in its order."""

BROKEN_BY = ("clean", *AUTOATTACK_ORDER, "robust")
"""What can first break an example: it is wrong clean, falls to an attack, or stays robust."""

_RESTART_VALUES = ("loss", "wrong_class_confidence", "correct")
VALUES: dict[StageName, tuple[str, ...]] = {
    StageName.CLEAN: ("loss", "prediction", "label"),
    StageName.TRUST: PROBES,
    StageName.ROBUST_LOSS: _RESTART_VALUES,
    StageName.FLATNESS: _RESTART_VALUES,
    StageName.LANDSCAPE: _RESTART_VALUES,
    StageName.WORST_CASE: _RESTART_VALUES,
    StageName.AUTOATTACK: ("broken_by",),
    StageName.PREVIEW: ("broken_by", "autoattack"),
}
"""The values a shard of each stage reports: one an example, but for probes."""

_OUTCOMES: dict[StageName, dict[str, tuple[str | None, ...]]] = {
    StageName.AUTOATTACK: {"broken_by": BROKEN_BY},
    StageName.PREVIEW: {"broken_by": CHEAPLY_BROKEN_BY, "autoattack": (*BROKEN_BY, None)},
}
"""Of values that are names, which there are; None stands for an example outside the sample."""

Array = npt.NDArray[np.float64]
_Estimate = tuple[str, Split | None, Estimate, int]


def check(protocol: EvaluationProtocol, result: ShardResult) -> None:
    """Check that a report has the values, lengths and ranges its specification asks for.

    Raises:
        InvalidResult: it has not; the message says what was seen and what was expected.
    """
    spec = result.spec
    samples = protocol.weight_samples(spec.stage) or (None,)
    if spec.weight_sample not in samples:
        raise InvalidResult(f"{spec} reports on a weight sample that is not one of {samples}")
    of_preview = spec.stage is StageName.PREVIEW and spec.split is Split.TEST
    asked = examples(protocol) if of_preview else protocol.count(spec.stage, spec.split)
    if spec.stop > asked:
        raise InvalidResult(f"{spec} goes beyond the {asked} examples that {protocol.label} asks for")
    if set(result.values) != set(VALUES[spec.stage]):
        raise InvalidResult(f"{spec} reports {sorted(result.values)}, expected {sorted(VALUES[spec.stage])}")
    if spec.stage is StageName.TRUST:
        check_probes(spec, result.values, asked)
        return
    for name, values in result.values.items():
        if len(values) != len(spec):
            raise InvalidResult(f"{spec} reports {len(values)} values of {name}, expected {len(spec)}")
    if spec.stage in _OUTCOMES:
        for name, known in _OUTCOMES[spec.stage].items():
            unknown = [outcome for outcome in result.values[name] if outcome not in known]
            if unknown:
                raise InvalidResult(f"{spec} reports the outcome {unknown[0]!r:.80}, expected one of {known}")
        return
    try:
        arrays = {name: np.asarray(values, dtype=np.float64) for name, values in result.values.items()}
    except (TypeError, ValueError) as error:
        raise InvalidResult(f"{spec} reports values that are no table of numbers: {error}") from error
    attack = protocol.attack(spec.stage)
    shape = (len(spec), attack.restarts) if attack else (len(spec),)
    for name, array in arrays.items():
        if array.shape != shape:
            raise InvalidResult(f"{spec} reports {name} of shape {array.shape}, expected {shape}")
        if not np.isfinite(array).all() or (array < 0).any():
            raise InvalidResult(f"{spec} reports values of {name} that are negative or not finite")


def check_against_clean(attacked: ShardResult, clean: Sequence[ShardResult]) -> None:
    """Check that no example withstands AutoAttack that is wrong without an attack, where it was measured so.

    Raises:
        InvalidResult: one does.
    """
    wrong = {
        (result.spec.split, result.spec.start + i)
        for result in clean
        for i, (found, label) in enumerate(zip(result.values["prediction"], result.values["label"], strict=True))
        if found != label
    }
    spec = attacked.spec
    for i, outcome in enumerate(attacked.values["broken_by"], start=spec.start):
        if outcome == "robust" and (spec.split, i) in wrong:
            raise InvalidResult(
                f"{spec} reports example {i} as robust, but it is misclassified without an attack; measure both again"
            )


def combine(
    protocol: EvaluationProtocol,
    results: Sequence[ShardResult],
    *,
    checkpoint_sha256: str | None = None,
    limit: int | None = None,
) -> EvaluationResult:
    """Return all numbers of a run whose shards are all in `results`, in any order: those of `protocol.columns()`.

    A preview among them is left out. `protocol` is what was measured, that is, already limited where `limit` is given.

    Raises:
        InvalidResult: shards are missing, doubled or malformed.
    """
    results = [result for result in results if result.spec.stage is not StageName.PREVIEW]
    for result in results:
        check(protocol, result)
    outcomes = _Outcomes(results)
    estimates: list[_Estimate] = [e for split in Split for e in _estimates(protocol, outcomes, split)]
    found = {(metric, split): (estimate, n) for metric, split, estimate, n in estimates}
    for gap, metric in (("robust_loss_gap", "robust_loss"), ("robust_error_gap", "robust_error")):
        if gap in protocol.columns():
            (test, n_test), (train, n_train) = found[metric, Split.TEST], found[metric, Split.TRAIN]
            estimates.append((gap, None, difference(test, train), n_test + n_train))
    order = list(METRICS)
    estimates.sort(key=lambda e: order.index(e[0]))
    versions: defaultdict[str, set[str]] = defaultdict(set)
    for result in results:
        for library, version in result.versions.items():
            versions[library].add(version)
    reported = {(result.spec.stage, result.spec.split) for result in results}
    combined = EvaluationResult(
        schema_version=SCHEMA_VERSION,
        protocol=protocol.name,
        protocol_version=protocol.version,
        protocol_digest=protocol.digest,
        rankable=protocol.rankable,
        limit=limit,
        seed=protocol.seed,
        checkpoint_sha256=checkpoint_sha256,
        versions={library: tuple(sorted(seen)) for library, seen in sorted(versions.items())},
        measurements=tuple(Measurement(metric, split, *estimate, n) for metric, split, estimate, n in estimates),
        autoattack=protocol.autoattack.version,
        stages=tuple(
            _summary(stage, split, results) for stage in StageName for split in Split if (stage, split) in reported
        ),
        curves=tuple(curve for key in CURVES for split in Split for curve in _curves(protocol, outcomes, key, split)),
    )
    return combined.with_findings(*judge(results)) if protocol.rankable else combined


def robust_losses(loss: Array, wrong_class_confidence: Array, selection: Selection) -> Array:
    """Return each example's robust loss [n] from its restarts [n, restarts]."""
    chosen = loss if selection is Selection.LOSS else wrong_class_confidence
    return np.take_along_axis(loss, chosen.argmax(1)[:, None], 1)[:, 0]


def robust_loss_by_example(protocol: EvaluationProtocol, results: Sequence[ShardResult], split: Split) -> Array:
    """Return the robust loss of each example of a split [n], from the shards of that stage in any order.

    Raises:
        InvalidResult: shards are missing or doubled.
    """
    return _worst(protocol, _Outcomes(results), StageName.ROBUST_LOSS, split)


class _Outcomes:
    """Per-example outcomes of a run as columns, each sure to cover its examples exactly once."""

    def __init__(self, results: Sequence[ShardResult]) -> None:
        self._results = sorted(results, key=lambda result: result.spec.start)

    def values(self, stage: StageName, split: Split, name: str, n: int, sample: int | None = None) -> list[Any]:
        """Return the named value of examples 0 … n − 1, where the stage has exactly these."""
        covered, values = 0, []
        for result in self._results:
            spec = result.spec
            if (spec.stage, spec.split, spec.weight_sample) == (stage, split, sample):
                if spec.start != covered:
                    raise InvalidResult(f"{spec} follows example {covered - 1}: shards are missing or doubled")
                covered = spec.stop
                values += result.values[name]
        if covered != n:
            which = "" if sample is None else f", weight sample {sample}"
            raise InvalidResult(f"{stage} on {split}{which} has {covered} examples, expected {n}")
        return values

    def column(self, stage: StageName, split: Split, name: str, n: int, sample: int | None = None) -> Array:
        """Return `values` as an array [n] or [n, restarts]."""
        return np.asarray(self.values(stage, split, name, n, sample), dtype=np.float64)


def _estimates(protocol: EvaluationProtocol, outcomes: _Outcomes, split: Split) -> Iterator[_Estimate]:
    if n := protocol.count(StageName.CLEAN, split):
        loss, prediction, label = (outcomes.column(StageName.CLEAN, split, name, n) for name in VALUES[StageName.CLEAN])
        yield "clean_error", split, wilson(int((prediction != label).sum()), n), n
        yield "clean_loss", split, bootstrap_mean(loss, seed=protocol.seed), n
    if n := protocol.count(StageName.ROBUST_LOSS, split):
        yield from _under_attack(protocol, outcomes, split, n)
    if n := protocol.count(StageName.AUTOATTACK, split):
        counts = Counter(outcomes.values(StageName.AUTOATTACK, split, "broken_by", n))
        yield "robust_error", split, wilson(n - counts["robust"], n), n
        yield "robust_error_without_square", split, wilson(n - counts["robust"] - counts["square"], n), n


def _under_attack(protocol: EvaluationProtocol, outcomes: _Outcomes, split: Split, n: int) -> Iterator[_Estimate]:
    """Yield what PGD finds, and flatness where it is asked for: it is the rise of the same examples' robust loss."""
    restarts, confidence, correct = (outcomes.column(StageName.ROBUST_LOSS, split, name, n) for name in _RESTART_VALUES)
    reference = robust_losses(restarts, confidence, protocol.robust_loss.selection)
    yield "robust_loss", split, bootstrap_mean(reference, seed=protocol.seed), n
    yield "pgd_error", split, wilson(int((correct == 0).any(1).sum()), n), n

    if n := protocol.count(StageName.WORST_CASE, split):
        found = _at_samples(protocol, outcomes, StageName.WORST_CASE, split)
        worst = found[found.mean(1).argmax()]
        yield "worst_case_flatness", split, bootstrap_mean(worst - reference[:n], seed=protocol.seed), n

    n = protocol.count(StageName.FLATNESS, split)
    if n == 0:
        return
    perturbed = _at_samples(protocol, outcomes, StageName.FLATNESS, split)
    matched = restarts[:n, : protocol.flatness.attack.restarts].max(1)
    yield "flatness", split, bootstrap_grand_mean(perturbed - reference[:n], seed=protocol.seed), n
    yield "flatness_matched", split, bootstrap_grand_mean(perturbed - matched, seed=protocol.seed), n


def _curves(protocol: EvaluationProtocol, outcomes: _Outcomes, key: str, split: Split) -> Iterator[Curve]:
    """Yield a curve, if it is asked for: the robust loss at each position, or how much higher it is than at w."""
    n = protocol.count(StageName.LANDSCAPE, split)
    if n == 0:
        return
    losses: defaultdict[float, list[Array]] = defaultdict(list)
    for sample, place in enumerate(protocol.places(StageName.LANDSCAPE)):
        losses[place.position].append(_worst(protocol, outcomes, StageName.LANDSCAPE, split, sample))
    reference: Array | float = 0.0
    if key == "flatness_by_radius":
        losses = defaultdict(list, {position: at for position, at in losses.items() if position > 0})
        reference = _worst(protocol, outcomes, StageName.ROBUST_LOSS, split)[:n]
    points = []
    for position, at in losses.items():
        values = np.stack(at) - reference
        estimate = bootstrap_grand_mean(values, seed=protocol.seed)
        points.append(CurvePoint(position, *estimate, by_direction=tuple(values.mean(1).tolist())))
    if points:
        yield Curve(key, split, n, tuple(points))


def _worst(
    protocol: EvaluationProtocol, outcomes: _Outcomes, stage: StageName, split: Split, sample: int | None = None
) -> Array:
    """Return the robust loss of each example of a stage [n]."""
    attack, n = protocol.attack(stage), protocol.count(stage, split)
    assert attack is not None, f"{stage} attacks nothing by PGD"
    loss, confidence = (outcomes.column(stage, split, name, n, sample) for name in _RESTART_VALUES[:2])
    return robust_losses(loss, confidence, attack.selection)


def _at_samples(protocol: EvaluationProtocol, outcomes: _Outcomes, stage: StageName, split: Split) -> Array:
    """Return the robust loss of each example at each weight sample [samples, n]."""
    return np.stack([_worst(protocol, outcomes, stage, split, sample) for sample in protocol.weight_samples(stage)])


def _summary(stage: StageName, split: Split, results: Sequence[ShardResult]) -> StageSummary:
    shards = [result for result in results if (result.spec.stage, result.spec.split) == (stage, split)]
    counts = Counter(outcome for shard in shards for outcome in shard.values.get("broken_by", ()))
    return StageSummary(
        stage=stage,
        split=split,
        shards=len(shards),
        passes=sum((shard.passes for shard in shards), PassCounts()),
        seconds=math.fsum(shard.seconds for shard in shards),
        devices=tuple(sorted({shard.device for shard in shards})),
        warnings=tuple(sorted({warning for shard in shards for warning in shard.warnings})),
        outcomes={name: counts[name] for name in BROKEN_BY} if stage is StageName.AUTOATTACK else {},
        sandboxes=tuple(sorted({shard.sandbox for shard in shards if shard.sandbox})),
    )
