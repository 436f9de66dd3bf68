"""bubblewrap: namespaces with no network, no other process and only the files that are needed (torch-free)."""

import functools
import shutil
import subprocess
from collections.abc import Iterable

TMP_BYTES = 1 << 26
"""How much /tmp and /dev/shm can hold, in memory."""

_ALONE = ("--unshare-all", "--die-with-parent", "--cap-drop", "ALL")
"""No session of its own: all its processes shall be in the group of the first, so that one signal ends them."""

_OWN = ("--proc", "/proc", "--dev", "/dev")
_PATIENCE_SECONDS = 10.0


@functools.cache
def obstacle() -> str | None:
    """Return why bubblewrap cannot be used here, None if it can; it is tried once a process."""
    program = shutil.which("bwrap")
    if program is None:
        return "bwrap is not installed"
    trial = [program, *_ALONE, "--ro-bind", "/", "/", *_OWN, "--", program, "--version"]
    try:
        tried = subprocess.run(trial, stdin=subprocess.DEVNULL, capture_output=True, timeout=_PATIENCE_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return tried.stderr.decode(errors="replace").strip()[-200:] or "bwrap failed" if tried.returncode else None


def wrapped(
    command: Iterable[str], *, reads: Iterable[str], writes: Iterable[str], devices: Iterable[str]
) -> list[str]:
    """Return the command that runs `command` with these paths, where they exist, and no others.

    Start it in a new session, so that no terminal is within its reach.
    """
    arguments = [shutil.which("bwrap") or "bwrap", *_ALONE, *_OWN]
    for folder in ("/tmp", "/dev/shm"):  # noqa: S108  # memory of its own, not the host's
        arguments += ["--size", str(TMP_BYTES), "--tmpfs", folder]
    for how, paths in (("--ro-bind-try", reads), ("--bind", writes), ("--dev-bind-try", devices)):
        for path in paths:
            arguments += [how, path, path]
    return [*arguments, "--remount-ro", "/dev", "--remount-ro", "/", "--", *command]
