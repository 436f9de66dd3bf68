"""Each wall holds in each sandbox, against probes that succeed outside of it."""

import errno
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evaluator.child import MeasuringChild, clean_environment
from evaluator.environment import ROOT
from evaluator.exceptions import InvalidSetting
from evaluator.metrics import StageName
from evaluator.pipes import PipedProcess
from evaluator.results import ShardSpec
from evaluator.sandbox import Sandbox, bubblewrap, find_sandbox, landlock, seccomp
from evaluator.sandbox.walls import Walls
from evaluator.shipped import SMOKE
from evaluator.types import Split
from fixtures.make_tiny import TINY
from tests.evaluator import probes
from tests.evaluator.test_child import nothing, result_of
from tests.evaluator.test_lifetime import await_end, innermost

KINDS = ("bubblewrap", "plain")
ANYBODY_MAY_TRACE = "import ctypes; ctypes.CDLL(None).prctl(0x59616d61, ctypes.c_ulong(-1))"


def sandbox(kind: str) -> Sandbox:
    try:
        return find_sandbox(kind)
    except InvalidSetting as obstacle:
        pytest.skip(f"NOT TESTED: {obstacle}")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Iterator[dict[str, Any]]:
    """What lies outside of all walls: listeners, secrets, a process, folders."""
    folder = tmp_path_factory.mktemp("outside")
    (ROOT / "var").mkdir(exist_ok=True)
    with ExitStack() as stack:
        addresses = (socket.AF_INET, ("127.0.0.1", 0)), (socket.AF_UNIX, str(folder / "door")), (socket.AF_UNIX, "")
        listeners = [stack.enter_context(socket.socket(family)) for family, _ in addresses]
        for listener, (_, address) in zip(listeners, addresses, strict=True):
            listener.bind(address)
            listener.listen()
        victim = stack.enter_context(
            subprocess.Popen([sys.executable, "-c", f"{ANYBODY_MAY_TRACE}\nprint(flush=True); input()"],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        )  # fmt: skip
        stack.callback(victim.kill)
        assert victim.stdout.readline()
        secret_in_var = ROOT / "var" / f"secret-{os.getpid()}"
        stack.callback(secret_in_var.unlink)
        for secret in (secret_in_var, folder / "secret", folder / "given"):
            secret.write_text("secret")
            secret.chmod(0o600)
        (folder / "writable").mkdir()
        yield {
            "tcp": listeners[0].getsockname(),
            "unix": listeners[1].getsockname(),
            "abstract": listeners[2].getsockname().decode(),
            "given": str(folder / "given"),
            "secret": str(folder / "secret"),
            "secret in var": str(secret_in_var),
            "repository": str(ROOT / "pyproject.toml"),
            "code": str(ROOT / "evaluator" / "__init__.py"),
            "home": str(Path.home()),
            "environment": f"/proc/{os.getpid()}/environ",
            "memory": f"/proc/{victim.pid}/mem",
            "process": victim.pid,
            "outside": str(folder),
            "writable": str(folder / "writable"),
            "tmp": "/tmp",
        }


def outcomes(walls: Sandbox, place: dict[str, Any]) -> dict[str, str]:
    command = walls.command(
        "tests.evaluator.probes",
        json.dumps(place),
        reads=[ROOT / "tests", Path(place["given"])],
        writes=[Path(place["writable"])],
        memory_bytes=probes.MEMORY_BYTES,
        file_bytes=probes.FILE_BYTES,
    )
    finished = subprocess.run(command, cwd=ROOT, env=clean_environment(), capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout)


@pytest.fixture(scope="module")
def outside(place) -> dict[str, str]:
    return outcomes(Sandbox(), place)


@pytest.fixture(scope="module", params=KINDS)
def inside(request, place) -> dict[str, str]:
    return outcomes(sandbox(request.param), place)


def test_every_probe_succeeds_outside(outside):
    assert outside == dict.fromkeys([*probes.ALLOWED, *probes.FORBIDDEN], "done")


def test_what_measuring_needs_succeeds_behind_walls(inside):
    assert {name: inside[name] for name in probes.ALLOWED} == dict.fromkeys(probes.ALLOWED, "done")


@pytest.mark.parametrize("probe", probes.FORBIDDEN)
def test_a_probe_is_refused_behind_walls(inside, probe):
    assert inside[probe] in {"EPERM", "EACCES", "ENOENT", "ESRCH", "EROFS", "EFBIG", "EMFILE", "MemoryError"}


def test_namespaces_alone_hide_network_files_and_processes_where_the_kernel_has_no_other_walls(place):
    sandbox("bubblewrap")
    bare = outcomes(Sandbox(bubblewrap=True), place)
    assert {name for name in probes.FORBIDDEN if bare[name] != "done"} >= {
        "connect by TCP to this host",
        "connect to a UNIX socket",
        "connect to an abstract UNIX socket",
        "read a secret of the worker's user",
        "read a secret in `var/`",
        "read another file of the repository",
        "read `/etc/passwd`",
        "read the worker's environment",
        "see other processes",
        "signal another process",
        "trace another process",
        "change our code",
    }
    assert list(Path(place["outside"]).glob("probe-*")) == []  # what it wrote, it wrote to memory of its own


def test_the_documents_name_every_probe():
    table = (ROOT / "docs" / "security.md").read_text()
    assert re.findall(r"^\| (.+?) \| done \| .+ \| .+ \|$", table, re.MULTILINE) == list(probes.FORBIDDEN)


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_are_the_same_behind_walls_and_whoever_kills_the_outermost_reaches_the_innermost(kind):
    walls = str(sandbox(kind))
    protocol = SMOKE.limited(4)
    spec = ShardSpec(StageName.ROBUST_LOSS, Split.TEST, 0, 4)
    with MeasuringChild(TINY, device="cpu", data_dir=None, sandbox=kind) as child:
        result, expected = child.measure(protocol, spec, tick=nothing), result_of(spec)
        assert replace(result, seconds=expected.seconds, sandbox="") == expected
        assert result.sandbox == walls
        pid = innermost(child.pid)
        os.kill(child.pid, signal.SIGKILL)
        await_end(pid)


def test_the_end_of_a_process_is_the_end_of_all_behind_its_walls():
    sandbox("bubblewrap")
    inner = [sys.executable, "-c", "print(flush=True); input()"]
    command = bubblewrap.wrapped(inner, reads=["/"], writes=[], devices=[])
    process = PipedProcess(command, clean_environment())
    process.read_line(100, nothing)
    pid = innermost(process.pid)
    assert pid != process.pid
    process.end()
    await_end(pid)


def test_a_process_that_is_ended_while_its_walls_are_put_up_leaves_none_behind(place):
    sandbox("bubblewrap")
    marked = clean_environment() | {"TMPDIR": place["outside"]}
    command = bubblewrap.wrapped(["sleep", "1000"], reads=["/"], writes=[], devices=[])
    for _ in range(8):
        process = PipedProcess(command, marked)
        while innermost(process.pid) == process.pid:
            pass  # its first child waits for it, and would wait for ever
        process.end()
    left = [path for path in Path("/proc").glob("[0-9]*/environ") if place["outside"] in contents(path)]
    assert left == []


def contents(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def test_a_wall_that_cannot_be_put_up_ends_the_process_before_it_opens_anything():
    walls = Walls(landlock=7, seccomp=True, reads=[], writes=[], devices=[], memory_bytes=None, file_bytes=0)
    code = "from evaluator.sandbox import inside, landlock; landlock._RESTRICT_SELF = 9999; inside.main()"
    command = [sys.executable, "-c", code, walls.to_json(), "tests.evaluator.probes", "{}"]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (finished.returncode, finished.stdout) == (1, "")
    assert "was refused" in finished.stderr


@pytest.mark.parametrize(
    ("asked", "obstacle", "version", "filters", "found"),
    [
        ("auto", None, 7, True, "bubblewrap, landlock 7, seccomp"),
        ("auto", None, 0, True, "bubblewrap, seccomp"),
        ("auto", "bwrap is not installed", 3, True, "plain, landlock 3, seccomp"),
        ("plain", None, 7, True, "plain, landlock 7, seccomp"),
        ("off", "bwrap is not installed", 0, False, "none"),
    ],
)
def test_the_best_walls_that_can_be_had_are_found_and_named(monkeypatch, asked, obstacle, version, filters, found):
    surroundings(monkeypatch, obstacle, version, filters)
    assert str(find_sandbox(asked)) == found


@pytest.mark.parametrize(
    ("asked", "obstacle", "version", "filters", "sentence"),
    [
        ("bubblewrap", "bwrap is not installed", 7, True, r"bubblewrap cannot be used \(bwrap is not installed\)"),
        (
            "auto",
            "no namespaces",
            0,
            True,
            r"cannot be used \(no namespaces\) and this kernel has no Landlock; install",
        ),
        ("plain", None, 0, False, "this kernel has no Landlock and no seccomp; install"),
    ],
)
def test_what_cannot_be_had_is_refused_with_what_to_do(monkeypatch, asked, obstacle, version, filters, sentence):
    surroundings(monkeypatch, obstacle, version, filters)
    with pytest.raises(InvalidSetting, match=sentence):
        find_sandbox(asked)


def surroundings(monkeypatch, obstacle: str | None, version: int, filters: bool) -> None:
    monkeypatch.setattr(bubblewrap, "obstacle", lambda: obstacle)
    monkeypatch.setattr(landlock, "version", lambda: version)
    monkeypatch.setattr(seccomp, "available", lambda: filters)


def test_why_bubblewrap_cannot_be_used_is_said_in_its_own_words(monkeypatch, tmp_path):
    bubblewrap.obstacle.cache_clear()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert bubblewrap.obstacle() == "bwrap is not installed"
    (tmp_path / "bwrap").write_text("#!/bin/sh\necho 'bwrap: No permissions' >&2; exit 1\n")
    (tmp_path / "bwrap").chmod(0o755)
    bubblewrap.obstacle.cache_clear()
    assert bubblewrap.obstacle() == "bwrap: No permissions"
    bubblewrap.obstacle.cache_clear()


def test_folders_that_variables_name_are_readable_but_never_the_checkout(monkeypatch, tmp_path):
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT}:{ROOT.parent}:relative:")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/opt/driver")
    reads = Walls.from_json(Sandbox(landlock=7).command("evaluator.measuring", reads=[])[3]).reads
    assert {str(tmp_path), "/opt/driver", str(ROOT / "evaluator")} <= set(reads)
    assert not [path for path in reads if path == "relative" or ROOT.is_relative_to(path)]


