"""The ResNet-18 of Stutz et al. (2021): post-activation, 64 channels, BatchNorm whose scale is 1 + weight.

conv1 and the downsampling convolutions have biases; the first layer whitens the input. 26 of the 68 parameter tensors,
11,165,322 of 11,174,928 parameters (3 channels, 10 classes), belong to convolutions and the linear layer.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evaluator.architectures.layers import ACTIVATIONS, conv3x3, initialize_convolutions
from evaluator.architectures.options import ActivationOptions
from evaluator.dataset_facts import DatasetFacts


class Whitening(nn.Module):
    """(x − bias) / weight by channel: the training set's mean and std, as parameters that are never trained."""

    def __init__(self, facts: DatasetFacts) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(facts.std), requires_grad=False)
        self.bias = nn.Parameter(torch.tensor(facts.mean), requires_grad=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return the whitened images [n, c, h, w]."""
        return (images - self.bias.view(-1, 1, 1)) / self.weight.view(-1, 1, 1)


class OnePlusBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm with scale 1 + weight, so that weight decay and weight clipping pull the scale to 1, not to 0."""

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    momentum: float

    def reset_parameters(self) -> None:
        """Set statistics and scale to the identity."""
        self.reset_running_stats()
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Return the normalised features [n, c, h, w]; in training mode the running statistics move."""
        if self.training:
            self.num_batches_tracked.add_(1)
        return F.batch_norm(
            features, self.running_mean, self.running_var, 1 + self.weight, self.bias,
            self.training, self.momentum, self.eps,
        )  # fmt: skip


class _Block(nn.Module):
    def __init__(self, channels_in: int, channels_out: int, stride: int, activation: nn.Module) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv3x3(channels_in, channels_out, stride), OnePlusBatchNorm2d(channels_out)
        self.conv2, self.bn2 = conv3x3(channels_out, channels_out), OnePlusBatchNorm2d(channels_out)
        self.activation = activation
        self.downsample = nn.Sequential()
        if stride != 1 or channels_in != channels_out:
            self.downsample.append(nn.Conv2d(channels_in, channels_out, 1, stride, bias=True))
            self.downsample.append(OnePlusBatchNorm2d(channels_out))

    def forward(self, features: Tensor) -> Tensor:
        out = self.activation(self.bn1(self.conv1(features)))
        out = self.bn2(self.conv2(out)) + self.downsample(features)
        return self.activation(out)  # type: ignore[no-any-return]


def build(options: ActivationOptions, facts: DatasetFacts) -> nn.Module:
    """Return the network for images of `facts`."""
    activation = ACTIVATIONS[options.activation]()
    blocks: list[nn.Module] = []
    channels_in = 64
    for channels, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        blocks += [_Block(channels_in, channels, stride, activation), _Block(channels, channels, 1, activation)]
        channels_in = channels
    network = nn.Sequential(
        Whitening(facts),
        nn.Conv2d(facts.image_shape[0], 64, 3, padding=1, bias=True), OnePlusBatchNorm2d(64), activation,
        *blocks,
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, facts.classes),
    )  # fmt: skip
    initialize_convolutions(network)
    return network
