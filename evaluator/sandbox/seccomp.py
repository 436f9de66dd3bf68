"""A seccomp filter: which system calls a process behind walls may make (torch-free).

It is a list of what is forbidden, and of all that is newer than the list; a forbidden call fails with EPERM and harms
nobody. Numbers are those of Linux on x86_64 and on aarch64.
"""

import ctypes
import errno
import os
import platform
import struct
from dataclasses import dataclass

MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
"""Machine → which number of each pair below is its own, and what the kernel calls it."""

FORBIDDEN: dict[str, tuple[int | None, int | None]] = {
    # no network, nor any other socket
    "socket": (41, 198), "socketpair": (53, 199), "connect": (42, 203), "accept": (43, 202), "accept4": (288, 242),
    "bind": (49, 200), "listen": (50, 201), "sendto": (44, 206), "sendmsg": (46, 211), "sendmmsg": (307, 269),
    "recvfrom": (45, 207), "recvmsg": (47, 212), "recvmmsg": (299, 243), "shutdown": (48, 210),
    "setsockopt": (54, 208), "getsockopt": (55, 209), "getsockname": (51, 204), "getpeername": (52, 205),
    # no further process and no other program
    "fork": (57, None), "vfork": (58, None), "execve": (59, 221), "execveat": (322, 281),
    # no other process is signalled, read or changed
    "tkill": (200, 130), "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240), "pidfd_open": (434, 434),
    "pidfd_send_signal": (424, 424), "pidfd_getfd": (438, 438), "ptrace": (101, 117), "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271), "process_madvise": (440, 440), "process_mrelease": (448, 448),
    "kcmp": (312, 272), "sched_setscheduler": (144, 119), "sched_setparam": (142, 118), "sched_setattr": (314, 274),
    "setpriority": (141, 140), "ioprio_set": (251, 30), "migrate_pages": (256, 238), "move_pages": (279, 239),
    # no mount, no namespace, no file but by its path
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "open_tree": (428, 428),
    "move_mount": (429, 429), "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432),
    "fspick": (433, 433), "mount_setattr": (442, 442), "setns": (308, 268), "unshare": (272, 97),
    "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265), "fanotify_init": (300, 262),
    "fanotify_mark": (301, 263), "quotactl": (179, 60), "quotactl_fd": (443, 443), "swapon": (167, 224),
    "swapoff": (168, 225), "acct": (163, 89),
    # no memory that is shared or counted nowhere
    "memfd_create": (319, 279), "memfd_secret": (447, 447), "shmget": (29, 194), "shmat": (30, 196),
    "shmctl": (31, 195), "shmdt": (67, 197), "semget": (64, 190), "semop": (65, 193), "semctl": (66, 191),
    "semtimedop": (220, 192), "msgget": (68, 186), "msgsnd": (69, 189), "msgrcv": (70, 188), "msgctl": (71, 187),
    "mq_open": (240, 180), "mq_unlink": (241, 181), "mq_timedsend": (242, 182), "mq_timedreceive": (243, 183),
    "mq_notify": (244, 184), "mq_getsetattr": (245, 185),
    # no machinery of the kernel that has often been a way into it
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219), "bpf": (321, 280),
    "perf_event_open": (298, 241), "userfaultfd": (323, 282), "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426), "io_uring_register": (427, 427), "personality": (135, 92),
    "modify_ldt": (154, None), "uselib": (134, None), "_sysctl": (156, None), "nfsservctl": (180, 42),
    "lookup_dcookie": (212, 18), "ustat": (136, None), "sysfs": (139, None),
    # nothing that is an administrator's
    "kexec_load": (246, 104), "kexec_file_load": (320, 294), "init_module": (175, 105), "finit_module": (313, 273),
    "delete_module": (176, 106), "reboot": (169, 142), "syslog": (103, 116), "vhangup": (153, 58),
    "settimeofday": (164, 170), "clock_settime": (227, 112), "adjtimex": (159, 171), "clock_adjtime": (305, 266),
    "sethostname": (170, 161), "setdomainname": (171, 162), "iopl": (172, None), "ioperm": (173, None),
}  # fmt: skip
"""System call → its number on x86_64 and on aarch64, None where there is none."""

NEWEST = 456
"""Calls beyond this one are unknown here: to the process the kernel has none of them."""

AF_UNIX, PR_SET_PDEATHSIG, CLONE_THREAD, SHARED_ANONYMOUS = 1, 1, 0x10000, 0x21
CLONE3 = 435

