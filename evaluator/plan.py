"""What a run consists of, and how pieces are cut from it that take about as long as wanted (torch-free).

A worker cuts its next piece by what its last piece of the same stage cost it. No number depends on the cuts.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

from evaluator.metrics import StageName
from evaluator.preview import plan_preview
from evaluator.protocol import EvaluationProtocol
from evaluator.results import ShardSpec
from evaluator.types import Split

NEEDS: Mapping[StageName, StageName] = dict.fromkeys(
    (stage for stage in StageName if stage is not StageName.CLEAN), StageName.CLEAN
)
"""Which stage must be done before one begins: a network that fails on clean images shall cost no attack."""

FIRST_EXAMPLES = 4
"""The first piece, before anything is known of its cost. oneDNN's bits are the same for any batch of 4 or more."""

GROWTH = 8
"""How many times larger than the last one a piece may be, whatever that one's seconds promise."""


UNCUT = (StageName.TRUST, StageName.WORST_CASE, StageName.PREVIEW)
"""What is measured of these needs all examples at once; in pieces, a preview's small sample would fill no batch."""


_ORDER = (
    StageName.CLEAN,
    StageName.TRUST,
    StageName.AUTOATTACK,
    StageName.WORST_CASE,
    StageName.ROBUST_LOSS,
    StageName.FLATNESS,
    StageName.LANDSCAPE,
)


class Cost(NamedTuple):
    """What a piece was and took."""

    examples: int
    seconds: float


def plan(protocol: EvaluationProtocol, *, preview: bool = False) -> tuple[ShardSpec, ...]:
    """Return each stage on each split, at each weight sample, uncut, in the order in which they are best claimed.

    What can be cut least comes early, so that several workers end together. A stage on 0 examples is left out. A
    `preview` comes right after what it needs.
    """
    specs = [spec for stage in _ORDER for split in Split for spec in _stage(protocol, stage, split)]
    first = sum(spec.stage is NEEDS[StageName.PREVIEW] for spec in specs)
    return (*specs[:first], *(plan_preview(protocol) if preview else ()), *specs[first:])


def cut(
    protocol: EvaluationProtocol, spec: ShardSpec, *, last: Cost | None, target_seconds: float
) -> tuple[ShardSpec, ShardSpec | None]:
    """Return the piece of `spec` that should take `target_seconds`, and the rest, if there is one.

    `last` is the cost of the last piece of the stage. A piece is at most half of what is left, down to a tenth of the
    target, so that several workers end together. AutoAttack is cut at the protocol's own chunks, because its attacks
    draw by position within a chunk; what is `UNCUT` never; everything else at multiples of 4 examples, and no piece is
    smaller.
    """
    if spec.stage in UNCUT:
        return spec, None
    grain = protocol.autoattack.chunk_size if spec.stage is StageName.AUTOATTACK else FIRST_EXAMPLES
    size = 0
    if last is not None:
        on_target = last.examples * target_seconds / max(last.seconds, 1e-9)
        size = int(min(on_target, max(len(spec) / 2, on_target / 10), GROWTH * last.examples))
    stop = spec.start + max(grain, size // grain * grain)
    if stop + FIRST_EXAMPLES > spec.stop:
        return spec, None
    return replace(spec, stop=stop), replace(spec, start=stop)


def _stage(protocol: EvaluationProtocol, stage: StageName, split: Split) -> Iterator[ShardSpec]:
    if count := protocol.count(stage, split):
        for sample in protocol.weight_samples(stage) or (None,):
            yield ShardSpec(stage, split, 0, count, sample)
