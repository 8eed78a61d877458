"""Timely features: the online store is asked, but nobody waits for it longer than its share of the time."""

import threading
from queue import Empty, SimpleQueue
from time import perf_counter
from typing import Any

from fairlead.core.feature import FeatureView
from fairlead.errors import Corrupt, FairleadError, Unavailable
from fairlead.ports import Online

__all__ = ["SHARE", "Timely"]

SHARE = 0.02
"""Of a request's deadline: so long the store may take for one view of one row."""
PAUSE = 1.0
"""Seconds without a question after one that was not answered in time: an outage costs the event
loop one share a second, however many requests there are."""


class Timely:
    """Reads `store` in a thread of its own, for `seconds` at most."""

    def __init__(self, store: Online, seconds: float) -> None:
        self._store, self._seconds = store, seconds
        self._asked: SimpleQueue[tuple[FeatureView, str, float]] = SimpleQueue()
        self._told: SimpleQueue[dict[str, Any] | FairleadError] = SimpleQueue()
        self._behind, self._again = False, 0.0
        threading.Thread(target=self._work, name="online", daemon=True).start()

    def read(self, view: FeatureView, entity: str, at: float) -> dict[str, Any]:
        """As `Online.read`. Raises Unavailable also when the answer does not come in time."""
        now = perf_counter()
        if now < self._again or not self._caught_up():
            raise Unavailable("the online features are late", hint="look at the disk of online.db")
        self._asked.put((view, entity, at))
        try:
            found = self._told.get(timeout=self._seconds)
        except Empty:
            self._behind, self._again = True, now + PAUSE
            raise Unavailable(f"no online features within {self._seconds:g} s",
                              hint="look at the disk of online.db") from None  # fmt: skip
        if isinstance(found, FairleadError):
            raise found
        return found

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
            view, entity, at = self._asked.get()
            try:
                self._told.put(self._store.read(view, entity, at))
            except FairleadError as error:
                self._told.put(error)
            except Exception as error:  # noqa: BLE001 - the thread must live, and somebody waits for it
                self._told.put(Corrupt(f"online features: {error}", hint="the log says more"))
