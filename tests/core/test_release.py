"""One `advance` drives every strategy; these are the laws it keeps."""

import ast
import inspect
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace as changed

from fairlead.core import check, release, traffic
from fairlead.core.catalogue import split_check
from fairlead.core.check import Action, Balance, Bound, Check, Harm, NoWorse, Outcome
from fairlead.core.evidence import Evidence, EvidenceSet, Fact, Tally
from fairlead.core.ref import Ref
from fairlead.core.release import Phase, Release, Service, advance, apply, route, settle
from fairlead.core.traffic import Fixed, Route, Step, TrafficPlan
from fairlead.errors import Conflict, Invalid

OLD, NEW, B, C = (Ref("package", "fraud", d) for d in ("a1", "b2", "c3", "d4"))
ERRORS = Check(name="errors", measure="error_rate", rule=Bound(high=0.02), min_n=100)
CTR = Check(name="ctr", measure="gain:ctr", rule=NoWorse(margin=0.01), min_n=100)
CHECKS = (ERRORS, CTR)
PLANS = {
    "replace": traffic.replace(),
    "blue_green": traffic.blue_green(CHECKS, pin=("tester",)),
    "canary": traffic.canary(CHECKS),
    "shadow": traffic.shadow(CHECKS),
    "ab_test": traffic.ab_test(CHECKS, goal="ctr"),
    "bandit": traffic.bandit(CHECKS, reward="ctr"),
}
CHECKED = sorted(set(PLANS) - {"replace"})
SILENCE = EvidenceSet()


def facts(error_rate: float = 0.0, ctr: float = 0.3, n: int = 1000,
          candidates: tuple[Ref, ...] = (NEW,), width: float = 0.005) -> EvidenceSet:  # fmt: skip
    def near(subject: Ref, measure: str, value: float) -> Evidence:
        return Evidence(subject=subject, measure=measure, value=value, n=n, low=value - width,
                        high=value + width)  # fmt: skip

    seen = [near(OLD, "ctr", 0.3)]
    for c in candidates:
        seen += [near(c, "error_rate", error_rate), near(c, "ctr", ctr), near(c, "gain:ctr", ctr - 0.3)]
    return EvidenceSet(seen)


def begin(plan: TrafficPlan, *candidates: Ref) -> Release:
    return Release(id="r1", service="fraud", candidates=candidates or (NEW,), baseline=OLD,
                   plan=plan, started_at=0.0, entered_at=0.0)  # fmt: skip


def after(here: Release, evidence: EvidenceSet, now: float) -> Release:
    return apply(here, advance(here, evidence, now), evidence)


def walk(plan: TrafficPlan, evidence: EvidenceSet, *candidates: Ref, ticks: int = 50) -> Release:
    here = begin(plan, *candidates)
    for i in range(ticks):
        here = after(here, evidence, (i + 1) * traffic.DAY)
    return here


def routed(here: Release) -> Route:
    found = route(settle(Service(name="fraud", package=OLD), here), here)
    assert found is not None
    return found


def shares(here: Release) -> dict[Ref, float]:
    return {a.package: a.weight for a in routed(here).arms}


@pytest.mark.parametrize("name", PLANS)
def test_a_good_candidate_reaches_the_end(name: str) -> None:
    end = walk(PLANS[name], facts())
    expected = (Phase.PROMOTED, NEW) if PLANS[name].promote else (Phase.KEPT, None)
    assert (end.phase, end.winner) == expected


@pytest.mark.parametrize("name", ["ab_test", "bandit"])
def test_a_baseline_with_the_better_goal_is_kept(name: str) -> None:
    close, clear = facts(ctr=0.297), facts(ctr=0.297, width=0.001)
    assert walk(PLANS[name], close).winner == NEW, "the intervals overlap: nothing is proven"
    assert walk(PLANS[name], clear).phase is Phase.KEPT


@pytest.mark.parametrize("name", CHECKED)
@pytest.mark.parametrize("bad", [facts(error_rate=0.5), facts(ctr=0.1)])
def test_a_bad_candidate_is_rolled_back_at_once(name: str, bad: EvidenceSet) -> None:
    here = after(begin(PLANS[name]), bad, now=1.0)
    assert here.phase is Phase.ROLLED_BACK and here.reason
    assert shares(here) == {OLD: 1.0}


