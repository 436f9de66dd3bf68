"""A checkpoint on disk, opened without torch: its header verified, its bytes hashed, its manifest read."""

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluator.exceptions import InvalidCheckpoint, InvalidRequest
from evaluator.formats import Format, recognize
from evaluator.manifest import METADATA_KEY, Manifest
from evaluator.safetensors_header import read_header

MAX_FILE_BYTES = 2_000_000_000
"""WideResNet-94-16, the largest network that is measured, has 1.5 GB of weights in float32."""


@dataclass(frozen=True)
class Checkpoint:
    """One safetensors file of verified form. `sha256` is of all its bytes: the checkpoint's address everywhere."""

    path: Path
    sha256: str
    manifest: Manifest


def open_checkpoint(path: Path, *, manifest: Manifest | None = None) -> Checkpoint:
    """Return the checkpoint at `path`; `manifest` is for files that carry none inside.

    Raises:
        InvalidCheckpoint: the file is too large, of another format or not as its own demands, or has no manifest and
            none is given.
        InvalidRequest: the file carries a manifest and the given one contradicts it.
    """
    size = path.stat().st_size if path.is_file() else 0
    if size > MAX_FILE_BYTES:
        raise InvalidCheckpoint(f"{path.name} has {size} bytes; at most {MAX_FILE_BYTES} are taken in")
    if recognize(path) is Format.TORCH:
        raise InvalidCheckpoint(
            f"{path.name} is a state dict that does not say what network it is for; name its architecture, options and "
            "data set, or run manage.py pack on it"
        )
    header = read_header(path)
    inside = header.metadata.get(METADATA_KEY)
    if inside is not None:
        carried = Manifest.from_json(inside)
        if manifest is not None and _network(manifest) != _network(carried):
            raise InvalidRequest(
                f"{path.name} says that it is {_network(carried)}, but {_network(manifest)} was asked for; "
                "leave architecture, options and data set out to follow the file"
            )
        manifest = carried
    if manifest is None:
        raise InvalidCheckpoint(
            f"{path.name} does not say what network it is for; name its architecture, options and "
            "data set, or write the file with save_checkpoint"
        )
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return Checkpoint(path, sha256, manifest)


def add_manifest(path: Path, manifest: Manifest, target: Path) -> None:
    """Write the tensors of the safetensors file `path` to `target` with `manifest` inside, byte for byte else.

    Raises:
        InvalidCheckpoint: the file is not as the format demands.
    """
    header = read_header(path)
    fields: dict[str, Any] = {"__metadata__": {METADATA_KEY: manifest.to_json()}}
    for name, tensor in header.tensors.items():
        fields[name] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [tensor.start, tensor.stop]}
    text = json.dumps(fields, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the format aligns the tensors
    with path.open("rb") as source, target.open("xb") as copy:
        source.seek(-max(tensor.stop for tensor in header.tensors.values()), os.SEEK_END)
        copy.write(len(text).to_bytes(8, "little") + text)
        shutil.copyfileobj(source, copy)


def _network(manifest: Manifest) -> str:
    options = ", ".join(f"{name}={value}" for name, value in manifest.options.items())
    return f"{manifest.architecture}({options}) for {manifest.dataset}"
