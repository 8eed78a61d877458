"""Blame: which row kills the replicas of a package, and when a package itself is the one to blame."""

from collections import deque
from collections.abc import Iterable
from hashlib import blake2b

from fairlead.errors import Invalid

__all__ = ["Blame", "Crashes", "Poison"]

SUSPICION, SENTENCE = 60.0, 600.0
"""Seconds a row stays suspect, and seconds it stays convicted: a replica may have been killed by
other hands just then, and the row deserves another trial."""
SUSPECTS, CONVICTS = 4096, 1024
DEATHS, WINDOW = 5, 10.0
"""So many deaths within so many seconds are a crash loop."""
OUT, LONGEST_OUT = 5.0, 300.0
"""Seconds a package in a crash loop is left alone; they double as long as it goes on dying."""


class Poison(Invalid):
    """The replica dies of this very row."""


class Blame:
    """Finds the row that kills in at most two deaths, without a cost while nobody dies.

    Every row of the batch that was being answered at a death is a suspect, and travels alone from
    then on. If a replica dies of it again it is convicted: nobody sends it any more. An answer
    acquits it. Rows are known by a fingerprint of what the model reads. `wary`: whether there is
    anybody to look out for.
    """

    __slots__ = ("_convicts", "_suspects", "wary")

    def __init__(self) -> None:
        self._suspects: dict[bytes, float] = {}
        self._convicts: dict[bytes, float] = {}
        self.wary = False

    def died(self, rows: Iterable[bytes], now: float) -> bool:
        """A replica died while it answered `rows` (monotonic seconds `now`); whether that proves
        the guilt of the only one."""
        marks = [_mark(r) for r in rows]
        guilty = len(marks) == 1 and self._suspects.pop(marks[0], 0.0) > now
        known, until = (self._convicts, SENTENCE) if guilty else (self._suspects, SUSPICION)
        for mark in marks:
            known.pop(mark, None)  # The order of a dict is that of insertion: the oldest comes first.
            known[mark] = now + until
        self._forget(now)
        return guilty

    def answered(self, rows: Iterable[bytes], now: float) -> None:
        """These rows did no harm."""
        for row in rows:
            self._suspects.pop(_mark(row), None)
        self._forget(now)

    def suspect(self, row: bytes) -> bool:
        """Whether the row must travel alone."""
        return _mark(row) in self._suspects

    def convicted(self, row: bytes, now: float) -> bool:
        """Whether the row must not travel."""
        return self._convicts.get(_mark(row), 0.0) > now

    def _forget(self, now: float) -> None:
        for known, most in ((self._suspects, SUSPECTS), (self._convicts, CONVICTS)):
            while known and (len(known) > most or next(iter(known.values())) <= now):
                del known[next(iter(known))]
        self.wary = bool(self._suspects or self._convicts)


def _mark(row: bytes) -> bytes:
    return blake2b(row, digest_size=16).digest()


class Crashes:
    """Notices that the replicas of a package die again and again, whoever is to blame."""

    __slots__ = ("_deaths", "_pause", "until")

    def __init__(self) -> None:
        self._deaths: deque[float] = deque(maxlen=DEATHS)
        self._pause = OUT
        self.until = float("-inf")

    def died(self, now: float) -> None:
        """`now`: monotonic seconds. After a pause one more death is enough for the next."""
        self._deaths.append(now)
        crowd = len(self._deaths) == DEATHS and now - self._deaths[0] <= WINDOW
        relapse = 0 < now - self.until < WINDOW
        if now < self.until or not (crowd or relapse):
            return
        self._pause = min(LONGEST_OUT, 2 * self._pause) if relapse else OUT
        self.until = now + self._pause

    def reason(self, now: float) -> str:
        """Why the package is left alone now, or ""."""
        return (f"its replicas died {DEATHS} times in a short while: not asked for "
                f"{self._pause:g} s" if now < self.until else "")  # fmt: skip
