"""Observing: what the journals hold becomes evidence, once, whatever happens to the files meanwhile."""

import fcntl
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
from msgspec.structs import replace

from fairlead.adapters.predictions.files import PredictionFiles
from fairlead.adapters.records.memory import MemoryRecords
from fairlead.core.artifact import Artifact, PackageSpec, name_of
from fairlead.core.catalogue import plan_of, release_checks
from fairlead.core.check import Balance, Check, Harm, Outcome, PairedLoss, Verdict, judge, judge_all
from fairlead.core.encoding import Encoding, Number
from fairlead.core.estimate import calibrate
from fairlead.core.evidence import EvidenceSet, Moments, Tally
from fairlead.core.journal import HEADER, Batch, Denial, Note, frame
from fairlead.core.manifest import FeedbackText, ReleaseSection
from fairlead.core.profile import TableProfile, profile_labels, profile_numbers, quantile_edges
from fairlead.core.ref import Ref
from fairlead.core.reference import Known, Reference
from fairlead.core.release import Release, Service
from fairlead.core.schema import Column, Schema
from fairlead.core.traffic import canary
from fairlead.flow.observe import Observer
from fairlead.ports import Change

DICE = np.random.default_rng(7)
TRAINED = DICE.normal(size=5000)
EDGES = quantile_edges(TRAINED)
PROFILE = TableProfile(n=5000, columns=(
    profile_numbers("x", TRAINED, EDGES),
    profile_labels("carrier", {"UA": 3000, "AA": 2000}),
))  # fmt: skip


def spec(digit: str, **more: Any) -> PackageSpec:
    given: dict[str, Any] = {
        "model": Ref("model", "m", digit * 64), "flavor": "onnx", "task": "binary",
        "classes": ("no", "yes"), "files": {}, "encoding": Encoding((Number("x"),)),
        "contract": Schema(columns=(Column(name="x", dtype="float", nullable=True),
                                    Column(name="carrier", dtype="category"))),
    }  # fmt: skip
    return PackageSpec(**(given | more))


class World:
    """A service with a baseline and a candidate, whose gateway is this class."""

    def __init__(self, root: Path, **more: Any) -> None:
        self.records = MemoryRecords()
        self.specs = {"old": spec("a", **more), "new": spec("b", **more)}
        self.old, self.new = (name_of("flights", s) for s in self.specs.values())
        made = tuple(
            Artifact(ref=name_of("flights", s), spec=s, created_at=0.0) for s in self.specs.values()
        )
        self.release = Release(id="flights-2", service="flights", candidates=(self.new,),
                               baseline=self.old, plan=canary((), sticky_by="u"), started_at=100.0,
                               entered_at=100.0)  # fmt: skip
        self.service = Service(name="flights", package=self.old, release="flights-2", epoch=2)
        self.records.commit(Change(
            at=100.0, actor="t", verb="release.start", subject="release/flights-2",
            body={"epoch": 2}, artifacts=made, releases=((None, self.release),),
            services=((None, self.service),),
        ))  # fmt: skip
        self.root = root
        by_name = {str(name_of("flights", s)): s for s in self.specs.values()}
        self.log = PredictionFiles(root, by_name.__getitem__)
        (root / "journal").mkdir()
        self.number, self.count = 0, 0
        self.file = self.open()

    def ask(self, package: Ref, n: int = 1, **more: Any) -> list[str]:
        ids = more.pop("ids", None) or [f"01{self.count + i:06d}" for i in range(n)]
        self.count += n
        given: dict[str, Any] = {
            "service": "flights", "package": str(package), "at": 100.0 + self.count / 10, "epoch": 2,
            "live": True, "propensity": 0.9 if package == self.old else 0.1, "ids": ids,
            "units": ids, "bodies": [b'{"x":0.1,"carrier":"UA"}'] * n, "features": [None] * n,
            "outputs": [[0.75]] * n, "errors": [""] * n, "fallback": [False] * n,
            "latencies": [0.002] * n,
        }  # fmt: skip
        self.write(Batch(**(given | more)))
        return ids

    def tell(self, ids: list[str], value: Any = "yes", name: str = "label", at: float = 900.0) -> None:
        for prediction in ids:
            self.write(Note(prediction=prediction, name=name, value=value, at=at))

    def deny(self, at: float, code: str = "type", count: int = 1) -> None:
        self.count += 1
        self.write(Denial(id=f"01{self.count:06d}", service="flights", package=str(self.old), at=at, epoch=2,
                          unit="u", status=422, code=code, pointer="/x", message="", body=b"", latency=0.001,
                          count=count))  # fmt: skip

    def write(self, entry: Batch | Denial | Note) -> None:
        self.file.write(frame(entry))

    def open(self) -> IO[bytes]:
        file = (self.root / "journal" / f"gw01-{self.number:06d}.log").open("wb", buffering=0)
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(HEADER)
        return file

    def rotate(self) -> None:
        self.number += 1
        self.file.close()
        self.file = self.open()

    def observer(self, **more: Any) -> Observer:
        return Observer(self.log, self.records, "flights", **more)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.file.close()


