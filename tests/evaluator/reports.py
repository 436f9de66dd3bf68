"""Plausible reports for any shard, without a model: what the run store's tests finish claims with."""

import math

from evaluator.combine import BROKEN_BY
from evaluator.metrics import StageName
from evaluator.preview import sample
from evaluator.protocol import EvaluationProtocol
from evaluator.results import PassCounts, ShardResult, ShardSpec
from evaluator.trust.findings import CHECKS, PROBES

CLASSES = 10


def probes(*, clean_loss: float) -> dict[str, list[float]]:
    """Return what an honest network's probes say."""
    return {name: [sum(CHECKS[name].honest) / 2] for name in PROBES if name in CHECKS} | {"clean_loss": [clean_loss]}


def broken_by(example: int) -> str:
    """Return what first breaks an example: every fifth is wrong without an attack, and another fifth robust."""
    return BROKEN_BY[0 if example % 5 == 0 else 1 + example % 5]


def report(protocol: EvaluationProtocol, spec: ShardSpec) -> ShardResult:
    """Return a valid report whose numbers depend on the examples, the stage and the weight sample alone."""
    indices = range(spec.start, spec.stop)
    shift = 0.1 * (1 + (spec.weight_sample or 0))
    match spec.stage:
        case StageName.CLEAN:
            values = {
                "loss": [0.01 * (i % 50) + (i % 5 == 0) for i in indices],
                "prediction": [i % CLASSES for i in indices],
                "label": [(i + (i % 5 == 0)) % CLASSES for i in indices],
            }
        case StageName.TRUST:
            values = probes(clean_loss=0.0)
        case StageName.AUTOATTACK:
            values = {"broken_by": [broken_by(i) for i in indices]}
        case StageName.PREVIEW:
            drawn = sample(protocol)
            values = {
                "broken_by": [{0: "clean", 1: "pgd"}.get(i % 5, "robust") for i in indices],
                "autoattack": [broken_by(i) if i in drawn else None for i in indices],
            }
        case _:
            attack = protocol.attack(spec.stage)
            assert attack is not None
            restarts = attack.restarts
            loss = [[0.1 * i + shift + r for r in range(restarts)] for i in indices]
            values = {
                "loss": loss,
                "wrong_class_confidence": [[1 - math.exp(-one) for one in row] for row in loss],
                "correct": [[one < math.log(2) for one in row] for row in loss],
            }
    passes = PassCounts(10_000 * len(indices), 10_000 * len(indices))  # more than any outcome takes
    return ShardResult(spec, values, passes, 0.5, "cpu", {"torch": "0"})
