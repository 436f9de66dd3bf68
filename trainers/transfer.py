"""The way of random draws from the CPU, where generators live, to the device."""

import torch
from torch import Tensor


def sent(draw: Tensor, device: torch.device) -> Tensor:
    """Return `draw` on `device`. A GPU does not wait for it: the copy queues behind what was launched before."""
    if device.type == "cuda":
        return draw.pin_memory().to(device, non_blocking=True)
    return draw.to(device)
