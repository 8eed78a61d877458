"""One tick: what it commits, what it publishes, and what it does when something is missing."""

from collections.abc import Callable

import msgspec
import pytest
from msgspec.structs import replace as changed

from fairlead.adapters.records.memory import MemoryRecords
from fairlead.core.check import Action, Bound, Check
from fairlead.core.decision import Decision
from fairlead.core.event import Event, verify
from fairlead.core.evidence import Evidence, EvidenceSet
from fairlead.core.ref import Ref, canonical, digest
from fairlead.core.release import Phase, Release, Service, settle
from fairlead.core.traffic import DAY, Fixed, Route, Step, TrafficPlan, bandit
from fairlead.errors import Conflict, Corrupt, Unavailable
from fairlead.flow.loop import publish, tick
from fairlead.ports import Change

OLD, NEW = Ref("package", "fraud", "a1"), Ref("package", "fraud", "b2")
CHECK = Check(name="errors", measure="error_rate", rule=Bound(high=0.1), min_n=100)
WARN = Check(name="warn", measure="error_rate", rule=Bound(high=0.01), min_n=100,
             on_fail=frozenset({Action.ALERT}))  # fmt: skip
PLAN = TrafficPlan(name="two", steps=tuple(
    Step(share=Fixed(w), hold=10.0, patience=100.0, checks=(CHECK, WARN)) for w in (0.1, 0.5)))  # fmt: skip


class Gate:
    """A router that remembers; it refuses older epochs like the real ones."""

    def __init__(self) -> None:
        self.routes: list[Route] = []

    def publish(self, route: Route) -> None:
        if self.routes and route.epoch < self.routes[-1].epoch:
            raise Conflict(f"epoch {route.epoch} is older than {self.routes[-1].epoch}")
        self.routes.append(route)

    def published(self) -> Route | None:
        return self.routes[-1] if self.routes else None


class World:
    def __init__(self, plan: TrafficPlan = PLAN) -> None:
        self.records, self.router, self.at, self.errors = MemoryRecords(), Gate(), 0.0, 0.0
        self.asked: list[Decision] = []
        release = Release(id="fraud-1", service="fraud", candidates=(NEW,), baseline=OLD, plan=plan,
                          started_at=0.0, entered_at=0.0)  # fmt: skip
        service = settle(Service(name="fraud", package=OLD), release)
        self.records.commit(Change(at=0.0, actor="ann", verb="release.started", subject="release/fraud-1",
                                   releases=((None, release),), services=((None, service),)))  # fmt: skip

    def now(self) -> float:
        return self.at

    def seen(self, release: Release, now: float) -> EvidenceSet:
        return EvidenceSet([Evidence(subject=NEW, measure="error_rate", value=self.errors, n=500, low=0)])

    def respond(self, release: Release, decision: Decision) -> list[Event]:
        self.asked.append(decision)
        return []

    def tick(self, observe: Callable[[Release, float], EvidenceSet] | None = None,
             at: float = 0.0, service: str = "") -> list[Event]:  # fmt: skip
        self.at += at
        return tick(self.records, self.router, self, observe or self.seen, self.respond,
                    service=service)  # fmt: skip

    @property
    def release(self) -> Release:
        return self.records.release("fraud-1")

    @property
    def service(self) -> Service:
        found = self.records.service("fraud")
        assert found is not None
        return found


def test_a_good_candidate_walks_the_plan_one_event_at_a_time() -> None:
    world = World()
    verbs = [e.verb for _ in range(5) for e in world.tick(at=10.0)]
    assert verbs == ["release.advanced", "release.promoted"]
    assert [(r.epoch, r.arms[-1].weight) for r in world.router.routes] == [(2, 0.5), (3, 1.0)]
    assert world.service == Service(name="fraud", package=NEW, previous=(OLD,), epoch=3)
    assert len(world.records.decisions(NEW)) == 2
    assert verify(world.records.events(), world.records.head()[1]) == 3


def test_a_tick_without_news_commits_nothing_and_publishes_once() -> None:
    world = World()
    assert [world.tick() for _ in range(3)] == [[], [], []]
    assert [r.epoch for r in world.router.routes] == [1]


def test_an_event_says_from_where_to_where_and_because_of_which_decision() -> None:
    world = World()
    world.errors = 0.5
    (event,) = world.tick(at=1.0)
    assert (event.verb, event.body["epoch"], event.body["service"]) == ("release.rolled_back", 2, "fraud")
    assert (event.body["from"]["phase"], event.body["to"]["phase"]) == ("running", "rolled_back")
    (decision,) = world.records.decisions(NEW)
    assert "0.5" in event.body["reason"] and decision.because[0].seen[0].value == 0.5
    reread = msgspec.json.decode(canonical(decision), type=Decision)
    assert event.body["decision"] == digest(decision) == digest(reread)


