"""How a protocol is cut into shards (torch-free).

Sizes bound what the death of a worker costs; no number depends on them.
"""

from collections.abc import Iterator

from evaluator.metrics import StageName
from evaluator.protocol import EvaluationProtocol
from evaluator.results import ShardSpec
from evaluator.types import Split

CLEAN_EXAMPLES = 5000
ATTACKED_EXAMPLES = 100


def plan(protocol: EvaluationProtocol) -> tuple[ShardSpec, ...]:
    """Return all shards of a run, in the order in which they are best claimed.

    AutoAttack is cut at the protocol's own chunks, because its attacks draw by position within a chunk.
    """
    return tuple(spec for stage in StageName for split in Split for spec in _stage(protocol, stage, split))


def _stage(protocol: EvaluationProtocol, stage: StageName, split: Split) -> Iterator[ShardSpec]:
    match stage:
        case StageName.CLEAN:
            count, size, samples = protocol.clean_examples.count(split), CLEAN_EXAMPLES, None
        case StageName.ROBUST_LOSS:
            count, size, samples = protocol.robust_loss_examples.count(split), ATTACKED_EXAMPLES, None
        case StageName.FLATNESS:
            count, size = protocol.flatness_examples.count(split), 10 * ATTACKED_EXAMPLES
            samples = protocol.flatness.samples
        case StageName.AUTOATTACK:
            count, size, samples = protocol.autoattack_examples.count(split), protocol.autoattack.chunk_size, None
    for sample in [None] if samples is None else range(samples):
        for start in range(0, count, size):
            yield ShardSpec(stage, split, start, min(start + size, count), sample)
