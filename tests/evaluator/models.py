"""Small real models that tests measure."""

import torch
import torch.nn.functional as F
from torch import nn

from evaluator.combine import combine
from evaluator.datasets import load_dataset
from evaluator.metrics import StageName
from evaluator.plan import plan
from evaluator.protocol import EvaluationProtocol
from evaluator.results import EvaluationResult, PassCounts, ShardResult
from evaluator.stages import measure
from evaluator.types import Split


def small_cnn(seed: int = 0, *, steps: int = 60) -> nn.Sequential:
    """Return a small network of convolutions, BatchNorm and linear layers, trained a little on digits."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(128, 10),
        )
    images, labels = load_dataset("digits").examples(Split.TRAIN, 0, 256)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
    optimizer.zero_grad()
    return model.eval()


def measured(model: nn.Module, protocol: EvaluationProtocol, *, batch_size: int | None = None) -> list[ShardResult]:
    """Measure everything, a shard after the other."""
    dataset = load_dataset(protocol.dataset)
    return [measure(model, dataset, protocol, spec, batch_size=batch_size) for spec in plan(protocol)]


def without_autoattack(
    model: nn.Module, protocol: EvaluationProtocol, *, batch_size: int | None = None
) -> EvaluationResult:
    """Measure all but AutoAttack, whose thousands of passes a test of something else need not wait for."""
    dataset = load_dataset(protocol.dataset)
    results = [
        ShardResult(spec, {"broken_by": ["robust"] * len(spec)}, PassCounts(), 0.0, "none", {})
        if spec.stage is StageName.AUTOATTACK
        else measure(model, dataset, protocol, spec, batch_size=batch_size)
        for spec in plan(protocol)
    ]
    return combine(protocol, results)
