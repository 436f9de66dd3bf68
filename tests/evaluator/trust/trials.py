"""Honest networks and cheaters before the trust checks: probed alone, or in a small evaluation."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache

from torch import nn

from evaluator.checkpoints import load_model, open_checkpoint
from evaluator.combine import combine
from evaluator.datasets import load_dataset
from evaluator.metrics import StageName
from evaluator.observed import full_float32, observed
from evaluator.plan import plan
from evaluator.protocol import Examples
from evaluator.results import EvaluationResult, PassCounts, ShardResult
from evaluator.shipped import DIGITS_LINF
from evaluator.stages import measure
from evaluator.trust.findings import CHECKS, Finding
from evaluator.trust.judgement import CLAIM, judge_claim
from evaluator.trust.probes import probe
from evaluator.types import Split
from fixtures.make_golden import FOLDER
from fixtures.make_tiny import TINY
from tests.evaluator.models import small_cnn
from tests.evaluator.trust.cheaters import Cheater

TRIAL = replace(
    DIGITS_LINF,
    name="trial",
    clean_examples=Examples(test=100, train=100),
    robust_loss_examples=Examples(test=24, train=0),
    autoattack=replace(DIGITS_LINF.autoattack, chunk_size=6),
    autoattack_examples=Examples(test=6, train=0),
    flatness_examples=Examples(test=0, train=0),
)
"""A rankable protocol that asks for little."""


@cache
def tiny() -> nn.Module:
    """Return the honest network around which cheaters are built."""
    return load_model(open_checkpoint(TINY))


HONEST: dict[str, Callable[[], nn.Module]] = {
    "trained without an adversary": tiny,
    "trained adversarially": lambda: load_model(open_checkpoint(FOLDER / "digits-at.safetensors")),
    "overconfident": lambda: small_cnn(1, steps=200),
}


def probed(model: nn.Module, *, examples: int = 24, batch_size: int = 64) -> dict[str, float]:
    """Return the probes of `model` on a few images."""
    images, labels = load_dataset("digits").examples(Split.TEST, 0, examples)
    with full_float32(), observed(model.eval()):
        return probe(model, images, labels, protocol=DIGITS_LINF, batch_size=batch_size)


def judged(probes: dict[str, float]) -> dict[str, Finding]:
    """Return what the checks make of probes."""
    return {name: CHECKS[name].judge(seen) for name, seen in probes.items() if name in CHECKS}


def trial(cheater: Cheater) -> EvaluationResult:
    """Measure a network, built anew for each stage as a worker's process would, which claims what `tiny` reaches.

    AutoAttack costs seconds; where no check needs it, whatever is right clean counts as broken by its first attack.
    """
    results = []
    with_autoattack = not {"square", "autoattack_behind_pgd"}.isdisjoint(cheater.caught_by)
    for spec in plan(TRIAL):
        model = cheater.build(tiny()).eval()
        if spec.stage is StageName.AUTOATTACK and not with_autoattack:
            clean = measure(model, load_dataset("digits"), TRIAL, replace(spec, stage=StageName.CLEAN)).values
            wrong = [found != label for found, label in zip(clean["prediction"], clean["label"], strict=True)]
            broken_by = ["clean" if one else "apgd-ce" for one in wrong]
            results.append(ShardResult(spec, {"broken_by": broken_by}, PassCounts(), 0.0, "none", {}))
        else:
            results.append(measure(model, load_dataset("digits"), TRIAL, spec))
    return judge_claim(combine(TRIAL, results), {CLAIM: "0.08"})