def test_a_gpu_is_within_reach_only_where_it_is_asked_for(monkeypatch):
    monkeypatch.setattr("evaluator.sandbox.glob", lambda pattern: [pattern.replace("*", "0")])
    walls = Sandbox(landlock=7, seccomp=True)

    def of(device: str) -> Walls:
        return Walls.from_json(walls.command("evaluator.measuring", reads=[], device=device)[3])

    assert (of("cpu").devices, "/sys" in of("cpu").reads) == ([], False)
    assert of("cpu").memory_bytes > 0
    for device in ("auto", "cuda:1"):
        assert "/dev/nvidia0" in of(device).devices
        assert of(device).memory_bytes is None


def verdict(code: bytes, machine: int, number: int, *arguments: int) -> int:
    """Run a filter as the kernel does, and return the error a call ends with, 0 where it may be made."""
    data = struct.pack("=IIQ6Q", number, machine, 0, *(*arguments, 0, 0, 0, 0, 0, 0)[:6])
    steps, at, held = list(struct.iter_unpack("=HBBI", code)), 0, 0
    while True:
        what, then, otherwise, value = steps[at]
        at += 1
        match what:
            case 0x20:
                (held,) = struct.unpack_from("=I", data, value)
            case 0x54:
                held &= value
            case 0x15:
                at += then if held == value else otherwise
            case 0x25:
                at += then if held > value else otherwise
            case 0x06:
                assert value in (0x7FFF0000, 0x80000000) or value >> 16 == 5
                return -1 if value == 0x80000000 else value & 0xFFFF if value >> 16 == 5 else 0
            case _:
                pytest.fail(f"{what:#x} is no step that the kernel knows")