def total(seen: EvidenceSet, package: Ref, measure: str) -> tuple[int, int]:
    tallies = seen.tallies(package, measure).values()
    return sum(t.events for t in tallies), sum(t.n for t in tallies)


def test_tallies_count_each_arm(world: World) -> None:
    for _ in range(30):
        world.ask(world.old, 9, latencies=[0.002] * 8 + [0.3])
        world.ask(world.new, 3, outputs=[[0.5], None, [0.2]], errors=["", "unseen", ""])
        world.ask(world.old, 1, fallback=[True], ids=[f"01{world.count - 2:06d}"])
    seen = world.observer().observe(world.release, 200.0)
    assert total(seen, world.old, "errors") == (0, 270), "a stand-in is no exposure"
    assert total(seen, world.old, "slow") == (30, 270)
    assert total(seen, world.new, "errors") == (30, 90)
    assert total(seen, world.new, "slow") == (30, 90), "no answer in time either"
    assert total(seen, world.new, "requests") == (0, 90)
    check = Check(name="errors", measure="errors", rule=Harm())
    assert judge(check, seen, world.new, world.old).outcome is Outcome.FAIL


def test_refused_requests_are_a_measure_of_their_own_and_touch_no_other(world: World) -> None:
    for _ in range(30):
        world.tell(world.ask(world.old, 10, at=500.0), "yes")
        world.ask(world.new, 10, at=500.0)
    before = world.observer()
    alone = before.watch(600.0, 400.0)
    for at in (100.0, 480.0, 500.0, 590.0):
        world.deny(at, "type" if at < 590.0 else "overload", 50 if at == 480.0 else 2)
    before.watch(600.0, 400.0)
    world.rotate()
    world.log.seal()
    for observer in (before, world.observer()):
        seen = observer.watch(600.0, 400.0)
        share = seen.get(world.old, "refused")
        assert share is not None and (share.value, share.n) == (54 / 654, 654), "asked of either package"
        assert share.low is not None and share.low < share.value
        reasons = {e.slice: round(e.value * e.n) for e in seen.slices(world.old, "refused")}
        assert reasons == {"reason=type": 52, "reason=overload": 2}
        assert (seen.get(world.old, "refused:overload") or share).value == 2 / 654
        assert [e for e in seen if not e.measure.startswith("refused")] == [
            e for e in alone if not e.measure.startswith("refused")]  # fmt: skip
    calm = alone.get(world.old, "refused")
    assert calm is not None and calm.value == 0.0 and world.observer().observe(world.release, 600.0)


def test_nothing_is_counted_twice_through_sealing(world: World) -> None:
    observer = world.observer()
    for turn in range(40):
        world.ask(world.old, 7)
        world.ask(world.new, 2, errors=["bad", ""], outputs=[None, [0.1]])
        if turn % 3 == 0:
            world.rotate()
        if turn % 5 == 0:
            observer.observe(world.release, 200.0)
        if turn % 7 == 0:
            world.log.seal()
    seen = observer.observe(world.release, 200.0)
    assert total(seen, world.new, "errors") == (40, 80)
    assert total(seen, world.old, "errors") == (0, 280)
    again = world.observer().observe(world.release, 200.0)
    assert total(again, world.new, "errors") == (40, 80), "a restarted controller reads it all again"


