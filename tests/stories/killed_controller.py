"""Kills a real controller at every durable step of a promotion and of a rollback (run as a script).

Usage: killed_controller.py FOLDER. For every step k a process is forked that dies by SIGKILL when it
reaches step k (before a statement, before a commit, in the middle of writing the route file, before
and after its renaming); another takes over, is killed a few steps later, and a third one finishes.
Prints how many were killed, as JSON; fails when any end differs from that of an undisturbed one.
"""

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path

import msgspec
from sqlalchemy import Engine, event

from fairlead.adapters.records.sqlite import SqliteRecords
from fairlead.core.check import Bound, Check
from fairlead.core.event import verify
from fairlead.core.evidence import Evidence, EvidenceSet
from fairlead.core.ref import Ref
from fairlead.core.release import Release, Service, route, settle
from fairlead.core.traffic import Fixed, Route, Step, TrafficPlan
from fairlead.errors import Conflict
from fairlead.flow.loop import tick
from fairlead.ports import Change

OLD, NEW = Ref("package", "fraud", "a1"), Ref("package", "fraud", "b2")
CHECK = Check(name="errors", measure="error_rate", rule=Bound(high=0.1), min_n=100)
PLAN = TrafficPlan(name="two", steps=tuple(
    Step(share=Fixed(w), hold=10.0, patience=1e6, checks=(CHECK,)) for w in (0.1, 0.5)))  # fmt: skip

Fuse = Callable[[], None]


class FileRouter:
    """A route in a file, replaced by renaming; `fuse` is called at each durable step."""

    def __init__(self, path: Path, fuse: Fuse) -> None:
        self.path, self.fuse = path, fuse

    def published(self) -> Route | None:
        if not self.path.exists():
            return None
        return msgspec.json.decode(self.path.read_bytes(), type=Route)

    def publish(self, route: Route) -> None:
        now = self.published()
        if now is not None and now.epoch > route.epoch:
            raise Conflict(f"epoch {route.epoch} is older than {now.epoch}")
        text, new = msgspec.json.encode(route), self.path.with_suffix(".new")
        self.fuse()
        with new.open("wb") as file:
            file.write(text[:20])
            file.flush()
            self.fuse()
            file.write(text[20:])
            file.flush()
            os.fsync(file.fileno())
        self.fuse()
        new.replace(self.path)
        self.fuse()


class Ticking:
    """Ten seconds pass at every look."""

    def __init__(self) -> None:
        self.at = 1000.0

    def now(self) -> float:
        self.at += 10.0
        return self.at


def prepare(folder: Path) -> None:
    folder.mkdir()
    records = SqliteRecords(folder / "records.db")
    release = Release(id="fraud-1", service="fraud", candidates=(NEW,), baseline=OLD, plan=PLAN,
                      started_at=0.0, entered_at=0.0)  # fmt: skip
    service = settle(Service(name="fraud", package=OLD), release)
    records.commit(Change(at=0.0, actor="ann", verb="release.started", subject="release/fraud-1",
                          releases=((None, release),), services=((None, service),)))  # fmt: skip
    records.close()


def control(folder: Path, rate: float, fuse: Fuse) -> None:
    """Tick until the release has ended and its route is out."""
    event.listen(Engine, "before_cursor_execute", lambda *_: fuse())
    event.listen(Engine, "commit", lambda *_: fuse())
    records = SqliteRecords(folder / "records.db")
    router, clock = FileRouter(folder / "route.json", fuse), Ticking()

    def observe(release: Release, now: float) -> EvidenceSet:
        return EvidenceSet([Evidence(subject=NEW, measure="error_rate", value=rate, n=1000)])

    for _ in range(4):
        tick(records, router, clock, observe)
    records.close()


def forked(folder: Path, rate: float, deadly: int) -> bool:
    """Run a controller in a process that dies at the given step (0: never); was it killed?"""
    if (pid := os.fork()) == 0:
        steps = count(1)

        def fuse() -> None:
            if next(steps) == deadly:
                os.kill(os.getpid(), signal.SIGKILL)

        try:
            control(folder, rate, fuse)
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    if not os.WIFSIGNALED(status) and os.WEXITSTATUS(status):
        raise SystemExit(f"the controller failed at step {deadly} of {folder.name}")
    return os.WIFSIGNALED(status)


def outcome(folder: Path) -> dict[str, object]:
    """The final state without its times, checked for being consistent in itself."""
    records = SqliteRecords(folder / "records.db")
    release, service = records.release("fraud-1"), records.service("fraud")
    assert service is not None
    assert FileRouter(folder / "route.json", lambda: None).published() == route(service, release)
    made = list(records.events())
    assert verify(made, records.head()[1]) == len(made)
    seen: dict[str, object] = {"phase": release.phase.value, "step": release.step, "service": service,
                               "verbs": [e.verb for e in made], "decisions": len(records.decisions(NEW))}  # fmt: skip
    records.close()
    return seen


def trials(folder: Path, rate: float) -> int:
    """Every step once; return how many controllers were killed."""
    template = folder / "template"
    prepare(template)
    calm = shutil.copytree(template, folder / "calm")
    forked(calm, rate, 0)
    expected = outcome(calm)
    kills = 0
    for deadly in count(1):
        here = shutil.copytree(template, folder / f"step{deadly}")
        killed = forked(here, rate, deadly)
        kills += killed + forked(here, rate, 1 + deadly * 7 % 23)
        forked(here, rate, 0)
        if (seen := outcome(here)) != expected:
            raise SystemExit(f"killed at step {deadly}: {seen}, expected {expected}")
        if not killed:
            return kills
    raise AssertionError


def main() -> None:
    folder = Path(sys.argv[1])
    found = {}
    for name, rate in (("promote", 0.0), ("rollback", 0.9)):
        (folder / name).mkdir()
        found[name] = trials(folder / name, rate)
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