THREAD, PROCESS, ME = 0x3D0F00, 17, 1234
DECIDED = [
    # call on x86_64 and aarch64, arguments → error
    ((0, 63), (0,), 0),  # read
    ((202, 98), (0,), 0),  # futex
    ((56, 220), (THREAD,), 0),
    ((56, 220), (PROCESS,), errno.EPERM),
    ((435, 435), (0,), errno.ENOSYS),  # clone3
    ((457, 457), (0,), errno.ENOSYS),
    ((0x40000000, 0x40000000), (0,), errno.ENOSYS),  # x32
    ((62, 129), (ME, 9), 0),
    ((62, 129), (0, 9), errno.EPERM),
    ((62, 129), (0xFFFFFFFF, 9), errno.EPERM),
    ((234, 131), (ME, ME, 6), 0),
    ((302, 261), (0, 7), 0),
    ((302, 261), (1, 7), errno.EPERM),
    ((9, 222), (0, 1, 3, 0x22), 0),  # mmap of private memory
    ((9, 222), (0, 1, 3, 0x01), 0),  # of a file
    ((9, 222), (0, 1, 3, 0x21), errno.EPERM),
    ((157, 167), (15,), 0),  # prctl: a thread's name
    ((157, 167), (1,), errno.EPERM),
    ((41, 198), (1,), errno.EPERM),
    ((49, 200), (3,), errno.EPERM),
]


