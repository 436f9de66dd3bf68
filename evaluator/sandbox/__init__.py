"""Walls around every process that opens a stranger's bytes; the one that starts it decides on them (torch-free).

Two kinds. `evaluator.sandbox.inside` is the first to run in the process: it limits resources, gives up privileges,
names the files that may be opened (Landlock) and the system calls that may be made (seccomp), for ever. bubblewrap,
where it can be had, starts that in namespaces of its own besides: no network, no other processes, no other files.
"""

import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from glob import glob
from pathlib import Path

from evaluator.environment import ROOT
from evaluator.exceptions import InvalidSetting
from evaluator.sandbox import bubblewrap, landlock, seccomp
from evaluator.sandbox.walls import Walls

_SYSTEM = (
    "/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/ld.so.preload", "/etc/localtime", "/etc/alternatives",
    "/sys/devices/system",
)  # fmt: skip
_GPU_READS = ("/sys",)
_GPU_FILES = ("/dev/nvidia*", "/dev/nvidia-caps/*", "/dev/kfd", "/dev/dri/renderD*", "/dev/dxg")


@dataclass(frozen=True)
class Sandbox:
    """Walls that can be put up here; as text it is what a result says of them."""

    bubblewrap: bool = False
    landlock: int = 0
    seccomp: bool = False

    def __str__(self) -> str:
        if self == Sandbox():
            return "none"
        inner = [f"landlock {self.landlock}"] * bool(self.landlock) + ["seccomp"] * self.seccomp
        return ", ".join(["bubblewrap" if self.bubblewrap else "plain", *inner])

    def command(
        self,
        module: str,
        *arguments: str,
        reads: Iterable[Path],
        writes: Iterable[Path] = (),
        device: str = "cpu",
        memory_bytes: int | None = None,
        file_bytes: int = 0,
    ) -> list[str]:
        """Return the command that runs a module of `evaluator` behind these walls, from the repository's root.

        It may read `reads` and write below `writes`, and nothing else of anybody's. `device` is a name as of
        EVALUATION_DEVICE: where it may be a GPU, the GPUs' files are there. Without one, `memory_bytes` (default: what
        the machine has) bounds its memory. No file it writes grows beyond `file_bytes`.
        """
        if self == Sandbox():
            return [sys.executable, "-m", module, *arguments]
        devices = [path for pattern in _GPU_FILES for path in glob(pattern)] if device != "cpu" else []
        if not devices:
            memory_bytes = memory_bytes or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        walls = Walls(
            landlock=self.landlock,
            seccomp=self.seccomp,
            reads=_both_names([*_of_python(), *map(str, reads), *(_GPU_READS if devices else ())]),
            writes=_both_names(map(str, writes)),
            devices=devices,
            memory_bytes=None if devices else memory_bytes,
            file_bytes=file_bytes,
        )
        command = [sys.executable, "-m", "evaluator.sandbox.inside", walls.to_json(), module, *arguments]
        if not self.bubblewrap:
            return command
        return bubblewrap.wrapped(command, reads=walls.reads, writes=walls.writes, devices=devices)


def find_sandbox(name: str) -> Sandbox:
    """Return what `SANDBOX` asks for: `auto` (the best there is), `bubblewrap`, `plain` or `off`.

    Raises:
        InvalidSetting: it cannot be had here.
    """
    if name == "off":
        return Sandbox()
    if sys.platform != "linux":
        raise InvalidSetting(
            f"SANDBOX is {name!r}, but there are no walls to put up on {sys.platform}; SANDBOX=off measures without, "
            "where every checkpoint is your own"
        )
    plain = Sandbox(landlock=landlock.version(), seccomp=seccomp.available())
    lacking = [wall for wall, there in (("Landlock", plain.landlock), ("seccomp", plain.seccomp)) if not there]
    obstacle = bubblewrap.obstacle() if name in ("auto", "bubblewrap") else "it was not asked for"
    if obstacle is None:
        return Sandbox(True, plain.landlock, plain.seccomp)
    if name == "bubblewrap" or lacking:
        reasons = [f"bubblewrap cannot be used ({obstacle})"] * (name != "plain")
        reasons += [f"this kernel has no {' and no '.join(lacking)}"] * (name != "bubblewrap")
        raise InvalidSetting(
            f"SANDBOX is {name!r}, but {' and '.join(reasons)}; install the package bubblewrap and allow user "
            "namespaces, or take a kernel with Landlock and seccomp for SANDBOX=plain"
        )
    return plain


def _of_python() -> Sequence[str]:
    """Return where the interpreter, its libraries and our own code lie, and what variables say of further ones.

    Folders that hold this checkout are not among them: it has secrets in `var/`.
    """
    variables = [os.environ.get(name, "").split(":") for name in ("LD_LIBRARY_PATH", "PYTHONPATH")]
    named = [folder for folders in variables for folder in folders if os.path.isabs(folder)]
    further = [folder for folder in named if not ROOT.is_relative_to(os.path.realpath(folder))]
    return [*_SYSTEM, sys.prefix, sys.base_prefix, str(ROOT / "evaluator"), *further]


def _both_names(paths: Iterable[str]) -> list[str]:
    """Return each path, and where links lead from there."""
    return list(dict.fromkeys(name for path in paths for name in (path, os.path.realpath(path))))