@pytest.mark.parametrize("name", CHECKED)
@pytest.mark.parametrize("quiet", [SILENCE, facts(n=99)])
def test_silence_never_promotes(name: str, quiet: EvidenceSet) -> None:
    end = walk(PLANS[name], quiet)
    assert end.phase is Phase.ROLLED_BACK and "not enough evidence" in end.reason


@pytest.mark.parametrize("name", CHECKED)
def test_silence_waits_exactly_as_long_as_patience(name: str) -> None:
    here = begin(PLANS[name])
    patience = here.here.patience
    assert after(here, SILENCE, patience - 1).phase is Phase.RUNNING
    assert after(here, SILENCE, patience).phase is Phase.ROLLED_BACK


@pytest.mark.parametrize("name", ["canary", "shadow", "ab_test"])
def test_passing_waits_for_the_hold(name: str) -> None:
    here = begin(PLANS[name])
    assert after(here, facts(), here.here.hold - 1) == here
    assert after(here, facts(), here.here.hold) != here


def test_a_clock_that_goes_back_takes_no_step_and_begins_to_wait_anew() -> None:
    here = changed(begin(PLANS["canary"]), entered_at=5000.0)
    assert after(here, facts(), 4950.0) == here == after(here, SILENCE, 4950.0), "clocks differ a little"
    anew = changed(here, entered_at=10.0, revision=here.revision + 1)
    assert after(here, facts(), 10.0) == anew == after(here, SILENCE, 10.0)
    assert after(anew, facts(), 10.0 + here.here.hold).step == 1


@given(st.lists(st.tuples(st.floats(0, 1e6), st.sampled_from(["good", "bad", "quiet"]))))
def test_a_release_only_moves_forward(ticks: list[tuple[float, str]]) -> None:
    evidence = {"good": facts(), "bad": facts(error_rate=0.5), "quiet": SILENCE}
    here = begin(PLANS["canary"])
    for now, kind in ticks:
        there = after(here, evidence[kind], now)
        assert there.step >= here.step and there.revision >= here.revision
        assert there == here or there.revision > here.revision
        assert not here.phase.final or there == here
        if kind != "good":
            assert there.step == here.step
            assert there.phase is here.phase or there.phase is Phase.ROLLED_BACK
        here = there


@pytest.mark.parametrize("name", PLANS)
def test_a_release_survives_json(name: str) -> None:
    for here in (begin(PLANS[name], NEW, B), walk(PLANS[name], facts(), ticks=1)):
        assert msgspec.json.decode(msgspec.json.encode(here), type=Release) == here
        assert msgspec.json.decode(msgspec.json.encode(routed(here)), type=Route) == routed(here)


def test_a_warning_does_not_hide_what_is_unknown() -> None:
    warn = Check(name="warn", measure="error_rate", rule=Bound(high=0.0),
                 on_fail=frozenset({Action.ALERT}))  # fmt: skip
    plan = traffic.canary((warn, Check(name="x", measure="unseen", rule=Bound())))
    early = advance(begin(plan), facts(error_rate=0.1), now=1.0)
    late = advance(begin(plan), facts(error_rate=0.1), now=2 * traffic.DAY)
    assert early.actions == {Action.ALERT, Action.HOLD}
    assert late.actions == {Action.ALERT, Action.ROLLBACK}


def test_a_failure_that_only_holds_ends_with_patience_too() -> None:
    stop = Check(name="stop", measure="error_rate", rule=Bound(high=0.0),
                 on_fail=frozenset({Action.HOLD}))  # fmt: skip
    here, bad = begin(traffic.canary((stop,))), facts(error_rate=0.1)
    assert after(here, bad, traffic.DAY - 1) == here
    assert after(here, bad, traffic.DAY).phase is Phase.ROLLED_BACK


@given(error_rate=st.floats(0, 1), ctr=st.floats(0, 1), n=st.integers(0, 5000),
       name=st.sampled_from(sorted(PLANS)), arms=st.integers(1, 3))  # fmt: skip
