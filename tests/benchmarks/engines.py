"""PGD against the package torchattacks: the same network, steps, restarts and starting points.

`make bench` installs the package without what it asks for, an old `requests` that it does not need here. Where it is
missing its bars are left out, and those on a GPU where torch sees none.
"""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evaluator.attacks import pgd
from evaluator.batching import LARGEST, fastest_batch_size
from evaluator.datasets import load_dataset
from evaluator.devices import find_device
from evaluator.observed import full_float32, observed
from evaluator.protocol import EvaluationProtocol
from evaluator.seeding import GeneratorNoise
from evaluator.shipped import CIFAR10_LINF, DIGITS_LINF
from evaluator.types import Split
from tests.benchmarks import memory


@dataclass(frozen=True)
class Case:
    """What is attacked, and by which protocol's PGD; `measured` is `model` laid out as measuring processes load it."""

    model: nn.Module
    measured: nn.Module
    images: Tensor
    labels: Tensor
    protocol: EvaluationProtocol


def bars(model: nn.Module, measured: nn.Module, points: int, bar: Callable[..., Any]) -> list[Any]:
    """Return the comparisons that can be made here."""
    if importlib.util.find_spec("torchattacks") is None:
        return []
    images, labels = load_dataset("digits").examples(Split.TEST, 0, points)
    cases = {"pgd_vs_torchattacks": Case(model, measured, images, labels, DIGITS_LINF)}
    if torch.cuda.is_available():
        device = find_device("cuda")
        images = torch.linspace(0, 1, 10 * points * 3 * 32 * 32, device=device).reshape(-1, 3, 32, 32)
        labels = torch.arange(len(images), device=device).remainder(10)
        cases["pgd_gpu_vs_torchattacks"] = Case(
            memory.network(device).to(memory_format=torch.contiguous_format), memory.network(device),
            images, labels, CIFAR10_LINF,
        )  # fmt: skip
    return [bar(name, 1.2, partial(by_ours, case), partial(by_torchattacks, case), not_lower)
            for name, case in cases.items()]  # fmt: skip


def by_ours(case: Case) -> float:
    """Return the robust loss, in the batches that are fastest here; choosing them is part of the work."""
    settings = case.protocol.robust_loss
    noise = [GeneratorNoise(torch.Generator().manual_seed(restart)) for restart in range(settings.restarts)]
    device = case.images.device
    size = fastest_batch_size(case.measured, case.images.shape[1:], device, most=LARGEST[device.type])
    with full_float32(), observed(case.measured):
        found = pgd.attack(
            case.measured, case.images, case.labels,
            threat_model=case.protocol.threat_model, settings=settings, noise=noise, batch_size=size,
        )  # fmt: skip
    return fmean(found.loss.amax(1).tolist())


def by_torchattacks(case: Case) -> float:
    """Return the largest loss over the package's restarts, which keep their last iterate; weights as loaded."""
    from torchattacks import PGD

    settings, epsilon = case.protocol.robust_loss, case.protocol.threat_model.epsilon
    attack = PGD(case.model.requires_grad_(True), epsilon, settings.step_size, settings.steps)
    worst = torch.full((len(case.images),), -torch.inf, device=case.images.device)
    for restart in range(settings.restarts):
        with torch.random.fork_rng():
            torch.manual_seed(restart)
            adversarial = attack(case.images, case.labels)
        with torch.no_grad():
            losses = F.cross_entropy(case.model(adversarial), case.labels, reduction="none")
        worst = torch.maximum(worst, losses)
    return fmean(worst.tolist())


def not_lower(ours: object, theirs: object) -> bool:
    """Whether our robust loss is as large as theirs."""
    assert isinstance(ours, float), "what by_ours returns"
    assert isinstance(theirs, float), "what by_torchattacks returns"
    return ours >= theirs - 1e-4
