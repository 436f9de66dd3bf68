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

    AutoAttack is cut at the protocol's own chunks, because its attacks draw by position within a chunk. A stage on 0
    examples has no shards.
    """
    return tuple(spec for stage in StageName for split in Split for spec in _stage(protocol, stage, split))


def _stage(protocol: EvaluationProtocol, stage: StageName, split: Split) -> Iterator[ShardSpec]:
    count = protocol.count(stage, split)
    sizes = {
        StageName.CLEAN: CLEAN_EXAMPLES,
        StageName.ROBUST_LOSS: ATTACKED_EXAMPLES,
        StageName.FLATNESS: 10 * ATTACKED_EXAMPLES,
        StageName.AUTOATTACK: protocol.autoattack.chunk_size,
    }
    size = sizes[stage]
    for sample in range(protocol.flatness.samples) if stage is StageName.FLATNESS else (None,):
        for start in range(0, count, size):
            yield ShardSpec(stage, split, start, min(start + size, count), sample)