def test_windows_close_on_exposure_and_never_span_epochs(world: World) -> None:
    observer = world.observer()
    for _ in range(100):
        world.ask(world.old, 9)
        world.ask(world.new, 1)
        observer.observe(world.release, 200.0)
    world.ask(world.old, 5, epoch=3)
    world.ask(world.new, 5, epoch=3)
    tallies = observer.observe(world.release, 200.0).tallies(world.new, "errors")
    assert [t.n for t in tallies.values()] == [20, 20, 20, 20, 20, 5]
    theirs = observer.observe(world.release, 200.0).tallies(world.old, "errors")
    assert list(theirs) == list(tallies)


def test_balance_reads_the_current_step_without_pinned_units(world: World) -> None:
    world.ask(world.new, 50, epoch=1)
    world.ask(world.old, 900)
    world.ask(world.new, 100)
    world.ask(world.new, 500, propensity=1.0)
    world.ask(world.new, 100, live=False)
    seen = world.observer().observe(world.release, 200.0)
    check = Check(name="share", measure="requests", rule=Balance(share=0.1))
    verdict = judge(check, seen, world.new, world.old)
    assert (verdict.outcome, verdict.counters["candidate_n"]) == (Outcome.PASS, 100)
    assert total(seen, world.new, "errors") == (0, 100), "epoch 1 was before this release"
    world.ask(world.old, 50, epoch=3)
    world.ask(world.new, 50, epoch=3)
    world.records.commit(Change(at=101.0, actor="t", verb="x", subject="x", services=(
        (world.service, replace(world.service, epoch=3)),)))  # fmt: skip
    seen = world.observer().observe(world.release, 200.0)
    assert total(seen, world.new, "requests") == (0, 50)
    assert total(seen, world.new, "errors") == (0, 150)


def test_a_mirrored_candidate_is_compared_by_its_mirrored_answers(world: World) -> None:
    ids = world.ask(world.old, 200, propensity=1.0)
    world.ask(world.new, 200, live=False, ids=ids, errors=["slow start"] * 30 + [""] * 170,
              outputs=[None] * 30 + [[0.4]] * 170)  # fmt: skip
    seen = world.observer().observe(world.release, 200.0)
    assert total(seen, world.new, "errors") == (30, 200)
    assert total(seen, world.old, "errors") == (0, 200)
    assert not seen.tallies(world.new, "requests")


def test_a_sticky_unit_counts_until_its_first_error(world: World) -> None:
    observer = world.observer()
    for _ in range(5):
        world.ask(world.new, 4, units=["ann", "ann", "bob", "eve"], errors=["bad", "bad", "", ""],
                  outputs=[None, None, [0.1], [0.1]])  # fmt: skip
        world.ask(world.old, 3, units=["joe", "jim", "joe"])
        seen = observer.observe(world.release, 200.0)
    assert total(seen, world.new, "errors") == (1, 3)
    assert total(seen, world.old, "errors") == (0, 2)
    assert total(seen, world.new, "requests") == (0, 3)


def test_pairs_wait_for_labels_and_join_by_id(world: World) -> None:
    ids = world.ask(world.old, 400, propensity=1.0, outputs=[[0.9]] * 400)
    world.ask(world.new, 400, live=False, ids=ids, outputs=[[0.5]] * 400)
    observer = world.observer()
    assert not observer.observe(world.release, 200.0).moments(world.new, "brier_pair")
    world.tell(ids[:300])
    world.tell(["never asked"])
    seen = observer.observe(world.release, 200.0)
    moments = list(seen.moments(world.new, "brier_pair").values())
    assert sum(m.n for m in moments) == 300
    assert sum(m.total for m in moments) == pytest.approx(300 * (0.25 - 0.01 + 1) / 2)
    check = Check(name="quality", measure="brier_pair", rule=PairedLoss())
    assert judge(check, seen, world.new, world.old).outcome is Outcome.FAIL
    assert not seen.tallies(world.old, "wrong"), "pairs tell more where nobody was drawn"


