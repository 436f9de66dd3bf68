"""Forward and input-gradient passes of a network in batches of the device's choosing; no outcome depends on them."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from evaluator.attacks.answering import answered_by
from evaluator.plan import FIRST_EXAMPLES

Loss = Callable[[Tensor, slice], Tensor]
"""Logits [m, classes] of the rows of a slice → what is to be raised, [m]."""


class Passes:
    """A model in eval mode with frozen weights, asked about any number of images at a time.

    No batch is larger than `batch_size`, and none smaller than 4: below that the kernels round in another way.
    `tick` is called before each batch. Where passes are rounded coarsely, `confirm` is asked of images that look
    misclassified.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        batch_size: int,
        tick: Callable[[], None],
        confirm: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self._confirm = confirm
        self._model = model
        self.batch_size = batch_size
        self.tick = tick

    def logits(self, images: Tensor) -> Tensor:
        """Return the logits [n, classes] of images [n, c, h, w]."""
        with torch.no_grad():
            return _joined([self._model(padded(images[rows]))[: rows.stop - rows.start] for rows in self._rows(images)])

    def by(self, forward: Callable[..., Tensor], *arguments: object) -> Tensor:
        """Return what `forward` answers in the model's place; the model's hooks see it as one batch."""
        with torch.no_grad(), answered_by(self._model, forward):
            return self._model(*arguments)  # type: ignore[no-any-return]

    def confirmed(self, wrong: Tensor, images: Tensor, labels: Tensor) -> Tensor:
        """Return which of the images that look misclassified, `wrong` [n], are: all, or those that `confirm` says."""
        if self._confirm is None or not wrong.any():
            return wrong
        index = wrong.nonzero().squeeze(1)
        chosen, confirmed = images[index], wrong.clone()
        logits = _joined(
            [self.by(self._confirm, padded(chosen[rows]))[: rows.stop - rows.start] for rows in self._rows(chosen)]
        )
        confirmed[index] = logits.argmax(1) != labels[index]
        return confirmed

    def ascent(self, images: Tensor, loss: Loss) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits [n, classes], loss [n] and the loss's gradient [n, c, h, w] at images [n, c, h, w]."""
        found = []
        for rows in self._rows(images):
            batch = padded(images[rows]).requires_grad_()
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
            self.tick()
            yield slice(batch * len(images) // batches, (batch + 1) * len(images) // batches)


def in_bfloat16(forward: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Return `forward` with convolutions and matrix products in bfloat16; float32 images in, float32 logits out."""

    def rounded(images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, torch.bfloat16):
            return forward(images).float()

    return rounded


def padded(values: Tensor) -> Tensor:
    """Return `values` [n, …], n > 0, with the last one repeated where there are fewer than 4."""
    missing = FIRST_EXAMPLES - len(values)
    if missing <= 0:
        return values.detach()
    return torch.cat([values, values[-1:].expand(missing, *values.shape[1:])]).detach()


def _joined(batches: list[Tensor]) -> Tensor:
    return batches[0] if len(batches) == 1 else torch.cat(batches)
