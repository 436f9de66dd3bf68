"""How a training is watched from outside: PGD on held-out examples, which chooses the best snapshot."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from evaluator.attacks.pgd import attack
from evaluator.datasets import Dataset
from evaluator.protocol import PgdSettings
from evaluator.seeding import GeneratorNoise
from evaluator.types import ThreatModel
from trainers.inner_max import frozen
from trainers.settings import MonitorSettings

_AT_ONCE = 128
"""Examples in one pass: the paper's batch, so that watching takes no more memory than training."""


@dataclass(frozen=True)
class HeldOut:
    """What the monitor saw: fraction of examples misclassified under attack, and their mean loss there in nats.

    Of several restarts, the one with the largest loss counts, example by example.
    """

    robust_error: float
    robust_loss: float


@dataclass(frozen=True, eq=False)
class Monitor:
    """PGD on `images` [n, c, h, w] with `labels` [n] that are neither trained on nor ranked by.

    Every snapshot is attacked from the same random starts, so that snapshots are compared under equal noise.
    """

    images: Tensor
    labels: Tensor
    settings: MonitorSettings
    seed: int

    @classmethod
    def on(cls, dataset: Dataset, settings: MonitorSettings, *, device: torch.device, seed: int) -> Self:
        """Return the monitor that `settings` describe, with its examples on `device`."""
        images, labels = dataset.examples(settings.split, settings.examples.start, settings.examples.stop)
        return cls(images.to(device, memory_format=torch.channels_last), labels.to(device), settings, seed)

    def look(self, model: nn.Module, epoch: int) -> HeldOut | None:
        """Return what `model` does on the examples after `epoch` epochs; None when it is not time to look."""
        if epoch % self.settings.every:
            return None
        pgd, restarts = self.settings.attack, self.settings.restarts
        noise = GeneratorNoise(torch.Generator().manual_seed(self.seed))
        with frozen(model):
            outcomes = [
                attack(
                    model,
                    images,
                    labels,
                    threat_model=ThreatModel(pgd.norm, pgd.epsilon),
                    settings=PgdSettings(pgd.steps, pgd.step_size, restarts, initialization=pgd.initialization),
                    noise=[noise] * restarts,
                )
                for images, labels in zip(
                    *(torch.split(tensor, _AT_ONCE) for tensor in (self.images, self.labels)), strict=True
                )
            ]
        loss, worst = torch.cat([outcome.loss for outcome in outcomes]).double().max(1, keepdim=True)
        correct = torch.cat([outcome.correct for outcome in outcomes]).gather(1, worst)
        return HeldOut(1 - correct.double().mean().item(), loss.mean().item())

    def value(self, seen: HeldOut) -> float:
        """Return the number that compares snapshots; lower is better."""
        return seen.robust_error if self.settings.criterion == "robust_error" else seen.robust_loss
