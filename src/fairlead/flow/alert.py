"""Alerting: what people do about alerts, and the courier that brings word of them to receivers.

The audit log is the outbox: an alert is in it before anybody is told, and a delivery is written
down after the receiver has it. Whoever dies in between sends again, with the same key.
"""

import logging
import time
from collections.abc import Callable, Mapping
from math import inf
from threading import Thread
from typing import Any

from fairlead.core.alert import ANY, GLASS, Alert, Alerts, Notice, Refused
from fairlead.core.event import Event
from fairlead.errors import Conflict, FairleadError, Invalid, Missing, Unavailable
from fairlead.ports import Change, Clock, Notifier, Records

__all__ = ["Courier", "acknowledge", "read", "resolve", "silence"]

log = logging.getLogger(__name__)

FIRST, LONGEST = 1.0, 300.0
"""Seconds before the second attempt, doubled for every further one, at most so many."""

Start = Callable[[Callable[[], None]], object]
"""Runs a delivery: in a thread of its own, so that no receiver delays the loop."""


def read(records: Records, service: str) -> Alerts:
    """All alerts of a service, as of now."""
    return Alerts(service, records.events())


def acknowledge(records: Records, clock: Clock, service: str, alert_id: int, *, actor: str,
                note: str = "") -> Event:  # fmt: skip
    """Somebody looks after an alert: no more reminders of it. Raises Missing, Conflict (resolved)."""
    _open(records, service, alert_id)
    return _commit(records, clock, service, "acknowledged", actor, alert=alert_id, note=note)


def resolve(records: Records, clock: Clock, service: str, alert_id: int, *, actor: str,
            reason: str) -> Event:  # fmt: skip
    """End an alert by hand. Raises Missing, Conflict (resolved already), Invalid (no reason)."""
    if _open(records, service, alert_id).monitor == GLASS:
        raise Conflict(f"alert {alert_id} is of broken glass", hint="`fairlead approval review` by somebody else ends it")
    _said(reason)
    return _commit(records, clock, service, "resolved", actor, alert=alert_id, reason=reason)


def silence(records: Records, clock: Clock, service: str, monitor: str, seconds: float, *,
            actor: str, reason: str) -> Event:  # fmt: skip
    """Tell nobody of a monitor (or of ANY) for so long; it goes on judging and acting. 0 seconds
    end a silence. Raises Invalid (no reason, or a time that is none)."""
    _said(reason)
    if not 0 <= seconds < inf:
        raise Invalid(
            f"cannot be silent for {seconds:g} s", hint="such as 30m, 2h or 3d; 0s ends it"
        )
    until = clock.now() + seconds
    return _commit(records, clock, service, "silenced", actor, monitor=monitor or ANY, until=until,
                   reason=reason)  # fmt: skip


class Courier:
    """Delivers the notices of a service to each receiver, in order, until it has them.

    A receiver that cannot be reached, or is badly configured, is tried again, ever more rarely, and
    delays no other one; a notice that it refuses for good does not hold up the next. A receiver that is new is told
    what happens from then on.
    """

    def __init__(
        self, records: Records, clock: Clock, service: str, receivers: Mapping[str, Notifier], *,
        actor: str = "fairlead", start: Start = lambda job: Thread(target=job, daemon=True).start(),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._records, self._clock, self._service, self._actor = records, clock, service, actor
        self._alerts = Alerts(service)
        self._routes = [
            _Route(name, notifier, start, monotonic) for name, notifier in receivers.items()
        ]

    def turn(self) -> list[Event]:
        """Write down what was delivered meanwhile, and send what is due; never waits for a
        receiver. Returns what was written down."""
        self._catch_up()
        made: list[Event] = []
        for route in self._routes:
            if route.name not in self._alerts.posts:
                made.append(self._write("subscribed", to=route.name))
            for verb, body in route.news():
                made.append(self._write(verb, to=route.name, **body))
        if made:
            self._catch_up()
        for route in self._routes:
            route.send(self._alerts.waiting(route.name))
        return made

    @property
    def idle(self) -> bool:
        """Whether everybody has been told everything."""
        return not any(self._alerts.waiting(r.name) or r.busy for r in self._routes)

    def _catch_up(self) -> None:
        for event in self._records.events(since=self._alerts.seq):
            self._alerts.take(event)

    def _write(self, verb: str, **body: Any) -> Event:
        return _commit(self._records, self._clock, self._service, verb, self._actor, **body)


class _Route:
    """The way to one receiver: at most one notice is under way."""

    def __init__(self, name: str, notifier: Notifier, start: Start,
                 monotonic: Callable[[], float]) -> None:  # fmt: skip
        self.name = name
        self.busy = False
        self._notifier, self._start, self._monotonic = notifier, start, monotonic
        self._attempts, self._not_before, self._said = 0, -inf, ""
        self._ended: tuple[Notice, FairleadError | None] | None = None

    def send(self, waiting: list[Notice]) -> None:
        """Begin with the first one, unless one is under way or it is too early to try again."""
        if waiting and not self.busy and self._monotonic() >= self._not_before:
            self.busy = True
            self._start(lambda: self._deliver(waiting[0]))

    def news(self) -> list[tuple[str, dict[str, Any]]]:
        """How the delivery ended, for the audit log; the same failure only once."""
        if self._ended is None:
            return []
        notice, error = self._ended
        self._ended, self.busy = None, False
        about = {"alert": notice.alert.id, "key": notice.key}
        if error is None or isinstance(error, Refused):
            attempts, self._attempts, self._not_before, self._said = self._attempts + 1, 0, -inf, ""
            if error is None:
                return [("delivered", {**about, "attempts": attempts})]
            return [("refused", {**about, "reason": str(error), "next": error.hint})]
        self._not_before = self._monotonic() + min(FIRST * 2.0**self._attempts, LONGEST)
        self._attempts += 1
        if str(error) == self._said:
            return []
        self._said = str(error)
        return [("undelivered", {**about, "reason": str(error), "next": error.hint})]

    def _deliver(self, notice: Notice) -> None:
        error: FairleadError | None = Unavailable("the delivery broke off", hint="see the log")
        try:
            self._notifier.tell(notice)
            error = None
        except FairleadError as found:
            error = found
            log.warning("alert not delivered to %s: %s", self.name, found)
        finally:
            self._ended = notice, error


def _open(records: Records, service: str, alert_id: int) -> Alert:
    alerts = read(records, service)
    found = next((a for a in alerts.all if a.id == alert_id), None)
    if found is None:
        known = ", ".join(str(a.id) for a in alerts.open) or "none"
        raise Missing(f"no alert {alert_id}", hint=f"open alerts: {known}")
    if found.state == "resolved":
        raise Conflict(
            f"alert {alert_id} is resolved: {found.why}", hint="`fairlead alerts --all` lists it"
        )
    return found


def _said(reason: str) -> None:
    if not reason.strip():
        raise Invalid(
            "no reason is given", hint="say why in a few words: it stands in the audit log"
        )


def _commit(
    records: Records, clock: Clock, service: str, verb: str, actor: str, **body: Any
) -> Event:
    return records.commit(Change(at=clock.now(), actor=actor, verb=f"alert.{verb}",
                                 subject=f"service/{service}", body={"service": service, **body}))  # fmt: skip
