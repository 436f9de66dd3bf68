"""A model while it is measured: eval mode, weights frozen, full float32, passes counted; afterwards as it was."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from evaluator.results import PassCounts


class PassCounter:
    """Counts examples pushed forward and backward through a model."""

    def __init__(self) -> None:
        self.passes = PassCounts()

    def forward(self, module: nn.Module, inputs: tuple[Any, ...], logits: Tensor) -> None:
        """Count one forward pass, and every backward pass through its logits."""
        n = len(logits)
        self.passes += PassCounts(forward=n)
        if logits.requires_grad:
            logits.register_hook(lambda gradient: self._backward(n))  # type: ignore[no-untyped-call]  # torch's own

    def _backward(self, n: int) -> None:
        self.passes += PassCounts(backward=n)


@contextmanager
def observed(model: nn.Module) -> Iterator[PassCounter]:
    """Put `model` in eval mode with frozen weights and count passes; restore modes and flags at the end."""
    modes = {module: module.training for module in model.modules()}
    flags = {parameter: parameter.requires_grad for parameter in model.parameters()}
    counter = PassCounter()
    hook = model.register_forward_hook(counter.forward)
    try:
        model.eval()
        model.requires_grad_(False)
        yield counter
    finally:
        hook.remove()
        for module, training in modes.items():
            module.training = training
        for parameter, requires_grad in flags.items():
            parameter.requires_grad_(requires_grad)


@contextmanager
def full_float32() -> Iterator[None]:
    """Keep TF32 and reduced matrix products out of the numbers; restore the process's choices at the end."""
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
            yield
    finally:
        torch.set_float32_matmul_precision(precision)
