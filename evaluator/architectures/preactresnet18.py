"""PreActResNet-18 (He et al. 2016, "Identity mappings"), with the parameter names of most public code for CIFAR."""

import torch.nn.functional as F
from torch import Tensor, nn

from evaluator.architectures.layers import ACTIVATIONS, Normalize, conv3x3
from evaluator.architectures.options import ActivationOptions
from evaluator.dataset_facts import DatasetFacts


class _Block(nn.Module):
    """BatchNorm and activation before each convolution; a strided shortcut leaves after the first activation."""

    def __init__(self, channels_in: int, channels_out: int, stride: int, activation: nn.Module) -> None:
        super().__init__()
        self.activation = activation
        self.bn1, self.conv1 = nn.BatchNorm2d(channels_in), conv3x3(channels_in, channels_out, stride)
        self.bn2, self.conv2 = nn.BatchNorm2d(channels_out), conv3x3(channels_out, channels_out)
        self.shortcut = nn.Sequential()
        if stride != 1 or channels_in != channels_out:
            self.shortcut.append(nn.Conv2d(channels_in, channels_out, 1, stride, bias=False))

    def forward(self, features: Tensor) -> Tensor:
        out = self.activation(self.bn1(features))
        shortcut = self.shortcut(out) if len(self.shortcut) else features
        out = self.conv2(self.activation(self.bn2(self.conv1(out))))
        return out + shortcut  # type: ignore[no-any-return]


class PreActResNet18(nn.Module):
    """Four stages of two blocks with 64, 128, 256 and 512 channels; images [n, c, h, w] in [0, 1] to logits."""

    def __init__(self, options: ActivationOptions, facts: DatasetFacts) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[options.activation]()
        self.normalize = Normalize(facts)
        self.conv1 = conv3x3(facts.image_shape[0], 64)
        self.layer1 = self._stage(64, 64, 1)
        self.layer2 = self._stage(64, 128, 2)
        self.layer3 = self._stage(128, 256, 2)
        self.layer4 = self._stage(256, 512, 2)
        self.bn = nn.BatchNorm2d(512)
        self.linear = nn.Linear(512, facts.classes)

    def _stage(self, channels_in: int, channels_out: int, stride: int) -> nn.Sequential:
        return nn.Sequential(
            _Block(channels_in, channels_out, stride, self.activation),
            _Block(channels_out, channels_out, 1, self.activation),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [n, classes]."""
        features = self.conv1(self.normalize(images))
        features = self.layer4(self.layer3(self.layer2(self.layer1(features))))
        features = F.adaptive_avg_pool2d(self.activation(self.bn(features)), 1)
        return self.linear(features.flatten(1))  # type: ignore[no-any-return]


def build(options: ActivationOptions, facts: DatasetFacts) -> nn.Module:
    """Return the network for images of `facts`."""
    return PreActResNet18(options, facts)