def test_shares_always_sum_to_one(
    error_rate: float, ctr: float, n: int, name: str, arms: int
) -> None:
    candidates = (NEW, B, C)[:arms]
    here = walk(PLANS[name], facts(error_rate, ctr, n, candidates), *candidates, ticks=3)
    weights = [a.weight for a in routed(here).arms]
    assert sum(weights) == pytest.approx(1.0) and min(weights) >= 0


# Several candidates


def test_three_arms_split_the_share_and_each_is_judged_alone() -> None:
    here = begin(PLANS["ab_test"], NEW, B, C)
    assert shares(here) == pytest.approx({OLD: 0.5, NEW: 0.5 / 3, B: 0.5 / 3, C: 0.5 / 3})
    good = list(facts(candidates=(NEW, C)))
    one_bad = EvidenceSet([*good, *facts(error_rate=0.5, candidates=(B,))])
    there = after(here, one_bad, now=1.0)
    assert (there.phase, there.candidates) == (Phase.RUNNING, (NEW, C))
    assert shares(there) == {OLD: 0.5, NEW: 0.25, C: 0.25}
    assert after(there, one_bad, now=2.0) == there


def test_the_goal_picks_the_winner_among_those_that_passed() -> None:
    best = EvidenceSet([*facts(ctr=0.31, candidates=(NEW, B)), *facts(ctr=0.35, candidates=(C,))])
    end = walk(PLANS["ab_test"], best, NEW, B, C)
    assert (end.phase, end.winner) == (Phase.PROMOTED, C)
    unmeasured = changed(PLANS["ab_test"], goal="profit")
    assert walk(unmeasured, best, NEW, B, C).phase is Phase.KEPT


def test_all_bad_candidates_end_the_release() -> None:
    bad = facts(error_rate=0.5, candidates=(NEW, B, C))
    assert after(begin(PLANS["ab_test"], NEW, B, C), bad, 1.0).phase is Phase.ROLLED_BACK


@pytest.mark.parametrize("asks", [Action.ROLLBACK, Action.HOLD])
def test_a_silent_candidate_leaves_without_holding_the_others(asks: Action) -> None:
    strict = Check(name="e", measure="error_rate", rule=Bound(high=0.02), on_unknown=frozenset({asks}))
    plan = traffic.canary((strict,), shares=(0.5,), hold=10.0, patience=10.0)
    end = after(begin(plan, NEW, B), facts(candidates=(NEW,)), now=10.0)
    assert end.candidates == (NEW,) and end.phase is Phase.PROMOTED


def test_several_guardrails_are_judged_together() -> None:
    def tally(measure: str, bad: int) -> list[Fact]:
        return [Tally(subject=NEW, measure=measure, at=0, events=bad, n=1000),
                Tally(subject=OLD, measure=measure, at=0, events=72, n=9000)]  # fmt: skip

    guards = tuple(Check(name=m, measure=m, rule=Harm()) for m in ("a", "b", "c", "d"))
    here = begin(traffic.canary(guards))
    slight = EvidenceSet([f for m in "abcd" for f in tally(m, 19 if m == "a" else 8)])
    gross = EvidenceSet([f for m in "abcd" for f in tally(m, 60 if m == "a" else 8)])
    assert after(here, slight, 1.0).phase is Phase.RUNNING
    assert after(begin(traffic.canary(guards[:1])), slight, 1.0).phase is Phase.ROLLED_BACK
    end = after(here, gross, 1.0)
    assert end.phase is Phase.ROLLED_BACK and end.reason.startswith("a: ")


# Adaptive shares


def test_a_bandit_follows_the_reward_inside_its_bounds() -> None:
    here = begin(traffic.bandit((ERRORS,), reward="ctr"))
    assert shares(here)[NEW] == 0.05
    seen = [shares(after(here, facts(ctr=c), 1.0))[NEW] for c in (0.295, 0.298, 0.3, 0.302, 0.9)]
    assert seen == sorted(seen) and len(set(seen)) == len(seen)
    assert seen[2] == pytest.approx(0.5) and seen[-1] == pytest.approx(0.95)


