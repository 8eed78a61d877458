"""Timely features: the online store is asked, but nobody waits for it longer than its share of the time."""

import threading
from collections.abc import Sequence
from queue import Empty, SimpleQueue
from time import perf_counter
from typing import Any

from fairlead.core.feature import FeatureView
from fairlead.errors import Corrupt, FairleadError, Unavailable
from fairlead.ports import Online

__all__ = ["SHARE", "Timely"]

SHARE = 0.05
"""Of a request's deadline: so long the store may take for all views of one row."""
PAUSE, LONGEST = 0.05, 1.0
"""Seconds without a question after the second miss in a row; doubled by each further one. A hiccup
costs the rows of its own time only; an outage costs the event loop one share a second, however many
requests there are."""

Questions = Sequence[tuple[FeatureView, str]]


class Timely:
    """Reads `store` in a thread of its own, for `seconds` at most."""

    def __init__(self, store: Online, seconds: float) -> None:
        self._store, self._seconds = store, seconds
        self._asked: SimpleQueue[tuple[Questions, float]] = SimpleQueue()
        self._told: SimpleQueue[dict[str, Any] | FairleadError] = SimpleQueue()
        self._behind, self._again, self._misses = False, 0.0, 0
        threading.Thread(target=self._work, name="online", daemon=True).start()

    def read(self, questions: Questions, at: float) -> dict[str, Any]:
        """Every view's outputs for its entity as of `at`: `Online.read` for all at once, so that a
        row changes threads once. Raises Unavailable also when the answer does not come in time."""
        if perf_counter() < self._again or not self._caught_up():
            raise Unavailable("the online features are late", hint="look at the disk of online.db")
        self._asked.put((questions, at))
        try:
            found = self._told.get(timeout=self._seconds)
        except Empty:
            self._missed()
            raise Unavailable(f"no online features within {self._seconds:g} s",
                              hint="look at the disk of online.db") from None  # fmt: skip
        self._misses = 0
        if isinstance(found, FairleadError):
            raise found
        return found

    def _missed(self) -> None:
        self._behind = True
        if self._misses:
            self._again = perf_counter() + min(LONGEST, PAUSE * 2.0 ** (self._misses - 1))
        self._misses += 1

    def _caught_up(self) -> bool:
        """Whether the store is free for a question; an answer that came too late is thrown away."""
        if self._behind:
            try:
                self._told.get_nowait()
            except Empty:
                return False
            self._behind = False
        return True

    def _work(self) -> None:
        while True:
            questions, at = self._asked.get()
            found: dict[str, Any] = {}
            try:
                for view, entity in questions:
                    found |= self._store.read(view, entity, at)
                self._told.put(found)
            except FairleadError as error:
                self._told.put(error)
            except Exception as error:  # noqa: BLE001 - the thread must live, and somebody waits for it
                self._told.put(Corrupt(f"online features: {error}", hint="the log says more"))
