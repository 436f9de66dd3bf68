"""Landlock: which files a process behind walls may open (torch-free).

What is not named cannot be opened, listed or changed, nor can processes outside be traced or, from version 6 of the
interface on, be signalled. Source: <https://docs.kernel.org/userspace-api/landlock.html>.
"""

import ctypes
import os
import struct
from collections.abc import Iterable, Mapping

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # alike on all machines
_VERSION_FLAG, _PATH_BENEATH = 1, 1

_WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 1, 1 << 2, 1 << 3
_REMOVE_DIR, _REMOVE_FILE, _MAKE_DIR, _MAKE_FILE = 1 << 4, 1 << 5, 1 << 7, 1 << 8
_TRUNCATE, _IOCTL = 1 << 14, 1 << 15
_ON_FILES = _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL

READ = _READ_FILE | _READ_DIR
WRITE = READ | _WRITE_FILE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_FILE | _TRUNCATE
DEVICE = READ | _WRITE_FILE | _IOCTL

_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 5: 16}
"""From which version on the kernel knows how many rights on files."""


def version() -> int:
    """Return the version of Landlock's interface in this kernel, 0 where there is none."""
    version: int = _libc().syscall(_CREATE_RULESET, None, 0, _VERSION_FLAG)
    return max(0, version)


def put_up(version: int, paths: Mapping[int, Iterable[str]]) -> None:
    """Leave this thread, and all it starts, the rights that are the keys of `paths` on what lies at and below these.

    Paths that do not exist are passed over. Nothing else can be done with any file, no TCP port be used, and no
    abstract socket and no process outside be reached, as far as `version` knows of it. `no_new_privs` must be set.

    Raises:
        OSError: the kernel refuses.
    """
    files = (1 << max(rights for since, rights in _FILE_RIGHTS.items() if since <= version)) - 1
    tcp, scopes = 0b11 if version >= 4 else 0, 0b11 if version >= 6 else 0
    attributes = struct.pack("=QQQ", files, tcp, scopes)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    ruleset = _call(_CREATE_RULESET, attributes, size, 0)
    for rights, where in paths.items():
        for path in where:
            _allow(ruleset, rights & files, path)
    _call(_RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)


def _allow(ruleset: int, rights: int, path: str) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    if not os.path.isdir(path):
        rights &= _ON_FILES
    _call(_ADD_RULE, ruleset, _PATH_BENEATH, struct.pack("=Qi", rights, place), 0)
    # A rule holds for what /proc/self is now; the kernel would forget and remake it if nobody held it.
    if not path.startswith("/proc/"):
        os.close(place)


def _call(number: int, *arguments: int | bytes) -> int:
    result: int = _libc().syscall(number, *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), f"Landlock's call {number} was refused")
    return result


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
