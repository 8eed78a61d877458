"""A scrape of a running service: what its processes use and what a prediction costs, from /metrics."""

import re
from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

from fairlead.api.client import Client
from fairlead.core.ref import Ref

__all__ = ["Cost", "Process", "scrape"]

LINE = re.compile(r"^(\w+)\{(.*)\} ([^ ]+)$", re.M)
LABEL = re.compile(r'(\w+)="([^"]*)"')

ROWS, SPENT = "fairlead_predictions_total", "fairlead_spent_total"


class Process(Struct, frozen=True, kw_only=True):
    """One process: `resident` bytes, `seconds` of CPU so far; `package`: of a replica, else None."""

    process: str
    pid: int
    package: Ref | None = None
    resident: float = 0.0
    seconds: float = 0.0


class Cost(Struct, frozen=True, kw_only=True):
    """Of 1000 predictions of a package: CPU seconds, or `money` where the manifest names a price of
    them, or a provider's."""

    package: Ref
    per_thousand: float
    money: bool


def scrape(client: Client, price: float) -> tuple[tuple[Process, ...], tuple[Cost, ...]]:
    """Processes as the service lists them, and what packages cost since they were started; `price`:
    of an hour of one CPU, 0 counts CPU seconds. Raises what `Client.text` raises."""
    found = list(_cells(client.text("/metrics")))
    known = {"fairlead_resident_bytes": "resident", "fairlead_cpu_seconds_total": "seconds"}
    processes: dict[int, dict[str, float]] = {}
    labels_of: dict[int, dict[str, str]] = {}
    for name, labels, value in found:
        if name in known and labels.get("pid", "").isdigit():
            pid = int(labels["pid"])
            labels_of[pid] = labels
            processes.setdefault(pid, {})[known[name]] = value
    made = tuple(Process(process=labels_of[pid].get("process", ""), pid=pid,
                         package=_ref(labels_of[pid]), **values)
                 for pid, values in processes.items())  # fmt: skip
    sums: dict[str, dict[Ref, float]] = {ROWS: {}, SPENT: {}}
    for name, labels, value in found:
        if name in sums and (package := _ref(labels)) is not None:
            sums[name][package] = sums[name].get(package, 0.0) + value
    return made, tuple(_costs(made, sums[ROWS], sums[SPENT], price / 3600))


def _costs(processes: Sequence[Process], rows: Mapping[Ref, float], asked: Mapping[Ref, float],
           price: float) -> Iterator[Cost]:  # fmt: skip
    """Its replicas, and its share of the gateways by rows: of all rows so far, while the gauge in
    /metrics begins at the first scrape and so has nothing to say to whoever looks once. `asked`: by
    the providers of packages; `price`: of a CPU second, 0 for none."""
    gateways = sum(p.seconds for p in processes if p.process == "gateway")
    for package, count in rows.items():
        own = sum(p.seconds for p in processes if p.package == package)
        if count:
            money = price > 0 or package in asked
            spent = (own / count + gateways / sum(rows.values())) * (price if money else 1.0)
            yield Cost(package=package, per_thousand=1000 * (spent + asked.get(package, 0.0) / count), money=money)


def _ref(labels: dict[str, str]) -> Ref | None:
    return Ref.parse(labels["package"]) if labels.get("package") else None


def _cells(text: str) -> Iterator[tuple[str, dict[str, str], float]]:
    for line in LINE.finditer(text):
        yield line[1], dict(LABEL.findall(line[2])), float(line[3])
