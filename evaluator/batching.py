"""How many images a network takes at a time on a device: as memory bears and time rewards; no number depends on it."""

import resource
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor, nn

from evaluator.observed import full_float32, observed

LARGEST = {"cpu": 1024, "cuda": 4096}
"""Beyond these even small networks gain nothing."""

_FIRST = 8
_WORTH = 0.95
"""The smallest batch is taken in which an image costs at most what it does in the fastest, divided by this."""
_SECONDS = 0.1
"""A pass this long has shown all that there is to gain: what it costs beside its images is long outweighed."""
_SHARE = 4
"""What one pass keeps may be this small a part of free memory: gradients, kernels and other processes need theirs."""


def fastest_batch_size(model: nn.Module, image_shape: Sequence[int], device: torch.device, *, most: int) -> int:
    """Return the batch size, at most `most`, at which an image [c, h, w] costs least time forward and backward.

    Sizes are doubled from 8 on, as long as a pass is short and the next is likely to fit.
    """
    size = min(_FIRST, most)
    costs = {size: float("inf")}
    devices = [device] if device.type == "cuda" else []
    # Memory that runs out, or a network that fails: measuring will say so, in its own words.
    with suppress(Exception), torch.random.fork_rng(devices), full_float32(), observed(model):
        fits = free_bytes(device) // (_SHARE * max(kept_bytes(model, image_shape, device), 1))
        bound, seconds = max(min(most, fits, LARGEST[device.type]), size), 0.0
        while size <= bound and seconds < _SECONDS:
            seconds = _seconds(model, image_shape, device, size)
            costs[size] = seconds / size
            size *= 2
    least = min(costs.values())
    return next(size for size, cost in costs.items() if cost <= least / _WORTH)


def kept_bytes(model: nn.Module, image_shape: Sequence[int], device: torch.device) -> int:
    """Return what a forward pass of an image keeps for the backward pass, weights not counted."""
    weights = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        model(_images(image_shape, device, _FIRST))
    return sum(kept.values()) // _FIRST


def free_bytes(device: torch.device) -> int:
    """Return how much memory this process may still take: the GPU's, or what machine, container and limits leave."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    limit = resource.getrlimit(resource.RLIMIT_DATA)[0]
    own = _kilobytes("/proc/self/status", "VmData")
    bounds = [_kilobytes("/proc/meminfo", "MemAvailable")]
    if limit != resource.RLIM_INFINITY and own is not None:
        bounds.append(limit - own)
    most, used = (_number(f"/sys/fs/cgroup/memory.{name}") for name in ("max", "current"))
    if most is not None and used is not None:
        bounds.append(most - used)
    return max(min((bound for bound in bounds if bound is not None), default=0), 0)


def _seconds(model: nn.Module, image_shape: Sequence[int], device: torch.device, size: int) -> float:
    """Return what a pass takes, the quicker of two after one that warms up: on a CPU of its own time."""
    taken, clock = [], time.process_time if device.type == "cpu" else time.perf_counter
    for _ in range(3):
        images = _images(image_shape, device, size)
        _await(device)
        started = clock()
        with torch.enable_grad():
            torch.autograd.grad(model(images).sum(), images)
        _await(device)
        taken.append(clock() - started)
    return min(taken[1:])


def _images(image_shape: Sequence[int], device: torch.device, size: int) -> Tensor:
    return torch.full((size, *image_shape), 0.5, device=device, requires_grad=True)


def _await(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _kilobytes(path: str, name: str) -> int | None:
    """Return the bytes of a line `name: … kB` of one of the system's files; None where nothing says so."""
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:  # another system, or walls around this process
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), None)


def _number(path: str) -> int | None:
    try:
        return int(Path(path).read_text())
    except (OSError, ValueError):  # no such container, or one without a limit
        return None
