"""Observing: the prediction log and its feedback, turned into evidence about packages."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import product
from math import inf, nextafter
from typing import Any, Protocol

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from fairlead.core.answers import Answers, Cursor, Tail, measured
from fairlead.core.arms import Arms
from fairlead.core.artifact import PackageSpec
from fairlead.core.attribution import Attribution, attribution
from fairlead.core.cause import Cause
from fairlead.core.cost import Staying, before, expected, lived, staying
from fairlead.core.evidence import Evidence, EvidenceSet, Fact
from fairlead.core.fairness import CROSS, disparities, parts
from fairlead.core.feedback import LABEL, feedback
from fairlead.core.intake import Intake, drift
from fairlead.core.join import Labels, Truth
from fairlead.core.ledger import FALLBACK, LIVE, Ledger, Rows
from fairlead.core.profile import TableProfile
from fairlead.core.quality import (
    AGES,
    Judged,
    cohorts,
    judged,
    maturity,
    numbers,
    pairs,
    reward,
    wrong,
)
from fairlead.core.ref import Ref
from fairlead.core.reference import Reference
from fairlead.core.refusals import Refusals
from fairlead.core.release import Release
from fairlead.core.skew import AT, FEW, Served, Skew, skews
from fairlead.core.traffic import DAY
from fairlead.core.twins import twins
from fairlead.core.unlabelled import estimates, lost, missed
from fairlead.core.vigil import Vigil
from fairlead.core.vitals import Frame, older, spoken, vitals
from fairlead.errors import Invalid, Missing
from fairlead.ports import Records

__all__ = ["Observer"]

SPACING = 182.0
"""Days between two false alarms of the drift detectors: half of one a quarter, the other half is
for everything else that is watched."""

AGAIN, AT_ONCE = 3600.0, 60.0
"""Seconds between two recomputations of served features; of a release that has no hold."""

UNSTEADY = ("datetime", "text")
"""Types of columns whose values are new every day, whatever happens."""

WAITING = 100_000
"""Answers that may wait for an explanation; of more, the oldest are forgotten."""

ENOUGH = 100
"""Rows of a group from which on it is judged on its own."""

FRESHNESS = 0.01
"""Pairs and metrics with labels are computed again when rows or labels grew by this share."""


class Cached(Struct):
    """Facts of a release that cost a sort; rows and labels when made, and when last asked for."""

    release: str
    facts: list[Fact]
    made_from: tuple[int, int]
    asked_at: tuple[int, int]


class Tailed(Protocol):
    """The one thing asked of a prediction log: what is new in it."""

    def tail(self, cursor: Cursor, since: float = 0.0) -> Tail: ...


class Observer:
    """Reads what is new in the log, once, and answers what is known of one service.

    `wanted`: ids of answers whose callers asked for an explanation, for whoever computes it to take.
    `slow`: seconds from which on an answer counts as slow. `reference`: the training profile of a
    package, None where there is none. `keep`: seconds of predictions that stay in memory, at most
    `limit` of them; `grain`: seconds of the buckets in which columns are counted. `slices`: columns
    whose groups are judged on their own; `hidden`: columns the log does not have. `held`: the
    reference of a package, None where there is none. `spacing`: days between two false alarms of
    the drift detectors. `skew`: recomputes the features of served rows of a package. `crossed`:
    intersections of slice columns (``a+b``) whose groups are judged as well. `attributed`: what was
    measured last of what columns contribute to the answers of a package.
    """

    def __init__(
        self, log: Tailed, records: Records, service: str, *, slow: float = 0.1,
        reference: Callable[[Ref], TableProfile | None] | None = None,
        keep: float = 28 * DAY, grain: float = 60.0, limit: int = 2_000_000,
        slices: Sequence[str] = (), hidden: frozenset[str] = frozenset(),
        held: Callable[[Ref], Reference | None] | None = None, spacing: float = SPACING,
        skew: Callable[[PackageSpec, Sequence[Mapping[str, Any]]], Sequence[Skew]] | None = None,
        crossed: Sequence[str] = (), attributed: Callable[[Ref], Attribution | None] | None = None,
    ) -> None:  # fmt: skip
        self._log = log
        self._records = records
        self._service = service
        self._slow = slow
        self._reference = reference or (lambda _: None)
        self._held, self._attributed = held or (lambda _: None), attributed or (lambda _: None)
        self._spacing, self._hidden, self._crossed = spacing, hidden, tuple(crossed)
        self._recompute, self._served = skew, dict[str, Served]()
        self._skewed: dict[str, tuple[float, int, Sequence[Skew]]] = {}
        self._keep = keep
        self._grain = grain
        self._cursor: Cursor = {}
        self._ledger = Ledger(limit, slices)
        self._labels: dict[str, Labels] = {LABEL: Labels()}
        self._refusals = Refusals()
        self.wanted: deque[str] = deque(maxlen=WAITING)
        self._intakes: dict[str, Intake | None] = {}
        self._references: dict[str, Reference | None] = {}
        self._vigils: dict[str, Vigil] = {}
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
            self._refusals.add(r for r in tail.refused if r.service == self._service)
            self._cursor, more = tail.cursor, tail.more
        self._forget(now - self._keep, now)
        return found

    def observe(self, release: Release, now: float) -> EvidenceSet:
        """What is known of the arms of a release.

        Tallies "errors", "slow", "requests" (of the current step), and with labels "wrong";
        Moments "brier_pair"; numbers of every metric of the task since the release began, and of the
        features that were served since then and recomputed ("skew", by slice ``feature=name``).
        """
        self.pull(now)
        here = self._records.service(self._service)
        facts = self._arms(release).facts(self._ledger, here.epoch if here else 0)
        return EvidenceSet([*facts, *self._fresh(release, now), *self._proofs(release, now)])

    def watch(self, now: float, window: float, level: float = 0.95) -> EvidenceSet:
        """What is known of the package that serves now, from predictions of the last `window`
        seconds: vitals (errors, latency, volume), drift of its inputs and answers, quality with
        labels, and without.

        Quality with labels is that of a window further back, by as long as 19 of 20 labels take:
        among younger predictions the truths that come early would be too many. Every number carries
        its interval at `level`. Empty when nothing serves.
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
        facts += self._by_group(recent, lambda part, _: vitals(part, truth, frame, spec, self._slow))
        facts += self._around(rows, frame)
        facts += spoken(recent, frame) if self._chats(name) else ()
        if spec is not None:
            age = maturity(rows, truth)
            ripe = self._live(name, since - age)
            ripe = ripe.where((ripe.at >= since - age) & (ripe.at <= now - age))
            facts += self._quality(ripe, truth, older(frame, age), spec)
            if window >= DAY:
                oldest = self._live(name, since - max(AGES.values()))
                facts += cohorts(judged(oldest, truth, spec), frame, spec)
            facts += self._skews(spec, frame)
        intake = self._intakes.get(name)
        if intake is not None:
            known = self._references.get(name)
            facts += drift(intake.window(since, now), frame, known.windows if known else None)
            facts += self._expected(name, recent, frame, intake)
        cuts = (*self._ledger.groups, *self._crossed)
        facts += list(disparities((f for f in facts if isinstance(f, Evidence)), cuts))
        return EvidenceSet(facts)

    @property
    def first_at(self) -> float:
        """When the first answer that is remembered was asked for; infinity when none is."""
        rows = self._ledger.rows()
        return float(rows.at.min()) if len(rows) else inf

    def packages(self, since: float, until: float) -> list[Ref]:
        """Those that answered live within a stretch of the past, in the order they began to."""
        rows = self._ledger.since(since)
        rows = rows.where(((rows.flags & LIVE) > 0) & (rows.at >= since) & (rows.at < until))
        places, first = np.unique(rows.package, return_index=True)
        return [Ref.parse(self._ledger.packages[p]) for p in places[np.argsort(rows.at[first])].tolist()]

    def past(self, package: Ref, since: float, until: float, *, whole: bool = True) -> EvidenceSet:
        """What is known today of the live answers of a package within a stretch of the past: vitals
        and, if the `whole` is asked for, quality by the labels of just these predictions, quality
        expected without labels, and drift by column."""
        name, truth = str(package), self._labels[LABEL].truth()
        rows, spec = self._live(name, since), self._spec(name)
        rows = rows.where((rows.at >= since) & (rows.at < until))
        frame = Frame(subject=package, since=since, until=until)
        facts: list[Fact] = list(vitals(rows, truth, frame, spec, self._slow))
        intake, known = self._intakes.get(name), self._references.get(name)
        if whole and spec is not None and len(rows):
            facts += numbers(judged(rows, truth, spec), frame, spec)
            window = intake.window(since, until) if intake is not None else {}
            facts += drift(window, frame)
            facts += estimates(rows, known, spec, frame, window) if known is not None else ()
        return EvidenceSet(facts)

    def labelled(self, since: float) -> int:
        """How many predictions that are remembered have a truth known after `since`."""
        return int(np.count_nonzero(self._labels[LABEL].truth().at > since))

    def staying(self, package: Ref, since: float, now: float, price: float) -> Staying | None:
        """What the loss of a package since then has cost (`core.cost`): by labels, of answers so old
        that 19 of 20 of theirs have come, or, where none ever came, as expected without them. None
        without held-out rows to compare with, or when neither is known."""
        name, truth, spec = str(package), self._labels[LABEL].truth(), self._spec(str(package))
        since = max(since, self._ledger.floor)
        rows, known = self._live(name, since), self._references.get(name)
        was = before(known, spec) if known is not None and spec is not None else None
        if was is None or known is None or spec is None:
            return None
        data = judged(rows, truth, spec)
        until = now - maturity(rows, truth)
        spans = lived(rows, data, spec, since, until) if len(data.y) else expected(rows, known, spec, since, now)
        return None if spans is None else staying(spans, was, price)

    def _around(self, rows: Rows, frame: Frame) -> Iterator[Evidence]:
        """What no single answer tells: requests that were refused, what columns contribute to answers,
        as measured last, and for how long nobody asked."""
        yield from self._refusals.evidence(frame, self._ledger.since(frame.since))
        leant = self._attributed(frame.subject)
        if leant is not None and frame.since <= leant.until <= frame.until:
            yield from attribution(leant, frame)
        if len(rows):
            silence = frame.until - float(rows.at.max())
            yield frame.number("silence", silence, len(rows), silence, silence)

    def causes(self) -> list[Cause]:
        """The columns of the serving package that moved, for certain and by enough to matter."""
        here = self._records.service(self._service)
        vigil = None if here is None else self._vigils.get(str(here.package))
        return [] if vigil is None else vigil.causes()

    def views(self) -> dict[str, list[str]]:
        """The feature columns of the serving package that are watched, by view."""
        spec = self._serving()
        outputs = {v.name: [o for o in v.outputs if o not in self._hidden] for v in spec.views} if spec else {}
        return {view: columns for view, columns in outputs.items() if columns}

    def unwatched(self) -> dict[str, str]:
        """The columns that the serving package reads and nobody watches for drift, each with the reason."""
        spec = self._serving()
        if spec is None:
            return {}
        dtypes = {c.name: str(c.dtype) for c in spec.contract.columns} | {
            o: "feature" for v in spec.views for o in v.outputs}  # fmt: skip
        why = {n: "hidden by log.redact or log.drop" if n in self._hidden else f"a {dtype}"
               for n, dtype in dtypes.items() if n in self._hidden or dtype in UNSTEADY}  # fmt: skip
        here = self._records.service(self._service)
        intake = self._intakes.get(str(here.package)) if here else None
        seen = intake.columns if intake is not None else frozenset()
        return why | {n: "no values in training" for n in dtypes if intake is not None and n not in seen and n not in why}

    def _serving(self) -> PackageSpec | None:
        here = self._records.service(self._service)
        return None if here is None or here.package is None else self._spec(str(here.package))

    def _quality(self, rows: Rows, truth: Truth, frame: Frame, spec: PackageSpec) -> Iterator[Evidence]:
        """Metrics with labels, whole and by group, and how they compare with the held-out rows."""
        known, data = self._references.get(str(frame.subject)), judged(rows, truth, spec)

        def measured(part: Judged) -> Iterator[Evidence]:
            for seen in numbers(part, frame, spec):
                yield seen
                if known is not None:
                    yield from lost(seen, known, spec)

        yield from measured(data)
        yield from self._by_group(data.rows, lambda _, chosen: measured(data.where(chosen)))
        intake = self._intakes.get(str(frame.subject))
        if known is not None and intake is not None:
            yield from missed(data, known, spec, frame, intake.window(frame.since, frame.until))

    def _proofs(self, release: Release, now: float) -> Iterator[Evidence]:
        """The same of the candidates, of what they were served since the release began. Every step
        is judged by a new look, and so are rows that have doubled."""
        for ref in release.candidates:
            spec = self._spec(str(ref))
            if spec is not None:
                frame = Frame(subject=ref, since=release.started_at, until=now)
                yield from self._skews(spec, frame, release)

    def _skews(self, spec: PackageSpec, frame: Frame, release: Release | None = None) -> Iterator[Evidence]:
        """Served features beside recomputed ones; the tables are read again after a while only."""
        name = str(frame.subject)
        if self._recompute is None or name not in self._served:
            return
        rows, key, again = list(self._served[name].rows), name, AGAIN
        if release is not None:
            rows = [row for row in rows if row[AT] >= release.started_at]
            key, again = f"{release.id} {name}", min(max(release.here.hold, AT_ONCE), AGAIN)
        if not rows:
            return
        made_at, size, found = self._skewed.get(key, (-inf, FEW // 2, ()))
        grown = release is not None and len(rows) >= 2 * size
        if grown or not 0 <= frame.until - made_at < again:
            found = self._recompute(spec, rows)
            self._skewed[key] = frame.until, max(len(rows), FEW // 2), found
        yield from skews(found, frame)

    def _by_group(
        self, rows: Rows, seen: Callable[[Rows, NDArray[np.bool_]], Iterable[Evidence]]
    ) -> Iterator[Evidence]:
        """What is seen of each group of a slice column, or of an intersection, that has ENOUGH rows."""
        known = self._ledger.groups
        places = dict(zip(known, rows.groups.T, strict=True))
        for column in (*known, *self._crossed):
            own = parts(column, known)
            for group in product(*(known[c].items() for c in own)):
                flags = [places[c] == place for c, (_, place) in zip(own, group, strict=True)]
                chosen = np.logical_and.reduce(flags)
                if np.count_nonzero(chosen) >= ENOUGH:
                    for fact in seen(rows.where(chosen), chosen):
                        yield replace(fact, slice=f"{column}={CROSS.join(v for v, _ in group)}")

    def _expected(self, name: str, rows: Rows, frame: Frame, intake: Intake) -> Iterator[Evidence]:
        """What is expected without labels, and what the detectors say after the spans that are over."""
        known, spec = self._references.get(name), self._spec(name)
        if known is not None and spec is not None:
            yield from estimates(rows, known, spec, frame, intake.window(frame.since, frame.until))
        vigil = self._vigils.setdefault(name, Vigil(known.windows if known else {}))
        for start, window in intake.spans(nextafter(vigil.seen, inf), frame.until - self._grain):
            vigil.step(start, window, self._spacing)
        yield from vigil.evidence(frame, self._spacing)

    def _live(self, package: str, since: float) -> Rows:
        rows = self._ledger.since(since)
        return rows.where((rows.package == self._ledger.index(package)) & ((rows.flags & LIVE) > 0))

    @property
    def conflicts(self) -> int:
        """Predictions that were given contradicting labels (`core.join.join` lists them)."""
        return self._labels[LABEL].truth().conflicts

    def _take(self, answers: Answers) -> None:
        self._ledger.append(answers)
        if self._chats(answers.package):
            for name, notes in measured(answers).items():
                self._labels.setdefault(name, Labels()).add(notes)
        if answers.wanted is not None:
            self.wanted.extend(answers.ids[i] for i in np.flatnonzero(answers.wanted & answers.live).tolist())
        intake = self._intake(answers.package)
        if intake is not None:
            whole = np.ones(len(answers), np.bool_) if answers.kept is None else answers.kept
            intake.add(answers, answers.live & whole)
            spec = self._spec(answers.package)
            if self._recompute is not None and spec is not None and spec.views:
                names = [*{v.entity for v in spec.views}, *(o for v in spec.views for o in v.outputs)]
                self._served.setdefault(answers.package, Served()).add(answers, whole, names)

    def _intake(self, package: str) -> Intake | None:
        """Where the columns of this package are counted; None without a training profile."""
        spec = self._spec(package)
        if package not in self._intakes and spec is not None:
            profile = self._reference(Ref.parse(package))
            steady = [c.name for c in spec.contract.columns if c.dtype not in UNSTEADY]
            names = {*steady, *(o for view in spec.views for o in view.outputs)} - self._hidden
            known = self._references[package] = self._held(Ref.parse(package))
            made = None if profile is None else Intake(
                profile, names, self._grain, answered=(known.answers, spec) if known else None)  # fmt: skip
            self._intakes[package] = made
        return self._intakes.get(package)

    def _spec(self, package: str) -> PackageSpec | None:
        """What a package reads and says; None where nobody knows, or where it is a chat."""
        return None if self._chats(package) else self._specs.get(package)

    def _chats(self, package: str) -> bool:
        if self._specs.get(package) is None:
            try:
                spec = self._records.artifact(Ref.parse(package)).spec
            except (Missing, Invalid):
                return False
            self._specs[package] = spec if isinstance(spec, PackageSpec) else None
        found = self._specs[package]
        return found is not None and found.task == "chat"

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
            facts = [*self._twins(release, now), *(self._labelled(release, now) if state[1] else ())]
            cached = self._cached = Cached(release.id, facts, state, state)
        cached.asked_at = state
        return cached.facts

    def _labelled(self, release: Release, now: float) -> Iterator[Fact]:
        truth = self._labels[LABEL].truth()
        rows = self._ledger.since(release.started_at)
        data: dict[Ref, tuple[Judged, PackageSpec]] = {}
        for ref in (*release.candidates, release.baseline):
            if ref is None:
                continue
            own = (rows.package == self._ledger.index(str(ref))) & ((rows.flags & FALLBACK) == 0)
            mine = rows.where(own & (rows.at >= release.started_at))
            frame = Frame(subject=ref, since=release.started_at, until=now)
            for name in self._labels.keys() - {LABEL}:
                yield from reward(mine, self._labels[name].truth(), frame, name)
            spec = self._spec(str(ref))
            if spec is not None:
                data[ref] = judged(mine, truth, spec), spec
                yield from wrong(*data[ref], ref)
                yield from numbers(data[ref][0], frame, spec)
        yield from self._feedback(release, rows, now)
        baseline = None if release.baseline is None else data.get(release.baseline)
        for ref in release.candidates:
            if baseline is not None and ref in data:
                yield from pairs(data[ref], baseline, ref)

    def _twins(self, release: Release, now: float) -> Iterator[Fact]:
        """How shadows agree with the baseline; nothing where nothing was mirrored."""
        rows, baseline = self._ledger.since(release.started_at), release.baseline
        beside = None if baseline is None else self._spec(str(baseline))
        for ref in release.candidates if any(step.mirror for step in release.plan.steps) else ():
            spec = self._spec(str(ref))
            if baseline is not None and beside is not None and spec is not None:
                frame = Frame(subject=ref, since=release.started_at, until=now)
                yield from twins(rows, (self._ledger.index(str(ref)), spec),
                                 (self._ledger.index(str(baseline)), beside),
                                 self._ledger.groups, frame, baseline)  # fmt: skip

    def _feedback(self, release: Release, rows: Rows, now: float) -> Iterator[Fact]:
        refs = [*release.candidates, *filter(None, (release.baseline,))]
        truths = {name: labels.truth() for name, labels in self._labels.items()}
        return feedback(release, rows, truths, {r: self._ledger.index(str(r)) for r in refs},
                        {r: self._spec(str(r)) for r in refs}, now)  # fmt: skip

    def _forget(self, before: float, now: float) -> None:
        self._ledger.forget(before)
        for labels in self._labels.values():
            labels.forget(before)
        self._refusals.forget(before)
        for intake in filter(None, self._intakes.values()):
            intake.forget(before, now)


def _stale(cached: Cached, state: tuple[int, int]) -> bool:
    grown = [new - old for old, new in zip(cached.made_from, state, strict=True)]
    quiet = cached.asked_at == state
    return any(g > FRESHNESS * n or (g and quiet) for g, n in zip(grown, state, strict=True))
