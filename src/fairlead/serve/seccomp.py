"""Seccomp: the system calls that a process gives up for good, so that no file and no stranger hears of it."""

import ctypes
import os
import platform
from collections.abc import Iterator, Sequence
from struct import pack

__all__ = ["give_up", "known"]

ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
"""Column of the tables below, and how the kernel names the architecture."""
Numbers = dict[str, tuple[int, int]]

REACHING: Numbers = {
    "socket": (41, 198), "socketpair": (53, 199), "connect": (42, 203), "bind": (49, 200),
    "execve": (59, 221), "execveat": (322, 281),
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "kcmp": (312, 272), "pidfd_open": (434, 434), "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424), "process_madvise": (440, 440), "process_mrelease": (448, 448),
    "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240), "tkill": (200, 130),
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282),
    "keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218),
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51),
    "unshare": (272, 97), "setns": (308, 268), "open_by_handle_at": (304, 265),
    "move_mount": (429, 429), "fsopen": (430, 430), "fsmount": (432, 432), "open_tree": (428, 428),
    "mount_setattr": (442, 442), "personality": (135, 92), "syslog": (103, 116),
    "shmget": (29, 194), "shmat": (30, 196), "msgget": (68, 186), "semget": (64, 190),
    "mq_open": (240, 180), "mq_unlink": (241, 181), "inotify_init": (253, -1),
    "inotify_init1": (294, 26), "fanotify_init": (300, 262), "ioprio_set": (251, 30),
    "migrate_pages": (256, 238), "move_pages": (279, 239),
}  # fmt: skip
"""What talks to the network, to other processes, or to rarely used parts of the kernel."""
CHANGING: Numbers = {
    "chmod": (90, -1), "fchmod": (91, 52), "fchmodat": (268, 53), "chown": (92, -1),
    "fchown": (93, 55), "lchown": (94, -1), "fchownat": (260, 54), "utime": (132, -1),
    "utimes": (235, -1), "futimesat": (261, -1), "utimensat": (280, 88), "setxattr": (188, 5),
    "lsetxattr": (189, 6), "fsetxattr": (190, 7), "removexattr": (197, 14),
    "lremovexattr": (198, 15), "fremovexattr": (199, 16), "rename": (82, -1),
    "renameat": (264, 38), "renameat2": (316, 276), "unlink": (87, -1), "unlinkat": (263, 35),
    "mkdir": (83, -1), "mkdirat": (258, 34), "rmdir": (84, -1), "link": (86, -1),
    "linkat": (265, 37), "symlink": (88, -1), "symlinkat": (266, 36), "mknod": (133, -1),
    "mknodat": (259, 33), "truncate": (76, 45), "creat": (85, -1),
}  # fmt: skip
"""What changes a file without opening it; Landlock does not see all of it."""
FORKING: Numbers = {"fork": (57, -1), "vfork": (58, -1)}
OPENING: Numbers = {"open": (2, -1), "openat": (257, 56), "openat2": (437, 437)}
CLONE, CLONE3, KILL, TGKILL = (56, 220), (435, 435), (62, 129), (234, 131)
OWN: Numbers = {"prlimit64": (302, 261), "sched_setaffinity": (203, 122), "sched_setparam": (142, 118),
                "sched_setscheduler": (144, 119), "sched_setattr": (314, 274)}  # fmt: skip
"""What a process may do to itself (0) and not to others."""
SETPRIORITY = 141, 140
NEWEST = 450
"""Calls younger than these tables do not exist for the process: what it uses knows an older way."""

EPERM, ENOSYS, CLONE_THREAD = 1, 38, 0x10000
LOAD, EQUAL, ABOVE, BITS, RETURN = 0x20, 0x15, 0x25, 0x45, 0x06
ALLOW, ERRNO, KILL_PROCESS = 0x7FFF0000, 0x00050000, 0x80000000
NUMBER, ARCHITECTURE, ARGUMENTS = 0, 4, 16
"""Places in what a filter sees of a call (struct seccomp_data); each argument has 8 bytes."""
PR_SET_NO_NEW_PRIVS, SET_MODE_FILTER, TSYNC = 38, 1, 1
SECCOMP = {"x86_64": 317, "aarch64": 277}


def known() -> bool:
    """Whether these tables speak of this machine."""
    return os.uname().sysname == "Linux" and platform.machine() in ARCHITECTURES


def give_up(*, alone: bool = False, opening: bool = False) -> bool:
    """Give up network, other programs and other people's files, in all threads, for good.

    `alone`: also new processes, and signals to others. `opening`: also to open any file. False when
    this kernel has no such filters.
    """
    if not known():
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    code = b"".join(_program(alone, opening))
    buffer = ctypes.create_string_buffer(code, len(code))
    program = pack("@HP", len(code) // 8, ctypes.addressof(buffer))
    number = SECCOMP[platform.machine()]
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    return bool(libc.syscall(number, SET_MODE_FILTER, TSYNC, program) == 0)


def _program(alone: bool, opening: bool) -> Iterator[bytes]:
    """Instructions of 8 bytes: code, two jumps counted from the next one, and a number."""
    column, architecture = ARCHITECTURES[platform.machine()]
    yield _do(LOAD, ARCHITECTURE)
    yield _do(EQUAL, architecture, 1, 0)
    yield _do(RETURN, KILL_PROCESS)
    yield _do(LOAD, NUMBER)
    yield _do(ABOVE, NEWEST, 0, 1)
    yield _do(RETURN, ERRNO | ENOSYS)
    for number in OWN.values():
        yield from _unless(number[column], 0, EQUAL, 0)
    yield from _unless(SETPRIORITY[column], 1, EQUAL, 0)
    refused = {**REACHING, **CHANGING, **(FORKING if alone else {}), **(OPENING if opening else {})}
    if alone:
        yield from _when(CLONE3[column], [_do(RETURN, ERRNO | ENOSYS)])
        yield from _unless(CLONE[column], 0, BITS, CLONE_THREAD)
        for numbers in (KILL, TGKILL):
            yield from _unless(numbers[column], 0, EQUAL, os.getpid())
    for found in refused.values():
        if found[column] >= 0:
            yield from _when(found[column], [_do(RETURN, ERRNO | EPERM)])
    yield _do(RETURN, ALLOW)


def _unless(number: int, argument: int, test: int, value: int) -> Iterator[bytes]:
    """Refuse a call unless its argument (the low half) passes the test."""
    yield from _when(number, [
        _do(LOAD, ARGUMENTS + 8 * argument), _do(test, value, 1, 0), _do(RETURN, ERRNO | EPERM),
        _do(RETURN, ALLOW)])  # fmt: skip


def _when(number: int, then: Sequence[bytes]) -> Iterator[bytes]:
    yield _do(EQUAL, number, 0, len(then))
    yield from then


def _do(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    return pack("=HBBI", code, yes, no, value)
