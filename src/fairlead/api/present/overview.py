"""The state of a service on a screen: what is live, what is changing, how healthy it is."""

from typing import Any

from msgspec import Struct
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fairlead.api.present.alerts import COLOURS
from fairlead.api.present.figures import ago, count, measure, name, percent, size, span
from fairlead.api.present.rollout import View, headline, release_view
from fairlead.api.present.table import grid
from fairlead.api.scrape import Cost, Process
from fairlead.core.alert import Alert
from fairlead.core.approval import Broken
from fairlead.core.artifact import Artifact
from fairlead.core.evidence import Evidence
from fairlead.core.release import Service
from fairlead.flow.approval import Card

__all__ = ["Status", "status_view"]

SHARES = {"errors", "refused", "slow", "fallback", "labelled", "positive_rate"}
DRIFTS = {"drift", "nulls", "unseen"}
ENOUGH = 100
"""Requests below which a distance to the training data means nothing."""
FIRST = ("volume", "refused", "errors", "slow", "fallback", "latency_p50_ms", "latency_p99_ms", "drift",
         "nulls", "unseen", "labelled", "label_delay")  # fmt: skip


class Status(Struct, frozen=True, kw_only=True):
    """Everything `fairlead status` knows. `gateway`: its own words, None when it does not run;
    `health`: measured over the last `window` seconds; `processes` and `costs`: while it runs, costs
    in CPU seconds unless there is a `price` of a CPU hour; `alerts`: open ones, oldest first;
    `undelivered`: notices that wait for a receiver; `retraining`: where it stands, in words;
    `approvals`: that somebody is asked for, or that nobody has used; `glass`: releases that were started
    without one and that nobody has reviewed."""

    name: str
    now: float
    url: str = ""
    gateway: dict[str, Any] | None = None
    service: Service | None = None
    package: Artifact | None = None
    release: View | None = None
    window: float
    health: tuple[Evidence, ...] = ()
    processes: tuple[Process, ...] = ()
    costs: tuple[Cost, ...] = ()
    price: float = 0.0
    alerts: tuple[Alert, ...] = ()
    undelivered: int = 0
    retraining: str = ""
    approvals: tuple[Card, ...] = ()
    glass: tuple[Broken, ...] = ()


