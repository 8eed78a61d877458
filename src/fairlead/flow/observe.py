"""Observing: the prediction log and its feedback, turned into evidence about packages."""

from collections.abc import Callable, Iterator

from msgspec import Struct

from fairlead.core.answers import Answers, Cursor
from fairlead.core.arms import Arms
from fairlead.core.artifact import PackageSpec
from fairlead.core.evidence import EvidenceSet, Fact
from fairlead.core.intake import Intake, drift
from fairlead.core.join import Labels
from fairlead.core.ledger import LIVE, Ledger
from fairlead.core.profile import TableProfile
from fairlead.core.quality import Judged, judged, numbers, pairs, reward, wrong
from fairlead.core.ref import Ref
from fairlead.core.release import Release
from fairlead.core.traffic import DAY
from fairlead.core.vitals import Frame, vitals
from fairlead.errors import Missing
from fairlead.ports import PredictionLog, Records

__all__ = ["Observer"]

LABEL = "label"
"""The feedback name that tells the truth; others are rewards."""

FRESHNESS = 0.01
"""Pairs and metrics with labels are computed again when rows or labels grew by this share."""


class Cached(Struct):
    """Facts of a release that cost a sort; rows and labels when made, and when last asked for."""

    release: str
    facts: list[Fact]
    made_from: tuple[int, int]
    asked_at: tuple[int, int]


