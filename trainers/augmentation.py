"""Random changes to training images that keep their class, drawn from a generator on the CPU."""

import torch
import torch.nn.functional as F
from torch import Tensor


def shifted(images: Tensor, reach: int, generator: torch.Generator) -> Tensor:
    """Return each of `images` [n, c, h, w] moved uniformly by up to `reach` pixels a direction, black behind."""
    count, channels, height, width = images.shape
    offsets = torch.randint(2 * reach + 1, (2, count, 1), generator=generator).to(images.device)
    rows, columns = (_along(side, images) + offset for side, offset in zip((height, width), offsets, strict=True))
    padded = F.pad(images, [reach] * 4)
    which, channel = _along(count, images), _along(channels, images)
    moved = padded[which[:, None, None, None], channel[:, None, None], rows[:, None, :, None], columns[:, None, None]]
    return moved.contiguous(memory_format=_layout(images))


def cut_out(images: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """Return each of `images` [n, c, h, w] with a black square of `side` pixels (DeVries and Taylor 2017).

    Its centre is uniform over the image, so that at the border a part of it falls outside.
    """
    inside = []
    for length in images.shape[2:]:
        first = torch.randint(length, (len(images), 1), generator=generator).to(images.device) - side // 2
        places = _along(length, images)
        inside.append((places >= first) & (places < first + side))
    rows, columns = inside
    covered = rows[:, None, :, None] & columns[:, None, None]
    return images.clone().masked_fill_(covered, 0.0)  # unlike `masked_fill`, it keeps the memory format


def _along(length: int, images: Tensor) -> Tensor:
    return torch.arange(length, device=images.device)


def _layout(images: Tensor) -> torch.memory_format:
    dense = images.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if dense else torch.contiguous_format