def test_live_quality_counts_wrong_answers_of_both_arms(world: World) -> None:
    old = world.ask(world.old, 300)
    new = world.ask(world.new, 100, outputs=[[0.2]] * 100)
    observer = world.observer()
    observer.observe(world.release, 200.0)
    world.tell(old[:100] + new, value=True)
    world.tell(old[100:290])
    world.tell(old[290:], value="perhaps")
    world.tell(new, name="won", value=0.5)
    seen = observer.observe(world.release, 200.0)
    assert total(seen, world.old, "wrong") == (0, 290), "a label that is no class says nothing"
    assert total(seen, world.new, "wrong") == (100, 100)
    won = seen.get(world.new, "won")
    accuracy = seen.get(world.old, "accuracy")
    assert won is not None and won.value == 0.5
    assert accuracy is not None and (accuracy.value, accuracy.n) == (1.0, 290)


def test_a_quiet_turn_catches_up_with_few_labels(world: World) -> None:
    ids = world.ask(world.old, 1000)
    observer = world.observer()
    world.tell(ids[:900])
    observer.observe(world.release, 200.0)
    world.tell(ids[900:902])
    observer.observe(world.release, 200.0)
    seen = observer.observe(world.release, 200.0)
    assert total(seen, world.old, "wrong")[1] == 902


def test_regression_pairs_and_metrics(tmp_path: Path) -> None:
    world = World(tmp_path, task="regression", classes=())
    ids = world.ask(world.old, 100, outputs=[[float(i)] for i in range(100)])
    world.ask(world.new, 100, live=False, ids=ids, outputs=[[float(i) + 1] for i in range(100)])
    for i, prediction in enumerate(ids):
        world.tell([prediction], value=float(i))
    seen = world.observer().observe(world.release, 200.0)
    world.file.close()
    error = seen.get(world.new, "mae")
    assert error is not None and error.value == 1.0
    moments = seen.moments(world.new, "brier_pair").values()
    assert sum(m.n for m in moments) == 100
    assert all(isinstance(m, Moments) and m.total > m.n / 2 for m in moments)
    assert not seen.tallies(world.new, "wrong")


def test_multiclass_labels(tmp_path: Path) -> None:
    world = World(tmp_path, task="multiclass", classes=("1", "2", "3"))
    ids = world.ask(world.old, 3, outputs=[[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.1, 0.2, 0.7]])
    for prediction, value in zip(ids, (1.0, "2", 2.0), strict=True):
        world.tell([prediction], value=value)
    seen = world.observer().observe(world.release, 200.0)
    world.file.close()
    assert total(seen, world.old, "wrong") == (1, 3)


def guarded(world: World, *checks: Check) -> Release:
    return replace(world.release, plan=canary(checks, sticky_by="u"))


READY = {c.measure: c for c in release_checks(ReleaseSection(feedback={
    "bought": FeedbackText(), "spent": FeedbackText(kind="amount", cap=100.0),
    "label": FeedbackText()}), "binary")}  # fmt: skip
BOUGHT, SPENT, LABELLED = (READY[m] for m in ("event:bought", "amount:spent", "event:label"))


def customers(world: World, package: Ref, first: int, n: int, epoch: int = 2, visits: int = 3) -> list[list[str]]:
    ids = [world.ask(package, n, units=[f"u{first + i}" for i in range(n)], epoch=epoch, at=1000.0 + k)
           for k in range(visits)]  # fmt: skip
    return [list(own) for own in zip(*ids, strict=True)]


@pytest.mark.parametrize(("one_in", "outcome"), [(20, Outcome.FAIL), (5, Outcome.PASS)])
def test_customers_that_buy_less_take_the_candidate_back(
    world: World, one_in: int, outcome: Outcome
) -> None:
    release = guarded(world, BOUGHT)
    old, new = customers(world, world.old, 0, 2000), customers(world, world.new, 5000, 2000)
    for buyers in (old[::5], new[::one_in]):
        for visits in buyers:
            world.tell(visits, value=True, name="bought", at=5000.0)
    seen = world.observer().observe(release, 6000.0)
    assert total(seen, world.new, "event:bought")[0] == 2000 // one_in, "three visits, one purchase"
    verdict = judge(BOUGHT, seen, world.new, world.old)
    assert verdict.outcome is outcome, verdict.reason
    share = seen.get(world.new, "bought")
    assert share is not None and (share.value, share.n) == (1 / one_in, 2000), "what a goal compares"


