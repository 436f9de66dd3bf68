"""From probes and the outcomes of the other stages to findings (pure, torch-free)."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from evaluator.exceptions import InvalidResult
from evaluator.intervals import difference, wilson
from evaluator.metrics import StageName
from evaluator.results import EvaluationResult, ShardResult, ShardSpec
from evaluator.trust.findings import CHECKS, LARGEST, OPTIONAL, PROBES, Finding
from evaluator.types import Split

Array = npt.NDArray[Any]

CLAIM = "claimed_clean_error"
"""The note of a manifest that says which clean test error its network has, as a fraction."""


def check_probes(spec: ShardSpec, values: Mapping[str, Sequence[Any]], n: int) -> None:
    """Check a report on probes, whose names are checked already: each one bounded number, of all `n` examples.

    Raises:
        InvalidResult: it is anything else.
    """
    if len(spec) != n:
        raise InvalidResult(f"{spec} reports on {len(spec)} examples, expected all {n} at once")
    for name, numbers in values.items():
        if len(numbers) != 1 and not (name in OPTIONAL and len(numbers) == 0):
            raise InvalidResult(f"{spec} reports {len(numbers)} values of {name}, expected 1")
        for number in numbers:
            if type(number) not in (int, float) or not -LARGEST <= number <= LARGEST:
                raise InvalidResult(
                    f"{spec} reports {number!r:.80} as {name}, expected a number of at most {LARGEST:g}"
                )


def judge(results: Sequence[ShardResult]) -> Iterator[Finding]:
    """Yield the findings of a rankable run from all its reports, which were checked; those that can be made.

    A run that was planned before there were probes has findings from its outcomes alone.
    """
    columns = _Columns(results)
    probed = [result for result in results if result.spec.stage is StageName.TRUST]
    if len(probed) > 1:
        raise InvalidResult(f"{probed[1].spec} is reported {len(probed)} times, expected once")
    probes = {name: numbers[0] for result in probed for name, numbers in result.values.items() if numbers}
    for name in PROBES:
        if name in probes and name in CHECKS:
            yield CHECKS[name].judge(probes[name])
    correct = columns.array(StageName.ROBUST_LOSS, Split.TEST, "correct").astype(bool)
    broken_by = columns.array(StageName.AUTOATTACK, Split.TEST, "broken_by")
    n = min(len(correct), len(broken_by))
    yield CHECKS["restarts"].judge(float((correct[:, 0] & ~correct.all(1)).mean()))
    yield CHECKS["square"].judge(wilson(int((broken_by == "square").sum()), len(broken_by)).low)
    yield CHECKS["autoattack_behind_pgd"].judge(float(((broken_by[:n] == "robust") & ~correct[:n].all(1)).mean()))
    gaps = [
        difference(wilson(*columns.errors(stage, Split.TEST)), wilson(*columns.errors(stage, Split.TRAIN))).high
        for stage in (StageName.CLEAN, StageName.AUTOATTACK)
        if all(columns.errors(stage, split)[1] for split in Split)
    ]
    if gaps:
        yield CHECKS["memorisation"].judge(min(gaps))
    wrong = columns.wrong(StageName.CLEAN, Split.TEST)
    if n := min(len(wrong), len(broken_by)):
        apart = [float((wrong[:n] != (broken_by[:n] == "clean")).mean())]
        if probed and len(wrong) >= len(probed[0].spec):
            loss = columns.array(StageName.CLEAN, Split.TEST, "loss")[: len(probed[0].spec)].mean()
            apart.append(float(abs(loss - probes["clean_loss"]) / max(1.0, loss)))
        yield CHECKS["stages_agree"].judge(max(apart))


def judge_claim(result: EvaluationResult, notes: Mapping[str, str]) -> EvaluationResult:
    """Return `result` with a finding on the clean error that the notes of its checkpoint's manifest claim, if any.

    What is no fraction counts as far off.
    """
    measured = {m.column: m for m in result.measurements}.get("clean_error_test")
    if CLAIM not in notes or measured is None:
        return result
    try:
        claimed = float(notes[CLAIM])
    except ValueError:
        claimed = -1.0
    outside = max(measured.low - claimed, claimed - measured.high, 0.0) if 0 <= claimed <= 1 else 1.0
    return result.with_findings(CHECKS["claim"].judge(outside))


class _Columns:
    """Per-example outcomes in the examples' order."""

    def __init__(self, results: Sequence[ShardResult]) -> None:
        self._results = sorted(results, key=lambda result: result.spec.start)

    def array(self, stage: StageName, split: Split, name: str) -> Array:
        """Return a value of all examples, as numbers or texts; empty where the stage was not asked for."""
        shards = [result for result in self._results if (result.spec.stage, result.spec.split) == (stage, split)]
        values = [value for shard in shards for value in shard.values[name]]
        return np.asarray(values, dtype=str if name == "broken_by" else np.float64)

    def wrong(self, stage: StageName, split: Split) -> Array:
        """Return which examples are wrong clean, or not robust."""
        if stage is StageName.AUTOATTACK:
            return np.not_equal(self.array(stage, split, "broken_by"), "robust")
        return np.not_equal(self.array(stage, split, "prediction"), self.array(stage, split, "label"))

    def errors(self, stage: StageName, split: Split) -> tuple[int, int]:
        """Return how many examples are wrong, of how many."""
        wrong = self.wrong(stage, split)
        return int(wrong.sum()), len(wrong)
