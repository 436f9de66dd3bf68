"""ResNets for small images (He et al. 2016, post-activation), with the parameter names of most public code."""

import torch.nn.functional as F
from torch import Tensor, nn

from evaluator.architectures.layers import ACTIVATIONS, BasicBlock, Normalize, conv3x3
from evaluator.architectures.options import ResNetOptions
from evaluator.dataset_facts import DatasetFacts

_BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}


class ResNet(nn.Module):
    """A 3×3 stem, then four stages of 64, 128, 256 and 512 channels; images [n, c, h, w] in [0, 1] to logits."""

    def __init__(self, options: ResNetOptions, facts: DatasetFacts) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[options.activation]()
        self.normalize = Normalize(facts)
        self.conv1, self.bn1 = conv3x3(facts.image_shape[0], 64), nn.BatchNorm2d(64)
        blocks = _BLOCKS[options.depth]
        self.layer1 = self._stage(blocks[0], 64, 64, 1)
        self.layer2 = self._stage(blocks[1], 64, 128, 2)
        self.layer3 = self._stage(blocks[2], 128, 256, 2)
        self.layer4 = self._stage(blocks[3], 256, 512, 2)
        self.linear = nn.Linear(512, facts.classes)

    def _stage(self, blocks: int, channels_in: int, channels_out: int, stride: int) -> nn.Sequential:
        stage = nn.Sequential(BasicBlock(channels_in, channels_out, stride, self.activation))
        return stage.extend(BasicBlock(channels_out, channels_out, 1, self.activation) for _ in range(blocks - 1))

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [n, classes]."""
        features = self.activation(self.bn1(self.conv1(self.normalize(images))))
        features = self.layer4(self.layer3(self.layer2(self.layer1(features))))
        return self.linear(F.adaptive_avg_pool2d(features, 1).flatten(1))  # type: ignore[no-any-return]


def build(options: ResNetOptions, facts: DatasetFacts) -> nn.Module:
    """Return the network for images of `facts`."""
    return ResNet(options, facts)
