"""The program that writes a state dict of `torch.save` anew as safetensors: `python -m evaluator.converting FILE`.

It is run in a sandbox, reads FILE, writes to its standard output and needs nothing else, torch included: the tensors'
bytes are copied from where `pickle_scan` found them, and nothing is unpickled. What is wrong with the file it says in
one line on its standard error, with exit status 2.
"""

import json
import math
import signal
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np

from evaluator.exceptions import InvalidCheckpoint
from evaluator.lifetime import end_with_parent
from evaluator.pickle_scan import StoredTensor, scan
from evaluator.safetensors_header import DTYPE_BYTES, MAX_HEADER_BYTES
from evaluator.zip_directory import read_member

REFUSED = 2
"""Its exit status when the file is to blame."""


def convert(path: Path, output: BinaryIO) -> None:
    """Write the state dict at `path` to `output` as safetensors, its numbers bit for bit.

    Raises:
        InvalidCheckpoint: the file is refused by `scan`, has names too long for a header, or bytes other than it was
            written with.
    """
    tensors = scan(path)
    header = _header(tensors)
    output.write(len(header).to_bytes(8, "little") + header)
    with zipfile.ZipFile(path) as archive:
        for tensor in tensors.values():
            output.write(_bytes(tensor, read_member(archive, tensor.member)))


def _header(tensors: Mapping[str, StoredTensor]) -> bytes:
    fields, end = {}, 0
    for name, tensor in tensors.items():
        start, end = end, end + math.prod(tensor.shape) * DTYPE_BYTES[tensor.dtype]
        fields[name] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [start, end]}
    text = json.dumps(fields, separators=(",", ":")).encode()
    if len(text) > MAX_HEADER_BYTES:
        raise InvalidCheckpoint(f"the names need {len(text)} bytes of header; at most {MAX_HEADER_BYTES} are read")
    return text + b" " * (-len(text) % 8)  # the format aligns the tensors


def _bytes(tensor: StoredTensor, storage: bytes) -> bytes:
    size = DTYPE_BYTES[tensor.dtype]
    numbers = np.frombuffer(storage, dtype=f"<u{size}", offset=tensor.start * size)
    strides = [stride * size for stride in tensor.strides]
    return np.lib.stride_tricks.as_strided(numbers, tensor.shape, strides).tobytes()


def main() -> int:
    """Convert the file that the command line names to standard output."""
    end_with_parent(signal.SIGKILL)
    try:
        convert(Path(sys.argv[1]), sys.stdout.buffer)
    except InvalidCheckpoint as error:
        print(error, file=sys.stderr)
        return REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main())
