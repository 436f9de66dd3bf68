"""torchvision's classifiers, by allow-list, with an output for each class and never with downloaded weights."""

import torch.nn.functional as F
from torch import Tensor, nn

from evaluator.architectures.layers import Normalize
from evaluator.architectures.options import TorchvisionOptions
from evaluator.dataset_facts import DatasetFacts
from evaluator.torchvision_operators import load_torchvision


class ThreeChannels(nn.Module):
    """Scales images to one size (bilinear) and repeats a single channel three times: what torchvision expects."""

    def __init__(self, image_size: int) -> None:
        super().__init__()
        self.image_size = image_size

    def forward(self, images: Tensor) -> Tensor:
        """Return images [n, 3, image_size, image_size]."""
        if images.shape[-2:] != (self.image_size, self.image_size):
            images = F.interpolate(images, size=(self.image_size, self.image_size), mode="bilinear")
        return images.expand(-1, 3, -1, -1)


def build(options: TorchvisionOptions, facts: DatasetFacts) -> nn.Module:
    """Return the network for images of `facts`."""
    network = load_torchvision().models.get_model(options.network.value, weights=None, num_classes=facts.classes)
    return nn.Sequential(Normalize(facts), ThreeChannels(options.image_size), network)
