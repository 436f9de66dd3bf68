"""Memory: what measuring a ResNet-18 takes at its peak, against one forward and backward pass of the same batch.

Each side is a process of its own. On a CPU its peak is counted from where it stands once the network is loaded; on a
GPU it is what torch's allocator says, weights included.
"""

import argparse
import resource
import subprocess
import sys
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import nn

from evaluator.architectures import build, parse_options
from evaluator.dataset_facts import find_dataset_facts
from evaluator.datasets import Dataset
from evaluator.devices import find_device
from evaluator.metrics import StageName
from evaluator.observed import observed
from evaluator.results import ShardSpec
from evaluator.shipped import CIFAR10_LINF
from evaluator.stages import measure
from evaluator.types import Split

BAR = 1.2
_FACTS = find_dataset_facts("cifar10")
_SIDES = ("measurement", "pass")


def ratio(batch: int, device: str = "cpu") -> float:
    """Return the peak of measuring robust loss and flatness in batches of this size, as a multiple of one pass's."""
    measured, bare = (
        int(subprocess.check_output([sys.executable, "-m", "tests.benchmarks.memory", side, str(batch), device]))
        for side in _SIDES
    )
    return measured / bare


def network(device: torch.device) -> nn.Module:
    """Return a ResNet-18 on `device`, as it begins to be trained."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        model = build("resnet18-stutz2021", parse_options("resnet18-stutz2021", {}), _FACTS)
    return model.to(device).to(memory_format=torch.channels_last).eval()


def _measure(model: nn.Module, device: torch.device, batch: int) -> None:
    """Measure one step of each attack: all steps use the same memory."""
    attack = replace(CIFAR10_LINF.robust_loss, steps=1, restarts=2)
    flatness = replace(CIFAR10_LINF.flatness, attack=attack)
    protocol = replace(CIFAR10_LINF, robust_loss=attack, flatness=flatness)
    pixels = torch.arange(batch * 3 * 32 * 32).remainder(256).to(torch.uint8).reshape(batch, 3, 32, 32)
    dataset = Dataset(_FACTS, {Split.TEST: pixels}, {Split.TEST: torch.arange(batch).remainder(10)})
    for stage, sample in ((StageName.CLEAN, None), (StageName.ROBUST_LOSS, None), (StageName.FLATNESS, 0)):
        measure(
            model, dataset, protocol, ShardSpec(stage, Split.TEST, 0, batch, sample), device=device, batch_size=batch
        )


def _pass(model: nn.Module, device: torch.device, batch: int) -> None:
    images = torch.full((batch, *_FACTS.image_shape), 0.5, device=device, requires_grad=True)
    labels = torch.zeros(batch, dtype=torch.int64, device=device)
    with observed(model):
        torch.autograd.grad(F.cross_entropy(model(images), labels), images)


def main() -> None:
    """Print the bytes of one side."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("side", choices=_SIDES)
    parser.add_argument("batch", type=int)
    parser.add_argument("device")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    device = find_device(chosen.device)
    model = network(device)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    (_measure if chosen.side == "measurement" else _pass)(model, device, chosen.batch)
    if device.type == "cuda":
        print(torch.cuda.max_memory_allocated(device))
    else:
        print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)


if __name__ == "__main__":
    main()
