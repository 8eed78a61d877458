"""Journals: the append-only files a gateway writes, read while they grow."""

import fcntl
import mmap
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from msgspec import Struct

from fairlead.core.journal import HEADER, Entry, frame, frames
from fairlead.disk import alone, opened
from fairlead.errors import Corrupt

__all__ = ["Journal", "Journals", "entries", "holding", "write"]


class Journal(Struct, frozen=True, kw_only=True):
    """One file ``<gateway>-<sequence>.log``."""

    gateway: str
    sequence: int
    path: Path

    @property
    def source(self) -> str:
        return self.path.stem


class Journals:
    """The folder of journals."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def all(self) -> list[Journal]:
        """Every journal, by gateway and sequence."""
        found = []
        for path in self.folder.glob("*.log"):
            gateway, _, sequence = path.stem.rpartition("-")
            if gateway and sequence.isdecimal():
                found.append(Journal(gateway=gateway, sequence=int(sequence), path=path))
        return sorted(found, key=lambda j: (j.gateway, j.sequence))

    def finished(self) -> list[Journal]:
        """Those that nobody will write to again: a newer one of the gateway exists, or its lock
        is free (the gateway is gone)."""
        journals = self.all()
        newest = {j.gateway: j.sequence for j in journals}
        return [j for j in journals if j.sequence < newest[j.gateway] or _free(j.path)]


def _free(path: Path) -> bool:
    try:
        with _read(path) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except (BlockingIOError, FileNotFoundError):
        return False
    return True


def _read(path: Path) -> BinaryIO:
    return os.fdopen(opened(path.parent, path.name), "rb")


def entries(journal: Journal, offset: int = 0) -> Iterator[tuple[int, Entry, int]]:
    """(start, entry, end) of every whole frame from byte `offset` on.

    Raises FileNotFoundError when it was sealed meanwhile, and Corrupt.
    """
    with _read(journal.path) as file:
        file.seek(offset)
        data = file.read()
    if not offset:
        if len(data) < len(HEADER):
            return
        if not data.startswith(HEADER):
            raise Corrupt(f"{journal.path.name} does not begin like a journal: {data[:8]!r}",
                          hint="move the file out of the journal folder")  # fmt: skip
    here = 0 if offset else len(HEADER)
    for entry, end in frames(data, here):
        yield offset + here, entry, offset + end
        here = end


def holding(journal: Journal, text: str) -> Iterator[Entry]:
    """Entries whose bytes contain `text`: a look-up that decodes almost nothing."""
    needle = text.encode()
    with _read(journal.path) as file:
        if not needle or not file.seek(0, 2):
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            start, at = len(HEADER), data.find(needle)
            while at >= 0 and start + 8 <= len(data):
                end = start + 8 + int.from_bytes(data[start : start + 4], "little")
                if end > at:
                    yield from (entry for entry, _ in frames(data[start:end]))
                    at = data.find(needle, end)
                start = end


def write(gateway: str, journals: Journals, sealed: Callable[[], int], made: Sequence[Entry]) -> None:
    """A finished journal of these entries, behind all others of this name: all or nothing.

    `sealed` tells the newest sequence in segments. It is asked after the journals: a file that is
    being sealed meanwhile is seen in one place or in both, never in none.
    """
    folder = journals.folder
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with alone(folder / f".{gateway}.lock"):
        last = max((j.sequence for j in journals.all() if j.gateway == gateway), default=-1)
        draft = folder / f".{gateway}.draft"
        with draft.open("wb") as file:
            file.write(HEADER + b"".join(map(frame, made)))
            file.flush()
            os.fsync(file.fileno())
        draft.rename(folder / f"{gateway}-{max(last, sealed()) + 1:06d}.log")
