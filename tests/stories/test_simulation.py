"""The whole decision loop under two thousand different disasters, each replayable by its seed.

Two controllers with skewed clocks share records and a router. They are killed and preempted before
and after every call of a port, tick twice or not at all; evidence comes late, is lost for a while or
for good; people pause, resume, abort and roll back. After the storm one controller ticks in calm.
Then planted bugs: each must be caught by some seed, or the invariants are not worth their name.
"""

from collections.abc import Callable, Iterator
from random import Random
from typing import Protocol, TypeVar, cast

import numpy as np
import pytest
from msgspec.structs import replace as changed

from fairlead.adapters.records.memory import MemoryRecords
from fairlead.core.artifact import Artifact, PackageSpec
from fairlead.core.check import Action, Bound, Check, Harm, Odds, Outcome
from fairlead.core.decision import Decision
from fairlead.core.encoding import Encoding
from fairlead.core.event import Event, verify
from fairlead.core.evidence import Evidence, EvidenceSet, Fact, Tally
from fairlead.core.ref import Ref
from fairlead.core.release import Phase, Release, Service, advance, route
from fairlead.core.schema import Schema
from fairlead.core.traffic import Adaptive, Fixed, Route, Step, TrafficPlan
from fairlead.errors import Conflict, FairleadError, Unavailable
from fairlead.flow import loop
from fairlead.flow import release as hands
from fairlead.ports import Change, Clock, Records

SEEDS = 2000
TICK, HOLD, PATIENCE, MIN_N = 10.0, 20.0, 200.0, 60
T = TypeVar("T")
OLD, NEW, ALSO = (Ref("package", "fraud", d) for d in ("a1", "b2", "c3"))
BOUND = Check(name="errors", measure="error_rate", rule=Bound(high=0.3), min_n=MIN_N)
HARM = Check(name="harm", measure="errors", rule=Harm(exclude=3.0), min_n=MIN_N)


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """A storm is noisy, and writing it down would take longer than the storm."""
    monkeypatch.setattr(loop.log, "disabled", True)


class Killed(BaseException):
    """The controller died at this very moment."""


class Violated(AssertionError):
    """An invariant does not hold."""


def must(holds: bool, what: str) -> None:
    if not holds:
        raise Violated(what)


def plan(kind: int) -> TrafficPlan:
    check = HARM if kind == 1 else BOUND
    first = Adaptive(reward="ctr") if kind == 2 else Fixed(0.2)
    steps = tuple(Step(share=s, hold=HOLD, patience=PATIENCE, checks=(check,))
                  for s in (first, Fixed(0.5)))  # fmt: skip
    return TrafficPlan(name="two steps", steps=steps, goal="ctr", odds=Odds(alpha=1e-4, beta=0.05))


class MemoryRouter:
    def __init__(self) -> None:
        self.route: Route | None = None

    def publish(self, route: Route) -> None:
        if self.route is not None and route.epoch < self.route.epoch:
            raise Conflict(f"epoch {route.epoch} is older than {self.route.epoch}")
        self.route = route

    def published(self) -> Route | None:
        return self.route


class Controller(MemoryRecords):
    """Records, router, clock and evidence as one controller meets them: through the storm."""

    def __init__(self, world: "World", skew: float) -> None:
        self.world, self.skew = world, skew

    def now(self) -> float:
        late = 25.0 if self.world.stormy and self.world.rng.random() < 0.1 else 0.0
        return self.world.at + self.skew - late

    def services(self) -> list[Service]:
        return self.world.call(self, self.world.records.services)

    def service(self, name: str) -> Service | None:
        return self.world.call(self, lambda: self.world.records.service(name))

    def release(self, release_id: str) -> Release:
        return self.world.call(self, lambda: self.world.records.release(release_id))

    def commit(self, change: Change) -> Event:
        return self.world.call(self, lambda: self.world.commit(change))

    def published(self) -> Route | None:
        return self.world.call(self, self.world.router.published)

    def publish(self, route: Route) -> None:
        self.world.call(self, lambda: self.world.publish(route))

    def observe(self, release: Release, now: float) -> EvidenceSet:
        return self.world.call(self, lambda: self.world.observe(release))

    def tick(self) -> None:
        loop.tick(self, self, self, self.observe)


class Desk(Records, Clock, Protocol):
    """Where a person types commands: records and a clock."""


