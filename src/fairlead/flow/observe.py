"""Observing: the prediction log and its feedback, turned into evidence about packages."""

from collections.abc import Callable, Iterator

from msgspec import Struct

from fairlead.core.answers import Answers, Cursor
from fairlead.core.arms import Arms
from fairlead.core.artifact import PackageSpec
from fairlead.core.evidence import EvidenceSet, Fact
from fairlead.core.intake import Intake, drift
from fairlead.core.join import Labels
from fairlead.core.ledger import FALLBACK, LIVE, Ledger, Rows
from fairlead.core.profile import TableProfile
from fairlead.core.quality import Judged, judged, maturity, numbers, pairs, reward, wrong
from fairlead.core.ref import Ref
from fairlead.core.release import Release
from fairlead.core.traffic import DAY
from fairlead.core.vitals import Frame, older, vitals
from fairlead.errors import Invalid, Missing
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
        self._intakes: dict[str, Intake | None] = {}
        self._specs: dict[str, PackageSpec | None] = {}
        self._release: tuple[str, Arms, int] | None = None
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
        self._forget(now - self._keep, now)
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
        seconds: vitals (errors, latency, volume), drift of its inputs, and quality with labels.

        Quality is that of a window further back, by as long as 19 of 20 labels take: among
        younger predictions the truths that come early would be too many. Every number carries its
        interval at `level`. Empty when nothing serves.
        """
        self.pull(now)
        here = self._records.service(self._service)
        if here is None or here.package is None:
            return EvidenceSet()
        name, since = str(here.package), max(now - window, self._ledger.floor)
        truth, spec = self._labels[LABEL].truth(), self._spec(name)
        rows = self._live(name, since - window)
        frame = Frame(subject=here.package, since=since, until=now, level=level)
        recent = rows.where((rows.at >= since) & (rows.at <= now))
        facts: list[Fact] = list(vitals(recent, truth, frame, spec, self._slow))
        if spec is not None:
            age = maturity(rows, truth)
            ripe = self._live(name, since - age)
            ripe = ripe.where((ripe.at >= since - age) & (ripe.at <= now - age))
            facts += numbers(judged(ripe, truth, spec), older(frame, age), spec)
        intake = self._intakes.get(name)
        if intake is not None:
            facts += drift(intake.window(since, now), frame)
        return EvidenceSet(facts)

    def _live(self, package: str, since: float) -> Rows:
        rows = self._ledger.since(since)
        return rows.where((rows.package == self._ledger.index(package)) & ((rows.flags & LIVE) > 0))

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
        """Where the columns of this package are counted; None without a training profile."""
        spec = self._spec(package)
        if package not in self._intakes and spec is not None:
            profile = self._reference(Ref.parse(package))
            steady = [c.name for c in spec.contract.columns if c.dtype not in ("datetime", "text")]
            names = {*steady, *(o for view in spec.views for o in view.outputs)}
            made = None if profile is None else Intake(profile, names, self._grain)
            self._intakes[package] = made
        return self._intakes.get(package)

    def _spec(self, package: str) -> PackageSpec | None:
        if self._specs.get(package) is None:
            try:
                spec = self._records.artifact(Ref.parse(package)).spec
            except (Missing, Invalid):
                return None
            self._specs[package] = spec if isinstance(spec, PackageSpec) else None
        return self._specs[package]

    def _horizon(self, now: float) -> float:
        running = [r.started_at for r in self._records.releases(self._service) if not r.phase.final]
        return min([now - self._keep, *running])

    def _arms(self, release: Release) -> Arms:
        if self._release is None or self._release[0] != release.id:
            arms = Arms(release, self._slow, self._ledger.first)
            self._release = release.id, arms, self._first_epoch(release)
        _, arms, epoch = self._release
        arms.update(self._ledger, epoch)
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
            own = (rows.package == self._ledger.index(str(ref))) & ((rows.flags & FALLBACK) == 0)
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

    def _forget(self, before: float, now: float) -> None:
        self._ledger.forget(before)
        for labels in self._labels.values():
            labels.forget(before)
        for intake in filter(None, self._intakes.values()):
            intake.forget(before, now)


def _stale(cached: Cached, state: tuple[int, int]) -> bool:
    grown = [new - old for old, new in zip(cached.made_from, state, strict=True)]
    quiet = cached.asked_at == state
    return any(g > FRESHNESS * n or (g and quiet) for g, n in zip(grown, state, strict=True))
