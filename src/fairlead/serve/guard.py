"""Guards: how much may wait, how long it may take, and when to stop asking a package that fails."""

__all__ = ["Breaker", "Gate", "Pace"]

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