class World:
    """One seed: what happens, and what must hold while it happens."""

    def __init__(self, seed: int, records: type[MemoryRecords] = MemoryRecords,
                 router: type[MemoryRouter] = MemoryRouter,
                 controller: type[Controller] = Controller) -> None:  # fmt: skip
        self.rng, self.chance = Random(seed), np.random.default_rng(seed)
        self.records, self.router, self.at = records(), router(), 1e6
        self.good = self.rng.random() < 0.5
        self.lost = self.rng.choice(["never", "never", "never", "sometimes", "always"])
        self.people = self.rng.random() < 0.15
        self.plan = plan(self.rng.randrange(3))
        self.left = [(NEW, ALSO) if self.rng.random() < 0.2 else (NEW,)]
        self.lag = self.rng.choice([0.0, 0.0, 15.0, 40.0])
        self.stormy, self.busy = True, 0
        self.pair = [controller(self, 0.0), controller(self, self.rng.uniform(-5, 5))]
        self.seen: list[tuple[float, dict[Ref, tuple[int, int]]]] = []
        self.routes: dict[int, Route | None] = {}
        self.epochs: list[int] = []
        self.known: dict[tuple[str, int], int] = {}
        self.desk = cast(Desk, self)

    # What the controllers call

    def call(self, who: Controller, port: Callable[[], T]) -> T:
        self.shake(who)
        answer = port()
        self.shake(who)
        return answer

    def shake(self, who: Controller) -> None:
        """Before and after every call of a port: die, or let the other controller pass."""
        if not self.stormy:
            return
        luck = self.rng.random()
        if luck < 0.02:
            raise Killed
        if luck < 0.08 and not self.busy:
            self.busy += 1
            for _ in range(self.rng.randrange(1, 4)):
                self.run(next(c for c in self.pair if c is not who))
            self.busy -= 1

    def commit(self, change: Change) -> Event:
        event = self.records.commit(change)
        for _, here in change.services:
            release = self.records.release(here.release) if here.release else None
            wanted = route(here, release)
            must(self.routes.setdefault(here.epoch, wanted) == wanted, "an epoch with two routes")
        return event

    def publish(self, route: Route) -> None:
        self.router.publish(route)
        must(self.routes.get(route.epoch) == route, "a route that follows from no committed state")
        must(not self.epochs or self.epochs[-1] <= route.epoch, "an applied epoch went back")
        self.epochs.append(route.epoch)

    def observe(self, release: Release) -> EvidenceSet:
        lost = "never" if release.baseline is None else self.lost
        gone = lost == "always" or (lost == "sometimes" and self.rng.random() < 0.4)
        if gone and self.rng.random() < 0.5:
            raise Unavailable("the source of evidence does not answer")
        until = self.at - self.lag
        rows = [] if gone else [r for r in self.seen if release.entered_at <= r[0] <= until]
        return self.facts(release, rows)

    def facts(self, release: Release,
              rows: list[tuple[float, dict[Ref, tuple[int, int]]]]) -> EvidenceSet:  # fmt: skip
        found: list[Fact] = []
        for ref in dict.fromkeys((*release.candidates, OLD)):
            mine = [(at, *counts[ref]) for at, counts in rows if ref in counts]
            n, bad = sum(r[1] for r in mine), sum(r[2] for r in mine)
            if ref in release.candidates:
                key = (release.id, release.revision)
                self.known[key] = max(self.known.get(key, 0), n)
            if not n:
                continue
            found += [Tally(subject=ref, measure="errors", at=a, events=x, n=m) for a, m, x in mine]
            for measure, value in (("error_rate", bad / n), ("ctr", 0.3 + 0.02 * (1 - bad / n))):
                found.append(Evidence(subject=ref, measure=measure, value=value, n=n,
                                      low=value - n**-0.5, high=value + n**-0.5))  # fmt: skip
        return EvidenceSet(found)

    # What happens

    def package(self, ref: Ref) -> None:
        model = Ref("model", ref.name, ref.digest)
        spec = PackageSpec(model=model, flavor="onnx", task="binary", contract=Schema(columns=()),
                           encoding=Encoding(()), files={})  # fmt: skip
        passed = Decision(subject=model, actions=frozenset(), because=(), at=self.at)
        self.commit(Change(at=self.at, actor="ann", verb="package", subject=str(ref),
                           artifacts=(Artifact(ref=ref, spec=spec, created_at=self.at),),
                           decisions=(passed,)))  # fmt: skip

    def run(self, controller: Controller) -> None:
        try:
            controller.tick()
        except Killed:
            return

    def traffic(self) -> None:
        """Who answered in this tick, and how often it went wrong; by the route that is applied."""
        rows: dict[Ref, tuple[int, int]] = {}
        now = self.router.route
        for arm in () if now is None else now.arms:
            n = round(200 * arm.weight)
            fine = arm.package == OLD or (arm.package == NEW and self.good)
            rate = 0.1 if fine else 0.6
            rows[arm.package] = (n, int(self.chance.binomial(n, rate)))
        self.seen.append((self.at, rows))

    def person(self) -> None:
        """Somebody types a command, at any moment and perhaps a senseless one."""
        here = self.records.service("fraud")
        running = "" if here is None else here.release
        do: list[Callable[[], object]] = [
            lambda: hands.pause(self.desk, self.desk, running, actor="bob"),
            lambda: hands.resume(self.desk, self.desk, running, actor="bob"),
            lambda: hands.abort(self.desk, self.desk, running, "no", actor="bob"),
            lambda: hands.rollback(self.desk, self.desk, "fraud", "no", actor="bob"),
        ]
        try:
            self.rng.choice(do)()
        except FairleadError:
            return

    def __getattr__(self, name: str) -> object:
        """A person's commands meet the records without a storm, but with the same watch."""
        return getattr(self.records, name)

    def now(self) -> float:
        return self.at

    def start(self, *packages: Ref) -> None:
        hands.start(self.desk, self.desk, "fraud", packages, self.plan, actor="ann")

    def play(self) -> "World":
        for package in (OLD, NEW, ALSO):
            self.package(package)
        self.start(OLD)
        for _ in range(25):
            self.at += TICK
            self.traffic()
            for controller in self.rng.choices(self.pair, k=self.rng.randrange(4)):
                self.run(controller)
            here = self.records.service("fraud")
            if self.left and here is not None and here.package is not None and not here.release:
                self.start(*self.left.pop())
            if self.people and self.rng.random() < 0.1:
                self.person()
        self.calm()
        self.judge()
        return self

    def calm(self) -> None:
        """No more disasters: one controller, whose clock is right."""
        self.stormy = False
        for tick in range(90):
            self.at += TICK
            self.traffic()
            self.pair[0].tick()
            here = self.records.service("fraud")
            assert here is not None
            if not here.release:
                if not self.left or here.package is None:
                    return
                self.start(*self.left.pop())
                continue
            release = self.records.release(here.release)
            if release.phase is Phase.PAUSED:
                hands.resume(self.desk, self.desk, release.id, actor="bob")
                continue
            late = self.at - release.entered_at - PATIENCE
            must(tick == 0 or late <= TICK, "stuck beyond patience")
        raise Violated("the release does not end")

    # What must hold in the end

    def judge(self) -> None:
        here = self.records.service("fraud")
        assert here is not None
        must(self.router.route == route(here, None), "the applied route is not the state's")
        events = list(self.records.events())
        verify(events, self.records.head()[1])
        must(all(e.verb != "service.fenced" for e in events), "a route ran ahead of the records")
        self.judge_history(events, here)
        must(all(r.winner in (None, OLD, NEW) for r in self.records.releases()), "a bad one won")
        must(self.good or here.package in (None, OLD), "a bad candidate serves")
        if self.people:
            return
        new = self.records.release("fraud-2")
        must(self.good or new.phase is Phase.ROLLED_BACK, "a bad candidate was not rolled back")
        must(self.lost != "always" or new.phase is Phase.ROLLED_BACK, "promoted without evidence")
        must(not (self.good and self.lost == "never") or new.phase is Phase.PROMOTED,
             "a good candidate was not promoted")  # fmt: skip

    def judge_history(self, events: list[Event], here: Service) -> None:
        """Each state follows from the one before by exactly one event, and each step by evidence."""
        states: dict[str, object] = {}
        epoch = 0
        for event in (e for e in events if e.subject.startswith("release/")):
            body = event.body
            must(states.get(event.subject) == body["from"], f"a gap before event {event.seq}")
            states[event.subject] = body["to"]
            if "epoch" in body:
                must(body["epoch"] == epoch + 1, f"epoch {body['epoch']} after {epoch}")
                epoch = body["epoch"]
            self.judge_step(event)
        must(epoch == here.epoch, "the service moved without an event")
        for release in self.records.releases():
            state = states.get(f"release/{release.id}")
            must(isinstance(state, dict) and (state["phase"], state["step"], state["revision"])
                 == (release.phase.value, release.step, release.revision),
                 "a release moved without an event")  # fmt: skip

    def judge_step(self, event: Event) -> None:
        if event.verb not in ("release.advanced", "release.promoted"):
            return
        release = self.records.release(event.subject.partition("/")[2])
        if release.here.checks:
            read = self.known.get((release.id, event.body["from"]["revision"]), 0)
            must(read >= MIN_N, f"event {event.seq} moved on {read} rows of evidence")


