"""Four eyes: over random roles and orders nobody approves their own, and nothing is approved twice."""

from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import Any

import pytest
from msgspec.structs import replace

from fairlead.adapters.records.memory import MemoryRecords
from fairlead.core.alert import Alerts
from fairlead.core.artifact import Artifact, DatasetSpec, ModelSpec, PackageSpec, name_of
from fairlead.core.check import Action
from fairlead.core.decision import Decision
from fairlead.core.encoding import Encoding
from fairlead.core.event import Event
from fairlead.core.identity import ROLES, Caller, checked
from fairlead.core.manifest import (
    DataSection,
    GovernanceSection,
    Manifest,
    ReleaseSection,
    TrainSection,
)
from fairlead.core.ref import Ref
from fairlead.core.release import Release
from fairlead.core.schema import Schema
from fairlead.core.traffic import replace as at_once
from fairlead.errors import Conflict, FairleadError, Forbidden, Invalid
from fairlead.flow import identity, release
from fairlead.flow.approval import Desk
from fairlead.ports import Change

NOBODY = Caller(name="", powers=frozenset())
PEOPLE = ("ann", "bob", "cleo", "dan", "eve")
ADMIN = "root"


class Bank:
    """A project without files: people, packages nobody trained, releases nobody serves."""

    def __init__(self, needs: int = 1) -> None:
        self.records, self.at = MemoryRecords(), 1000.0
        self.manifest = Manifest(service="loans", data=DataSection(source="x.csv", target="y"),
                                 train=TrainSection(), governance=GovernanceSection(approvals=needs, expires="1h"))  # fmt: skip
        self.plan = at_once()
        identity.add(self.records, self, ADMIN, ["admin"], actor="login")

    def now(self) -> float:
        self.at += 1.0
        return self.at

    def caller(self, name: str) -> Caller:
        person = identity.read(self.records).people[name]
        return Caller(name=name, powers=person.powers, token=f"token of {name}")

    def desk(self, name: str, power: Any = None) -> Desk:
        caller = self.caller(name)
        if power:
            caller.must(power)
        return Desk(self.records, self, self.manifest, caller)

    def hire(self, name: str, *roles: str) -> None:
        identity.add(self.records, self, name, roles, actor=ADMIN)

    def adopt(self, name: str = ADMIN) -> None:
        self.desk(name).adopt("because")

    def make(self, number: int, trainer: str, builder: str) -> Ref:
        """A package that passed the gate."""
        data = DatasetSpec(parts=(), contract=Schema(columns=()))
        model = ModelSpec(flavor="onnx", task="binary", inputs=Schema(columns=()), files={"n": str(number)},
                          encoding=Encoding(()))  # fmt: skip
        made = Artifact(ref=name_of("loans", data), spec=data, created_at=0.0)
        learnt = Artifact(ref=name_of("loans", model), spec=model, parents=(made.ref,), created_at=0.0)
        self.note("model.trained", trainer, learnt.ref, artifacts=(made, learnt))
        self.judge(learnt.ref)
        package = PackageSpec(model=learnt.ref, flavor="onnx", task="binary", contract=Schema(columns=()),
                              encoding=Encoding(()), files={})  # fmt: skip
        packed = Artifact(ref=name_of("loans", package), spec=package, parents=(learnt.ref,), created_at=0.0)
        self.note("package.built", builder, packed.ref, artifacts=(packed,))
        return packed.ref

    def judge(self, model: Ref) -> None:
        decision = Decision(subject=model, actions=frozenset[Action](), because=(), at=self.now())
        self.note("gate.passed", "fairlead", model, decisions=(decision,))

    def note(self, verb: str, actor: str, subject: Ref, **more: Any) -> None:
        self.records.commit(Change(at=self.now(), actor=actor, verb=verb, subject=str(subject), **more))

    def start(self, name: str, package: Ref, glass: str = "") -> Release:
        desk = self.desk(name, "release")
        return release.start(self.records, self, "loans", [package], self.plan, actor=name,
                             consent=lambda: desk.consent([package], self.plan, glass))  # fmt: skip

    def end(self) -> None:
        running = self.records.service("loans")
        if running is not None and running.release:
            release.abort(self.records, self, running.release, "done", actor="olga")


@pytest.fixture
def bank() -> Bank:
    made = Bank()
    made.hire("tom", "trainer")
    made.hire("ada", "approver")
    made.hire("olga", "operator")
    made.adopt()
    return made


def test_the_way_of_a_package(bank: Bank) -> None:
    package = bank.make(1, "tom", "tom")
    with pytest.raises(Forbidden, match="needs 1 approval") as refused:
        bank.start("olga", package)
    assert "fairlead approval request" in refused.value.hint
    number = bank.desk("tom").request([package], bank.plan).approval.id
    with pytest.raises(Forbidden, match="lacks 1 of 1") as waits:
        bank.start("olga", package)
    assert f"approval grant {number}" in waits.value.hint
    with pytest.raises(Forbidden, match="tom asked for it"):
        bank.desk("tom").grant(number, "mine")
    assert bank.desk("ada").grant(number, "fine").state == "granted"
    started = bank.start("olga", package)
    assert bank.desk("ada").show(number).approval.used == started.id
    bank.end()
    with pytest.raises(Forbidden, match=f"was used by {started.id}"):
        bank.start("olga", package)


