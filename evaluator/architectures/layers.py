"""Layers that several architectures share."""

import torch
from torch import Tensor, nn

from evaluator.architectures.options import Activation
from evaluator.dataset_facts import DatasetFacts

ACTIVATIONS: dict[Activation, type[nn.Module]] = {
    Activation.RELU: nn.ReLU,
    Activation.SILU: nn.SiLU,
    Activation.GELU: nn.GELU,
    Activation.MISH: nn.Mish,
}
"""The module of every activation; a network holds one and calls it everywhere."""


class Normalize(nn.Module):
    """(x − mean) / std by channel, x [n, c, h, w] in [0, 1]; both are buffers and travel with the weights."""

    mean: Tensor
    std: Tensor

    def __init__(self, facts: DatasetFacts) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(facts.mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(facts.std).view(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Return the normalised images [n, c, h, w]."""
        return (images - self.mean) / self.std


def conv3x3(channels_in: int, channels_out: int, stride: int = 1) -> nn.Conv2d:
    """Return a 3×3 convolution without bias that keeps the image size at stride 1."""
    return nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False)


def initialize_convolutions(network: nn.Module) -> None:
    """Draw all convolutions of `network` by He et al. (2015), fan-out, for ReLU; other layers keep torch's draw.

    Those on the meta device are passed over: torch imports for seconds before it draws nothing.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and not module.weight.is_meta:
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


class BasicBlock(nn.Module):
    """Two 3×3 convolutions beside a shortcut (He et al. 2016, post-activation)."""

    def __init__(self, channels_in: int, channels_out: int, stride: int, activation: nn.Module) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv3x3(channels_in, channels_out, stride), nn.BatchNorm2d(channels_out)
        self.conv2, self.bn2 = conv3x3(channels_out, channels_out), nn.BatchNorm2d(channels_out)
        self.activation = activation
        self.shortcut = nn.Sequential()
        if stride != 1 or channels_in != channels_out:
            self.shortcut.append(nn.Conv2d(channels_in, channels_out, 1, stride, bias=False))
            self.shortcut.append(nn.BatchNorm2d(channels_out))

    def forward(self, features: Tensor) -> Tensor:
        """Return features [n, channels_out, h / stride, w / stride]."""
        out = self.activation(self.bn1(self.conv1(features)))
        out = self.bn2(self.conv2(out)) + self.shortcut(features)
        return self.activation(out)  # type: ignore[no-any-return]
