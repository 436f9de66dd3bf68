"""WideResNet (Zagoruyko & Komodakis 2016), with the parameter names under which robust ones are published."""

import torch.nn.functional as F
from torch import Tensor, nn

from evaluator.architectures.layers import ACTIVATIONS, Normalize, conv3x3, initialize_convolutions
from evaluator.architectures.options import WideResNetOptions
from evaluator.dataset_facts import DatasetFacts


class _Block(nn.Module):
    """BatchNorm and activation before each convolution; a shortcut that changes channels leaves after the first."""

    def __init__(self, channels_in: int, channels_out: int, stride: int, activation: nn.Module) -> None:
        super().__init__()
        self.activation = activation
        self.bn1, self.conv1 = nn.BatchNorm2d(channels_in), conv3x3(channels_in, channels_out, stride)
        self.bn2, self.conv2 = nn.BatchNorm2d(channels_out), conv3x3(channels_out, channels_out)
        changes = stride != 1 or channels_in != channels_out
        self.convShortcut = nn.Conv2d(channels_in, channels_out, 1, stride, bias=False) if changes else None

    def forward(self, features: Tensor) -> Tensor:
        out = self.activation(self.bn1(features))
        shortcut = features if self.convShortcut is None else self.convShortcut(out)
        out = self.conv2(self.activation(self.bn2(self.conv1(out))))
        return out + shortcut  # type: ignore[no-any-return]


class _Stage(nn.Module):
    def __init__(self, blocks: int, channels_in: int, channels_out: int, stride: int, activation: nn.Module) -> None:
        super().__init__()
        self.layer = nn.Sequential(_Block(channels_in, channels_out, stride, activation))
        self.layer.extend(_Block(channels_out, channels_out, 1, activation) for _ in range(blocks - 1))

    def forward(self, features: Tensor) -> Tensor:
        return self.layer(features)  # type: ignore[no-any-return]


class WideResNet(nn.Module):
    """Three stages of (depth − 4) / 6 blocks with 16, 32 and 64 times `width` channels."""

    def __init__(self, options: WideResNetOptions, facts: DatasetFacts) -> None:
        super().__init__()
        blocks, narrow = (options.depth - 4) // 6, 16 * options.width
        self.activation = ACTIVATIONS[options.activation]()
        self.normalize = Normalize(facts)
        self.conv1 = conv3x3(facts.image_shape[0], 16)
        self.block1 = _Stage(blocks, 16, narrow, 1, self.activation)
        self.block2 = _Stage(blocks, narrow, 2 * narrow, 2, self.activation)
        self.block3 = _Stage(blocks, 2 * narrow, 4 * narrow, 2, self.activation)
        self.bn1 = nn.BatchNorm2d(4 * narrow)
        self.fc = nn.Linear(4 * narrow, facts.classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [n, classes] of images [n, c, h, w] in [0, 1]."""
        features = self.block3(self.block2(self.block1(self.conv1(self.normalize(images)))))
        features = F.adaptive_avg_pool2d(self.activation(self.bn1(features)), 1)
        return self.fc(features.flatten(1))  # type: ignore[no-any-return]


def build(options: WideResNetOptions, facts: DatasetFacts) -> nn.Module:
    """Return the network for images of `facts`."""
    network = WideResNet(options, facts)
    initialize_convolutions(network)
    return network
