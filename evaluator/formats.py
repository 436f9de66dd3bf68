"""What a file is, from its first bytes and a zip's names, and what to send instead (torch-free).

Two formats are taken in: safetensors, and the zip that `torch.save` makes of a state dict. Nothing else is opened.
"""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path

from evaluator.exceptions import InvalidCheckpoint
from evaluator.zip_directory import read_names

_HEAD_BYTES = 1024

_STATE_DICT = (
    "send the weights alone: safetensors.torch.save_file(model.state_dict(), path), or what manage.py pack makes"
)
_UNPACK = "unpack it and send the safetensors file inside"
_PORT = "load the weights into the same network in PyTorch and run manage.py pack on its state dict"
_NOT_WEIGHTS = "send the safetensors file that manage.py pack makes"


class Format(StrEnum):
    """A format that is taken in."""

    SAFETENSORS = "safetensors"
    TORCH = "torch"


_FIRST_BYTES: Sequence[tuple[bytes, str, str]] = (
    (b"version https://git-lfs", "a git-LFS pointer and not the file itself", "run git lfs pull and send that file"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras writes", _PORT),
    (b"\x93NUMPY", "a NumPy array", _PORT),
    (b"\x1f\x8b", "compressed by gzip", _UNPACK),
    (b"BZh", "compressed by bzip2", _UNPACK),
    (b"\xfd7zXZ\x00", "compressed by xz", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "compressed by Zstandard", _UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", _UNPACK),
    (b"Rar!", "a RAR archive", _UNPACK),
    (b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.", "in the format of torch.save before release 1.6, a pickle",
     "run manage.py pack on it, or load it and save it again with today's torch"),
    (b"\x80", "a pickle, which may run code when it is opened", _STATE_DICT),
    (b"GGUF", "a GGUF file of a language model", _NOT_WEIGHTS),
    (b"\x7fELF", "a program", _NOT_WEIGHTS),
    (b"MZ", "a program", _NOT_WEIGHTS),
    (b"%PDF", "a PDF document", _NOT_WEIGHTS),
    (b"\x89PNG", "an image", _NOT_WEIGHTS),
    (b"\xff\xd8\xff", "an image", _NOT_WEIGHTS),
    (b"\x08\x01\x12", "a TensorFlow SavedModel", _PORT),
    *((bytes((8, version, field)), "an ONNX model", _PORT) for version in range(3, 16) for field in (0x12, 0x3A)),
)  # fmt: skip
"""How a file begins, what it then is, and what to send instead; the first that fits counts."""

_IN_ZIP: Sequence[tuple[str, str, str]] = (
    ("/constants.pkl", "a TorchScript program, which is code", _STATE_DICT),
    ("/archive_format", "a program exported by torch.export (.pt2), which may run code when it is opened", _STATE_DICT),
    ("serialized_exported_program.json", "a program exported by torch.export (.pt2), which may run code when it is "
     "opened", _STATE_DICT),
    ("/model.json", "a torch.package or .pt2 archive, which is code", _STATE_DICT),
    (".data/extern_modules", "a torch.package archive, which is code", _STATE_DICT),
    (".weights.h5", "a Keras model", _PORT),
    (".npy", "a NumPy archive (.npz)", _PORT),
    (".safetensors", "a zip around a safetensors file", _UNPACK),
)  # fmt: skip
"""How a member's name ends, what the zip then is, and what to send instead."""


def recognize(path: Path) -> Format:
    """Return the format of a file that may be taken in, as its first bytes claim; the rest is still to be checked.

    Raises:
        InvalidCheckpoint: it is another format, or none; the message says what it is and what to send instead.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise InvalidCheckpoint(f"{path} cannot be read ({error.strerror}); name a safetensors file") from error
    if not head:
        raise InvalidCheckpoint(f"{path.name} is empty; send the safetensors file that manage.py pack makes")
    if head[8:9] == b"{" and head[5:8] == b"\0\0\0":  # a header of less than a terabyte, which the reader then bounds
        return Format.SAFETENSORS
    if head.startswith(b"PK"):
        return _in_zip(path)
    found = next(((what, instead) for first, what, instead in _FIRST_BYTES if head.startswith(first)), None)
    if found is None and head[257:262] == b"ustar":
        found = "a tar archive", _UNPACK
    if found is None and head[4:8] == b"TFL3":
        found = "a TensorFlow Lite model", _PORT
    if found is None and _is_text(head):
        markup = head.lstrip().lower().startswith((b"<!doctype", b"<html", b"<head", b"<?xml"))
        found = (
            ("a web page and not the file it offers", "download the file itself and send that")
            if markup
            else ("a text such as source code, and no weights", _STATE_DICT)
        )
    if found is not None:
        raise _refusal(path, *found)
    return Format.SAFETENSORS  # whose reader says what is wrong with it


def _in_zip(path: Path) -> Format:
    names = read_names(path)
    for ending, what, instead in _IN_ZIP:
        if any(name.endswith(ending) for name in names):
            raise _refusal(path, what, instead)
    if not any(name.count("/") == 1 and name.endswith("/data.pkl") for name in names):
        raise _refusal(path, "a zip archive, and not of torch.save", _UNPACK)
    return Format.TORCH


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        text = head[: error.start].decode() if error.start > _HEAD_BYTES - 4 else "\0"
    return all(character.isprintable() or character in "\r\n\t\f\ufeff" for character in text)


def _refusal(path: Path, what: str, instead: str) -> InvalidCheckpoint:
    return InvalidCheckpoint(f"{path.name} is {what}; {instead}")
