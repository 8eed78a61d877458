"""Guards: how much may wait, how long it may take, and when to stop asking a package that fails."""

__all__ = ["Breaker", "Gate"]

FAILURES = 5
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
