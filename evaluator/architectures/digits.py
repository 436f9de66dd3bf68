"""Two small networks for 8×8 images: they train adversarially in seconds on one core."""

from torch import nn

from evaluator.architectures.layers import ACTIVATIONS, BasicBlock, Normalize, conv3x3
from evaluator.architectures.options import SmallNetOptions
from evaluator.dataset_facts import DatasetFacts


def cnn(options: SmallNetOptions, facts: DatasetFacts) -> nn.Module:
    """Return two 3×3 convolutions with BatchNorm, the second at stride 2, average pooling and a linear layer."""
    width, activation = options.width, ACTIVATIONS[options.activation]()
    return nn.Sequential(
        Normalize(facts),
        conv3x3(facts.image_shape[0], width), nn.BatchNorm2d(width), activation,
        conv3x3(width, 2 * width, stride=2), nn.BatchNorm2d(2 * width), activation,
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * width, facts.classes),
    )  # fmt: skip


def resnet(options: SmallNetOptions, facts: DatasetFacts) -> nn.Module:
    """Return a stem of `width` channels and two residual blocks of 2 · `width` and 4 · `width`, each at stride 2."""
    width, activation = options.width, ACTIVATIONS[options.activation]()
    return nn.Sequential(
        Normalize(facts),
        conv3x3(facts.image_shape[0], width), nn.BatchNorm2d(width), activation,
        BasicBlock(width, 2 * width, 2, activation),
        BasicBlock(2 * width, 4 * width, 2, activation),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4 * width, facts.classes),
    )  # fmt: skip
