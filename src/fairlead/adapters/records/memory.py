"""Records and audit log in memory: for simulations and tests, with the promises of the others."""

from collections.abc import Iterator, Mapping
from threading import RLock
from typing import TypeVar

from fairlead.adapters.records.lookup import choose, missing, moved
from fairlead.core.artifact import Artifact
from fairlead.core.decision import Decision
from fairlead.core.event import Event, follow, seal
from fairlead.core.ref import Kind, Ref
from fairlead.core.release import Release, Service
from fairlead.core.run import Run
from fairlead.ports import Change, Stored

__all__ = ["MemoryRecords"]

K = TypeVar("K", Ref, str)
V = TypeVar("V", Artifact, Run, Release)


class MemoryRecords:
    """Everything in dictionaries of this process; safe between threads, gone with the process."""

    def __init__(self) -> None:
        self._lock = RLock()
        self._artifacts: dict[Ref, Artifact] = {}
        self._runs: dict[str, Run] = {}
        self._decisions: list[Decision] = []
        self._releases: dict[str, Release] = {}
        self._services: dict[str, Service] = {}
        self._events: list[Event] = []
        self._head = (0, "")

    def commit(self, change: Change) -> Event:
        with self._lock:
            self.compare(change)
            event = follow(self._head, Event(at=change.at, actor=change.actor, verb=change.verb,
                                             subject=change.subject, body=change.body))  # fmt: skip
            self.store(change)
            self.append(event)
            return event

    def compare(self, change: Change) -> None:
        """Raise Conflict unless every `before` is what is stored."""
        for before, after in change.services:
            _same("service", after.name, self._services.get(after.name), before)
        for last, new in change.releases:
            _same("release", new.id, self._releases.get(new.id), last)

    def store(self, change: Change) -> None:
        """Everything but the event."""
        for artifact in change.artifacts:
            self._artifacts.setdefault(artifact.ref, artifact)
        for run in change.runs:
            self._runs.setdefault(run.id, run)
        self._decisions.extend(change.decisions)
        for stored, clean in change.redacted:
            self._redact(stored, clean)
        self._releases.update((after.id, after) for _, after in change.releases)
        self._services.update((after.name, after) for _, after in change.services)

    def _redact(self, stored: Stored, clean: Stored) -> None:
        match clean:
            case Artifact():
                self._artifacts[clean.ref] = clean
            case Run():
                self._runs[clean.id] = clean
            case Decision():
                self._decisions = [clean if d == stored else d for d in self._decisions]

    def compact(self) -> None:
        """What is replaced in memory is gone."""

    def append(self, event: Event) -> None:
        """The event and the head that names it."""
        self._events.append(event)
        self._head = (event.seq, seal(event))

    def artifact(self, ref: Ref) -> Artifact:
        return _found(self._artifacts, ref, "artifact")

    def find(self, text: str, kind: Kind | None = None) -> Artifact:
        return self._artifacts[choose(text, kind, self._matching)]

    def _matching(self, kind: str, name: str, prefix: str) -> list[Ref]:
        return [r for r in self._artifacts
                if kind in ("", r.kind) and name in ("", r.name) and r.digest.startswith(prefix)]  # fmt: skip

    def artifacts(self, kind: Kind | None = None, name: str = "") -> list[Artifact]:
        return [self._artifacts[r] for r in self._matching(kind or "", name, "")]

    def run(self, run_id: str) -> Run:
        return _found(self._runs, run_id, "run")

    def runs(self) -> list[Run]:
        return list(self._runs.values())

    def release(self, release_id: str) -> Release:
        return _found(self._releases, release_id, "release")

    def releases(self, service: str = "") -> list[Release]:
        return [r for r in self._releases.values() if service in ("", r.service)]

    def service(self, name: str) -> Service | None:
        return self._services.get(name)

    def services(self) -> list[Service]:
        return sorted(self._services.values(), key=lambda s: s.name)

    def decisions(self, subject: Ref) -> list[Decision]:
        return [d for d in self._decisions if d.subject == subject]

    def events(self, since: int = 0, subject: str = "") -> Iterator[Event]:
        return (e for e in self._events[max(since, 0) :] if subject in ("", e.subject))

    def head(self) -> tuple[int, str]:
        return self._head


def _found(store: Mapping[K, V], key: K, what: str) -> V:
    if key not in store:
        raise missing(what, str(key))
    return store[key]


def _same(what: str, name: str, stored: object, before: object) -> None:
    if stored != before:
        raise moved(what, name)