def test_purchases_after_a_fallback_stay_with_the_candidate_that_failed(world: World) -> None:
    ids = world.ask(world.new, 50, errors=["bad"] * 50, outputs=[None] * 50)
    world.ask(world.old, 50, ids=ids, fallback=[True] * 50)
    world.ask(world.old, 50)
    world.tell(ids, value=True, name="bought", at=5000.0)
    seen = world.observer().observe(guarded(world, BOUGHT), 6000.0)
    assert total(seen, world.new, "event:bought")[0] == 50
    assert total(seen, world.old, "event:bought")[0] == 0


def test_an_experiment_with_two_candidates_keeps_their_windows_apart(world: World) -> None:
    third = Ref("package", "flights", "c" * 64)
    release = replace(guarded(world, BOUGHT), candidates=(world.new, third))
    bought = {package: customers(world, package, 1000 * i, 300)[:60]
              for i, package in enumerate((world.old, world.new, third))}  # fmt: skip
    for package, buyers in bought.items():
        for visits in buyers[: 6 if package == third else 60]:
            world.tell(visits, value=True, name="bought", at=5000.0)
    seen = world.observer().observe(release, 6000.0)
    verdicts = [judge(BOUGHT, seen, c, world.old) for c in release.candidates]
    assert [v.counters["candidate_events"] for v in verdicts] == [60, 6]
    assert [v.counters["baseline_events"] for v in verdicts] == [60, 60]
    assert verdicts[1].outcome is Outcome.FAIL is not verdicts[0].outcome


@pytest.mark.parametrize(("scale", "outcome"), [(0.5, Outcome.FAIL), (1.0, Outcome.PASS)])
def test_revenue_per_customer_is_compared_cut_off_at_its_cap(
    world: World, scale: float, outcome: Outcome
) -> None:
    dice, release = np.random.default_rng(5), guarded(world, SPENT)
    for package, first, times in ((world.old, 0, 1.0), (world.new, 50_000, scale)):
        for visits in customers(world, package, first, 6000, visits=2):
            if dice.random() < 0.3:
                for visit in visits:
                    world.tell([visit], value=float(dice.lognormal(1, 1) * times), name="spent", at=5000.0)
    seen = world.observer().observe(release, 6000.0)
    verdict = judge(SPENT, seen, world.new, world.old)
    assert verdict.outcome is outcome, verdict.reason
    assert verdict.counters["candidate_units"] == 6000
    spent = seen.get(world.old, "spent")
    assert spent is not None and spent.value == pytest.approx(0.3 * 2 * np.exp(1.5), rel=0.15)


def test_few_customers_say_nothing_of_money(world: World) -> None:
    for package, first in ((world.old, 0), (world.new, 5000)):
        world.tell([v for visits in customers(world, package, first, 100) for v in visits], value=9.0, name="spent")
    verdict = judge(SPENT, world.observer().observe(guarded(world, SPENT), 6000.0), world.new, world.old)
    assert verdict.outcome is Outcome.UNKNOWN and "needs 5,000 each" in verdict.reason


def test_answers_that_labels_prove_wrong_are_held_against_those_still_waiting(world: World) -> None:
    release = guarded(world, LABELLED)
    old, new = world.ask(world.old, 900, at=1000.0), world.ask(world.new, 900, at=1000.0)
    for ids, wrong in ((old, 90), (new, 270)):
        world.tell(ids[:wrong], value="no", at=4000.0)
        world.tell(ids[wrong:600], value="yes", at=3000.0)
    seen = world.observer().observe(release, 6000.0)
    verdict = judge(LABELLED, seen, world.new, world.old)
    assert verdict.outcome is Outcome.FAIL
    assert (verdict.counters["candidate_events"], verdict.counters["baseline_events"]) == (270, 90)


