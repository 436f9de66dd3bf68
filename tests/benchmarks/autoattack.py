"""AutoAttack on digits, ours and by the package: whole runs."""

import copy

import torch
from pyautoattack import AutoAttack
from torch import nn

from evaluator.attacks.autoattack import first_broken_by
from evaluator.datasets import Dataset
from evaluator.observed import observed
from evaluator.protocol import AutoAttackSettings
from evaluator.types import Norm, Split, ThreatModel

SMALL_BUDGET = ThreatModel(Norm.LINF, 0.02)
"""One that nearly all digits withstand, so that every attack runs to its end."""


def ours(
    model: nn.Module, digits: Dataset, points: int, budget: ThreatModel, settings: AutoAttackSettings
) -> list[bool]:
    """Return which of the first `points` test digits withstand our AutoAttack."""
    images, labels = digits.examples(Split.TEST, 0, points)
    with observed(model):
        outcomes, _ = first_broken_by(model, images, labels, threat_model=budget, settings=settings)
    return [outcome == "robust" for outcome in outcomes]


def package(
    model: nn.Module, digits: Dataset, points: int, budget: ThreatModel, settings: AutoAttackSettings
) -> list[bool]:
    """Do the same by the package, on chunks of the same examples, each as one batch."""
    fresh = copy.deepcopy(model).requires_grad_(True)  # as it comes from a loader
    reference = AutoAttack(fresh, norm=budget.norm.value, eps=budget.epsilon, version="standard", seed=settings.seed)
    reference.verbose = False
    robust: list[bool] = []
    for start in range(0, points, settings.chunk_size):
        images, labels = digits.examples(Split.TEST, start, min(start + settings.chunk_size, points))
        with torch.random.fork_rng():
            _, predictions = reference.run_standard_evaluation(images, labels, batch_size=len(images))
        robust += (predictions == labels).tolist()
    return robust
