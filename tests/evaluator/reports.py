"""Plausible reports for any shard, without a model: what the run store's tests finish claims with."""

from evaluator.combine import BROKEN_BY
from evaluator.metrics import StageName
from evaluator.protocol import EvaluationProtocol
from evaluator.results import PassCounts, ShardResult, ShardSpec
from evaluator.trust.findings import CHECKS, PROBES


def probes(*, clean_loss: float) -> dict[str, list[float]]:
    """Return what an honest network's probes say."""
    return {name: [sum(CHECKS[name].honest) / 2] for name in PROBES if name in CHECKS} | {"clean_loss": [clean_loss]}


def report(protocol: EvaluationProtocol, spec: ShardSpec) -> ShardResult:
    """Return a valid report whose numbers depend on the shard alone."""
    indices = range(spec.start, spec.stop)
    shift = 0.1 * (1 + (spec.weight_sample or 0))
    match spec.stage:
        case StageName.CLEAN:
            values = {
                "loss": [0.01 * i for i in indices],
                "prediction": [i % 10 for i in indices],
                "label": [(i + (i % 5 == 0)) % 10 for i in indices],
            }
        case StageName.TRUST:
            values = probes(clean_loss=0.0)
        case StageName.AUTOATTACK:
            values = {"broken_by": [BROKEN_BY[i % len(BROKEN_BY)] for i in indices]}
        case _:
            flatness = spec.stage is StageName.FLATNESS
            restarts = (protocol.flatness.attack if flatness else protocol.robust_loss).restarts
            values = {
                "loss": [[0.1 * i + shift + r for r in range(restarts)] for i in indices],
                "wrong_class_confidence": [[1 / (2 + r) for r in range(restarts)] for _ in indices],
                "correct": [[i % 2 for _ in range(restarts)] for i in indices],
            }
    return ShardResult(spec, values, PassCounts(len(indices), 0), 0.5, "cpu", {"torch": "0"})
