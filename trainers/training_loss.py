"""The training loss as a module, so that precision, compilation and several processes can lie around it."""

import logging
from collections.abc import Callable

import torch
from torch import Tensor, nn

from evaluator.attacks.pgd import Gain
from evaluator.exceptions import InvalidRequest
from trainers.objectives import Objective
from trainers.recipe import Recipe
from trainers.sources import Batch

log = logging.getLogger(__name__)


class TrainingLoss(nn.Module):
    """An objective on a network and its head, which are passed through in the recipe's precision.

    Weights, their gradients and the logits with all that follows from them are float32 in any case.

    Raises:
        InvalidRequest: an objective with a head, which hooks into the network, was to be compiled.
    """

    def __init__(
        self, objective: Objective, network: nn.Module, head: nn.Module, recipe: Recipe, device: torch.device
    ) -> None:
        super().__init__()
        if recipe.compile and not isinstance(head, nn.Identity):
            raise InvalidRequest(
                f"the objective {recipe.objective.kind} looks into the network, which a compiled one does not allow; "
                "set compile=false"
            )
        self._objective = objective
        self.network, self.head = network, head
        self._forward = compiled(network, device) if recipe.compile else network.__call__
        self._autocast = recipe.precision == "bfloat16"

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
        return self._forward(images).float()


def compiled(network: nn.Module, device: torch.device) -> Callable[[Tensor], Tensor]:
    """Return `network` as torch compiles it; where torch finds no compiler, say so and return it as it is."""
    try:
        torch.compile(torch.sin)(torch.zeros(1, device=device))
    except RuntimeError as error:
        reason = str(error).strip().partition("\n")[0]
        log.warning("torch cannot compile for %s here (%s); the network is trained uncompiled", device, reason)
        return network

    @torch.compile
    def forward(images: Tensor) -> Tensor:
        logits: Tensor = network(images)
        return logits

    def forward_any(images: Tensor) -> Tensor:
        torch._dynamo.maybe_mark_dynamic(images, 0)  # or a smaller last batch compiles everything again
        return forward(images)

    return forward_any
