"""The survey: where every monitor stands, what it measured lately, and what it may cost."""

from collections.abc import Sequence

from msgspec import Struct

from fairlead.core.alert import Alerts
from fairlead.core.check import Verdict, judge
from fairlead.core.monitor import COLUMNS, QUARTER, Monitor, level, proves
from fairlead.flow.observe import Observer
from fairlead.ports import Records

__all__ = ["Standing", "survey"]

WINDOWS = 12
"""Windows a monitor is looked back on, the present one last."""


class Standing(Struct, frozen=True, kw_only=True):
    """A monitor now. `values`: its measure over the last windows, oldest first (None: unknown then);
    `verdict`: None while nothing serves; `allowed`: false alarms a quarter it may raise; `raised`:
    alarms of the last quarter; `alert`: the number of its open alert, 0 for none. `unwatched`: of a
    monitor of columns, those that it cannot see, with the reason."""

    monitor: Monitor
    verdict: Verdict | None
    values: tuple[float | None, ...]
    allowed: float
    raised: int
    alert: int = 0
    silent_until: float = 0.0
    unwatched: dict[str, str] = {}


def survey(observer: Observer, records: Records, service: str, monitors: Sequence[Monitor],
           per_quarter: float, now: float) -> list[Standing]:  # fmt: skip
    """Judge every monitor as its controller would now, and look back as far as is remembered."""
    bound = level(monitors, per_quarter)
    here = records.service(service)
    package = here.package if here else None
    events = list(records.events(subject=f"service/{service}"))
    alerts = Alerts(service, events)
    seen: dict[tuple[str, int], float | None] = {}
    verdicts: dict[str, Verdict] = {}
    # Oldest first: detectors of drift take windows in their order.
    for at, back, window in sorted((now - back * w, back, w) for w in {m.window for m in monitors}
                                   for back in range(WINDOWS)):  # fmt: skip
        facts = observer.watch(at, window, bound)
        for monitor in (m for m in monitors if m.window == window and package is not None):
            assert package is not None
            fact = facts.get(package, monitor.check.measure, monitor.check.slice)
            seen[monitor.name, back] = None if fact is None else fact.value
            if back == 0:
                verdicts[monitor.name] = judge(monitor.check, facts, package, None)
    made: list[Standing] = []
    unwatched = observer.unwatched()
    for monitor in monitors:
        raised = [e for e in events if e.verb == "alert.raised" and e.body.get("monitor") == monitor.name
                  and e.at > now - QUARTER]  # fmt: skip
        silence = alerts.silenced(monitor.name, now)
        made.append(Standing(
            monitor=monitor, verdict=verdicts.get(monitor.name), allowed=_allowed(monitor, monitors, per_quarter),
            values=tuple(seen.get((monitor.name, back)) for back in reversed(range(WINDOWS))),
            raised=len(raised), alert=next((a.id for a in alerts.open if a.monitor == monitor.name), 0),
            silent_until=silence.until if silence else 0.0,
            unwatched=unwatched if monitor.check.measure.partition(":")[0] in COLUMNS else {},
        ))  # fmt: skip
    return made


def _allowed(monitor: Monitor, monitors: Sequence[Monitor], per_quarter: float) -> float:
    """Its part of the budget: ordinary monitors share theirs by how often they look, and all
    detectors of drift together have one part, as `core.monitor.level` and `spacing` divide it."""
    ordinary = [m for m in monitors if not proves(m)]
    parts = len(ordinary) + any(map(proves, monitors))
    if proves(monitor):
        return per_quarter / parts / sum(map(proves, monitors))
    looks = sum(1 / m.every for m in ordinary)
    return per_quarter * len(ordinary) / parts / monitor.every / looks
