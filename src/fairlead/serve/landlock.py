"""Landlock: the files a process may still read; everything else of the disk is gone for it (Linux 5.13)."""

import ctypes
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from struct import pack

__all__ = ["restrict", "version"]

CREATE, ADD, RESTRICT = 444, 445, 446
"""Numbers of the three system calls, the same on every architecture."""
PATH_BENEATH, PR_SET_NO_NEW_PRIVS = 1, 38
READ_FILE, READ_DIR = 1 << 2, 1 << 3
FILES = {1: 13, 2: 14, 3: 15, 5: 16}
"""How many kinds of access to files each version of the kernel's interface knows first."""
NETWORK, SCOPES = (4, 0b11), (6, 0b11)
"""From which version on: binding and connecting of TCP; abstract sockets and signals of others."""


def version() -> int:
    """Of the kernel's interface; 0: there is none."""
    if os.uname().sysname != "Linux":
        return 0
    return max(0, _call(CREATE, None, ctypes.c_size_t(0), 1))


def restrict(readable: Iterable[Path]) -> bool:
    """From now on this thread, and what it starts, reads what lies beneath `readable`, writes and
    runs no file, opens no TCP connection and signals nobody outside. Paths that are not there are
    skipped. False, with nothing changed, when the kernel does not offer it."""
    known = version()
    if not known:
        return False
    everything = (1 << FILES[max(v for v in FILES if v <= known)]) - 1
    attributes = pack("QQQ", everything, *(bits if known >= since else 0 for since, bits in (NETWORK, SCOPES)))
    size = 8 * (1 + (known >= NETWORK[0]) + (known >= SCOPES[0]))
    rules = _call(CREATE, attributes, ctypes.c_size_t(size), 0)
    if rules < 0:
        return False
    try:
        for path in readable:
            _allow(rules, path)
        ctypes.CDLL(None).prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        return _call(RESTRICT, rules, 0) == 0
    finally:
        os.close(rules)


def _allow(rules: int, path: Path) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        folder = stat.S_ISDIR(os.fstat(fd).st_mode)
        _call(ADD, rules, PATH_BENEATH, pack("=Qi", READ_FILE | (READ_DIR if folder else 0), fd), 0)
    finally:
        os.close(fd)


def _call(*arguments: object) -> int:
    return int(ctypes.CDLL(None, use_errno=True).syscall(*arguments))
