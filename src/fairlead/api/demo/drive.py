"""Driving: the world's hours become HTTP traffic, facts and feedback, on an accelerated clock."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator

import msgspec
from msgspec import Struct

from fairlead.adapters.clock import SharedClock
from fairlead.api.demo.screen import Traffic
from fairlead.api.demo.world import HOUR, Hour
from fairlead.api.load import Answer, Client
from fairlead.core.event import Event
from fairlead.project import Project

__all__ = ["Drive", "Tally"]

GLANCE = 6
"""Hours between two looks at the audit log and at what runs."""

Told = Callable[[Event], None]


class Said(Struct):
    """The part of an answer the drive reads."""

    id: str = ""
    fallback: bool = False


class Tally(Struct):
    """What came back. `first_bad`: monotonic and replayed time of the first fallback."""

    answered: int = 0
    failed: int = 0
    fallbacks: int = 0
    labels: int = 0
    seconds: float = 0.0
    first_bad: tuple[float, float] | None = None
    last_id: str = ""


class Drive:
    """Plays hours into the service: the clock, then facts and feedback, then the requests.

    `pace`: replayed hours per second at most (None: as fast as the machine can); `told` hears
    every audit event in order; what came back is counted in `tally`.
    """

    def __init__(
        self, project: Project, clock: SharedClock, client: Client, hours: Iterator[Hour],
        traffic: Traffic, tally: Tally, told: Told,
    ) -> None:  # fmt: skip
        self._project, self._clock, self._client = project, clock, client
        self._hours, self._traffic, self._told = hours, traffic, told
        self._ids: dict[int, str] = {}
        self._seq = project.records.head()[0]
        self._decode = msgspec.json.Decoder(Said).decode
        self.tally = tally
        self.pace: float | None = None

    async def play(self) -> AsyncIterator[float]:
        """Yield the time after every few hours, so that the story can act."""
        began = time.monotonic()
        for count, hour in enumerate(self._hours, 1):
            started = time.monotonic()
            await self._hour(hour)
            if count % GLANCE == 0:
                self._glance()
                yield hour.at + HOUR
            self._traffic.rate = self.tally.answered / max(time.monotonic() - began, 1e-9)
            if self.pace is not None:
                rest = 1 / self.pace - (time.monotonic() - started)
                await asyncio.sleep(max(rest, 0))
        self._glance()

    async def _hour(self, hour: Hour) -> None:
        self._clock.set(hour.at)
        for view, rows in hour.facts:
            self._project.online.push(view, rows, f"{view.source}:{hour.at}")
        await self._tell(hour)
        answers = await self._client.post("/predict", hour.bodies)
        for number, answer in zip(hour.asked, answers, strict=True):
            self._count(number, answer, hour.at)
        self._traffic.at = hour.at
        self._traffic.answered, self._traffic.failed = self.tally.answered, self.tally.failed

    async def _tell(self, hour: Hour) -> None:
        notes = [{"prediction": self._ids.pop(n), "value": late, "at": at}
                 for n, late, at in hour.truths if n in self._ids]  # fmt: skip
        if notes:
            sent = await self._client.post("/feedback", [msgspec.json.encode({"feedback": notes})])
            self.tally.labels += len(notes) if sent[0].status == 202 else 0

    def _count(self, number: int, answer: Answer, at: float) -> None:
        tally = self.tally
        if answer.status != 200:
            tally.failed += 1
            return
        said = self._decode(answer.body)
        self._ids[number] = tally.last_id = said.id
        tally.answered += 1
        tally.seconds += answer.seconds
        if said.fallback:
            tally.fallbacks += 1
            if tally.first_bad is None:
                tally.first_bad = (time.monotonic(), at)

    def _glance(self) -> None:
        for event in self._project.records.events(self._seq):
            self._seq = event.seq
            self._told(event)
        route = self._project.router.published()
        arms = route.arms[1:] if route is not None else ()
        self._traffic.share = sum(a.weight for a in arms)
        self._traffic.mirror = max((a.mirror for a in arms), default=0.0)
