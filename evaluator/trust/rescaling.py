"""Other weights, the same function: convolutions scaled before the BatchNorm that undoes it.

For a convolution's weight and bias times a, BatchNorm's running mean times a and its variance a²(v + eps) − eps give
the same function (Dinh et al. 2017 use such copies against measures of flatness).
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from evaluator.flatness.neighborhood import sphere_sample
from evaluator.flatness.perturbation import perturbed
from evaluator.trust.probed import Probed, difference
from evaluator.types import Neighborhood

Pair = tuple[_ConvNd, _BatchNorm]

FACTOR = 2.0
"""a; a power of two, so that scaling rounds nothing."""


def copies(probed: Probed, images: Tensor, *, neighborhood: Neighborhood, seed: int) -> dict[str, float]:
    """Compare the logits of the model and of its scaled copy, at the weights and at the same draw beside them."""
    found = pairs(probed.model, images[:2])
    if not found:
        return {}

    def logits() -> list[Tensor]:
        with perturbed(probed.model, sphere_sample(probed.model, neighborhood, seed=seed, sample=0)):
            beside = probed.logits(images)
        return [probed.logits(images), beside]

    originals = logits()
    with rescaled(found):
        scaled = logits()
    return {"rescaled_copy": max(map(difference, scaled, originals))}


def pairs(model: nn.Module, images: Tensor) -> list[Pair]:
    """Return each convolution whose output is the input of a BatchNorm and of nothing else, as a pass shows.

    Only modules that are called once and share no parameter: what scales one use must not change another.
    """
    calls: Counter[nn.Module] = Counter()
    owners = Counter(id(p) for module in model.modules() for p in module.parameters(recurse=False))
    outputs: list[tuple[Tensor, _ConvNd]] = []
    found: list[Pair] = []

    def leave(module: _ConvNd, _: Any, output: Tensor) -> None:
        calls[module] += 1
        outputs.append((output, module))

    def enter(module: _BatchNorm, inputs: tuple[Tensor, ...]) -> None:
        calls[module] += 1
        found.extend((conv, module) for output, conv in outputs if output is inputs[0])

    with ExitStack() as hooks:
        for module in model.modules():
            if isinstance(module, _ConvNd):
                hooks.callback(module.register_forward_hook(leave).remove)
            elif isinstance(module, _BatchNorm) and module.running_var is not None:
                hooks.callback(module.register_forward_pre_hook(enter).remove)
        logits = model(images.clone().requires_grad_())
    uses = _uses(logits)
    for output, conv in outputs:
        calls[conv] += uses[output.grad_fn] - 1

    def alone(module: nn.Module) -> bool:
        return calls[module] == 1 and all(owners[id(p)] == 1 for p in module.parameters(recurse=False))

    return [pair for pair in found if all(alone(module) for module in pair)]


def _uses(logits: Tensor) -> Counter[Any]:
    """Return how often the result of each node of the graph behind `logits` is used."""
    uses: Counter[Any] = Counter()
    seen, left = set(), [logits.grad_fn]
    while left:
        node = left.pop()
        if node is not None and node not in seen:
            seen.add(node)
            inputs = [source for source, _ in node.next_functions]
            uses.update(inputs)
            left += inputs
    return uses


@contextmanager
def rescaled(found: Sequence[Pair]) -> Iterator[None]:
    """Scale the pairs inside the block; afterwards every bit is as before, also after an error."""
    tensors = [
        tensor
        for conv, norm in found
        for tensor in (conv.weight, conv.bias, norm.running_mean, norm.running_var)
        if tensor is not None
    ]
    originals = [tensor.detach().clone() for tensor in tensors]
    try:
        with torch.no_grad():
            for tensor in tensors:
                tensor.mul_(FACTOR)
            for _, norm in found:
                assert norm.running_var is not None, "pairs have statistics"
                norm.running_var.mul_(FACTOR).add_((FACTOR**2 - 1) * norm.eps)
        yield
    finally:
        with torch.no_grad():
            for tensor, original in zip(tensors, originals, strict=True):
                tensor.copy_(original)