def test_two_thousand_disasters() -> None:
    ends: dict[Phase, int] = {}
    for seed in range(SEEDS):
        try:
            world = World(seed).play()
        except BaseException as error:
            raise AssertionError(f"seed {seed}: {error!r}") from error
        last = world.records.releases()[-1].phase
        ends[last] = ends.get(last, 0) + 1
    assert ends[Phase.PROMOTED] > 400 and ends[Phase.ROLLED_BACK] > 700, ends


def test_a_seed_replays_to_the_last_byte() -> None:
    for seed in (3, 14, 159):
        first, again = (list(World(seed).play().records.events()) for _ in range(2))
        assert first == again


# Planted bugs


class NoComparison(MemoryRecords):
    """Commits without looking whether somebody else was first."""

    def compare(self, change: Change) -> None: ...


class NoEvent(MemoryRecords):
    """Moves a step without telling the audit log."""

    def append(self, event: Event) -> None:
        if event.verb != "release.advanced":
            super().append(event)


class NoFence(MemoryRouter):
    """Accepts older epochs."""

    def publish(self, route: Route) -> None:
        self.route = route


class PublishesFirst(Controller):
    """Tells the router before the records."""

    def commit(self, change: Change) -> Event:
        for (_, here), (_, release) in zip(change.services, change.releases, strict=False):
            wanted = route(here, release)
            assert wanted is not None
            self.world.router.publish(wanted)
        return super().commit(change)


