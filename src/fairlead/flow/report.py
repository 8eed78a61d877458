"""Reporting: a stretch of the past as values: what was asked, how it was answered, what was done."""

from itertools import pairwise
from math import ceil

from msgspec import Struct

from fairlead.core.alert import Alert
from fairlead.core.artifact import PackageSpec
from fairlead.core.event import Event
from fairlead.core.evidence import Evidence
from fairlead.core.ref import Ref
from fairlead.core.release import Release
from fairlead.core.traffic import DAY
from fairlead.errors import Missing
from fairlead.flow.alert import read
from fairlead.flow.observe import Observer
from fairlead.ports import Records

__all__ = ["Report", "Slot", "report"]

FINE, COARSE = 56, 14
"""Most slots of traffic, and of what needs many rows: quality and drift."""

HOUR = DAY / 24
WIDTHS = (HOUR / 60, HOUR / 12, HOUR / 4, HOUR, 3 * HOUR, DAY, 2 * DAY, 3 * DAY, 7 * DAY)
"""Seconds a slot may last, no half days among them, since days and nights differ; longer stretches
have weeks by the number."""

TOLD = ("service.", "release.", "retrain.", "respond.", "alert.raised", "alert.cleared",
        "alert.resolved", "alert.acknowledged", "alert.silenced")  # fmt: skip


class Slot(Struct, frozen=True, kw_only=True):
    """What is known of the answers of one package within [since, until)."""

    package: Ref
    since: float
    until: float
    facts: dict[str, Evidence]


class Report(Struct, frozen=True, kw_only=True):
    """[since, until) of a service. `fine` and `coarse`: slots by package, in order of time; `whole`:
    one slot per package; `alerts` that were open at some time in it, `releases` that ran,
    `events` that people and the loop caused. `unwatched`: columns of the serving package that nobody
    watches for drift, with the reason."""

    service: str
    since: float
    until: float
    now: float
    task: str
    packages: tuple[Ref, ...]
    whole: tuple[Slot, ...]
    fine: tuple[Slot, ...]
    coarse: tuple[Slot, ...]
    alerts: tuple[Alert, ...]
    releases: tuple[Release, ...]
    events: tuple[Event, ...]
    unwatched: dict[str, str] = {}


def report(observer: Observer, records: Records, service: str, since: float, until: float,
           now: float) -> Report:  # fmt: skip
    """Everything a page about [since, until) says. Raises Missing when nothing was asked then."""
    observer.pull(now)
    until, since = min(until, now), max(since, observer.first_at)
    packages = observer.packages(since, until)
    if not packages:
        raise Missing(f"nobody asked {service} anything in that time",
                      hint="`fairlead report --last 90d` looks further back")  # fmt: skip
    spec = records.artifact(packages[-1]).spec
    return Report(
        service=service, since=since, until=until, now=now, packages=tuple(packages),
        task=spec.task if isinstance(spec, PackageSpec) else "",
        whole=_slots(observer, packages, [(since, until)], whole=True),
        fine=_slots(observer, packages, _cut(since, until, FINE), whole=False),
        coarse=_slots(observer, packages, _cut(since, until, COARSE), whole=True),
        alerts=tuple(a for a in read(records, service).all
                     if a.raised_at < until and (a.ended_at or until) >= since),
        releases=tuple(r for r in records.releases(service) if r.started_at < until and (r.ended_at or until) >= since),
        events=tuple(e for e in records.events() if since <= e.at < until and e.verb.startswith(TOLD)
                     and e.body.get("service", service) == service),
        unwatched=observer.unwatched(),
    )  # fmt: skip


def _cut(since: float, until: float, most: int) -> list[tuple[float, float]]:
    """At most so many slots of equal, round length that begin at round times."""
    raw = (until - since) / most
    width = next((w for w in WIDTHS if w >= raw), WIDTHS[-1] * ceil(raw / WIDTHS[-1]))
    first = since // width
    edges = [i * width for i in range(int(first), ceil(until / width) + 1)]
    return [(max(a, since), min(b, until)) for a, b in pairwise(edges) if b > since]


def _slots(observer: Observer, packages: list[Ref], spans: list[tuple[float, float]], *,
           whole: bool) -> tuple[Slot, ...]:  # fmt: skip
    made: list[Slot] = []
    for package in packages:
        for since, until in spans:
            facts = observer.past(package, since, until, whole=whole)
            seen = {f.measure: f for f in facts if isinstance(f, Evidence) and not f.slice}
            made.append(Slot(package=package, since=since, until=until, facts=seen))
    return tuple(made)