@pytest.mark.parametrize("machine", seccomp.MACHINES)
def test_the_filter_decides_each_call_on_every_machine(machine):
    column, name = seccomp.MACHINES[machine]
    code = seccomp.program(machine, ME)
    for numbers, arguments, error in DECIDED:
        assert verdict(code, name, numbers[column], *arguments) == error, (numbers, arguments)
    for call, numbers in seccomp.FORBIDDEN.items():
        if numbers[column] is not None:
            assert verdict(code, name, numbers[column]) == errno.EPERM, call
    assert verdict(code, 0x40000003, 1) == -1  # the calls of another machine: 32-bit ones


def test_with_a_gpu_a_socket_of_the_driver_can_be_made_and_nobody_else_s_be_reached():
    code, name = seccomp.program("x86_64", ME, gpu=True), seccomp.MACHINES["x86_64"][1]
    assert [verdict(code, name, 41, family) for family in (1, 2, 10, 16)] == [0, *[errno.EPERM] * 3]
    assert [verdict(code, name, number) for number in (42, 44, 46, 307)] == [errno.EPERM] * 4  # connect, send…
    assert verdict(code, name, 9, 0, 1, 3, 0x21) == 0


@pytest.mark.parametrize(
    ("column", "header"),
    [(0, "x86_64-linux-gnu/asm/unistd_64.h"), (1, "asm-generic/unistd.h")],
    ids=("x86_64", "aarch64"),
)
def test_numbers_of_calls_are_the_kernel_s(column, header):
    path = Path("/usr/include") / header
    if not path.exists():
        pytest.skip(f"NOT TESTED: there is no {path}")
    declared = dict(re.findall(r"^#define __NR(?:3264)?_(\w+)\s+(\d+)", path.read_text(), re.MULTILINE))
    for call, numbers in seccomp.FORBIDDEN.items():
        assert str(numbers[column]) == declared.get(call, "None"), call
