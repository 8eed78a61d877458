"""The disk: what makes written bytes survive a power cut, and opens no file that somebody planted."""

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from errno import ELOOP, EMLINK, ENOTDIR
from pathlib import Path
from stat import S_ISDIR, S_ISREG, S_ISSOCK

from fairlead.errors import Corrupt

__all__ = ["alone", "content", "opened", "secret", "settle", "sync"]

SECRET = 32
"""Bytes of a secret."""
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_HERE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""No link, and no waiting for the other end of a pipe."""
BULK = {"blobs", "images", "jobs", "packages", "wheels"}
"""Folders of a state folder with many files, each of which is looked at when it is opened."""


def sync(path: Path) -> None:
    """Return when the disk holds a file's bytes, or, of a folder, the names in it. Raises OSError."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def settle(state: Path) -> None:
    """Make a state folder (0700), or make sure of the one that is there: this user's, closed to
    others from now on, and without links, second names of files, pipes or devices.

    Raises Corrupt, naming what lies there; nothing was opened then.
    """
    state.mkdir(exist_ok=True, mode=0o700)
    facts = state.lstat()
    if not S_ISDIR(facts.st_mode) or facts.st_uid != os.geteuid():
        what = "another user's" if S_ISDIR(facts.st_mode) else "a link"
        raise Corrupt(f"{state.name} is {what}, not a folder of this user",
                      hint="run as the user who made it; to have it elsewhere, move or mount the whole project")  # fmt: skip
    state.chmod(0o700)
    for entry in _entries(state, BULK):
        facts = entry.stat(follow_symlinks=False)
        if not (S_ISDIR(facts.st_mode) or S_ISSOCK(facts.st_mode)):
            _sound(facts, Path(entry.path).relative_to(state))


def _entries(folder: Path, shallow: set[str]) -> Iterator["os.DirEntry[str]"]:
    """What lies below a folder; of those named, their own entries only."""
    with os.scandir(folder) as entries:
        for entry in entries:
            yield entry
            if entry.is_dir(follow_symlinks=False):
                if entry.name in shallow:
                    with os.scandir(entry.path) as inside:
                        yield from inside
                else:
                    yield from _entries(Path(entry.path), set())


def opened(folder: Path, *parts: str, flags: int = os.O_RDONLY) -> int:
    """A descriptor of the file ``folder/parts…``, which is a plain file with one name, and no link
    below `folder` leads to it; a new one is for this user only.

    Raises Corrupt for anything else, and OSError as `os.open` does.
    """
    if any(part in ("", ".", "..") or "/" in part or "\0" in part for part in parts):
        raise Corrupt(f"not a name of a file: {'/'.join(parts)!r:.80}", hint="names have no '/' and no dots alone")
    name = Path(*parts)
    here = os.open(folder, _FOLDER)
    try:
        for part in parts[:-1]:
            inside = os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=here)
            os.close(here)
            here = inside
        found = os.open(parts[-1], flags | _HERE, 0o600, dir_fd=here)
    except OSError as error:
        if error.errno in (ELOOP, EMLINK, ENOTDIR):
            raise _planted("a link", name) from None
        raise
    finally:
        os.close(here)
    try:
        _sound(os.fstat(found), name)
    except Corrupt:
        os.close(found)
        raise
    return found


def content(folder: Path, *parts: str) -> bytes:
    """All bytes of the file that `opened` opens; raises what it does."""
    with os.fdopen(opened(folder, *parts), "rb") as file:
        return file.read()


@contextmanager
def alone(path: Path) -> Iterator[int]:
    """Hold the file at `path`, made where there is none, against every other process that asks for
    it like this; its descriptor, to read and write. Waits for its turn; raises what `opened` does."""
    handle = opened(path.parent, path.name, flags=os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield handle
    finally:
        os.close(handle)


def secret(path: Path) -> bytes:
    """32 random bytes that only this user may read, made by whoever needs them first.

    Raises Corrupt when the file holds something else.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with alone(path) as file:
        if not os.fstat(file).st_size:
            os.pwrite(file, secrets.token_bytes(SECRET), 0)
            os.fsync(file)
            sync(path.parent)
        found = os.pread(file, SECRET + 1, 0)
    if len(found) != SECRET:
        raise Corrupt(f"{path.name} is no secret of {SECRET} bytes",
                      hint="restore it from a backup: a new one does not continue what the old one began")  # fmt: skip
    return found


def _sound(facts: os.stat_result, name: Path) -> None:
    """Raises Corrupt unless this is a plain file with one name."""
    if not S_ISREG(facts.st_mode):
        raise _planted("no plain file", name)
    if facts.st_nlink > 1:
        raise _planted("the second name of another file", name)


def _planted(what: str, name: Path) -> Corrupt:
    return Corrupt(f"{name} is {what}: somebody put it there",
                   hint="Fairlead makes none: look at where it leads, take it away, restore what it replaced")  # fmt: skip
