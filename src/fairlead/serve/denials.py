"""Denials: refused requests go to the journal too, so few of them a second that no flood can use it up."""

from time import perf_counter
from typing import Any

import msgspec

from fairlead.core.contract import Scalar
from fairlead.core.journal import Denial
from fairlead.core.veil import Veil, denied, hidden
from fairlead.serve.config import GatewayConfig
from fairlead.serve.metrics import Metrics
from fairlead.serve.plan import Plan
from fairlead.serve.refusal import Refusal
from fairlead.serve.sink import Sink

__all__ = ["Denials"]

A_SECOND = 20
"""Refusals of one code that are written in a second; the next one written stands for the others."""
LONGEST = 4096
"""Bytes of a row that is kept."""

_decode = msgspec.json.Decoder(dict[str, Any]).decode


class _Tally:
    """Of one code: those written in the current second, and those passed over since the last one."""

    __slots__ = ("passed", "second", "written")

    def __init__(self) -> None:
        self.second = self.written = self.passed = 0

    def admits(self, now: float) -> bool:
        if int(now) != self.second:
            self.second, self.written = int(now), 0
        self.written += 1
        return self.written <= A_SECOND


class Denials:
    """Writes down who was refused before any package was asked. `passed`: how many were not written."""

    def __init__(self, config: GatewayConfig, sink: Sink, metrics: Metrics, veil: Veil | None) -> None:
        self._service, self._hidden = config.service, hidden(config.log)
        self._sink, self._veil = sink, veil
        self._tallies: dict[str, _Tally] = {}
        self.passed = metrics.counter("fairlead_refused_unlogged_total",
                                      "Refused requests that the journal only counts.")  # fmt: skip

    def add(self, request: str, unit: str, refusal: Refusal, body: bytes, plan: Plan | None, *,
            at: float, started: float) -> None:  # fmt: skip
        """Take a refusal that the caller has been told. `body`: the row it is about, if there is one;
        `at`: UTC seconds; `started`: when the request was whole, on the monotonic clock."""
        now = perf_counter()
        tally = self._tallies.setdefault(refusal.code, _Tally())
        if tally.admits(now) and self._sink.add(self._denial(
                request, unit, refusal, body, plan, at=at, latency=now - started, count=1 + tally.passed)):  # fmt: skip
            tally.passed = 0
        else:
            tally.passed += 1
            self.passed.n += 1

    def _denial(self, request: str, unit: str, refusal: Refusal, body: bytes, plan: Plan | None, *,
                at: float, latency: float, count: int) -> Denial:  # fmt: skip
        reader = None if plan is None else plan.baseline.reader
        names = () if reader is None else reader.contract.names
        row = _row(body, names)
        if reader is not None and reader.sticky >= 0 and (said := row.get(names[reader.sticky])) is not None:
            unit = str(said)
        denial = Denial(
            id=request, service=self._service, package="" if reader is None else reader.name, at=at,
            epoch=0 if plan is None else plan.route.epoch, unit=unit or request, status=refusal.status,
            code=refusal.code, pointer=refusal.pointer, message=self._message(refusal, names),
            body=msgspec.json.encode(row) if row else b"", latency=latency, count=count,
        )  # fmt: skip
        return denial if self._veil is None else denied(self._veil, denial)

    def _message(self, refusal: Refusal, names: tuple[str, ...]) -> str:
        """A message repeats what was sent: it is kept where that is of a column nobody hides."""
        column = refusal.pointer.rpartition("/")[2].replace("~1", "/").replace("~0", "~")
        return refusal.message if not self._hidden or column in {*names} - self._hidden else ""


def _row(body: bytes, names: tuple[str, ...]) -> dict[str, Any]:
    """What of a JSON object the contract knows: under another name, or inside another value, nobody
    could tell what must be hidden."""
    if len(body) > LONGEST:
        return {}
    try:
        row = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    return {n: row[n] for n in names if n in row and isinstance(row[n], Scalar)}
