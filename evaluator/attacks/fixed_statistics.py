"""BatchNorm in eval mode: torch's own outputs and gradients, bit for bit, without what only training needs.

On a CPU torch's backward pass keeps the input of every such layer, runs through it once more, and is several times
slower than the two products that are left where statistics and weights stand still.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from evaluator.architectures.resnet18_stutz2021 import OnePlusBatchNorm2d


@contextmanager
def fixed_statistics(model: nn.Module) -> Iterator[None]:
    """Let the BatchNorm layers of `model`, which is in eval mode and frozen, answer with such a backward pass inside.

    Nobody may change their weights or statistics meanwhile. Layers of other classes, with weights that learn or of
    another precision stay as they are, and so does everything on a GPU, whose kernels round in another way.
    """
    layers = [module for module in model.modules() if isinstance(module, _BatchNorm) and _stands_still(module)]
    try:
        for layer in layers:
            layer.__dict__["forward"] = _Fixed(layer).forward
        yield
    finally:
        for layer in layers:
            layer.__dict__.pop("forward", None)


def _stands_still(layer: _BatchNorm) -> bool:
    return (
        type(layer) in (nn.BatchNorm1d, nn.BatchNorm2d, OnePlusBatchNorm2d)
        and not layer.training
        and isinstance(layer.running_var, Tensor)
        and "forward" not in layer.__dict__
        and all(
            tensor.device.type == "cpu" and tensor.dtype is torch.float32 and not tensor.requires_grad
            for tensor in (layer.running_var, *layer.parameters())
        )
    )


class _Fixed:
    """A layer as it stands: what its forward pass needs, and the two factors of its backward pass."""

    def __init__(self, layer: _BatchNorm) -> None:
        self._layer = layer
        self._weight: Tensor | None = 1 + layer.weight if isinstance(layer, OnePlusBatchNorm2d) else layer.weight
        assert isinstance(layer.running_var, Tensor), "chosen for having statistics"
        # torch's order: 1 / √(σ² + ε) in float64, rounded; the gradient times it; the product times the weight.
        self._inverse = (layer.running_var.double() + layer.eps).sqrt().reciprocal().float()

    def forward(self, features: Tensor) -> Tensor:
        """Return the normalised features [n, c, …]."""
        if not (features.requires_grad and torch.is_grad_enabled() and features.dtype is torch.float32):
            return self.normalised(features)
        return _Normalise.apply(features, self)  # type: ignore[no-any-return,no-untyped-call]  # torch's own

    def normalised(self, features: Tensor) -> Tensor:
        """Return what torch itself answers."""
        layer = self._layer
        return F.batch_norm(
            features, layer.running_mean, layer.running_var, self._weight, layer.bias, training=False, eps=layer.eps
        )

    def gradient(self, output_gradient: Tensor) -> Tensor:
        """Return the gradient of the features, of that of the output."""
        shape = (-1, *[1] * (output_gradient.dim() - 2))
        gradient = output_gradient * self._inverse.view(shape)
        return gradient if self._weight is None else gradient.mul_(self._weight.view(shape))


class _Normalise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, layer: _Fixed) -> Tensor:
        ctx.layer = layer
        return layer.normalised(features)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, None]:
        return ctx.layer.gradient(gradients[0]), None