def test_any_change_makes_it_void(bank: Bank) -> None:
    package = bank.make(1, "tom", "tom")

    def granted() -> None:
        number = bank.desk("tom").request([package], bank.plan).approval.id
        bank.desk("ada").grant(number, "fine")

    granted()
    model = bank.records.artifact(package).parents[0]
    bank.judge(model)
    with pytest.raises(Forbidden, match="evidence changed"):
        bank.start("olga", package)
    granted()
    with pytest.raises(Forbidden, match="plan changed"):
        bank.plan = replace(bank.plan, sticky_by="customer")
        bank.start("olga", package)
    bank.plan = at_once()
    bank.manifest = replace(bank.manifest, release=ReleaseSection(alpha=0.2))
    with pytest.raises(Conflict, match="not the one in force"):
        bank.start("olga", package)
    bank.adopt()
    with pytest.raises(Forbidden, match="policy changed"):
        bank.start("olga", package)
    granted()
    bank.at += 3600
    with pytest.raises(Forbidden, match="has expired"):
        bank.start("olga", package)


def test_an_approval_for_one_environment_or_baseline_is_none_for_another(bank: Bank) -> None:
    first, second = bank.make(1, "tom", "tom"), bank.make(2, "tom", "tom")
    numbers = [bank.desk("tom").request([p], bank.plan).approval.id for p in (first, second)]
    for number in numbers:
        bank.desk("ada").grant(number, "fine")
    bank.start("olga", first)
    here = bank.records.service("loans")
    assert here is not None
    running = bank.records.release(here.release)
    bank.records.commit(Change(at=bank.now(), actor="fairlead", verb="release.promoted", subject=f"release/{running.id}",
                               services=((here, replace(here, package=first, release="", epoch=here.epoch + 1)),)))  # fmt: skip
    with pytest.raises(Forbidden, match="baseline changed"):
        bank.start("olga", second)


def test_whoever_set_the_policy_approves_nothing_under_it(bank: Bank) -> None:
    package = bank.make(1, "tom", "tom")
    bank.hire("zoe", "admin")
    bank.manifest = replace(bank.manifest, release=ReleaseSection(alpha=0.2))
    bank.adopt("zoe")
    identity.change(bank.records, bank, "zoe", ["approver"], actor=ADMIN)
    number = bank.desk("tom").request([package], bank.plan).approval.id
    with pytest.raises(Forbidden, match="zoe set the policy"):
        bank.desk("zoe").grant(number, "mine")


def test_an_approver_who_left_does_not_count(bank: Bank) -> None:
    package = bank.make(1, "tom", "tom")
    number = bank.desk("tom").request([package], bank.plan).approval.id
    bank.desk("ada").grant(number, "fine")
    identity.remove(bank.records, bank, "ada", actor=ADMIN)
    with pytest.raises(Forbidden, match="lacks 1 of 1"):
        bank.start("olga", package)


def test_two_that_start_at_once_share_no_approval(bank: Bank) -> None:
    package = bank.make(1, "tom", "tom")
    number = bank.desk("tom").request([package], bank.plan).approval.id
    bank.desk("ada").grant(number, "fine")
    desk = bank.desk("olga")

    def meanwhile() -> dict[str, Any]:
        told = desk.consent([package], bank.plan, "")
        if bank.records.service("loans") is None:
            bank.start("olga", package)
            bank.end()
        return told

    with pytest.raises(Conflict):
        release.start(bank.records, bank, "loans", [package], bank.plan, actor="olga", consent=meanwhile)
    assert sum("approval" in e.body and e.verb == "release.started" for e in bank.records.events()) == 1


def test_broken_glass_is_loud_until_somebody_else_looked(bank: Bank) -> None:
    package = bank.make(1, "tom", "tom")
    with pytest.raises(Forbidden):
        bank.start("tom", package, "down")
    started = bank.start("olga", package, "down")
    alerts = Alerts("loans", bank.records.events())
    (alert,) = alerts.open
    assert (alert.monitor, alert.check) == ("break-glass", started.id) and "down" in alert.cause
    assert [n.kind for n in alerts.notices] == ["raised"]
    for verb, body in (("alert.resolved", {"alert": alert.id, "reason": "shh"}), ("release.promoted", {})):
        alerts.take(Event(seq=999, at=0.0, actor="olga", verb=verb, subject="", body={"service": "loans", **body}))
    assert alerts.open, "neither a hand nor a good end is a review"
    for who in ("olga", "tom"):
        with pytest.raises(Forbidden):
            bank.desk(who).review(started.id, "fine")
    bank.desk("ada").review(started.id, "it was down")
    assert not Alerts("loans", bank.records.events()).open
    assert not bank.desk("ada").read().unreviewed