GPU_NEEDS = frozenset({"socket", "bind", "listen", "setsockopt", "getsockname"})
"""CUDA's driver opens a UNIX socket of its own; it can still reach nobody else's."""


@dataclass(frozen=True)
class Check:
    """Whether an argument, of which `mask` leaves some bits, must be (or must not be) one of `values`."""

    argument: int
    mask: int
    values: tuple[int, ...]
    must: bool = True


def checked(pid: int, gpu: bool) -> dict[tuple[int, int], Check]:
    """Return the calls that are allowed with some arguments only, by their two numbers, for the process `pid`."""
    whole = 0xFFFFFFFF
    checks = {
        (56, 220): Check(0, CLONE_THREAD, (CLONE_THREAD,)),  # clone: threads, and no process
        (62, 129): Check(0, whole, (pid,)),  # kill
        (234, 131): Check(0, whole, (pid,)),  # tgkill
        (302, 261): Check(0, whole, (0, pid)),  # prlimit64
        (203, 122): Check(0, whole, (0, pid)),  # sched_setaffinity
        (157, 167): Check(0, whole, (PR_SET_PDEATHSIG,), must=False),  # prctl: it must die with its parent
    }
    if gpu:
        return checks | {(41, 198): Check(0, whole, (AF_UNIX,))}  # socket
    return checks | {(9, 222): Check(3, SHARED_ANONYMOUS, (SHARED_ANONYMOUS,), must=False)}  # mmap: counted nowhere


_ALLOW, _KILL, _ERROR = 0x7FFF0000, 0x80000000, 0x00050000
_LOAD, _AND, _EQUAL, _ABOVE, _RETURN = 0x20, 0x54, 0x15, 0x25, 0x06
_NUMBER, _MACHINE, _ARGUMENTS = 0, 4, 16


def program(machine: str, pid: int, *, gpu: bool = False) -> bytes:
    """Return the filter as the kernel reads it, for a process on `machine`; with `gpu`, what CUDA needs is let be."""
    column, name = MACHINES[machine]
    code = [
        _step(_LOAD, _MACHINE), _step(_EQUAL, name, 1, 0), _step(_RETURN, _KILL),
        _step(_LOAD, _NUMBER),
        _step(_ABOVE, NEWEST, 0, 1), _step(_RETURN, _ERROR | errno.ENOSYS),
        _step(_EQUAL, CLONE3, 0, 1), _step(_RETURN, _ERROR | errno.ENOSYS),  # whose flags no filter sees: clone will do
    ]  # fmt: skip
    for call, numbers in FORBIDDEN.items():
        number = numbers[column]
        if number is not None and not (gpu and call in GPU_NEEDS):
            code += [_step(_EQUAL, number, 0, 1), _step(_RETURN, _ERROR | errno.EPERM)]
    for pair, check in checked(pid, gpu).items():
        denied = _step(_RETURN, _ERROR | errno.EPERM)
        hit, miss = (_step(_RETURN, _ALLOW), denied) if check.must else (denied, _step(_RETURN, _ALLOW))
        block = [_step(_LOAD, _ARGUMENTS + 8 * check.argument), _step(_AND, check.mask)]
        for value in check.values:
            block += [_step(_EQUAL, value, 0, 1), hit]
        block.append(miss)
        code += [_step(_EQUAL, pair[column], 0, len(block)), *block]
    code.append(_step(_RETURN, _ALLOW))
    return b"".join(code)


def _step(what: int, value: int, then: int = 0, otherwise: int = 0) -> bytes:
    return struct.pack("=HBBI", what, then, otherwise, value)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_char_p))


_PR_SET_SECCOMP, _FILTER = 22, 2


def available() -> bool:
    """Whether this kernel filters, on a machine whose numbers are known."""
    if platform.machine() not in MACHINES:
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(
        _PR_SET_SECCOMP, _FILTER, None, 0, 0
    )  # a filter at no address: refused for that alone where there are any
    return ctypes.get_errno() == errno.EFAULT


def put_up(*, gpu: bool) -> None:
    """Filter the calls of this thread and of all it starts, for ever; `no_new_privs` must be set.

    Raises:
        OSError: the kernel refuses.
    """
    code = program(platform.machine(), os.getpid(), gpu=gpu)
    filtered = _Program(len(code) // 8, code)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_SECCOMP, _FILTER, ctypes.byref(filtered), 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "no seccomp filter could be put up")
