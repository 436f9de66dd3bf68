"""Forward and input-gradient passes of a network in batches of the device's choosing; no outcome depends on them."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from evaluator.plan import FIRST_EXAMPLES

Loss = Callable[[Tensor, slice], Tensor]
"""Logits [m, classes] of the rows of a slice → what is to be raised, [m]."""


class Passes:
    """A model in eval mode with frozen weights, asked about any number of images at a time.

    No batch is larger than `batch_size`, and none smaller than 4: below that the kernels round in another way.
    `tick` is called before each batch.
    """

    def __init__(self, model: nn.Module, *, batch_size: int, tick: Callable[[], None]) -> None:
        self._model = model
        self.batch_size = batch_size
        self._tick = tick

    def logits(self, images: Tensor) -> Tensor:
        """Return the logits [n, classes] of images [n, c, h, w]."""
        with torch.no_grad():
            return _joined(
                [self._model(_padded(images[rows]))[: rows.stop - rows.start] for rows in self._rows(images)]
            )

    def ascent(self, images: Tensor, loss: Loss) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits [n, classes], loss [n] and the loss's gradient [n, c, h, w] at images [n, c, h, w]."""
        found = []
        for rows in self._rows(images):
            batch = _padded(images[rows]).requires_grad_()
            with torch.enable_grad():
                logits = self._model(batch)[: rows.stop - rows.start]
                values = loss(logits, rows)
                (gradient,) = torch.autograd.grad(values.sum(), batch)
            found.append((logits.detach(), values.detach(), gradient[: rows.stop - rows.start].contiguous()))
        logits, values, gradient = (_joined(list(column)) for column in zip(*found, strict=True))
        return logits, values, gradient

    def _rows(self, images: Tensor) -> Iterator[slice]:
        batches = -(-len(images) // self.batch_size)
        for batch in range(batches):  # of nearly equal size, so that none is small
            self._tick()
            yield slice(batch * len(images) // batches, (batch + 1) * len(images) // batches)


def _padded(images: Tensor) -> Tensor:
    missing = FIRST_EXAMPLES - len(images)
    if missing <= 0:
        return images.detach()
    return torch.cat([images, images[-1:].expand(missing, *images.shape[1:])]).detach()


def _joined(batches: list[Tensor]) -> Tensor:
    return batches[0] if len(batches) == 1 else torch.cat(batches)