def test_approvals_need_people_and_a_reason(bank: Bank) -> None:
    package = bank.make(1, "tom", "tom")
    number = bank.desk("tom").request([package], bank.plan).approval.id
    with pytest.raises(Invalid, match="no reason"):
        bank.desk("ada").grant(number, " ")
    with pytest.raises(Conflict, match="is open for the same"):
        bank.desk("olga").request([package], bank.plan)
    bank.desk("tom").deny(number, "not ready")
    with pytest.raises(Conflict):
        bank.desk("ada").grant(number, "fine")
    alone = Desk(MemoryRecords(), bank, bank.manifest, NOBODY)
    with pytest.raises(Invalid, match="needs to know its people"):
        alone.consent([package], bank.plan, "")


SINGLE = sorted(r for r in ROLES if r not in ("admin", "service"))
STEPS = ["request", "grant", "grant", "start", "start", "end"] * 5 + ["make", "deny", "glass", "review", "adopt", "change", "judge", "wait"]  # fmt: skip


def some_roles(chance: Random) -> list[str]:
    return ["admin"] if chance.random() < 0.1 else chance.sample(SINGLE, chance.randint(1, 4))


def act(bank: Bank, what: str, who: str, number: int, roles: list[str], packages: list[Ref]) -> None:
    """One thing that somebody tries, as the project would let them."""
    approvals = list(bank.desk(ADMIN).read().all)
    wanted, package = approvals[number % len(approvals)] if approvals else 0, packages[number % len(packages)]

    def make() -> None:
        bank.caller(who).must("make")
        packages.append(bank.make(number % 3, who, PEOPLE[number % 5]))

    def adopt() -> None:
        bank.caller(who).must("administer")
        bank.manifest = replace(bank.manifest, release=ReleaseSection(slow_ms=100 + number % 2))
        bank.adopt(who)

    def change() -> None:
        bank.caller(who).must("administer")
        identity.change(bank.records, bank, PEOPLE[number % 5], checked(roles), actor=who)

    def wait() -> None:
        bank.at += 300 * number

    ways: dict[str, Callable[[], object]] = {
        "make": make, "adopt": adopt, "change": change, "wait": wait, "end": bank.end,
        "grant": lambda: bank.desk(who, "approve").grant(wanted, "why not"),
        "deny": lambda: bank.desk(who).deny(wanted, "no"),
        "review": lambda: bank.desk(who, "approve").review(f"loans-{number % 3 + 1}", "seen"),
        "judge": lambda: bank.judge(bank.records.artifact(package).parents[0]),
        "request": lambda: bank.desk(who).request([package], bank.plan),
        "start": lambda: bank.start(who, package),
        "glass": lambda: bank.start(who, package, "now"),
    }  # fmt: skip
    ways[what]()


def lawful(bank: Bank, needs: int) -> int:
    """Read the log as a stranger would, without any of our code for approvals; how many were used."""
    roles: dict[str, list[str]] = {}
    asked: dict[int, Event] = {}
    grants: dict[int, list[str]] = {}
    used: list[int] = []
    makers: dict[str, set[str]] = {}
    glass: dict[str, str] = {}
    adopter = ""
    for event in bank.records.events():
        body = event.body
        match event.verb:
            case "person.added" | "person.changed":
                assert body["name"] != event.actor
                roles[body["name"]] = body["roles"]
            case "model.trained" | "package.built":
                makers.setdefault(event.subject, set()).add(event.actor)
            case "policy.adopted":
                adopter = event.actor
            case "approval.requested":
                asked[event.seq] = event
            case "approval.granted":
                assert "approver" in roles[event.actor]
                grants.setdefault(body["approval"], []).append(event.actor)
            case "approval.reviewed":
                assert glass[body["release"]] != event.actor
            case "release.started" if "break_glass" in body:
                glass[event.subject.removeprefix("release/")] = event.actor
            case "release.started":
                number = body["approval"]
                used.append(number)
                bound = asked[number].body["bound"]
                (package,) = body["to"]["candidates"]
                assert str(Ref(**bound["packages"][0])) == package
                model = bank.records.artifact(Ref.parse(package)).parents[0]
                own = makers[package] | makers[str(model)] | {asked[number].actor, adopter}
                assert len({g for g in grants[number] if g not in own and "approver" in roles[g]}) >= needs
    assert len(used) == len(set(used))
    return len(used)


def test_whoever_does_what_in_whatever_order() -> None:
    used = 0
    for seed in range(200):
        chance, needs = Random(seed), seed % 2 + 1
        bank, packages = Bank(needs), list[Ref]()
        for name in PEOPLE:
            bank.hire(name, *some_roles(chance))
        bank.adopt()
        packages.append(bank.make(0, PEOPLE[0], PEOPLE[1]))
        for _ in range(150):
            with suppress(FairleadError):
                act(bank, chance.choice(STEPS), chance.choice(PEOPLE), chance.randrange(8), some_roles(chance), packages)  # fmt: skip
        used += lawful(bank, needs)
    assert used > 100, "releases by approval do happen"
