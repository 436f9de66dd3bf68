"""What one image costs a network, counted on the meta device: a network too dear is refused before it gets memory."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from evaluator.exceptions import InvalidRequest

MAX_FLOPS = 130_000_000_000
"""Of one image's forward pass. WideResNet-94-16, RobustBench's best on CIFAR-10, has 107 billion; a protocol passes an
image through a network some ten thousand times, so this many already cost a GPU weeks."""

MAX_ACTIVATIONS = 100_000_000
"""Numbers that all layers put out for one image, which a backward pass keeps: 400 MB of them in float32."""


@dataclass(frozen=True)
class ForwardCost:
    """Of one image: operations of convolutions and linear layers, and numbers that all layers put out."""

    flops: int
    activations: int


def forward_cost(planned: nn.Module, image_shape: tuple[int, int, int]) -> ForwardCost:
    """Count what an image [c, h, w] costs a network on the meta device, which stays as it was.

    Layers with weights are not computed, and no weight has memory. What lies between them runs on the CPU on zeros,
    since torch imports eight hundred modules, for seconds, as soon as it adds two tensors on the meta device.
    """
    flops = activations = 0

    def count(module: nn.Module, _: object, output: Tensor) -> None:
        nonlocal flops, activations
        activations += output.numel()
        if isinstance(module, nn.Conv2d | nn.Linear):
            flops += 2 * output.numel() * module.weight[0].numel()

    with _hollow(planned), ExitStack() as hooks, torch.no_grad():
        for module in planned.modules():
            if not any(module.children()):
                hooks.callback(module.register_forward_hook(count).remove)
        weightless = {name: torch.zeros(()).expand(tensor.shape) for name, tensor in planned.state_dict().items()}
        functional_call(planned, weightless, torch.zeros(1, *image_shape))
    return ForwardCost(flops, activations)


@contextmanager
def _hollow(planned: nn.Module) -> Iterator[nn.Module]:
    """Let layers with weights return zeros of their output's shape, in eval mode."""
    training = planned.training
    hollow = [module for module in planned.modules() if isinstance(module, nn.Conv2d | nn.Linear | _BatchNorm)]
    for module in hollow:
        module.__dict__["forward"] = partial(_output, module)
    try:
        yield planned.eval()
    finally:
        planned.train(training)
        for module in hollow:
            del module.__dict__["forward"]


def _output(module: nn.Conv2d | nn.Linear | _BatchNorm, features: Tensor) -> Tensor:
    if isinstance(module, nn.Linear):
        return torch.zeros(*features.shape[:-1], module.out_features)
    if isinstance(module, _BatchNorm):
        return features
    assert not isinstance(module.padding, str), "our networks pad by numbers"
    sizes = (
        (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
        for size, padding, dilation, kernel, stride in zip(
            features.shape[-2:], module.padding, module.dilation, module.kernel_size, module.stride, strict=True
        )
    )
    return torch.zeros(len(features), module.out_channels, *sizes)


def check_affordable(planned: nn.Module, image_shape: tuple[int, int, int], architecture: str) -> None:
    """Refuse a network on the meta device whose forward pass is dearer than the limits above.

    Raises:
        InvalidRequest: it is.
    """
    cost = forward_cost(planned, image_shape)
    if cost.flops > MAX_FLOPS:
        raise InvalidRequest(
            f"{architecture} with these options needs {cost.flops / 1e9:.0f} billion operations an image, but at most "
            f"{MAX_FLOPS / 1e9:.0f} billion can be measured; choose a shallower or narrower network"
        )
    if cost.activations > MAX_ACTIVATIONS:
        raise InvalidRequest(
            f"{architecture} with these options puts out {cost.activations / 1e6:.0f} million numbers an image, but at "
            f"most {MAX_ACTIVATIONS / 1e6:.0f} million can be measured; choose smaller images or a narrower network"
        )