def shadowed(world: World, limit: float, wrong_in: str) -> dict[str, Verdict]:
    """1,000 mirrored requests; the shadow flips one in five of those of one carrier."""
    checks = release_checks(ReleaseSection(max_flips=limit), "binary", feedback=False, sliced=True)
    release = replace(world.release, plan=plan_of(ReleaseSection(plan="shadow"), checks))
    for carrier in ("UA", "AA"):
        bodies = [f'{{"x":0.1,"carrier":"{carrier}"}}'.encode()] * 500
        ids = world.ask(world.old, 500, bodies=bodies, propensity=1.0, outputs=[[0.75]] * 500)
        moved = [[0.25 if carrier == wrong_in and i % 5 == 0 else 0.75] for i in range(500)]
        world.ask(world.new, 500, bodies=bodies, live=False, ids=ids, outputs=moved)
    world.ask(world.old, 100, fallback=[True] * 100)
    seen = world.observer(slices=("carrier",)).observe(release, 200.0)
    return {v.check.name: v for v in judge_all(release.here.checks, seen, world.new, world.old)}


def test_a_shadow_is_judged_by_what_it_decides_otherwise_before_any_label(world: World) -> None:
    told = shadowed(world, 0.15, "AA")
    whole, worst = told["decisions that flip"], told["flips in every group"]
    assert (whole.seen[0].value, whole.seen[0].n) == (0.1, 1000)
    assert worst.outcome is Outcome.UNKNOWN and "carrier=AA" in worst.reason, "0.2, but not for certain"
    shift = told["change of the score"].seen[0]
    assert shift.value == pytest.approx(-0.05) and shift.low is not None and shift.low < -0.05
    assert told["change of the score"].outcome is Outcome.PASS


@pytest.mark.parametrize(("limit", "outcome"), [(0.1, Outcome.FAIL), (0.4, Outcome.PASS), (1.0, Outcome.PASS)])
def test_flips_in_one_group_alone_fail_a_shadow(world: World, limit: float, outcome: Outcome) -> None:
    told = shadowed(world, limit, "UA")
    assert told["flips in every group"].outcome is outcome
    assert told["decisions that flip"].outcome is (Outcome.UNKNOWN if limit == 0.1 else Outcome.PASS)


def test_several_shadows_are_compared_each_for_itself(world: World) -> None:
    third = replace(world.new, digest="c" * 64)
    world.records.commit(Change(at=100.0, actor="t", verb="x", subject="x", artifacts=(
        Artifact(ref=third, spec=world.specs["new"], created_at=0.0),)))  # fmt: skip
    world.log = PredictionFiles(world.root, lambda ref: world.specs["new"])
    plan = plan_of(ReleaseSection(plan="shadow"), release_checks(ReleaseSection(), "binary"))
    release = replace(world.release, plan=plan, candidates=(world.new, third))
    ids = world.ask(world.old, 400, propensity=1.0)
    world.ask(world.new, 400, live=False, ids=ids)
    world.ask(third, 300, live=False, ids=ids[:300], outputs=[[0.1]] * 300)
    seen = world.observer().observe(release, 200.0)
    values = [seen.get(c, "twins:flips") for c in release.candidates]
    assert [(e.value, e.n) for e in values if e] == [(0.0, 400), (1.0, 300)]


def feed(world: World, n: int, shift: float, at: float, carrier: str = "UA") -> list[str]:
    xs = DICE.normal(size=n) + shift
    bodies = [f'{{"x":{x:.6f},"carrier":"{carrier if i % 5 < 2 else "UA"}"}}'.encode()
              for i, x in enumerate(xs)]  # fmt: skip
    return world.ask(world.old, n, bodies=bodies, at=at, propensity=1.0)