def test_adaptive_shares_are_state_and_stay_without_evidence_or_for_noise() -> None:
    here = after(begin(PLANS["bandit"]), facts(ctr=0.301), 1.0)
    assert after(here, SILENCE, 2.0) == here
    assert after(here, facts(ctr=0.30101), 2.0) == here
    moved = after(here, facts(ctr=0.303), 2.0)
    assert moved.shares[0] > here.shares[0] and moved.revision == here.revision + 1
    assert shares(release.pause(moved)) == shares(moved)


def test_a_reward_without_an_interval_moves_no_traffic() -> None:
    bare = [Evidence(subject=s, measure="ctr", value=v, n=10) for s, v in ((NEW, 0.9), (OLD, 0.3))]
    guards = [f for f in facts() if f.measure != "ctr"]
    here = begin(PLANS["bandit"])
    assert after(here, EvidenceSet([*bare, *guards]), 1.0) == here


def test_adaptive_shares_start_anew_when_a_candidate_leaves() -> None:
    plan = traffic.bandit((ERRORS,), reward="ctr")
    here = after(begin(plan, NEW, B), facts(ctr=0.32, candidates=(NEW, B)), 1.0)
    bad = [f for f in facts(error_rate=0.5, ctr=0.32, candidates=(B,)) if f.measure == "error_rate"]
    ok = [f for f in facts(candidates=(NEW,)) if f.measure == "error_rate"]
    there = after(here, EvidenceSet([*bad, *ok]), 2.0)
    assert (there.candidates, there.shares) == ((NEW,), ())
    assert shares(there) == {OLD: 0.95, NEW: 0.05}


# Services and routes


def test_a_first_package_answers_everything_from_the_start() -> None:
    here = changed(begin(traffic.replace()), baseline=None)
    service = settle(Service(name="fraud"), here)
    first = route(service, here)
    assert first is not None and [(a.package, a.weight) for a in first.arms] == [(NEW, 1.0)]
    end = after(here, SILENCE, 1.0)
    served = settle(service, end)
    assert (end.phase, served.package, served.epoch) == (Phase.PROMOTED, NEW, 2)


def test_a_first_package_that_fails_leaves_nobody_to_answer() -> None:
    plan = TrafficPlan(name="first", steps=(Step(share=Fixed(1.0), checks=(ERRORS,)),))
    here = changed(begin(plan), baseline=None)
    service = settle(Service(name="fraud"), here)
    end = after(here, facts(error_rate=0.9), 1.0)
    gone = route(settle(service, end), end)
    assert end.phase is Phase.ROLLED_BACK
    assert gone is not None and (gone.arms, gone.epoch) == ((), 2)
    assert route(Service(name="never"), None) is None


def test_what_served_before_stays_warm_and_never_twice() -> None:
    service, packages = Service(name="fraud"), (OLD, NEW, B, OLD)
    for package in packages:
        done = changed(begin(traffic.replace(), package), phase=Phase.PROMOTED, winner=package)
        service = settle(service, done)
    assert (service.package, service.previous, service.epoch) == (OLD, (B, NEW), 4)
    found = route(service, None)
    assert found is not None and found.standby == (B, NEW)


@pytest.mark.parametrize("name", PLANS)
def test_every_route_of_a_release_comes_from_state_alone(name: str) -> None:
    here, service = begin(PLANS[name]), Service(name="fraud", package=OLD)
    for i in range(12):
        service = settle(service, here)
        again = msgspec.json.decode(msgspec.json.encode(here), type=Release)
        assert route(service, here) == route(service, again)
        found = route(service, here)
        assert found is not None and found.epoch == i + 1
        here = after(here, facts(), i * 10 * traffic.DAY)


def test_blue_green_pins_its_testers_to_the_preview() -> None:
    assert routed(begin(PLANS["blue_green"])).pins == {"tester": NEW}
    assert routed(begin(PLANS["blue_green"])).arms == (
        traffic.Arm(OLD, 1.0), traffic.Arm(NEW, 0.0, 1.0))  # fmt: skip


# By hand


