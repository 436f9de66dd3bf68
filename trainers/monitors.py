"""How a training is watched from outside: PGD on held-out examples, which chooses the best snapshot."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from evaluator.attacks.pgd import attack
from evaluator.protocol import PgdSettings
from evaluator.seeding import GeneratorNoise
from evaluator.types import ThreatModel
from trainers.inner_max import frozen
from trainers.settings import MonitorSettings


@dataclass(frozen=True)
class HeldOut:
    """What the monitor saw: fraction of examples misclassified under attack, and their mean loss there in nats."""

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

    def look(self, model: nn.Module, epoch: int) -> HeldOut | None:
        """Return what `model` does on the examples after `epoch` epochs; None when it is not time to look."""
        if epoch % self.settings.every:
            return None
        pgd = self.settings.attack
        noise = GeneratorNoise(torch.Generator().manual_seed(self.seed))
        with frozen(model):
            outcomes = attack(
                model,
                self.images,
                self.labels,
                threat_model=ThreatModel(pgd.norm, pgd.epsilon),
                settings=PgdSettings(pgd.steps, pgd.step_size, restarts=1, initialization=pgd.initialization),
                noise=[noise],
            )
        return HeldOut(1 - outcomes.correct.double().mean().item(), outcomes.loss.double().mean().item())

    def value(self, seen: HeldOut) -> float:
        """Return the number that compares snapshots; lower is better."""
        return seen.robust_error if self.settings.criterion == "robust_error" else seen.robust_loss
