"""The commands around alerts: look at them, look after them, and try whether anybody would hear."""

from pathlib import Path
from typing import Any

from rich.text import Text

from fairlead.api.border import REFUSED
from fairlead.api.console import console, emit, next_commands
from fairlead.api.present.alerts import alerts_view, overview
from fairlead.api.present.figures import span
from fairlead.api.session import opened
from fairlead.core.alert import ANY, Alert, Notice
from fairlead.core.event import Event
from fairlead.errors import FairleadError, Invalid

__all__ = ["acknowledge", "resolve", "show", "silence", "test"]


def show(given: Path | None, *, everything: bool, as_json: bool) -> None:
    """Open alerts, silences and receivers."""
    with opened(given) as project:
        seen = overview(project.alerts(), list(project.receivers), project.clock.now(),
                        everything=everything)  # fmt: skip
    emit(seen, alerts_view(seen), as_json=as_json)
    if not as_json and seen.alerts and not everything:
        next_commands(f"fairlead alerts ack {seen.alerts[-1].id} --note \"...\"",
                      f"fairlead alerts silence {seen.alerts[-1].name} --for 2h --reason \"...\"")  # fmt: skip


def acknowledge(given: Path | None, alert: int, note: str, *, as_json: bool) -> None:
    """Look after an alert."""
    with opened(given) as project:
        made = project.acknowledge(alert, note)
    _done(made, f"alert {alert} acknowledged by {made.actor}: no more reminders of it", as_json)


def silence(given: Path | None, monitor: str, length: str, reason: str, *, as_json: bool) -> None:
    """Tell nobody of a monitor for a while."""
    with opened(given) as project:
        known = sorted({m.name for m in project.monitors()} | {a.name for a in project.alerts().all})
        if monitor not in (ANY, *known):
            raise Invalid(f"no monitor {monitor!r}", hint=f"one of {', '.join(known)}, or '{ANY}' for all")
        made = project.silence(monitor, length, reason)
        left = made.body["until"] - project.clock.now()
    said = f"silent for {span(left)}; it goes on judging and acting" if left > 0 else "told of again"
    _done(made, f"{monitor}: {said}", as_json)


def resolve(given: Path | None, alert: int, reason: str, *, as_json: bool) -> None:
    """End an alert by hand."""
    with opened(given) as project:
        made = project.resolve_alert(alert, reason)
    _done(made, f"alert {alert} resolved", as_json)


def test(given: Path | None, *, as_json: bool) -> int:
    """Tell every receiver of an alert that is none, and wait for each; 1 when one did not take it."""
    answers: dict[str, Any] = {}
    with opened(given) as project:
        now = project.clock.now()
        alert = Alert(id=0, service=project.name, package="none", monitor="test", raised_at=now,
                      cause="a test: nothing is wrong", next="nothing is to be done")  # fmt: skip
        for name, receiver in project.receivers.items():
            try:
                receiver.tell(Notice(key=f"test-{now:.0f}-{name}", kind="raised", at=now, alert=alert))
                answers[name] = ""
            except FairleadError as error:
                answers[name] = f"{error} ({error.hint})"
    for name, said in answers.items() if not as_json else ():
        mark = Text("✗ ", "bold red") if said else Text("✓ ", "green")
        console().print(Text.assemble(mark, (name, "bold"), f"  {said or 'told'}"))
    if as_json:
        emit(answers, "", as_json=True)
    return REFUSED if any(answers.values()) else 0


def _done(made: Event, said: str, as_json: bool) -> None:
    emit(made, Text(said), as_json=as_json)
