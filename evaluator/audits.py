"""Which pieces of a run are measured again, and what follows from what is found then (pure, torch-free)."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from evaluator.metrics import StageName
from evaluator.plan import UNCUT
from evaluator.protocol import EvaluationProtocol
from evaluator.results import ShardResult, ShardSpec
from evaluator.trust.findings import Finding, Verdict

AUDITED = (
    StageName.CLEAN,
    StageName.ROBUST_LOSS,
    StageName.FLATNESS,
    StageName.LANDSCAPE,
    StageName.WORST_CASE,
    StageName.AUTOATTACK,
)
"""The stages whose outcomes are published as numbers."""

PIECE_EXAMPLES = 16
"""How many examples of a shard are measured again: more than few lies slip through, few beside any shard."""

FLAG_TOLERANCE = 0.01
"""Which share of the yes-or-no outcomes may differ between devices or versions; one always may."""

LOSS_TOLERANCE = 0.02
"""By how much losses may differ there on average, in nats or in relation to them where they are large: steps by a
gradient's sign carry a rounding on to other iterates, which are about as good."""

_FLAGS = ("prediction", "label", "correct", "broken_by")


@dataclass(frozen=True)
class Measured:
    """What one worker reported of a piece."""

    worker: str
    result: ShardResult

    @property
    def host(self) -> str:
        """The part of the worker's name that all workers of a host share."""
        return self.worker.rpartition(":")[0]


class Outcome(StrEnum):
    """What is known of a piece after two or three measurements."""

    AGREED = "agreed"
    AGAIN = "again"
    """Two differ, so a third one must decide."""
    REFUTED = "refuted"
    """Two workers agree against a report."""
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class Judgement:
    """What is known, and for REFUTED whose report it is that two others contradict."""

    outcome: Outcome
    wrong: str | None = None


def draw(
    protocol: EvaluationProtocol, specs: Sequence[ShardSpec], share: float, chance: random.Random
) -> tuple[tuple[ShardSpec, ShardSpec], ...]:
    """Return shards of a run that shall be measured again, each with the piece of it that is.

    Each shard is drawn with probability `share`; at least one attacked by PGD is, if there are any. Of AutoAttack,
    which costs most and cannot be cut below the protocol's chunk, no more than its share is taken, but up to one chunk.
    """
    audited = [spec for spec in specs if spec.stage in AUDITED]
    attacked = [spec for spec in audited if protocol.attack(spec.stage)]
    drawn = [spec for spec in audited if chance.random() < share]
    if audited and not set(drawn) & set(attacked or audited):
        drawn.append(chance.choice(attacked or audited))
    chunks = [spec for spec in drawn if spec.stage is StageName.AUTOATTACK]
    most = max(1, int(share * sum(spec.stage is StageName.AUTOATTACK for spec in audited)))
    left_out = set(chunks) - set(chance.sample(chunks, min(most, len(chunks))))
    return tuple((spec, _piece(protocol, spec, chance)) for spec in drawn if spec not in left_out)


def _piece(protocol: EvaluationProtocol, spec: ShardSpec, chance: random.Random) -> ShardSpec:
    """Return part of a shard: a whole chunk of AutoAttack, elsewhere some examples, at a multiple of 4 from its start.

    No number depends on where it is cut (see `plan.cut`).
    """
    grain, size = 4, PIECE_EXAMPLES
    if spec.stage is StageName.AUTOATTACK:
        grain = size = protocol.autoattack.chunk_size
    if len(spec) <= size or spec.stage in UNCUT:
        return spec
    start = spec.start + grain * chance.randrange((len(spec) - size) // grain + 1)
    return replace(spec, start=start, stop=start + size)


def part_of(result: ShardResult, piece: ShardSpec) -> ShardResult:
    """Return what a report says of a piece of its shard."""
    start, stop = piece.start - result.spec.start, piece.stop - result.spec.start
    return replace(result, spec=piece, values={name: values[start:stop] for name, values in result.values.items()})


def agree(first: Measured, second: Measured) -> bool:
    """Whether two measurements of a piece are the same: to the bit on one host's CPU, else within the tolerances."""
    if _same_machine(first, second):
        return first.result.values == second.result.values
    for name in first.result.values:
        differences = _differences(first, second, name)
        most = max(1.0, FLAG_TOLERANCE * differences.size) if name in _FLAGS else LOSS_TOLERANCE * differences.size
        if differences.sum() > most:
            return False
    return True


def judge(measured: Sequence[Measured]) -> Judgement:
    """Return what follows from two or three measurements of a piece, the reported one first.

    Two different workers have to agree before a third report is refuted: nobody outvotes others by measuring twice.
    """
    first, second, *rest = measured
    if not rest:
        return Judgement(Outcome.AGREED if agree(first, second) else Outcome.AGAIN)
    (last,) = rest
    with_first, with_second = agree(first, last), agree(second, last)
    if with_first and with_second:  # what was too far apart lies on both sides of it
        return Judgement(Outcome.AGREED)
    if with_first and first.worker != last.worker:
        return Judgement(Outcome.REFUTED, second.worker)
    if with_second and second.worker != last.worker:
        return Judgement(Outcome.REFUTED, first.worker)
    return Judgement(Outcome.UNDECIDED)


def finding(pieces: Sequence[Sequence[Measured]]) -> Finding:
    """Return what measuring pieces again has shown, once all of them agree."""
    pairs = [(first, one) for first, *others in pieces for one in others]
    largest = max(float(_differences(*pair, name).mean()) for pair in pairs for name in pair[0].result.values)
    exact = all(_same_machine(*pair) for pair in pairs)
    examples = sum(len(first.result.spec) for first, *_ in pieces)
    auditors = len({one.worker for _, one in pairs})
    alone = sum(all(one.worker == first.worker for one in others) for first, *others in pieces)
    return Finding(
        check="re-evaluation",
        seen=largest,
        threshold=0.0 if exact else LOSS_TOLERANCE,
        verdict=Verdict.PASS,
        sentence=f"{_count(len(pieces), 'shard')} drawn at random gave the same outcomes when {examples} of the "
        f"examples were measured again by {_count(auditors, 'worker')}"
        + (f", {_count(alone, 'shard')} by the worker that had reported, in a fresh process" if alone else "")
        + f"; the largest mean difference is {largest:.2g}",
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _same_machine(first: Measured, second: Measured) -> bool:
    """Whether both ran where the same bits are promised: on the CPU of one host with the same libraries."""
    one, other = first.result, second.result
    here = (first.host, one.device, one.versions) == (second.host, other.device, other.versions)
    return here and one.device.startswith("cpu")


def _differences(first: Measured, second: Measured, name: str) -> npt.NDArray[np.float64]:
    """Return by how much each value differs, in relation to it where it is large; another outcome counts 1."""
    one, other = (np.asarray(measured.result.values[name]) for measured in (first, second))
    if name in _FLAGS:
        return np.asarray(one != other, np.float64)
    one, other = one.astype(np.float64), other.astype(np.float64)
    return np.asarray(np.abs(one - other) / (1 + one), np.float64)
