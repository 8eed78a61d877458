"""Prediction ids: sortable by time, never twice, and they name the gateway whose journal holds them."""

import os
from pathlib import Path

from fairlead.disk import alone

__all__ = ["GATEWAY", "Ids", "enroll"]

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
"""Crockford's base 32: sorts like the numbers it spells."""
TIME, GATEWAY, COUNT = 10, 4, 12
"""Characters of milliseconds, gateway and counter."""


def spell(number: int, width: int) -> str:
    """`number` in base 32, `width` characters."""
    text = ""
    for _ in range(width):
        number, rest = divmod(number, 32)
        text = ALPHABET[rest] + text
    return text


_PAIRS = [a + b for a in ALPHABET for b in ALPHABET]


def enroll(folder: Path) -> str:
    """A gateway name that nobody had before (4 characters), counted in a locked file of `folder`."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with alone(folder / "gateways") as fd:
        count = int(os.read(fd, 32) or b"0")
        os.pwrite(fd, str(count + 1).encode(), 0)
        os.fsync(fd)
    return spell(count, GATEWAY)


class Ids:
    """Ids of one gateway. `at` sets the time of those that follow; the counter never goes back."""

    def __init__(self, gateway: str) -> None:
        self.gateway = gateway
        self._count = 0
        self._milliseconds = -1
        self._stem = self._prefix = ""

    def at(self, now: float) -> None:
        """`now`: UTC seconds."""
        milliseconds = max(0, int(now * 1000))
        if milliseconds != self._milliseconds:
            self._milliseconds = milliseconds
            self._stem = spell(milliseconds, TIME) + self.gateway
            self._prefix = self._stem + spell(self._count >> 20, COUNT - 4)

    def next(self) -> str:
        """26 characters."""
        self._count = count = self._count + 1
        if not count & 0xFFFFF:
            self._prefix = self._stem + spell(count >> 20, COUNT - 4)
        return self._prefix + _PAIRS[count >> 10 & 1023] + _PAIRS[count & 1023]
