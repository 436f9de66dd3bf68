"""Random changes to training images that keep their class; every draw comes from a generator on the CPU."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from evaluator.devices import sent
from evaluator.torchvision_operators import load_torchvision
from trainers.settings import (
    AugmentationSettings,
    AutoAugmentSettings,
    CropSettings,
    CutoutSettings,
    Fill,
    FlipSettings,
    ZoomOutSettings,
)

Step = Callable[[Tensor, Any, Tensor, torch.Generator], Tensor]
"""Images [n, c, h, w], the step's settings, the mean colour [c, 1, 1] and a generator → images of that shape."""


def augmented(
    images: Tensor, steps: Sequence[AugmentationSettings], mean: Tensor, generator: torch.Generator
) -> Tensor:
    """Return `images` [n, c, h, w] in [0, 1] after all of `steps`, each with draws of its own for every image.

    `mean` [c, 1, 1] is the data set's mean colour. The result has the memory format of `images`.
    """
    last = images.is_contiguous(memory_format=torch.channels_last)
    for step in steps:
        images = AUGMENTATIONS[step.kind](images, step, mean, generator)
    return images.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


def crop(images: Tensor, settings: CropSettings, mean: Tensor, generator: torch.Generator) -> Tensor:
    """Return each image moved uniformly by up to `pad` pixels a direction."""
    pad, (count, channels, height, width) = settings.pad, images.shape
    padded = _colour(settings.fill, mean).expand(count, channels, height + 2 * pad, width + 2 * pad).clone()
    padded[:, :, pad:-pad, pad:-pad] = images
    offsets = sent(torch.randint(2 * pad + 1, (2, count, 1), generator=generator), images.device)
    rows, columns = (_along(side, images) + offset for side, offset in zip((height, width), offsets, strict=True))
    which, channel = _along(count, images), _along(channels, images)
    return padded[which[:, None, None, None], channel[:, None, None], rows[:, None, :, None], columns[:, None, None]]


def zoom_out(images: Tensor, settings: ZoomOutSettings, mean: Tensor, generator: torch.Generator) -> Tensor:
    """Return each image with 0 … `pad` black pixels at each side, scaled back bilinearly to the old size.

    Interpolation is linear in rows and in columns: a matrix for each, with zeros where the border would be looked up.
    """
    pads = sent(torch.randint(settings.pad + 1, (2, 2, len(images), 1), generator=generator), images.device)
    rows, columns = (_zoom(_along(side, images), *pad) for side, pad in zip(images.shape[2:], pads, strict=True))
    return (rows[:, None] @ images @ columns[:, None].mT).clamp_max(1)


def flip(images: Tensor, settings: FlipSettings, mean: Tensor, generator: torch.Generator) -> Tensor:
    """Return each image mirrored left to right with probability 1/2."""
    mirrored = sent(torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5, images.device)
    return torch.where(mirrored, images.flip(3), images)


def auto_augment(images: Tensor, settings: AutoAugmentSettings, mean: Tensor, generator: torch.Generator) -> Tensor:
    """Return each image after a random sub-policy by torchvision, on 256 levels; what it moves in is black.

    torchvision draws from torch's global generator, which is put back afterwards.
    """
    load_torchvision()
    from torchvision.transforms import v2

    policy = v2.AutoAugment(v2.AutoAugmentPolicy(settings.policy))
    seed = int(torch.randint(2**63 - 1, (), generator=generator))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        changed = [policy(image) for image in (images * 255).round().to(torch.uint8)]
    return torch.stack(changed) / 255


def cutout(images: Tensor, settings: CutoutSettings, mean: Tensor, generator: torch.Generator) -> Tensor:
    """Return each image with a covered square of `side` pixels (DeVries and Taylor 2017).

    Its centre is uniform over the image, so that at the border a part of it falls outside.
    """
    inside = []
    for length in images.shape[2:]:
        centre = sent(torch.randint(length, (len(images), 1), generator=generator), images.device)
        distance = _along(length, images) - centre + settings.side // 2
        inside.append((distance >= 0) & (distance < settings.side))
    rows, columns = inside
    return torch.where(rows[:, None, :, None] & columns[:, None, None], _colour(settings.fill, mean), images)


def _zoom(places: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """Return the weights [n, h, h] with which h pixels, between `before` and `after` black ones, make h new ones."""
    scale = (len(places) + before + after) / len(places)
    sources = (places + 0.5) * scale - 0.5 - before
    return (1 - (sources[:, :, None] - places).abs()).clamp_min(0)


def _colour(fill: Fill, mean: Tensor) -> Tensor:
    return mean if fill == "mean" else torch.zeros_like(mean)


def _along(length: int, images: Tensor) -> Tensor:
    return torch.arange(length, device=images.device)


AUGMENTATIONS: dict[str, Step] = {
    "crop": crop,
    "zoom-out": zoom_out,
    "flip": flip,
    "auto-augment": auto_augment,
    "cutout": cutout,
}
"""Every step by the `kind` a recipe says."""
