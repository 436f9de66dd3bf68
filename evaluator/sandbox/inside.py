"""The program that puts walls up around itself and then becomes another one (torch-free).

It is `python -m evaluator.sandbox.inside WALLS MODULE …`. It is ours, and has read nothing of a stranger yet. A wall
that was asked for and cannot be put up ends it.
"""

import ctypes
import os
import resource
import runpy
import signal
import struct
import sys

from evaluator.lifetime import end_with_parent
from evaluator.sandbox import landlock, seccomp
from evaluator.sandbox.walls import Walls

THREADS = 8192
"""Of all processes of a user, since the system counts them so; it does not count those of root."""
FILES = 1024

_PR_SET_NO_NEW_PRIVS = 38
_CAPABILITIES_VERSION = 0x20080522
_PROC = (
    "/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/version", "/proc/filesystems", "/proc/devices",
    "/proc/driver/nvidia", "/proc/sys/vm", "/proc/sys/kernel/osrelease",
)  # fmt: skip
_DEVICES = ("/dev/zero", "/dev/random", "/dev/urandom")


def main() -> None:
    """Put up the walls that the first argument describes, and run the module that the second names."""
    walls, module = Walls.from_json(sys.argv[1]), sys.argv[2]
    _limit(walls)
    _give_up_privileges()
    end_with_parent(signal.SIGKILL)
    if walls.landlock:
        paths = {
            landlock.READ: [*_PROC, *_DEVICES, *walls.reads],
            landlock.WRITE: walls.writes,
            landlock.DEVICE: ["/dev/null", *walls.devices],
        }
        landlock.put_up(walls.landlock, paths)
    if walls.seccomp:
        seccomp.put_up(gpu=bool(walls.devices))
    os.environ["JOBLIB_MULTIPROCESSING"] = (
        "0"  # joblib asks for a semaphore when imported, and complains of having none
    )
    sys.argv[:] = [module, *sys.argv[3:]]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _limit(walls: Walls) -> None:
    limits = {
        resource.RLIMIT_CORE: 0,  # a dump of a crash could fill the disk
        resource.RLIMIT_FSIZE: walls.file_bytes,
        resource.RLIMIT_NOFILE: FILES,
        resource.RLIMIT_NPROC: THREADS,
        resource.RLIMIT_MSGQUEUE: 0,
    }
    if walls.memory_bytes is not None:
        limits[resource.RLIMIT_DATA] = walls.memory_bytes
    for what, most in limits.items():
        hard = resource.getrlimit(what)[1]
        lower = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (lower, lower))


def _give_up_privileges() -> None:
    """Drop what root may do beyond other users, and let no program that is started give it back."""
    libc = ctypes.CDLL(None, use_errno=True)
    version, held = struct.pack("=Ii", _CAPABILITIES_VERSION, 0), ctypes.create_string_buffer(24)
    failed = libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 or libc.capget(version, held) != 0
    if any(held.raw):  # who has none may have been forbidden the call
        failed |= libc.capset(version, bytes(24)) != 0
    if failed:
        raise OSError(ctypes.get_errno(), "privileges could not be given up")


if __name__ == "__main__":
    main()