def test_watch_tells_drift_from_chance_and_names_the_column(world: World) -> None:
    observer = world.observer(reference=lambda _: PROFILE)
    feed(world, 2000, 0.0, 1000.0, "AA")
    calm = observer.watch(2000.0, 3600.0)
    drift = calm.get(world.old, "drift")
    assert drift is not None and drift.low is not None and drift.low < 0.02 and drift.n == 2000
    feed(world, 2000, 1.5, 9000.0, "AA")
    moved = observer.watch(10_000.0, 3600.0)
    culprit = max(moved.slices(world.old, "drift"), key=lambda e: e.value)
    assert culprit.slice == "column=x" and culprit.value > 0.5
    whole, named = moved.get(world.old, "drift"), moved.get(world.old, "drift:x")
    assert whole is not None and named is not None and whole.value == named.value
    feed(world, 500, 0.0, 20_000.0, "ZZ")
    world.ask(world.old, 500, bodies=[b'{"x":null,"carrier":"UA"}'] * 500, at=20_000.0)
    strange = observer.watch(20_500.0, 3600.0)
    unseen, nulls = strange.get(world.old, "unseen:carrier"), strange.get(world.old, "nulls")
    assert unseen is not None and unseen.value == pytest.approx(0.2)
    assert nulls is not None and nulls.value == 0.5


def test_watch_vitals_and_late_labels(world: World) -> None:
    observer = world.observer(slow=0.1)
    ids = world.ask(world.old, 100, at=1000.0, latencies=[i / 1000 for i in range(99)] + [0.5],
                    outputs=[[0.9]] * 40 + [[0.1]] * 60)  # fmt: skip
    world.ask(world.old, 1, at=1000.0, errors=["bad"], outputs=[None])
    world.ask(world.old, 7, at=100.0)
    world.ask(world.new, 50, at=1000.0)
    early = observer.watch(1100.0, 300.0)
    value = {e.measure: e for e in early if not isinstance(e, Tally | Moments)}
    assert value["volume"].value == 101
    assert value["errors"].value == pytest.approx(1 / 101)
    assert value["slow"].value == pytest.approx(2 / 101)
    assert value["positive_rate"].value == 0.4
    assert value["latency_p50_ms"].value == pytest.approx(49.0, abs=1)
    assert value["labelled"].value == 0 and "auc" not in value
    world.tell(ids[:40], value="yes", at=1050.0)
    world.tell(ids[40:], value="no", at=1090.0)
    late = observer.watch(1100.0, 300.0)
    accuracy, delay = late.get(world.old, "accuracy"), late.get(world.old, "label_delay")
    assert accuracy is not None and (accuracy.value, accuracy.n) == (1.0, 100)
    assert delay is not None and delay.value == 90.0
    assert observer.conflicts == 0
    world.tell(ids[:5], value="no", at=1099.0)
    assert observer.watch(1100.0, 300.0).get(world.old, "accuracy").value == 0.95  # type: ignore[union-attr]
    assert observer.conflicts == 5


def test_quality_is_judged_where_nearly_all_labels_have_come(world: World) -> None:
    """Right predictions are confirmed after 1 h, wrong ones after 10 h: the last hours look perfect."""
    hour, now = 3600.0, 1_000_000.0
    for i in range(72):
        at = now - hour * (72 - i)
        for delay, value in ((hour, "yes"), (10 * hour, "no")):
            ids = world.ask(world.old, 20, at=at, outputs=[[0.9]] * 20)
            if at + delay <= now:
                world.tell(ids, value=value, at=at + delay)
    found = world.observer().watch(now, 24 * hour).get(world.old, "accuracy")
    assert found is not None
    assert found.value == pytest.approx(0.5), "labelled so far would say 0.6"
    assert found.until == now - 10 * hour and found.until - found.since == 24 * hour


def test_memory_is_bounded(world: World) -> None:
    observer = world.observer(limit=1000, keep=500.0)
    for i in range(20):
        world.ask(world.old, 200, at=1000.0 + i)
        observer.watch(1000.0 + i, 100.0)
    assert len(observer._ledger.rows()) <= 1250
    world.ask(world.old, 10, at=5000.0)
    observer.watch(5000.0, 100.0)
    assert len(observer._ledger.rows()) == 10


