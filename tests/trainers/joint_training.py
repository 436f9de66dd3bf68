"""What several processes are compared with one process on; as a script under torchrun, it trains it all in a folder."""

import json
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from tests.trainers.recipes_for_tests import tiny
from trainers.loop import train
from trainers.processes import joined

SMOOTH = {"kind": "pgd", "norm": "L2", "epsilon": 0.5, "steps": 2, "step_size": 0.3, "initialization": "uniform"}
"""An attack without signs, which would turn rounding errors into steps."""

SETTINGS = {
    "epochs": "3",
    "optimizer__learning_rate": "0.02",
    "attack": json.dumps(SMOOTH),
    "monitor__attack": json.dumps(SMOOTH),
    "source__examples__stop": "48",
}

RECIPES = {
    "sgd": tiny("at", **SETTINGS),
    "uneven shares": tiny("trades", **SETTINGS, source__batch_size="13", source__label_noise="0.3"),
    "awp": tiny("awp", **SETTINGS),
    "self-supervision": tiny("self-supervision", **SETTINGS),
    "entropy-sgd": tiny("entropy-sgd", **SETTINGS | {"optimizer__learning_rate": "1", "stepper__noise": "0.01"}),
    "averaging": tiny("weight-averaging", **SETTINGS, optimizer='{"kind": "adam", "learning_rate": 0.001}'),
    "augmentation": tiny("augmentation", **SETTINGS),
}


def without_statistics(norm: nn.BatchNorm2d, features: Tensor) -> Tensor:
    """Scale and shift as BatchNorm does, but look at no other example: only then means over shares are the batch's."""
    return features * norm.weight.view(-1, 1, 1) + norm.bias.view(-1, 1, 1)


if __name__ == "__main__":
    torch.set_num_threads(1)
    nn.BatchNorm2d.forward = without_statistics
    with joined("cpu") as device:
        for name, recipe in RECIPES.items():
            train(recipe, seed=3, folder=Path(sys.argv[1]) / name, device=str(device))
