"""The ResNet-18 that AutoAttack is timed on: trained for minutes on digits of 32 × 32 pixels, as nothing is downloaded.

It is no good classifier of anything else. It has what a timing needs: the shapes of CIFAR-10's ResNet-18, and images
that the budget breaks beside images that it does not.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evaluator.architectures import build, parse_options
from evaluator.checkpoints import load_model, open_checkpoint, save_checkpoint
from evaluator.dataset_facts import find_dataset_facts
from evaluator.datasets import load_dataset
from evaluator.manifest import Manifest
from evaluator.types import Split

CHECKPOINT = Path(__file__).resolve().parents[2] / "var" / "benchmarks" / "resnet18-digits.safetensors"
_TRAINED_ON, _EPOCHS, _BATCH = 384, 3, 32
_NOISE = 0.15
"""Standard deviation of what is added to training pixels: it makes the decisions last a little."""


def examples(split: Split, start: int, stop: int) -> tuple[Tensor, Tensor]:
    """Return digits as colour images [n, 3, 32, 32] in [0, 1], and their labels [n]."""
    images, labels = load_dataset("digits").examples(split, start, stop)
    larger = F.interpolate(images, size=(32, 32), mode="bilinear", align_corners=False)
    return larger.expand(-1, 3, -1, -1).contiguous(), labels


def resnet18() -> nn.Module:
    """Return the network; the first call trains it and keeps it under var/."""
    if not CHECKPOINT.exists():
        CHECKPOINT.parent.mkdir(parents=True, exist_ok=True)
        save_checkpoint(_trained(), Manifest("resnet", "cifar10", {"depth": 18}), CHECKPOINT)
    return load_model(open_checkpoint(CHECKPOINT))


def _trained() -> nn.Module:
    facts = find_dataset_facts("cifar10")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build("resnet", parse_options("resnet", {"depth": 18}), facts).to(memory_format=torch.channels_last)
    images, labels = examples(Split.TRAIN, 0, _TRAINED_ON)
    generator = torch.Generator().manual_seed(0)
    steps = _EPOCHS * _TRAINED_ON // _BATCH
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.05, total_steps=steps)
    for _ in range(_EPOCHS):
        for batch in torch.randperm(_TRAINED_ON, generator=generator).split(_BATCH):
            noise = _NOISE * torch.randn(images[batch].shape, generator=generator)
            optimizer.zero_grad()
            F.cross_entropy(model((images[batch] + noise).clamp(0, 1)), labels[batch]).backward()
            optimizer.step()
            schedule.step()
    return model.eval()
