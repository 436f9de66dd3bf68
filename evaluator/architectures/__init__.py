"""The networks a checkpoint may hold, by name (torch-free until `build`): pixels in [0, 1] in, logits out.

Every network normalises inside, so that budgets mean the same for all. A new architecture is one file and one line.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from evaluator.architectures.options import (
    ActivationOptions,
    Options,
    ResNetOptions,
    SmallNetOptions,
    TorchvisionOptions,
    WideResNetOptions,
)
from evaluator.dataset_facts import DatasetFacts
from evaluator.exceptions import InvalidRequest

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Architecture:
    """One network family. `builder` is a `module:function` of this folder: (options, facts) → network."""

    name: str
    title: str
    options: type[Options]
    builder: str


_ALL = (
    Architecture("digits-cnn", "Small CNN", SmallNetOptions, "digits:cnn"),
    Architecture("digits-resnet", "Small ResNet", SmallNetOptions, "digits:resnet"),
    Architecture("resnet18-stutz2021", "ResNet-18 (Stutz et al. 2021)", ActivationOptions, "resnet18_stutz2021:build"),
    Architecture("resnet", "ResNet", ResNetOptions, "resnet:build"),
    Architecture("preactresnet18", "PreActResNet-18", ActivationOptions, "preactresnet18:build"),
    Architecture("wideresnet", "WideResNet", WideResNetOptions, "wideresnet:build"),
    Architecture("torchvision", "torchvision", TorchvisionOptions, "torchvision_networks:build"),
)

ARCHITECTURES: dict[str, Architecture] = {architecture.name: architecture for architecture in _ALL}
"""Every architecture by name."""


def find_architecture(name: str) -> Architecture:
    """Return the named architecture.

    Raises:
        InvalidRequest: no such name; the message lists what there is.
    """
    try:
        return ARCHITECTURES[name]
    except KeyError:
        raise InvalidRequest(f"no architecture is called {name!r:.80}; there are {', '.join(ARCHITECTURES)}") from None


def parse_options(name: str, raw: Mapping[str, Any]) -> Options:
    """Return the options of architecture `name`, with its defaults where `raw` is silent.

    Raises:
        InvalidRequest: no such architecture or option, or a value out of bounds.
    """
    expected = find_architecture(name).options
    try:
        return expected.model_validate(dict(raw))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        option = ".".join(str(part) for part in first["loc"])
        raise InvalidRequest(
            f"option {option[:60]!r} of architecture {name} was {first['input']!r:.60}: {first['msg']}; "
            f"its options are {', '.join(expected.model_fields)}"
        ) from None


def build(name: str, options: Options, facts: DatasetFacts) -> "nn.Module":
    """Return a fresh network of architecture `name` for the images and classes of `facts`, on torch's default device.

    Initial weights are drawn from torch's global generator: fork and seed it (`torch.random.fork_rng`) around this.
    """
    module, function = find_architecture(name).builder.split(":")
    network: nn.Module = getattr(importlib.import_module(f"{__name__}.{module}"), function)(options, facts)
    return network
