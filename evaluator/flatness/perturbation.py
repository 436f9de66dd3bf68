"""Stand at w + ν for a while, then at exactly w again."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def perturbed(model: nn.Module, offsets: Mapping[str, Tensor]) -> Iterator[None]:
    """Add `offsets` to the named parameters inside the block; afterwards every bit is as before, also after an error.

    The originals are kept and copied back: adding and subtracting would leave rounding errors.
    """
    parameters = {name: model.get_parameter(name) for name in offsets}
    originals = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    try:
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.add_(offsets[name])
        yield
    finally:
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(originals[name])
