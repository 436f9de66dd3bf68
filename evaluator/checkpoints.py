"""Networks to and from checkpoint files: one safetensors file each, weights and manifest, never a pickle."""

import hashlib
import os
import uuid
from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from evaluator.architectures import build, parse_options
from evaluator.checkpoint_file import Checkpoint, open_checkpoint
from evaluator.dataset_facts import DatasetFacts, find_dataset_facts
from evaluator.exceptions import InvalidCheckpoint
from evaluator.forward_cost import check_affordable
from evaluator.manifest import METADATA_KEY, Manifest
from evaluator.safetensors_header import read_header

__all__ = [
    "Checkpoint",
    "check_layout",
    "load_for_measuring",
    "load_model",
    "open_checkpoint",
    "plan_network",
    "save_checkpoint",
    "write_atomically",
]


def save_checkpoint(model: nn.Module, manifest: Manifest, path: Path) -> Checkpoint:
    """Write `model` to `path`, float32 and with `manifest` inside; equal weights give equal bytes.

    Raises:
        InvalidCheckpoint: the model is not the network that `manifest` declares.
    """
    state = {
        name: tensor.detach().to("cpu", torch.float32 if tensor.is_floating_point() else tensor.dtype).contiguous()
        for name, tensor in model.state_dict().items()
    }
    layout = {name: (not tensor.is_floating_point(), tuple(tensor.shape)) for name, tensor in state.items()}
    check_layout(layout, plan_network(manifest), manifest.architecture)
    data = save(state, metadata={METADATA_KEY: manifest.to_json()})
    write_atomically(path, data)
    return Checkpoint(path, hashlib.sha256(data).hexdigest(), manifest)


def load_model(checkpoint: Checkpoint, *, device: str | torch.device = "cpu") -> nn.Module:
    """Return the checkpoint's network on `device`: float32, eval mode, weights frozen.

    Names and shapes are compared with the registry's network, and what an image costs it is counted, before a weight
    is read; no random number is drawn.

    Raises:
        InvalidCheckpoint: names, shapes or weights are not the network's, or two probe images get no finite logits.
        InvalidRequest: the network is too dear to be measured.
    """
    manifest = checkpoint.manifest
    facts = find_dataset_facts(manifest.dataset)
    model = plan_network(manifest)
    header = read_header(checkpoint.path)
    layout = {name: (info.dtype == "I64", info.shape) for name, info in header.tensors.items()}
    check_layout(layout, model, manifest.architecture)
    check_affordable(model, facts.image_shape, manifest.architecture)
    # Copied: the library returns windows into the file, whose alignment changes the last bits of what kernels compute.
    state = {
        name: tensor.to(torch.float32 if tensor.is_floating_point() else tensor.dtype, copy=True)
        for name, tensor in load_file(checkpoint.path).items()
    }
    _check_finite(state)
    model.load_state_dict(state, assign=True)
    _check_variances(model)
    model = model.to(device).eval().requires_grad_(False)
    _probe(model, facts, torch.device(device))
    return model


def load_for_measuring(checkpoint: Checkpoint, *, device: str | torch.device = "cpu") -> nn.Module:
    """Return the checkpoint's network as it is measured: in the layout in which convolutions run fastest.

    Weights are those of `load_model`, whose errors it raises; results differ from another layout's by float rounding.
    """
    model = load_model(checkpoint, device=device)
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]  # torch's stub


def write_atomically(path: Path, data: bytes) -> None:
    """Write `data` to `path` so that a kill at any instant leaves the old file or the new one, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    incoming = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    try:
        with incoming.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        incoming.replace(path)
    except BaseException:
        incoming.unlink(missing_ok=True)
        raise


def plan_network(manifest: Manifest) -> nn.Module:
    """Return the manifest's network on the meta device: its names and shapes without its memory."""
    with torch.device("meta"):
        return build(
            manifest.architecture,
            parse_options(manifest.architecture, manifest.options),
            find_dataset_facts(manifest.dataset),
        )


def check_layout(layout: dict[str, tuple[bool, tuple[int, ...]]], planned: nn.Module, architecture: str) -> None:
    """Compare tensors (name → is it integer, shape) with the state of `planned`.

    Raises:
        InvalidCheckpoint: they differ; the first difference is named.
    """
    expected = planned.state_dict()
    if missing := expected.keys() - layout.keys():
        raise InvalidCheckpoint(f"the checkpoint lacks {_some(missing)}, which {architecture} with its options has")
    if unexpected := layout.keys() - expected.keys():
        raise InvalidCheckpoint(f"the checkpoint has {_some(unexpected)}, which {architecture} with its options lacks")
    for name, tensor in expected.items():
        integer, shape = layout[name]
        if shape != tuple(tensor.shape):
            raise InvalidCheckpoint(
                f"tensor {name!r} has shape {list(shape)}, but {architecture} with its options expects "
                f"{list(tensor.shape)}"
            )
        if integer == tensor.is_floating_point():
            raise InvalidCheckpoint(f"tensor {name!r} has the wrong kind of number; expected was {tensor.dtype}")


def _some(names: Iterable[str]) -> str:
    first, *others = sorted(names)
    return f"tensor {first[:100]!r}" + (f" and {len(others)} more" if others else "")


def _check_finite(state: dict[str, Tensor]) -> None:
    for name, tensor in state.items():
        if not tensor.isfinite().all():
            raise InvalidCheckpoint(
                f"tensor {name!r} holds values that are not finite in float32; train or export again"
            )


def _check_variances(model: nn.Module) -> None:
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm) and module.running_var is not None and not (module.running_var > 0).all():
            raise InvalidCheckpoint(
                f"tensor '{name}.running_var' holds a variance that is not above 0; export it again"
            )


def _probe(model: nn.Module, facts: DatasetFacts, device: torch.device) -> None:
    """Pass a grey and a ramp image through `model`: [2, c, h, w] to finite logits [2, classes]."""
    ramp = torch.linspace(0, 1, facts.image_shape[1] * facts.image_shape[2], device=device)
    ramp = ramp.view(facts.image_shape[1:]).expand(facts.image_shape)
    with torch.no_grad():
        logits = model(torch.stack([torch.full_like(ramp, 0.5), ramp]))
    if logits.shape != (2, facts.classes) or not logits.isfinite().all():
        raise InvalidCheckpoint(
            f"two probe images gave logits of shape {list(logits.shape)}, finite: {bool(logits.isfinite().all())}; "
            f"expected were finite logits [2, {facts.classes}]"
        )
