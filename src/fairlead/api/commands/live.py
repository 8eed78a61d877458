"""The commands that look at production and feed it back: status and feedback."""

from pathlib import Path
from typing import Any

import msgspec

from fairlead.api.client import Client, found
from fairlead.api.commands.release import look
from fairlead.api.console import console, emit, progress
from fairlead.api.folder import find
from fairlead.api.present.figures import count
from fairlead.api.present.overview import Status, status_view
from fairlead.api.scrape import scrape
from fairlead.api.session import opened
from fairlead.core.evidence import Evidence
from fairlead.core.traffic import DAY
from fairlead.errors import Invalid, Unavailable
from fairlead.project import Project

__all__ = ["feedback", "status"]

TABLES = (".csv", ".tsv", ".parquet", ".gz", ".zip")


def status(given: Path | None, *, as_json: bool) -> None:
    """What is live, what is being released, how healthy it is."""
    client, gateway = _gateway(find(given))
    with opened(given) as project, progress("reading the prediction log", quiet=as_json):
        here = project.records.service(project.name)
        releases = project.records.releases(project.name)
        package = project.records.artifact(here.package) if here and here.package else None
        now, alerts, price = project.clock.now(), project.alerts(), project.manifest.serve.cpu_hour_price
        known = project.approvals()
        cards = (project.approval(a.id) for a in known.all.values() if not a.used and a.denied is None)
        processes, costs = scrape(client, price) if client else ((), ())
        value = Status(
            name=project.name, now=now, url=client.url if client else "", gateway=gateway,
            service=here, package=package, window=DAY, health=_health(project, now),
            release=look(project, releases[-1].id) if releases else None,
            processes=processes, costs=costs, price=price,
            alerts=tuple(alerts.open), undelivered=sum(len(alerts.waiting(to)) for to in project.receivers),
            retraining=project.retrainer().standing(now), glass=tuple(known.unreviewed),
            approvals=tuple(c for c in cards if c.state in ("waiting", "granted")),
        )  # fmt: skip
    emit(value, status_view(value), as_json=as_json)


def feedback(given: Path | None, what: str, value: str, name: str, *, as_json: bool) -> None:
    """One piece to the running service, or a whole table into the log."""
    path = Path(what)
    if not value or path.suffix in TABLES:
        if not path.is_file():
            raise Invalid(f"{what!r} is no file, and no value is given with it",
                          hint="fairlead feedback PREDICTION VALUE, or fairlead feedback FILE")  # fmt: skip
        with opened(given) as project, progress("reading feedback", quiet=as_json):
            taken = project.ingest_feedback(path)
    else:
        body = {"prediction": what, "value": _value(value), "name": name}
        answer: Any = found(find(given)).post("/feedback", msgspec.json.encode(body))
        taken = int(answer["accepted"])
    if as_json:
        emit({"accepted": taken}, "", as_json=True)
    else:
        console().print(f"{count(taken)} accepted")


def _gateway(root: Path) -> tuple[Client | None, dict[str, Any] | None]:
    """The running service and its own words; (None, None) when it does not answer."""
    try:
        client = found(root)
        return client, client.get("/status")
    except Unavailable:
        return None, None


def _health(project: Project, now: float) -> tuple[Evidence, ...]:
    facts = project.observer().watch(now, DAY)
    return tuple(f for f in facts if isinstance(f, Evidence))


def _value(text: str) -> float | str | bool:
    """A JSON number or boolean as such; anything else as text."""
    try:
        value = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text
    return value if isinstance(value, bool | int | float) else text
