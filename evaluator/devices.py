"""From a device's name to a device that is there, and the way of random draws to it."""

import torch
from torch import Tensor

from evaluator.environment import DEVICE_NAME
from evaluator.exceptions import InvalidSetting


def find_device(name: str) -> torch.device:
    """Return the device called `auto` (a GPU where there is one), `cpu`, `cuda` or `cuda:n`.

    Raises:
        InvalidSetting: another name, or a GPU that torch does not see here.
    """
    if not DEVICE_NAME.fullmatch(name):
        raise InvalidSetting(f"no device is called {name!r}; expected auto, cpu, cuda or cuda:n")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InvalidSetting(f"{name} was asked for, but torch sees {torch.cuda.device_count()} GPUs here; use auto")
    return device


def sent(draw: Tensor, device: torch.device) -> Tensor:
    """Return `draw` on `device`. A GPU does not wait for it: the copy queues behind what was launched before."""
    if device.type == "cuda":
        return draw.pin_memory().to(device, non_blocking=True)
    return draw.to(device)
