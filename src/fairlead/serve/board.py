"""Board: the metrics of all gateways of a service, the same whichever of them is asked."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import Struct

from fairlead.core.ref import Ref
from fairlead.serve.batch import Lane
from fairlead.serve.metrics import Family, Metrics, spell
from fairlead.serve.usage import Usage, usage

__all__ = ["Board"]

HOUR, THOUSAND = 3600.0, 1000.0
ROWS, SPENT = "fairlead_predictions_total", "fairlead_spent_total"
_PACKAGE = re.compile(r'package="([^"]*)"')


class Sheet(Struct):
    """What one gateway counted; `pid` tells whether it still lives."""

    pid: int
    families: list[Family]


class Served(Struct):
    """What of run/serve.json matters here."""

    pid: int
    controller: int | None
    parents: list[int | None]


class Spent(Struct, frozen=True):
    """One process of the service; `package` is "" unless it is a replica."""

    process: str
    package: str
    usage: Usage


class Board:
    """`publish` writes down what this gateway counted, `text` shows what all have written.

    Nothing is added up over gateways: every cell says which one counted it, so that no sum falls
    when a gateway goes. What the kernel counts is read from /proc when asked.
    """

    def __init__(
        self, gateway: str, metrics: Metrics, lanes: Mapping[Ref, Lane], run: Path, price: float
    ) -> None:
        """`run`: shared by all gateways; `price`: of an hour of one CPU, 0 counts CPU seconds."""
        self.gateway, self.metrics, self._lanes = gateway, metrics, lanes
        self._run, self._price = run, price
        # Of the warm parent: a worker that follows a dead one writes over its sheet.
        self._parent = os.getppid()
        self._own = self._place(self._parent)
        self._begun: dict[str, tuple[float, float]] = {}

    def publish(self) -> Sheet:
        """Atomic; what another gateway reads only ever grows. A full disk leaves it as it was."""
        sheet = Sheet(os.getpid(), [*self.metrics.families(), *self._queues()])
        fresh = self._own.with_name(f".{self._own.name}")
        with suppress(OSError):
            fresh.write_bytes(msgspec.json.encode(sheet))
            fresh.replace(self._own)
        return sheet

    def _place(self, parent: int) -> Path:
        return self._run / f"metrics-{parent}.json"

    def withdraw(self) -> None:
        """Called at the end of this gateway."""
        self._own.unlink(missing_ok=True)

    def text(self) -> bytes:
        """All families, for Prometheus. What is shown of this gateway is published first: shown later
        by another one, it must not have fallen."""
        served = self._served()
        sheets = [self.publish(), *self._sheets(served)]
        families = [f for sheet in sheets for f in sheet.families]
        spent = list(self._spent([sheet.pid for sheet in sheets], served))
        return spell([*families, *_resources(spent), self._cost(spent, families)])

    def _served(self) -> Served | None:
        """None until a first package answers."""
        try:
            return msgspec.json.decode((self._run / "serve.json").read_bytes(), type=Served)
        except OSError:
            return None

    def _sheets(self, served: Served | None) -> Iterator[Sheet]:
        """Of the other gateways, by name: a folder that is listed while a file in it is replaced
        may not show that file."""
        others = [p for p in served.parents if p and p != self._parent] if served else []
        for parent in others:
            with suppress(OSError):  # The gateway is gone.
                sheet = msgspec.json.decode(self._place(parent).read_bytes(), type=Sheet)
                os.kill(sheet.pid, 0)
                yield sheet

    def _queues(self) -> list[Family]:
        """What only the lanes know."""
        waiting = Family("fairlead_queue_rows", "gauge", "Rows that wait for a replica.")
        flying = Family("fairlead_in_flight_rows", "gauge", "Rows at a replica.")
        again = Family("fairlead_replica_restarts_total", "counter",
                       "Replicas that took the place of a dead one.")  # fmt: skip
        for ref, lane in self._lanes.items():
            labels = {"gateway": self.gateway, "package": str(ref)}
            waiting.put(len(lane.pending), live="true", **labels)
            waiting.put(len(lane.mirrored), live="false", **labels)
            flying.put(sum(len(f) for k in (*lane.links, *lane.parting)
                           for f in k.flights.values()), **labels)  # fmt: skip
            again.put(lane.greeted - lane.most, **labels)
        return [waiting, flying, again]

    def _spent(self, gateways: Sequence[int], served: Served | None) -> Iterator[Spent]:
        """What each process of the service used so far."""
        wanted = [("gateway", "", pid, True) for pid in gateways]
        wanted += [("replica", str(ref), k.hello.pid, True)
                   for ref, lane in self._lanes.items() for k in lane.links if k.hello]  # fmt: skip
        if served is not None:
            wanted += [("supervisor", "", served.pid, False)]
            wanted += [("controller", "", served.controller, False)] if served.controller else []
        for process, package, pid, kept in wanted:
            found = usage(pid, kept=kept)
            if found is not None:
                yield Spent(process, package, found)

    def _cost(self, spent: Sequence[Spent], families: Sequence[Family]) -> Family:
        """Since this gateway first saw a package: the CPU of its replicas, and of the gateways by
        its share of the rows. Where a provider asks for money: that, and the CPU if it has a price."""
        unit = self._price / HOUR if self._price else 1.0
        cost = Family("fairlead_cost_per_thousand", "gauge", "Of 1000 predictions: "
                      + ("their price." if self._price else "CPU seconds; of chats what providers ask."))  # fmt: skip
        rows, spent_at = _by_package(families, ROWS), _by_package(families, SPENT)
        seconds: dict[str, float] = {}
        for one in spent:
            seconds[one.package] = seconds.get(one.package, 0.0) + one.usage.seconds
        gateways = sum(one.usage.seconds for one in spent if one.process == "gateway")
        shared = gateways / max(1.0, sum(rows.values()))
        for package, count in rows.items():
            total, start = (seconds.get(package, 0.0) + shared * count) * unit, None
            if package in spent_at:
                total, start = spent_at[package] + total * (self._price > 0), (0.0, 0.0)
            then, before = self._begun.setdefault(package, start or (total, count))
            if count > before and total >= then:
                cost.put((total - then) * THOUSAND / (count - before), package=package)
        return cost


def _resources(spent: Sequence[Spent]) -> list[Family]:
    resident = Family("fairlead_resident_bytes", "gauge", "Memory of a process.")
    seconds = Family("fairlead_cpu_seconds_total", "counter", "CPU time of a process and those before it.")
    files = Family("fairlead_open_files", "gauge", "Open descriptors of a process.")
    for one in spent:
        labels = {"process": one.process, "package": one.package, "pid": str(one.usage.pid)}
        resident.put(one.usage.resident, **labels)
        seconds.put(one.usage.seconds, **labels)
        files.put(one.usage.files, **labels)
    return [resident, seconds, files]


def _by_package(families: Sequence[Family], name: str) -> dict[str, float]:
    """A family by package, of all gateways."""
    rows: dict[str, float] = {}
    for family in families:
        for cell, count in family.cells.items() if family.name == name else ():
            found = _PACKAGE.search(cell)
            if found:
                rows[found[1]] = rows.get(found[1], 0.0) + count
    return rows
