"""A strict reader of the zips that `torch.save` makes (torch-free): their directory, before anything in it is read.

A member's bytes stand in the file as they are, once and under one name, so that nothing grows when it is read.
"""

import stat
import struct
import zipfile
from pathlib import Path

from evaluator.exceptions import InvalidCheckpoint

MAX_MEMBERS = 5100
"""A header's most tensors, and what a torch file holds besides."""

MAX_DIRECTORY_BYTES = 2_000_000

_FLAGS = 0x808
"""Sizes behind the member as well, and names in UTF-8."""

_END_BYTES = 22
_END = b"PK\x05\x06"
_END64_BYTES = 76
"""The zip64 record of the end and its locator, which torch always writes before the end."""


def read_names(path: Path) -> list[str]:
    """Return the names of a zip's members, however they are stored.

    Raises:
        InvalidCheckpoint: the directory is damaged, longer than the limits above, or not the end of the file.
    """
    return [member.filename for member in _members(path)]


def read_sizes(path: Path) -> dict[str, int]:
    """Return the bytes of each member of a zip by name, in their order in the file.

    Raises:
        InvalidCheckpoint: as `read_names`, or a member is compressed, encrypted, a link, a folder, there twice, or
            shares bytes with another.
    """
    sizes: dict[str, int] = {}
    end = 0
    for info in sorted(_members(path), key=lambda info: info.header_offset):
        name = info.filename
        shown = f"member {name[:100]!r} of {path.name}"
        kind = stat.S_IFMT(info.external_attr >> 16)
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
            raise InvalidCheckpoint(
                f"{shown} is compressed, to {info.compress_size} bytes of {info.file_size}, which torch.save never "
                "does; save the state dict again"
            )
        if info.flag_bits & ~_FLAGS:
            raise InvalidCheckpoint(f"{shown} is encrypted or patched (flags {info.flag_bits:#x}); save it again")
        if kind not in (0, stat.S_IFREG) or not name or name.endswith("/"):
            raise InvalidCheckpoint(f"{shown} is a link, a folder or nameless; save the state dict again")
        if name in sizes:
            raise InvalidCheckpoint(f"{shown} is there twice; save the state dict again")
        if info.header_offset < end or (not sizes and info.header_offset != 0):
            raise InvalidCheckpoint(f"{shown} shares bytes with another, or others stand before it; save it again")
        end = info.header_offset + 30 + len(name.encode()) + info.file_size
        sizes[name] = info.file_size
    return sizes


def read_member(archive: zipfile.ZipFile, name: str) -> bytes:
    """Return a member's bytes, which are those that its checksum was taken of.

    Raises:
        InvalidCheckpoint: they are not, or what stands before them contradicts the directory.
    """
    try:
        return archive.read(name)
    except (zipfile.BadZipFile, ValueError, RuntimeError, OSError, EOFError) as error:
        raise InvalidCheckpoint(
            f"the file is damaged at {name[:100]!r} ({str(error)[:100]!r}); send it again"
        ) from None


def _members(path: Path) -> list[zipfile.ZipInfo]:
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - _END_BYTES - _END64_BYTES))
        tail = file.read()
    end64, end = tail[:-_END_BYTES], tail[-_END_BYTES:]
    if not (end.startswith(_END) and end.endswith(b"\0\0")):
        raise InvalidCheckpoint(
            f"{path.name} begins as a zip and does not end as one: it is truncated, or more follows; send it again"
        )
    counts = [int.from_bytes(end[10:12], "little")]
    sizes = [int.from_bytes(end[12:16], "little")]
    if end64.startswith(b"PK\x06\x06"):
        counts.append(int.from_bytes(end64[32:40], "little"))
        sizes.append(int.from_bytes(end64[40:48], "little"))
    elif end64[-20:].startswith(b"PK\x06\x07"):
        raise InvalidCheckpoint(f"{path.name} has a second directory elsewhere; save the state dict again")
    if max(counts) > MAX_MEMBERS or max(sizes) > MAX_DIRECTORY_BYTES:
        raise _too_long(path, max(counts), max(sizes))
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError, struct.error) as error:
        raise InvalidCheckpoint(
            f"the directory of {path.name} is damaged ({str(error)[:100]}); send it again"
        ) from None
    if len(members) > MAX_MEMBERS:
        raise _too_long(path, len(members), max(sizes))
    return members


def _too_long(path: Path, members: int, directory_bytes: int) -> InvalidCheckpoint:
    return InvalidCheckpoint(
        f"{path.name} is a zip of {members} members with a directory of {directory_bytes} bytes; at most "
        f"{MAX_MEMBERS} and {MAX_DIRECTORY_BYTES} are read"
    )
