"""Stand at w + ν for a while, then at exactly w again."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor, nn


@contextmanager
def perturbed(model: nn.Module, offsets: Mapping[str, Tensor]) -> Iterator[None]:
    """Add `offsets` to the named parameters inside the block; afterwards every bit is as before, also after an error.

    The originals lie aside meanwhile and are put back: adding and subtracting would leave rounding errors. Offsets that
    nobody else holds are let go of, so that weights are in memory twice and not three times.
    """
    parameters = {name: model.get_parameter(name) for name in offsets}
    originals = {name: parameter.data for name, parameter in parameters.items()}
    # Copies keep how a tensor lies in memory, which a sum need not: convolutions would lay it out anew in every pass.
    moved = {name: original.clone().add_(offsets[name]) for name, original in originals.items()}
    del offsets
    try:
        for name, parameter in parameters.items():
            parameter.data = moved[name]
        del moved
        yield
    finally:
        for name, parameter in parameters.items():
            parameter.data = originals[name]
