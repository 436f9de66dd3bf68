"""A strict reader of safetensors headers (torch-free), for files from strangers: it runs before any library opens them.

A file is 8 bytes of little-endian header length, that many bytes of JSON, then the tensors' bytes without a gap.
The library alone would spend half a minute and a gigabyte on a 70 MB header of a million tensors.
"""

import json
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluator.exceptions import InvalidCheckpoint

MAX_HEADER_BYTES = 2_000_000
MAX_TENSORS = 5000
MAX_DIMENSIONS = 8

DTYPE_BYTES = {"F16": 2, "BF16": 2, "F32": 4, "F64": 8, "I64": 8}
"""The accepted dtypes. I64 is for BatchNorm's counters; `load_model` accepts it exactly where the network has int64."""


@dataclass(frozen=True)
class TensorInfo:
    """One tensor of the file: safetensors dtype, shape, and where its bytes stand after the header."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


@dataclass(frozen=True)
class Header:
    """The verified header of a file of `file_bytes` bytes: tensors by name, in file order, and its metadata."""

    tensors: dict[str, TensorInfo]
    metadata: dict[str, str]
    file_bytes: int

    @property
    def numbers(self) -> int:
        """How many floating-point numbers are stored: all parameters and the normalisation layers' statistics."""
        return sum(math.prod(info.shape) for info in self.tensors.values() if info.dtype != "I64")


def read_header(path: Path) -> Header:
    """Return the verified header of a safetensors file; at most 2 MB are read, whatever the file claims.

    Raises:
        InvalidCheckpoint: anything is not as the format and the limits above demand.
    """
    text, data_bytes, file_bytes = _header_text(path)
    try:
        fields = json.loads(text, object_pairs_hook=_object, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidCheckpoint(f"the file's header is not valid JSON ({str(error)[:100]}); export it again") from None
    if not isinstance(fields, dict):
        raise InvalidCheckpoint(f"the file's header is a JSON {type(fields).__name__}; expected was an object")
    metadata = _metadata(fields.pop("__metadata__", {}))
    if not 0 < len(fields) <= MAX_TENSORS:
        raise InvalidCheckpoint(f"the file declares {len(fields)} tensors; expected were 1 to {MAX_TENSORS}")
    tensors = {name: _tensor(name, entry) for name, entry in fields.items()}
    in_order = dict(sorted(tensors.items(), key=lambda item: (item[1].start, item[1].stop)))
    _check_contiguous(in_order, data_bytes)
    return Header(in_order, metadata, file_bytes)


def _header_text(path: Path) -> tuple[bytes, int, int]:
    """Return the header's bytes, the number of bytes after it, and the size of the file."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise InvalidCheckpoint(f"{path} cannot be read ({error.strerror}); name a safetensors file") from error
    with file:
        file_bytes = file.seek(0, 2)
        file.seek(0)
        prefix = file.read(8)
        length = int.from_bytes(prefix, "little")
        if len(prefix) < 8 or length < 2:
            raise InvalidCheckpoint(f"{path.name} has {file_bytes} bytes and no safetensors header; export it again")
        if length > MAX_HEADER_BYTES:
            raise InvalidCheckpoint(
                f"{path.name} claims a header of {length} bytes; safetensors files here have at most {MAX_HEADER_BYTES}"
            )
        if 8 + length > file_bytes:
            raise InvalidCheckpoint(
                f"{path.name} is truncated: its header ends at byte {8 + length} and the file at {file_bytes}; "
                "send it again"
            )
        return file.read(length), file_bytes - 8 - length, file_bytes


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise InvalidCheckpoint(f"the file's header has the key {twice[:100]!r} twice; export it again")
    return result


def _refuse_constant(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _metadata(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise InvalidCheckpoint("the file's __metadata__ is not an object of strings; export it again")
    return value


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _tensor(name: str, entry: Any) -> TensorInfo:
    where = f"tensor {name[:100]!r}"
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise InvalidCheckpoint(f"{where} is declared without exactly dtype, shape and data_offsets; export it again")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPE_BYTES:
        raise InvalidCheckpoint(f"{where} has dtype {dtype!r:.40}; accepted are {', '.join(DTYPE_BYTES)}")
    if not isinstance(shape, list) or len(shape) > MAX_DIMENSIONS or not all(_is_count(size) for size in shape):
        raise InvalidCheckpoint(f"{where} has shape {shape!r:.60}; expected were at most {MAX_DIMENSIONS} sizes")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(_is_count(offset) for offset in offsets):
        raise InvalidCheckpoint(f"{where} has data_offsets {offsets!r:.60}; expected were two byte positions")
    needed = math.prod(shape) * DTYPE_BYTES[dtype]
    if offsets[1] - offsets[0] != needed:
        raise InvalidCheckpoint(
            f"{where} of shape {shape} and dtype {dtype} needs {needed} bytes and is given {offsets[1] - offsets[0]}"
        )
    return TensorInfo(dtype, tuple(shape), offsets[0], offsets[1])


def _check_contiguous(tensors: dict[str, TensorInfo], data_bytes: int) -> None:
    end = 0
    for name, info in tensors.items():
        if info.start != end:
            raise InvalidCheckpoint(
                f"tensor {name[:100]!r} begins at byte {info.start} where the one before ends at {end}: "
                "tensors may neither overlap nor leave gaps; export the file again"
            )
        end = info.stop
    if end > data_bytes:
        raise InvalidCheckpoint(
            f"the file is truncated: its tensors need {end} bytes and {data_bytes} follow the header"
        )
    if end < data_bytes:
        raise InvalidCheckpoint(f"the file has {data_bytes - end} bytes after its last tensor; export it again")
