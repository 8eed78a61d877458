"""Alerts: what monitors and releases raised, who has seen it, and who is still to be told. Pure.

The audit log is the only memory: alerts, silences and the state of every delivery are a fold over
its events, so whoever reads the log, after whatever crash, knows the same.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from fairlead.core.event import Event, seal
from fairlead.errors import Invalid

__all__ = ["ANY", "GLASS", "Alert", "Alerts", "Figure", "Notice", "Post", "Refused", "Silence", "document",
           "headline", "lines"]  # fmt: skip

ANY = "*"
"""A silence for every monitor."""
GLASS = "break-glass"
"""The alert of a release that was started without approval: no silence covers it, and only a
review by somebody else ends it."""
RECOVERY = "recovery"
"""The alert of an admin's token that was made anew: no silence covers it either."""
SHORT = 12
"""Digits of a digest that people compare."""

State = Literal["open", "acknowledged", "resolved"]
Kind = Literal["raised", "repeated", "failed", "resolved"]


class Refused(Invalid):
    """A receiver read a notice and will never take it: the next one may fare better."""


class Figure(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A number behind an alert, its bounds, and how much data stands behind it."""

    measure: str
    value: float
    n: int = 0
    low: float | None = None
    high: float | None = None
    slice: str = ""
    since: float = 0.0
    until: float = 0.0


class Alert(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One trouble, however often it was seen: the number of the event that raised it first is its
    `id`. It is about a `monitor`, or about a `check` of a `release`; `failed` says which action
    could not be carried out; `told`: a receiver was or will be told of it.
    """

    id: int
    service: str
    package: str
    cause: str
    monitor: str = ""
    release: str = ""
    check: str = ""
    measure: str = ""
    seen: tuple[Figure, ...] = ()
    slices: tuple[Figure, ...] = ()
    actions: tuple[str, ...] = ()
    next: str = ""
    failed: str = ""
    raised_at: float = 0.0
    last_at: float = 0.0
    count: int = 1
    state: State = "open"
    by: str = ""
    why: str = ""
    ended_at: float = 0.0
    told: bool = False

    @property
    def name(self) -> str:
        """The monitor, or the check of a release."""
        return self.monitor or self.check

    @property
    def same(self) -> tuple[str, str, str, str]:
        """What two alerts have in common that are the same trouble."""
        return self.monitor, self.release, self.check, self.package


class Silence(Struct, frozen=True, kw_only=True):
    """Nobody is told of `monitor` (a monitor, a check, or ANY) until then; it goes on acting."""

    monitor: str
    until: float
    by: str
    reason: str


class Notice(Struct, frozen=True, kw_only=True):
    """What a receiver is told: an alert as it stood at a moment. A receiver that knows `key`
    already was told before."""

    key: str
    kind: Kind
    at: float
    alert: Alert


class Post(Struct, frozen=True, kw_only=True):
    """How far a receiver is: the first `done` notices reached it, were refused by it (`refused` of
    them), or are older than it; `trouble`: why it cannot be reached, since `since` (0: it can)."""

    to: str
    done: int
    delivered: int = 0
    refused: int = 0
    last_at: float = 0.0
    trouble: str = ""
    since: float = 0.0


class Alerts:
    """The alerts of one service, from the events of its audit log."""

    def __init__(self, service: str, events: Iterable[Event] = ()) -> None:
        self.seq = 0
        self.notices: list[Notice] = []
        self.silences: dict[str, Silence] = {}
        self.posts: dict[str, Post] = {}
        self._service = service
        self._alerts: dict[int, Alert] = {}
        self._places: dict[str, int] = {}
        for event in events:
            self.take(event)

    @property
    def all(self) -> list[Alert]:
        """In the order they were raised."""
        return list(self._alerts.values())

    @property
    def open(self) -> list[Alert]:
        """Those not resolved yet."""
        return [a for a in self._alerts.values() if a.state != "resolved"]

    def silenced(self, name: str, at: float) -> Silence | None:
        """The silence that covers a monitor or check at a moment."""
        found = (self.silences.get(name), self.silences.get(ANY))
        return next((s for s in found if s is not None and at < s.until), None)

    def waiting(self, to: str) -> list[Notice]:
        """What a receiver is still to be told, in order; nothing from before it was known."""
        return self.notices[self.posts[to].done :] if to in self.posts else []

    def take(self, event: Event) -> None:
        """Read the next event; those of other services and about other things change nothing."""
        self.seq = event.seq
        if event.body.get("service") != self._service:
            return
        match event.verb:
            case "alert.raised":
                self._raised(event, _alert(event))
            case "release.started" if "break_glass" in event.body:
                self._raised(event, _glass(event))
            case "alert.cleared" | "alert.resolved" | "approval.reviewed" | "release.promoted" | "release.kept":
                self._ended(event)
            case "token.recovered":
                self._raised(event, _recovery(event, self._service))
            case "alert.acknowledged":
                self._change(event.body["alert"], state="acknowledged", by=event.actor,
                             why=event.body.get("note", ""))  # fmt: skip
            case "alert.silenced":
                name = event.body["monitor"]
                self.silences[name] = Silence(monitor=name, until=event.body["until"],
                                              by=event.actor, reason=event.body["reason"])  # fmt: skip
            case "respond.failed":
                self._failed(event)
            case "alert.subscribed" | "alert.delivered" | "alert.refused" | "alert.undelivered":
                self._posted(event)

    def _raised(self, event: Event, made: Alert) -> None:
        known = next((a for a in self.open if a.same == made.same), None)
        if known is not None:
            made = replace(made, id=known.id, raised_at=known.raised_at, count=known.count + 1,
                           state=known.state, by=known.by, why=known.why, told=known.told)  # fmt: skip
        self._alerts[made.id] = made
        if made.state == "open":
            self._tell(event, "repeated" if made.count > 1 else "raised", made)

    def _ended(self, event: Event) -> None:
        body = event.body
        match event.verb:
            case "alert.cleared":
                self._resolve(event, lambda a: a.monitor == body["monitor"], "passes again")
            case "alert.resolved":
                self._resolve(event, lambda a: a.id == body["alert"] and a.monitor != GLASS, body["reason"])
            case "approval.reviewed":
                self._resolve(event, lambda a: a.monitor == GLASS and a.check == body["release"], body["reason"])
            case _:
                self._resolve(event, lambda a: bool(a.release), f"{event.subject} ended well")

    def _resolve(self, event: Event, chosen: Any, why: str) -> None:
        for alert in [a for a in self.open if chosen(a)]:
            after = replace(alert, state="resolved", by=event.actor, why=why, ended_at=event.at)
            self._alerts[alert.id] = after
            if alert.told:
                self._tell(event, "resolved", after)

    def _failed(self, event: Event) -> None:
        action = event.body["action"]
        alert = next((a for a in reversed(self.open) if action in a.actions), None)
        if alert is not None:
            after = replace(alert, failed=f"{action}: {event.body['reason']}",
                            next=event.body.get("next") or alert.next)  # fmt: skip
            self._alerts[alert.id] = after
            self._tell(event, "failed", after)

    def _tell(self, event: Event, kind: Kind, alert: Alert) -> None:
        if alert.monitor in (GLASS, RECOVERY) or self.silenced(alert.name, event.at) is None:
            self._alerts[alert.id] = alert = replace(alert, told=True)
            key = f"{seal(event)[:24]}-{alert.id}"
            self.notices.append(Notice(key=key, kind=kind, at=event.at, alert=alert))
            self._places[key] = len(self.notices)

    def _change(self, alert_id: int, **changes: Any) -> None:
        alert = self._alerts.get(alert_id)
        if alert is not None and alert.state != "resolved":
            self._alerts[alert_id] = replace(alert, **changes)

    def _posted(self, event: Event) -> None:
        to, body = event.body["to"], event.body
        post = self.posts.get(to) or Post(to=to, done=len(self.notices))
        done = self._places.get(body.get("key", ""), post.done)
        if event.verb == "alert.delivered":
            post = replace(post, done=done, delivered=post.delivered + 1, last_at=event.at,
                           trouble="", since=0.0)  # fmt: skip
        elif event.verb == "alert.refused":
            post = replace(post, done=done, refused=post.refused + 1, trouble=body["reason"],
                           since=event.at)  # fmt: skip
        elif event.verb == "alert.undelivered":
            post = replace(post, trouble=body["reason"], since=event.at)
        self.posts[to] = post


def document(notice: Notice) -> bytes:
    """A notice as JSON: ``{"key", "kind", "at", "text", "alert": {...}}``."""
    told = {"key": notice.key, "kind": notice.kind, "at": notice.at, "text": headline(notice),
            "alert": notice.alert}  # fmt: skip
    return msgspec.json.encode(told)


def headline(notice: Notice) -> str:
    """One line: ``flights: quality failed: accuracy is 0.61, below 0.7``."""
    alert = notice.alert
    words = {"raised": "failed", "repeated": f"still fails, {alert.count} times now",
             "failed": "needs a hand", "resolved": "is over"}  # fmt: skip
    cause = alert.failed if notice.kind == "failed" else alert.why if notice.kind == "resolved" else alert.cause  # fmt: skip
    return f"{alert.service}: {alert.name} {words[notice.kind]}: {' '.join(cause.split())}"


def lines(alert: Alert) -> list[tuple[str, str]]:
    """(what, words) of an alert for people, without what is empty."""
    said = (
        ("cause", alert.cause),
        ("evidence", "; ".join(map(_figure, alert.seen))),
        ("worst", "; ".join(map(_figure, alert.slices))),
        ("package", _short(alert.package)), ("release", alert.release),
        ("action", ", ".join(alert.actions)), ("failed", alert.failed),
        ("next", "" if alert.state == "resolved" else alert.next),
    )  # fmt: skip
    return [(what, words) for what, words in said if words]


def _short(package: str) -> str:
    name, at, digest = package.partition("@")
    return name + at + digest[:SHORT]


def _figure(seen: Figure) -> str:
    between = f" [{seen.low:.4g}, {seen.high:.4g}]" if seen.low is not None and seen.high is not None else ""  # fmt: skip
    return f"{seen.slice or seen.measure} {seen.value:.4g}{between}" + (f" of {seen.n:,}" if seen.n else "")  # fmt: skip


def _glass(event: Event) -> Alert:
    """The alert that a release without approval is, in the very event that starts it."""
    release = event.subject.partition("/")[2]
    return Alert(id=event.seq, service=event.body["service"], package=event.body["to"]["candidates"][0],
                 monitor=GLASS, check=release, raised_at=event.at, last_at=event.at,
                 cause=f"{event.actor} started {release} without approval: {event.body['break_glass']['reason']}",
                 next=f"somebody else looks at it: fairlead approval review {release} --reason TEXT")  # fmt: skip


def _recovery(event: Event, service: str) -> Alert:
    """The alert that a token is which was made without one."""
    owner = event.body["owner"]
    return Alert(id=event.seq, service=service, package="", monitor=RECOVERY, check=event.body["id"],
                 raised_at=event.at, last_at=event.at,
                 cause=f"{event.actor} made a new token for the admin {owner}: {event.body['reason']}",
                 next="ask whoever it was; if nobody was to: fairlead token revoke " + event.body["id"])  # fmt: skip


def _alert(event: Event) -> Alert:
    """The alert that an event raises; fields of other versions of Fairlead are left out."""
    body: Mapping[str, Any] = event.body
    known = {f.name for f in msgspec.structs.fields(Alert)}
    told = {k: v for k, v in body.items() if k in known}
    times = {"id": event.seq, "raised_at": event.at, "last_at": event.at}
    return msgspec.convert(told | times, Alert)