def test_pause_freezes_and_resume_starts_the_step_anew() -> None:
    here = begin(PLANS["canary"])
    paused = release.pause(here)
    assert after(paused, facts(error_rate=0.9), 1.0) == paused
    assert after(paused, facts(), traffic.DAY) == paused
    resumed = release.resume(paused, now=traffic.DAY)
    assert after(resumed, facts(), traffic.DAY + resumed.here.hold - 1) == resumed
    assert shares(here) == shares(paused) == shares(resumed)
    assert [r.revision for r in (here, paused, resumed)] == [0, 1, 2]


def test_abort_returns_all_traffic_and_is_final() -> None:
    for here in (begin(PLANS["canary"]), release.pause(begin(PLANS["canary"]))):
        gone = release.abort(here, 5.0, "looks odd")
        assert (gone.phase, gone.ended_at, gone.reason) == (Phase.ABORTED, 5.0, "looks odd")
        assert shares(gone) == {OLD: 1.0}
        with pytest.raises(Conflict, match="aborted"):
            release.abort(gone, 6.0, "again")


def test_hands_off_what_is_over_or_not_paused() -> None:
    here = begin(PLANS["canary"])
    with pytest.raises(Conflict, match="running, not paused") as refusal:
        release.resume(here, 1.0)
    assert refusal.value.hint
    for phase in (p for p in Phase if p.final):
        with pytest.raises(Conflict):
            release.pause(changed(here, phase=phase))


# The law of the house


def test_the_engine_knows_no_strategy_by_name() -> None:
    names = {"canary", "shadow", "bandit", "ab_test", "blue_green", "replace"}
    for module in (release, check):
        tree = ast.parse(inspect.getsource(module))
        words = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
        words |= {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
        texts = {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant)}
        assert not (words | texts) & names


def test_a_plan_that_starves_its_checks_is_refused_when_written() -> None:
    with pytest.raises(Invalid, match="none"):
        traffic.canary((Check(name="h", measure="errors", rule=Harm()),), shares=(0.0, 0.5))


def test_growing_shares_move_no_unit_back_through_a_whole_canary() -> None:
    here, fates = begin(PLANS["canary"], NEW, B), []
    for i in range(3):
        fates.append([traffic.assign(routed(here), f"u{u}").live for u in range(2000)])
        here = after(here, facts(candidates=(NEW, B)), (i + 1) * traffic.HOUR)
    assert here.phase is not Phase.RUNNING
    for earlier, later in pairwise(fates):
        assert all(a in (0, b) for a, b in zip(earlier, later, strict=True))
        assert earlier != later


def test_outcomes_are_ordered_from_good_to_bad() -> None:
    assert Outcome.PASS < Outcome.UNKNOWN < Outcome.FAIL


def split(requests: dict[Ref, int], share: float, *candidates: Ref) -> Release:
    """A release on a step of so large a share after so many requests of each arm."""
    step = Step(share=Fixed(share), patience=100.0, checks=(split_check(),))
    here = begin(TrafficPlan(name="p", steps=(step, Step(share=Fixed(0.9)))), *candidates)
    return after(here, EvidenceSet(_requests(requests)), 1.0)


def _requests(counts: dict[Ref, int]) -> list[Fact]:
    return [Tally(subject=s, measure="requests", at=0.0, events=0, n=n) for s, n in counts.items()]


def test_a_router_that_breaks_its_promise_stops_the_release_and_rolls_nothing_back() -> None:
    assert split({OLD: 9000, NEW: 1000}, 0.1).step == 1
    stopped = split({OLD: 8700, NEW: 1300}, 0.1)
    assert (stopped.step, stopped.phase) == (0, Phase.RUNNING)
    decision = advance(stopped, EvidenceSet(_requests({OLD: 8700, NEW: 1300})), 2.0)
    assert decision.actions == {Action.ALERT, Action.HOLD} and "13.00%" in decision.because[0].reason
    assert decision.because[0].check.rule == Balance(share=0.1)
    assert decision.unit == "request"


def test_each_of_several_candidates_was_promised_its_part() -> None:
    assert split({OLD: 5000, NEW: 2500, B: 2500}, 0.5, NEW, B).step == 1
    assert split({OLD: 5000, NEW: 2500, B: 3500}, 0.5, NEW, B).step == 0
    assert split({OLD: 4000, NEW: 6000, B: 6000}, 0.5, NEW, B).step == 0