class Observer:
    """Reads what is new in the log, once, and answers what is known of one service.

    `slow`: seconds from which on an answer counts as slow. `reference`: the training profile of a
    package, None where there is none. `keep`: seconds of predictions that stay in memory, at most
    `limit` of them; `grain`: seconds of the buckets in which columns are counted.
    """

    def __init__(
        self, log: PredictionLog, records: Records, service: str, *, slow: float = 0.1,
        reference: Callable[[Ref], TableProfile | None] | None = None,
        keep: float = 28 * DAY, grain: float = 60.0, limit: int = 2_000_000,
    ) -> None:  # fmt: skip
        self._log = log
        self._records = records
        self._service = service
        self._slow = slow
        self._reference = reference or (lambda _: None)
        self._keep = keep
        self._grain = grain
        self._cursor: Cursor = {}
        self._ledger = Ledger(limit)
        self._labels: dict[str, Labels] = {LABEL: Labels()}
        self._intakes: dict[str, Intake] = {}
        self._specs: dict[str, PackageSpec | None] = {}
        self._release: tuple[str, Arms] | None = None
        self._cached: Cached | None = None

    def pull(self, now: float) -> int:
        """Read everything new; return how many predictions and labels it was."""
        since = 0.0 if self._cursor else self._horizon(now)
        found, more = 0, True
        while more:
            tail = self._log.tail(self._cursor, since)
            for answers in tail.answers:
                if answers.service == self._service:
                    self._take(answers)
                    found += len(answers)
            for name in {note.name for note in tail.feedback}:
                notes = [note for note in tail.feedback if note.name == name]
                self._labels.setdefault(name, Labels()).add(notes)
            found += len(tail.feedback)
            self._cursor, more = tail.cursor, tail.more
        self._forget(now - self._keep)
        return found

    def observe(self, release: Release, now: float) -> EvidenceSet:
        """What is known of the arms of a release.

        Tallies "errors", "slow", "requests" (of the current step), and with labels "wrong";
        Moments "brier_pair"; numbers of every metric of the task since the release began.
        """
        self.pull(now)
        here = self._records.service(self._service)
        facts = self._arms(release).facts(self._ledger, here.epoch if here else 0)
        return EvidenceSet([*facts, *self._fresh(release, now)])

    def watch(self, now: float, window: float, level: float = 0.95) -> EvidenceSet:
        """What is known of the package that serves now, from predictions of the last `window`
        seconds: vitals (errors, latency, volume), drift of its inputs, quality with labels.

        Every number carries its interval at `level`. Empty when nothing serves.
        """
        self.pull(now)
        here = self._records.service(self._service)
        if here is None or here.package is None:
            return EvidenceSet()
        name = str(here.package)
        rows = self._ledger.since(now - window)
        chosen = (rows.package == self._ledger.index(name)) & ((rows.flags & LIVE) > 0)
        rows = rows.where(chosen & (rows.at >= now - window) & (rows.at <= now))
        frame = Frame(subject=here.package, since=now - window, until=now, level=level)
        truth, spec = self._labels[LABEL].truth(), self._spec(name)
        facts: list[Fact] = list(vitals(rows, truth, frame, spec, self._slow))
        if spec is not None:
            facts += numbers(judged(rows, truth, spec), frame, spec)
        if name in self._intakes:
            facts += drift(self._intakes[name].window(now - window, now), frame)
        return EvidenceSet(facts)

    @property
    def conflicts(self) -> int:
        """Predictions that were given contradicting labels (`core.join.join` lists them)."""
        return self._labels[LABEL].truth().conflicts

    def _take(self, answers: Answers) -> None:
        self._ledger.append(answers)
        intake = self._intake(answers.package)
        if intake is not None:
            intake.add(answers, answers.live)

    def _intake(self, package: str) -> Intake | None:
        if package not in self._intakes:
            spec = self._spec(package)
            profile = self._reference(Ref.parse(package)) if spec else None
            if spec is None or profile is None:
                return None
            steady = [c.name for c in spec.contract.columns if c.dtype not in ("datetime", "text")]
            names = {*steady, *(o for view in spec.views for o in view.outputs)}
            self._intakes[package] = Intake(profile, names, self._grain)
        return self._intakes[package]

    def _spec(self, package: str) -> PackageSpec | None:
        if self._specs.get(package) is None:
            try:
                spec = self._records.artifact(Ref.parse(package)).spec
            except Missing:
                return None
            self._specs[package] = spec if isinstance(spec, PackageSpec) else None
        return self._specs[package]

    def _horizon(self, now: float) -> float:
        running = [r.started_at for r in self._records.releases(self._service) if not r.phase.final]
        return min([now - self._keep, *running])

    def _arms(self, release: Release) -> Arms:
        if self._release is None or self._release[0] != release.id:
            self._release = (release.id, Arms(release, self._slow, self._ledger.first))
        arms = self._release[1]
        arms.update(self._ledger, self._first_epoch(release))
        return arms

    def _first_epoch(self, release: Release) -> int:
        """The epoch of the route with which a release began."""
        for event in self._records.events(subject=f"release/{release.id}"):
            return int(event.body.get("epoch", 0))
        return 0

    def _fresh(self, release: Release, now: float) -> list[Fact]:
        """Facts that need labels, made again when enough is new; a quiet turn always catches up."""
        state = (self._ledger.end, sum(map(len, self._labels.values())))
        cached = self._cached
        if cached is None or cached.release != release.id or _stale(cached, state):
            facts = list(self._labelled(release, now)) if state[1] else []
            cached = self._cached = Cached(release.id, facts, state, state)
        cached.asked_at = state
        return cached.facts

    def _labelled(self, release: Release, now: float) -> Iterator[Fact]:
        truth = self._labels[LABEL].truth()
        rows = self._ledger.since(release.started_at)
        data: dict[Ref, tuple[Judged, PackageSpec]] = {}
        for ref in (*release.candidates, release.baseline):
            spec = None if ref is None else self._spec(str(ref))
            if ref is None or spec is None:
                continue
            own = rows.package == self._ledger.index(str(ref))
            mine = rows.where(own & (rows.at >= release.started_at))
            frame = Frame(subject=ref, since=release.started_at, until=now)
            data[ref] = judged(mine, truth, spec), spec
            yield from wrong(*data[ref], ref)
            yield from numbers(data[ref][0], frame, spec)
            for name in self._labels.keys() - {LABEL}:
                yield from reward(mine, self._labels[name].truth(), frame, name)
        baseline = None if release.baseline is None else data.get(release.baseline)
        for ref in release.candidates:
            if baseline is not None and ref in data:
                yield from pairs(data[ref], baseline, ref)

    def _forget(self, before: float) -> None:
        self._ledger.forget(before)
        for labels in self._labels.values():
            labels.forget(before)
        for intake in self._intakes.values():
            intake.forget(before)


def _stale(cached: Cached, state: tuple[int, int]) -> bool:
    grown = [new - old for old, new in zip(cached.made_from, state, strict=True)]
    quiet = cached.asked_at == state
    return any(g > FRESHNESS * n or (g and quiet) for g, n in zip(grown, state, strict=True))
