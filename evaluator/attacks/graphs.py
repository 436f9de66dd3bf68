"""On a GPU a pass whose size comes again is launched as one CUDA graph, with the same bits as kernel by kernel.

The kernels of a small network are shorter than their launches: without graphs the GPU waits for the processor.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import cast

import torch
from torch import Tensor

from evaluator.attacks.answering import logits_and_gradient

Forward = Callable[[Tensor], Tensor]
"""Images [n, c, h, w] → logits [n, classes]."""
Capture = Callable[[Forward, tuple[Tensor]], Forward]
"""From a network and images like those to come to its graph, whose answers the next call to any graph overwrites."""

_WORTH = 4
"""A capture costs about seven passes, so a size must have come this often."""
_MOST = 32
"""Enough for an attack whose batches shrink with what is left."""


def replayed(forward: Forward, device: torch.device) -> Forward:
    """Return `forward`, launched as graphs on a GPU. Until the last call its weights stay what and where they are."""
    if device.type != "cuda":
        return forward
    pool = torch.cuda.graph_pool_handle()  # one for all graphs: each would otherwise keep the memory of a whole pass
    return Replayed(forward, cast(Capture, partial(torch.cuda.make_graphed_callables, pool=pool)))


class Replayed:
    """`forward`, of which `capture` makes a graph for every size of images that comes again.

    A size whose capture fails, or gives other bits than `forward`, is asked of `forward` for good. A backward pass must
    come before the next forward pass: graphs share memory.
    """

    def __init__(self, forward: Forward, capture: Capture) -> None:
        self._forward, self._capture = forward, capture
        self._asked: Counter[object] = Counter()
        self._graphs: dict[object, Forward] = {}

    def __call__(self, images: Tensor) -> Tensor:
        """Return the logits of `images`; they and their gradients are in memory of their own."""
        differentiable = images.requires_grad and torch.is_grad_enabled()
        size = images.shape, images.stride(), differentiable
        self._asked[size] += 1
        if self._asked[size] == _WORTH and len(self._graphs) < _MOST:
            self._graphs[size] = self._captured(images.detach(), differentiable)
        graph = self._graphs.get(size, self._forward)
        return graph(images) if graph is self._forward else graph(images * 1).clone()

    def _captured(self, images: Tensor, differentiable: bool) -> Forward:
        try:
            graph = self._capture(self._forward, (images.clone().requires_grad_(differentiable),))
            expected = _answers(self._forward, images, differentiable)
            found = _answers(graph, images, differentiable)
        except RuntimeError:  # whatever CUDA does not capture, or has no memory left for
            return self._forward
        same = all(torch.equal(*pair) for pair in zip(found, expected, strict=True))
        return graph if same else self._forward


def _answers(forward: Forward, images: Tensor, differentiable: bool) -> Sequence[Tensor]:
    return logits_and_gradient(forward, images) if differentiable else [forward(images)]