def test_a_route_that_was_not_published_is_published_at_the_next_tick() -> None:
    world = World()

    class Dead(Gate):
        def publish(self, route: Route) -> None:
            raise Unavailable("disk full")

    router, world.router = world.router, Dead()
    world.errors = 0.5
    with pytest.raises(Unavailable):
        world.tick()
    assert world.release.phase is Phase.ROLLED_BACK
    world.router = router
    assert world.tick() == []
    assert [(r.epoch, len(r.arms)) for r in router.routes] == [(2, 1)]


def test_a_service_without_a_release_keeps_its_route() -> None:
    world = World()
    world.errors = 0.5
    world.tick()
    world.router.routes.clear()
    world.tick()
    publish(world.records, world.router, "fraud")
    publish(world.records, world.router, "unknown")
    assert [r.epoch for r in world.router.routes] == [2]


def test_a_command_succeeds_though_somebody_else_published_more(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    world.router.publish(Route(service="fraud", arms=(), epoch=9))
    publish(world.records, world.router, "fraud")
    assert [r.epoch for r in world.router.routes] == [9] and not caplog.records


def test_an_unreachable_source_of_evidence_is_silence_until_patience_ends() -> None:
    world = World()

    def lost(release: Release, now: float) -> EvidenceSet:
        raise Unavailable("the prediction log is on another planet")

    assert world.tick(lost, at=99.0) == []
    (event,) = world.tick(lost, at=1.0)
    assert event.verb == "release.rolled_back" and "not enough evidence" in event.body["reason"]


def test_somebody_else_first_is_no_error() -> None:
    world = World()

    def meanwhile(release: Release, now: float) -> EvidenceSet:
        world.tick(at=10.0)
        return world.seen(release, now)

    world.at = 10.0
    assert world.tick(meanwhile) == []
    assert [e.verb for e in world.records.events()] == ["release.started", "release.advanced"]
    assert world.release.step == 1


def test_an_older_route_never_replaces_a_newer_one() -> None:
    world = World()

    class Slow(MemoryRecords):
        """Answers the second read of the service, then lets another controller pass."""

        def __init__(self) -> None:
            self.__dict__ |= world.records.__dict__

        def service(self, name: str) -> Service | None:
            found = super().service(name)
            world.tick(at=10.0)
            return found

    world.router.routes.clear()
    assert tick(Slow(), world.router, world, lambda *_: EvidenceSet()) == []
    assert [r.epoch for r in world.router.routes] == [2]


def test_records_older_than_the_route_are_lifted_above_it() -> None:
    """A restored backup: the router has seen epochs that the records do not know."""
    world = World()
    world.router.publish(Route(service="fraud", arms=(), epoch=40))
    (event,) = world.tick()
    assert (event.verb, event.body["from"], event.body["epoch"]) == ("service.fenced", 1, 41)
    assert world.service.epoch == world.router.routes[-1].epoch == 41
    assert world.tick() == []


def test_a_damaged_route_is_replaced() -> None:
    world = World()

    class Damaged(Gate):
        def published(self) -> Route | None:
            if not self.routes:
                raise Corrupt("the signature of the route does not match")
            return super().published()

    world.router = Damaged()
    assert world.tick() == [] and [r.epoch for r in world.router.routes] == [1]


def test_a_paused_release_keeps_its_traffic() -> None:
    world = World()
    paused = changed(world.release, phase=Phase.PAUSED)
    world.records.commit(Change(at=0, actor="a", verb="p", subject="s", releases=((world.release, paused),)))
    world.errors = 0.9
    assert world.tick(at=1000.0) == [] and not world.asked
    assert [a.weight for a in world.router.routes[-1].arms] == [0.9, 0.1]


def test_what_is_asked_beside_traffic_is_handed_on_after_the_commit() -> None:
    world = World()
    world.errors = 0.05
    assert world.tick(at=1.0) == [] and [d.actions for d in world.asked] == [{Action.ALERT, Action.HOLD}]
    world.errors = 0.005
    world.tick(at=1.0)
    assert len(world.asked) == 1


def test_only_the_asked_for_service_is_served() -> None:
    world = World()
    assert world.tick(at=10.0, service="other") == [] and not world.router.routes
    assert len(world.tick(service="fraud")) == 1


def test_adaptive_shares_raise_the_epoch_only_when_the_route_moves() -> None:
    world = World(bandit((), reward="ctr"))
    rewards = iter([0.30, 0.301, 0.301, 0.3010001, 0.304])

    def ctr(release: Release, now: float) -> EvidenceSet:
        value = next(rewards)
        return EvidenceSet(
            Evidence(subject=s, measure="ctr", value=v, n=900, low=v - 0.005, high=v + 0.005)
            for s, v in ((NEW, value), (OLD, 0.3)))  # fmt: skip

    made = [[e.verb for e in world.tick(ctr, at=1.0)] for _ in range(5)]
    assert made == [["release.weighed"], ["release.weighed"], [], [], ["release.weighed"]]
    shares = [r.arms[1].weight for r in world.router.routes]
    assert shares == sorted(shares) and [r.epoch for r in world.router.routes] == [2, 3, 4]
    world.at += 30 * DAY
    assert world.tick(lambda *_: EvidenceSet())[0].verb == "release.promoted"
