"""Two small networks for 8×8 images: they train adversarially in seconds on one core."""

from torch import Tensor, nn

from evaluator.architectures.layers import ACTIVATIONS, Normalize, conv3x3
from evaluator.architectures.options import SmallNetOptions
from evaluator.dataset_facts import DatasetFacts


class _Block(nn.Module):
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
        out = self.activation(self.bn1(self.conv1(features)))
        out = self.bn2(self.conv2(out)) + self.shortcut(features)
        return self.activation(out)  # type: ignore[no-any-return]


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
        _Block(width, 2 * width, 2, activation),
        _Block(2 * width, 4 * width, 2, activation),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4 * width, facts.classes),
    )  # fmt: skip
