"""The training loss as a module, so that precision, compilation and several processes can lie around it."""

import logging

import torch
from torch import Tensor, nn

from evaluator.attacks.pgd import Gain
from trainers.objectives import Objective
from trainers.sources import Batch

log = logging.getLogger(__name__)


class TrainingLoss(nn.Module):
    """An objective on a network and its head. With `precision` bfloat16 their forward passes are autocast to it.

    Logits and all that follows from them are float32 in any case, and so are weights and their gradients.
    """

    def __init__(self, objective: Objective, network: nn.Module, head: nn.Module, *, precision: str) -> None:
        super().__init__()
        self._objective = objective
        self.network, self.head = network, head
        self._autocast = precision == "bfloat16"

    def forward(self, batch: Batch, adversarial: Tensor) -> Tensor:
        """Return what the weights lower: a scalar in nats."""
        with self._precision(adversarial.device):
            return self._objective.loss(self._logits, batch, adversarial)

    def gain(self, batch: Batch) -> Gain:
        """Return what the attack raises: adversarial images [n, c, h, w] → gain of each example [n]."""
        with self._precision(batch.images.device):
            gain = self._objective.gain(self._logits, batch)

        def raised(candidates: Tensor) -> Tensor:
            with self._precision(candidates.device):
                return gain(candidates)

        return raised

    def _precision(self, device: torch.device) -> torch.autocast:
        return torch.autocast(device.type, dtype=torch.bfloat16, enabled=self._autocast)

    def _logits(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images)
        return logits.float()


def compile_network(network: nn.Module, device: torch.device) -> None:
    """Let torch compile `network` for the passes to come; where it finds no compiler, say so and leave it as it is."""
    try:
        torch.compile(torch.sin)(torch.zeros(1, device=device))
    except RuntimeError as error:
        reason = str(error).strip().partition("\n")[0]
        log.warning("torch cannot compile for %s here (%s); the network is trained uncompiled", device, reason)
        return
    network.compile()
