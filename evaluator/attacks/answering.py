"""Another forward pass in a model's place."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn


@contextmanager
def answered_by(model: nn.Module, forward: Callable[..., Tensor]) -> Iterator[None]:
    """Let `forward` compute what `model` is asked; the hooks of `model` are called as ever."""
    before = vars(model).get("forward")
    model.forward = forward  # an attribute of the instance, before the method of its class
    try:
        yield
    finally:
        if before is None:
            del model.forward
        else:
            model.forward = before
