"""A model as the probes call it: batch by batch, its logits always numbers."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from evaluator.trust.findings import LARGEST


class Probed:
    """Calls `model`, which is in eval mode and frozen, on at most `batch_size` images, and `tick` before each batch.

    Logits that are not finite are counted and replaced, and all are bounded, so that every probe is a number.
    """

    def __init__(self, model: nn.Module, batch_size: int, tick: Callable[[], None] = lambda: None) -> None:
        self.model = model
        self.passed = self.not_finite = 0
        self._batch_size = batch_size
        self._tick = tick

    def __call__(self, images: Tensor) -> Tensor:
        """Return the logits of one batch."""
        logits: Tensor = self.model(images)
        self.passed += len(logits)
        self.not_finite += int((~logits.isfinite().all(1)).sum())
        return logits.nan_to_num(nan=0.0).clamp(-LARGEST, LARGEST)

    def batches(self, *tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """Yield the tensors cut into batches."""
        for batch in zip(*(torch.split(tensor, self._batch_size) for tensor in tensors), strict=True):
            self._tick()
            yield batch

    def logits(self, images: Tensor) -> Tensor:
        """Return the logits of all images [n, classes], without a gradient."""
        with torch.no_grad():
            return torch.cat([self(batch) for (batch,) in self.batches(images)])


def scale(logits: Tensor) -> Tensor:
    """Return the unit of differences of logits: their mean distance from their mean over the classes."""
    return (logits - logits.mean(1, keepdim=True)).abs().mean().clamp_min(torch.finfo(logits.dtype).tiny)


def difference(logits: Tensor, reference: Tensor) -> float:
    """Return the largest difference, in units of the scale of `reference`."""
    return float((logits - reference).abs().amax() / scale(reference))