class NoBump(Controller):
    """Forgets to raise the epoch."""

    def commit(self, change: Change) -> Event:
        still = tuple((b, changed(a, epoch=b.epoch)) for b, a in change.services if b is not None)
        return super().commit(changed(change, services=still))


class NoHealing(Controller):
    """Publishes only what it committed itself in the same tick."""

    committed = False

    def tick(self) -> None:
        self.committed = False
        super().tick()

    def commit(self, change: Change) -> Event:
        self.committed = True
        return super().commit(change)

    def publish(self, route: Route) -> None:
        if self.committed:
            super().publish(route)


class TornRead(Controller):
    """Does not look whether the service moved while its release was read."""

    first: Service

    def services(self) -> list[Service]:
        (self.first,) = super().services()
        return [self.first]

    def service(self, name: str) -> Service | None:
        return self.first


class SilenceIsGolden(Controller):
    """Reads missing evidence as no errors at all."""

    def observe(self, release: Release, now: float) -> EvidenceSet:
        try:
            facts = list(super().observe(release, now))
        except Unavailable:
            facts = []
        if facts:
            return EvidenceSet(facts)
        return EvidenceSet(
            Evidence(subject=c, measure="error_rate", value=0.0, n=1000) for c in release.candidates
        )


def unknown_is_pass(release: Release, evidence: EvidenceSet, now: float) -> Decision:
    decision = advance(release, evidence, now)
    waits = {v.outcome for v in decision.because} == {Outcome.UNKNOWN}
    held = now - release.entered_at < release.here.hold
    return changed(decision, actions=frozenset(), drop=()) if waits and not held else decision


def no_patience(release: Release, evidence: EvidenceSet, now: float) -> Decision:
    return advance(changed(release, entered_at=max(release.entered_at, now - HOLD)), evidence, now)


def fails_late(release: Release, evidence: EvidenceSet, now: float) -> Decision:
    """Rolls back only what is also out of patience."""
    decision = advance(release, evidence, now)
    if Action.ROLLBACK in decision.actions and now - release.entered_at < PATIENCE:
        return changed(decision, actions=frozenset(), drop=())
    return decision


PARTS: dict[str, dict[str, type]] = {
    "commit without comparison": {"records": NoComparison},
    "event missing": {"records": NoEvent},
    "router accepts old epochs": {"router": NoFence},
    "publish before commit": {"controller": PublishesFirst},
    "epoch not raised": {"controller": NoBump},
    "no publishing after a crash": {"controller": NoHealing},
    "torn read of service and release": {"controller": TornRead},
    "silence read as no errors": {"controller": SilenceIsGolden},
}
BRAINS = {"promote on unknown": unknown_is_pass, "patience ignored": no_patience,
          "failure overruled": fails_late}  # fmt: skip


def caught(**parts: type) -> Iterator[tuple[int, str]]:
    for seed in range(400):
        try:
            World(seed, **parts).play()
        except (Violated, FairleadError, AssertionError) as error:
            yield seed, repr(error)


@pytest.mark.parametrize("bug", PARTS)
def test_a_planted_bug_is_caught(bug: str) -> None:
    assert next(caught(**PARTS[bug]), None) is not None, f"{bug}: no seed noticed"


@pytest.mark.parametrize("bug", BRAINS)
def test_a_planted_bug_in_judgement_is_caught(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "advance", BRAINS[bug])
    assert next(caught(), None) is not None, f"{bug}: no seed noticed"
