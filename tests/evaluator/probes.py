"""What a process behind walls may try: `python -m tests.evaluator.probes PLACE` tries it all and says how it went.

PLACE is JSON: what lies outside and may be reached for. The answer is JSON: name of a probe → "done", or the error.
"""

import ctypes
import errno
import json
import mmap
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

PLACE: dict[str, Any] = {}
MEBIBYTE = 1 << 20
MEMORY_BYTES, FILE_BYTES = 256 * MEBIBYTE, MEBIBYTE
"""What the walls of these tests allow."""


def read(path: str) -> Callable[[], object]:
    return lambda: open(PLACE.get(path, path), "rb").read(1)  # the process ends soon


def connect(family: int, address: str) -> None:
    with socket.socket(family) as connection:
        connection.connect(PLACE[address] if isinstance(PLACE[address], str) else tuple(PLACE[address]))


def send_datagram() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as connection:
        connection.sendto(b"hello", ("127.0.0.1", 9))


def listen() -> None:
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        door.listen()


def see_other_processes() -> None:
    if str(PLACE["process"]) not in os.listdir("/proc"):
        raise FileNotFoundError(errno.ENOENT, "not to be seen")


def call(name: str, *arguments: object) -> Callable[[], None]:
    def attempt() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        if getattr(libc, name)(*(PLACE.get(a, a) if isinstance(a, str) else a for a in arguments)) < 0:
            raise OSError(ctypes.get_errno(), name)

    return attempt


def fork() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)


def open_many_files() -> None:
    with ExitStack() as opened:
        for _ in range(1500):
            opened.enter_context(open(os.devnull))


def write(folder: str, size: int) -> None:
    path = Path(PLACE[folder], f"probe-{os.getpid()}")
    with path.open("wb") as file:
        file.write(bytes(size))
    path.unlink()


def change_limits_of_another() -> None:
    resource.prlimit(
        PLACE["process"], resource.RLIMIT_NOFILE, resource.prlimit(PLACE["process"], resource.RLIMIT_NOFILE)
    )


def start_threads() -> None:
    threads = [threading.Thread(target=os.getpid) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


UNSHARE_FILE_TABLE, PTRACE_SEIZE, PTRACE_DETACH = 0x400, 0x4206, 17

ALLOWED: dict[str, Callable[[], object]] = {
    "read what it was given": read("given"),
    "write where it was told to": lambda: write("writable", 1000),
    "start threads": start_threads,
    "signal itself": lambda: os.kill(os.getpid(), signal.SIGCONT),
}
"""What must succeed everywhere, so that a refusal elsewhere means something."""

FORBIDDEN: dict[str, Callable[[], object]] = {
    "connect by TCP to this host": lambda: connect(socket.AF_INET, "tcp"),
    "connect to a UNIX socket": lambda: connect(socket.AF_UNIX, "unix"),
    "connect to an abstract UNIX socket": lambda: connect(socket.AF_UNIX, "abstract"),
    "send a datagram": send_datagram,
    "listen": listen,
    "read a secret of the worker's user": read("secret"),
    "read a secret in `var/`": read("secret in var"),
    "read another file of the repository": read("repository"),
    "read `/etc/passwd`": read("/etc/passwd"),
    "list the home folder": lambda: os.listdir(PLACE["home"]),
    "read the worker's environment": read("environment"),
    "open the memory of another process": lambda: os.close(os.open(PLACE["memory"], os.O_RDONLY)),
    "see other processes": see_other_processes,
    "signal another process": lambda: os.kill(PLACE["process"], signal.SIGCONT),
    "trace another process": call("ptrace", PTRACE_SEIZE, "process", 0, 0),
    "change the limits of another process": change_limits_of_another,
    "write a file outside": lambda: write("outside", 1),
    "write to `/tmp`": lambda: write("tmp", 1),
    "change our code": lambda: os.close(os.open(PLACE["code"], os.O_WRONLY | os.O_APPEND)),
    "write beyond the size of a file": lambda: write("writable", 2 * FILE_BYTES),
    "open 1500 files": open_many_files,
    "fork": fork,
    "start a program": lambda: subprocess.run([sys.executable, "-c", ""], check=True),
    "allocate beyond the limit": lambda: bytearray(2 * MEMORY_BYTES),
    "map shared memory": lambda: mmap.mmap(-1, MEBIBYTE).close(),
    "hide memory in a file": lambda: os.close(os.memfd_create("probe")),
    "unshare": call("unshare", UNSHARE_FILE_TABLE),
    "outlive its parent": call("prctl", 1, 0),
}
"""What must succeed outside and be refused behind walls."""


def main() -> None:
    PLACE.update(json.loads(sys.argv[1]))
    outcomes = {}
    for name, attempt in (ALLOWED | FORBIDDEN).items():
        try:
            attempt()
            outcomes[name] = "done"
        except OSError as error:
            outcomes[name] = errno.errorcode.get(error.errno, str(error))
        except MemoryError:
            outcomes[name] = "MemoryError"
    print(json.dumps(outcomes))


if __name__ == "__main__":
    main()