def status_view(status: Status) -> RenderableType:
    """The overview."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, style="dim")
    table.add_column(overflow="fold")
    table.add_row(Text("service", "dim"), _service(status))
    table.add_row(Text("package", "dim"), _package(status))
    previous = status.service.previous if status.service else ()
    if previous:
        table.add_row(Text("before", "dim"), Text(", ".join(name(p) for p in previous[:3]), "dim"))
    if status.release is not None:
        view = status.release
        whole = view.release.phase.final
        table.add_row(Text("release", "dim"), headline(view.release, view.now) if whole else release_view(view))  # fmt: skip
    table.add_row(Text("health", "dim"), _health(status))
    if status.processes:
        table.add_row(Text("resources", "dim"), _resources(status))
    table.add_row(Text("alerts", "dim"), _alerts(status))
    if status.retraining:
        table.add_row(Text("retraining", "dim"), Text(status.retraining))
    if status.approvals or status.glass:
        table.add_row(Text("approvals", "dim"), _approvals(status))
    return table


def _service(status: Status) -> Text:
    text = Text.assemble((status.name, "bold"))
    gateway = status.gateway
    if gateway is None:
        return text.append("  is not running: start it with `fairlead serve`", "yellow")
    ready = gateway.get("ready")
    text.append(f"  {status.url}  ").append("ready" if ready else "not ready", "green" if ready else "bold red")  # fmt: skip
    text.append(f"  up {span(float(gateway.get('uptime', 0)))}", "dim")
    lost = (gateway.get("journal") or {}).get("lost", 0)
    if lost:
        text.append(f"  {count(lost)} log lines lost", "bold red")
    if gateway.get("trouble"):
        text.append(f"  {gateway['trouble']}", "bold red")
    return text


def _package(status: Status) -> Text:
    here = status.package
    if here is None:
        return Text("none: `fairlead run` makes and releases one", "yellow")
    spec: Any = here.spec
    return Text.assemble((name(here.ref), "cyan"), f"  {spec.task}, {spec.flavor}",
                         (f"  made {ago(here.created_at, status.now)}", "dim"))  # fmt: skip


def _health(status: Status) -> RenderableType:
    whole = {e.measure: e for e in status.health if not e.slice and ":" not in e.measure}
    volume = whole["volume"].value if "volume" in whole else 0
    if not volume:
        return Text(f"no requests in the last {span(status.window)}", "dim")
    table = grid("", "", "", "")
    for key in sorted(whole, key=lambda k: (FIRST.index(k) if k in FIRST else len(FIRST), k)):
        if key in DRIFTS and volume < ENOUGH:
            continue
        seen = whole[key]
        more = _worst(status, seen) if key in DRIFTS else f"of {count(seen.n)}" if seen.n < volume else ""  # fmt: skip
        table.add_row(key.replace("_", " "), _value(key, seen.value), Text(_between(key, seen), "dim"),
                      Text(more, "dim"))  # fmt: skip
    return Group(Text(f"last {span(status.window)}", "dim"), table)


def _worst(status: Status, whole: Evidence) -> str:
    """The column that a drift measure of the whole table comes from."""
    mine = [e for e in status.health if e.measure.startswith(f"{whole.measure}:")]
    return max(mine, key=lambda e: e.value).measure.partition(":")[2] if mine and whole.value > 0 else ""


def _value(key: str, value: float) -> str:
    if key == "volume":
        return f"{count(value)} requests"
    if key in ("label_delay", "silence"):
        return span(value)
    if key.endswith("_ms"):
        return f"{measure(value)} ms"
    return percent(value) if key in SHARES else measure(value)


def _between(key: str, seen: Evidence) -> str:
    if seen.low is None or seen.high is None or seen.low == seen.high:
        return ""
    return f"{_value(key, seen.low)} to {_value(key, seen.high)}"


def _resources(status: Status) -> RenderableType:
    table = grid("", "", "", "")
    for one in status.processes:
        table.add_row(one.process, Text(name(one.package) if one.package else "", "cyan"), size(one.resident),
                      Text(f"{one.seconds:.1f} s of CPU", "dim"))  # fmt: skip
    for cost in status.costs:
        table.add_row("cost", Text(name(cost.package), "cyan"), f"{measure(cost.per_thousand)}{'' if cost.money else ' s of CPU'}",
                      Text("per 1,000 predictions", "dim"))  # fmt: skip
    return table


def _approvals(status: Status) -> Text:
    """Who is asked for what, and what was started without asking."""
    text = Text()
    for card in status.approvals:
        a, left = card.approval, card.approval.needs - len(card.approval.grants)
        said = f"needs {left} more" if card.state == "waiting" else "may start"
        text.append(f"{a.id} ", "bold").append(card.state, "yellow" if card.state == "waiting" else "green")
        text.append(f"  {', '.join(map(name, a.bound.packages))}", "cyan")
        text.append(f"  asked by {a.asked.by} {ago(a.asked.at, status.now)}, {said}", "dim")
        text.append(f"  {card.void}\n" if card.void and card.state == "granted" else "\n", "yellow")
    for glass in status.glass:
        text.append(f"{glass.release} was started without approval by {glass.told.by}: review it\n", "bold red")
    text.rstrip()
    return text


def _alerts(status: Status) -> Text:
    text = Text()
    for alert in status.alerts:
        text.append(f"{alert.id} ", "bold").append(alert.state, COLOURS[alert.state])
        times = f", {alert.count} times" if alert.count > 1 else ""
        text.append(f"  {alert.name}", "bold").append(f"  {ago(alert.raised_at, status.now)}{times}  ", "dim")
        text.append(f"{alert.cause}\n")
    if status.undelivered:
        text.append(f"{count(status.undelivered)} undelivered: see `fairlead alerts`\n", "bold red")
    text.rstrip()
    return text or Text("none open", "green")
