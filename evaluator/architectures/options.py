"""The typed options of every architecture (torch-free): enums and bounds, extra fields forbidden."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class Activation(StrEnum):
    """The non-linearity everywhere in a network."""

    RELU = "relu"
    SILU = "silu"
    GELU = "gelu"
    MISH = "mish"


class TorchvisionName(StrEnum):
    """The torchvision classifiers that accept any image size from 32 up."""

    RESNET18 = "resnet18"
    RESNET34 = "resnet34"
    RESNET50 = "resnet50"
    WIDE_RESNET50_2 = "wide_resnet50_2"
    VGG11_BN = "vgg11_bn"
    VGG16_BN = "vgg16_bn"
    MOBILENET_V2 = "mobilenet_v2"
    DENSENET121 = "densenet121"
    EFFICIENTNET_B0 = "efficientnet_b0"
    CONVNEXT_TINY = "convnext_tiny"


class Options(BaseModel):
    """What may be chosen within an architecture; defaults give its published form."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class SmallNetOptions(Options):
    """Channels of the first stage, and the activation."""

    width: Annotated[int, Field(ge=4, le=64)] = 16
    activation: Activation = Activation.RELU


class ActivationOptions(Options):
    """The activation alone."""

    activation: Activation = Activation.RELU


class ResNetOptions(Options):
    """Layers with weights, and the activation."""

    depth: Literal[18, 34] = 18
    activation: Activation = Activation.RELU


class WideResNetOptions(Options):
    """Depth 6 n + 4 and the factor by which all stages are wider than 16, 32, 64 channels."""

    depth: Literal[10, 16, 22, 28, 34, 40, 46, 52, 58, 64, 70, 76, 82, 88, 94] = 28
    width: Annotated[int, Field(ge=1, le=20)] = 10
    activation: Activation = Activation.RELU


class TorchvisionOptions(Options):
    """One of torchvision's networks, and the size to which images are scaled before it."""

    network: TorchvisionName = TorchvisionName.RESNET18
    image_size: Annotated[int, Field(ge=32, le=256)] = 32
