"""Guards: how much may wait, how often and how long, and when to stop asking a package that fails."""

from ipaddress import IPv4Address, IPv6Address, ip_address
from math import ceil

from fairlead.serve.refusal import Refusal

__all__ = ["Breaker", "Bucket", "Gate", "Pace", "neighbourhood"]

FAILURES = 5
FIRST = 32
"""Rows of a batch until larger ones have proved to be quick."""
PAUSE = 1.0
"""Seconds an open breaker waits before it lets one batch try again."""


class Gate:
    """Bounds the rows inside: what does not fit is refused at once instead of waiting in vain."""

    __slots__ = ("inside", "limit")

    def __init__(self, limit: int) -> None:
        self.limit, self.inside = limit, 0

    def enter(self, rows: int) -> bool:
        """Whether `rows` more fit; then they are inside until `leave`."""
        if self.inside + rows > self.limit:
            return False
        self.inside += rows
        return True

    def leave(self, rows: int) -> None:
        self.inside -= rows


class Bucket:
    """What one token may still ask: it holds the requests of a second (at least one) and fills at
    `rate` a second, so that within any `t` seconds at most ``max(1, rate) + rate * t`` are taken."""

    __slots__ = ("_at", "_left", "_most", "_rate")

    def __init__(self, rate: float) -> None:
        self._rate, self._most = rate, max(1.0, rate)
        self._left, self._at = self._most, 0.0

    def refuse(self, now: float) -> Refusal | None:
        """None when a request at `now` (monotonic seconds) fits; then it is taken."""
        self._left = min(self._most, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left >= 1.0:
            self._left -= 1.0
            return None
        return Refusal(status=429, code="rate", message=f"this token asks more than {self._rate:g} times a second",
                       hint="send more rows at once, or have serve.rate raised",
                       retry_after=ceil((1.0 - self._left) / self._rate))  # fmt: skip


def neighbourhood(address: str) -> str:
    """Whom a connection from an address counts for: the address, and of IPv6 its /64, since whoever
    has one address has them all."""
    try:
        found: IPv4Address | IPv6Address = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, IPv4Address):
        return address
    return str(found.ipv4_mapped) if found.ipv4_mapped else found.packed[:8].hex()


class Pace:
    """How many rows a replica answers in one go without keeping the next ones waiting for too long.

    `rows` doubles while full batches take less than half of `seconds`, up to `most`; one that takes
    more cuts it in proportion. From then on the package is `slow`, until `rows` is `most` again:
    what would have to wait for more than a second batch is better refused at once.
    """

    __slots__ = ("most", "rows", "seconds", "slow")

    def __init__(self, most: int, seconds: float) -> None:
        self.most, self.seconds = most, seconds
        self.rows = min(FIRST, most)
        self.slow = False

    def took(self, rows: int, seconds: float) -> None:
        """A batch of `rows` was answered after so many seconds of work."""
        if seconds > self.seconds:
            self.rows, self.slow = max(1, int(rows * self.seconds / seconds)), True
        elif rows >= self.rows and 2 * seconds < self.seconds:
            self.rows = min(self.most, 2 * self.rows)
            self.slow = self.slow and self.rows < self.most

    def takes(self, waiting: int, rows: int, replicas: int) -> bool:
        """Whether `rows` behind `waiting` ones would be answered within two batches."""
        room = 2 * self.rows * max(1, replicas)
        return not self.slow or not waiting or waiting + rows <= room


class Breaker:
    """Opens after `FAILURES` failed batches in a row; then one batch per `PAUSE` may try."""

    __slots__ = ("_bad", "_until")

    def __init__(self) -> None:
        self._bad = 0
        self._until = 0.0

    @property
    def open(self) -> bool:
        return self._bad >= FAILURES

    def allows(self, now: float) -> bool:
        """Whether the package may be asked at `now` (monotonic seconds)."""
        if self._bad < FAILURES:
            return True
        if now < self._until:
            return False
        self._until = now + PAUSE
        return True

    def good(self) -> None:
        self._bad = 0

    def bad(self, now: float) -> None:
        self._bad += 1
        if self._bad >= FAILURES:
            self._until = now + PAUSE