def test_groups_of_a_slice_column_are_judged_on_their_own(world: World) -> None:
    observer = world.observer(slices=("carrier", "gone"))
    bad = world.ask(world.old, 150, bodies=[b'{"carrier":"AA"}'] * 150, at=100.0, errors=["x"] * 30 + [""] * 120)
    good = world.ask(world.old, 200, bodies=[b'{"carrier":"UA"}'] * 200, at=100.0)
    world.ask(world.old, 50, bodies=[b'{"carrier":"DL"}'] * 50, at=100.0)
    world.tell(bad, "no", at=101.0)
    world.tell(good, "yes", at=101.0)
    seen = observer.watch(110.0, 60.0)
    errors = {e.slice: e.value for e in seen.slices(world.old, "errors")}
    assert errors == {"carrier=AA": pytest.approx(0.2), "carrier=UA": 0.0}, "fifty rows are too few"
    assert {e.slice: e.value for e in seen.slices(world.old, "accuracy")} == {"carrier=AA": 0.0, "carrier=UA": 1.0}
    silence = seen.get(world.old, "silence")
    assert silence is not None and silence.value == 10.0


def test_inputs_that_a_sample_left_out_are_no_missing_values(world: World) -> None:
    observer = world.observer(reference=lambda _: PROFILE)
    world.ask(world.old, 300, bodies=[b""] * 200 + [b'{"x":0.1,"carrier":"UA"}'] * 100, at=100.0)
    nulls = observer.watch(200.0, 150.0).get(world.old, "nulls")
    assert nulls is not None and (nulls.value, nulls.n) == (0.0, 100)


def lived(world: World, spans: int, wrong_of_ten: int, told: bool = True) -> float:
    """Forty answers every three hours, a share of them wrong, told of a minute later; the end."""
    for i in range(spans):
        at = 200.0 + i * 10_800
        ids = world.ask(world.old, 40, at=at)
        if told:
            world.tell(ids[: 4 * wrong_of_ten], "no", at=at + 60)
            world.tell(ids[4 * wrong_of_ten :], "yes", at=at + 60)
    return 200.0 + spans * 10_800 + 100


HELD = Reference(
    rows=2_000, answers=profile_numbers("prediction", TRAINED, EDGES), metrics={"accuracy": Known(value=0.9, error=0.002)},
    calibration=calibrate(np.linspace(0, 1, 500), np.arange(500) % 2 * np.linspace(0, 2, 500).clip(0, 1)),
)  # fmt: skip


def test_staying_costs_what_labels_prove_beyond_the_held_out_rows(world: World) -> None:
    observer = world.observer(reference=lambda _: PROFILE, held=lambda _: HELD)
    now = lived(world, 80, 3)
    observer.pull(now)
    found = observer.staying(world.old, 200.0, now, 0.5)
    assert found is not None and found.days == 10
    assert 0.8 * 320 < found.debt < 320, "0.2 of 3,200 answers at 0.5 each, at its lower end"
    assert observer.labelled(200.0) == 3_200 and observer.labelled(200.0 + 40 * 10_800) == 1_600
    half = observer.staying(world.old, 200.0 + 40 * 10_800, now, 0.5)
    assert half is not None and half.debt < 0.55 * found.debt, "only since the last training"
    assert observer.staying(world.new, 200.0, now, 0.5) is None, "it never answered"


def test_staying_without_any_label_costs_what_the_scores_expect(world: World) -> None:
    observer = world.observer(reference=lambda _: PROFILE, held=lambda _: HELD)
    now = lived(world, 16, 0, told=False)
    observer.pull(now)
    found = observer.staying(world.old, 200.0, now, 1.0)
    assert HELD.calibration is not None
    wrong = 1 - float(HELD.calibration.rate(np.array([0.75]))[0])
    assert found is not None and found.debt == pytest.approx(640 * (wrong - 0.1), rel=0.25)


def test_columns_that_nobody_watches_are_named_with_the_reason(tmp_path: Path) -> None:
    columns = (*spec("a").contract.columns, Column(name="name", dtype="text"), Column(name="tax", dtype="float"))
    world = World(tmp_path, contract=Schema(columns=columns))
    observer = world.observer(reference=lambda _: PROFILE, hidden=frozenset({"carrier"}))
    feed(world, 200, 0.0, 1000.0)
    seen = observer.watch(1001.0, 1000.0)
    assert observer.unwatched() == {"carrier": "hidden by log.redact or log.drop", "name": "a text",
                                    "tax": "no values in training"}  # fmt: skip
    assert seen.get(world.old, "drift:x") is not None and seen.get(world.old, "drift:carrier") is None
    world.file.close()
