"""Replay: what counts as a flip, how sure the report is, and what a gate makes of it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.core.artifact import Task
from fairlead.core.check import Bound, Check, Outcome, judge_all
from fairlead.core.evidence import Evidence, EvidenceSet
from fairlead.core.manifest import GateSection
from fairlead.core.ref import Ref
from fairlead.core.replay import (
    FLIPS,
    KS,
    SHIFT,
    UNANSWERED,
    Cause,
    Pair,
    Replay,
    compare,
    flips,
    ks,
    replay_checks,
    spreads,
)

NEW, OLD = Ref("model", "m", "b" * 64), Ref("model", "m", "a" * 64)


def pair(ours: object, theirs: object, task: Task = "binary", **more: object) -> Pair:
    a, b = (np.atleast_2d(np.asarray(s, dtype=np.float64).T).T for s in (ours, theirs))
    return Pair(subject=NEW, against=OLD, task=task, ours=a, theirs=b, **more)  # type: ignore[arg-type]


def measured(one: Pair, groups: object = ()) -> dict[tuple[str, str], Evidence]:
    return {(e.measure, e.slice): e for e in compare(one, groups)}  # type: ignore[arg-type]


def verdicts(made: Replay, section: GateSection, own: tuple[Check, ...] = ()) -> dict[str, Outcome]:
    checks = replay_checks(section, made, 0.002, own)
    return {v.check.name: v.outcome for v in judge_all(checks, EvidenceSet(made.evidence), NEW, OLD)}


def test_flips_are_counted_among_requests_that_both_answered() -> None:
    one = pair([0.9, 0.1, np.nan, 0.6], [0.8, 0.7, 0.9, 0.4])
    found = measured(one)
    assert (found[FLIPS, ""].value, found[FLIPS, ""].n) == (2 / 3, 3)
    assert (found[UNANSWERED, ""].value, found[UNANSWERED, ""].n) == (0.25, 4)
    assert [(f.before, f.after, f.requests) for f in flips(one, ("no", "yes"))] == [
        ("no", "yes", 1), ("yes", "no", 1)]  # fmt: skip


def test_each_model_decides_by_its_own_threshold() -> None:
    assert measured(pair([0.4], [0.4], thresholds=(0.3, 0.5)))[FLIPS, ""].value == 1


def test_classes_and_numbers_flip_too() -> None:
    classes = pair([[0.1, 0.9, 0.0], [0.5, 0.2, 0.3]], [[0.8, 0.1, 0.1], [0.4, 0.3, 0.3]], "multiclass")
    assert [(f.before, f.after) for f in flips(classes, ("a", "b", "c"))] == [("a", "b")]
    theirs = np.arange(100.0)
    moved = theirs.copy()
    moved[:10] += 30  # beyond half a standard deviation (14.4)
    moved[10:20] += 10
    numbers = pair(moved, theirs, "regression")
    assert measured(numbers)[FLIPS, ""].value == pytest.approx(0.1)
    assert [(f.before, f.after, f.requests) for f in flips(numbers, ())] == [("lower", "higher", 10)]


def test_a_flip_in_one_group_is_found_and_named() -> None:
    rng = np.random.default_rng(1)
    theirs, group = rng.random(4_000), rng.integers(0, 10, 4_000)
    ours = np.where(group == 7, 1 - theirs, theirs)
    one = pair(ours, theirs)
    found = tuple(compare(one, [(f"g={i}", group == i) for i in range(10)]))
    made = Replay(candidate=NEW, baseline=OLD, task="binary", requests=4_000, evidence=found)
    said = verdicts(made, GateSection(max_flips=0.5))
    assert said["decisions that flip"] is Outcome.PASS
    assert said["decisions that flip [g=7]"] is Outcome.FAIL
    assert [n for n, o in said.items() if o is Outcome.FAIL] == ["decisions that flip [g=7]"]


def test_many_harmless_groups_raise_no_false_alarm() -> None:
    """200 groups at the very limit: without the correction ten of them would fail in each run."""
    rng, alarms = np.random.default_rng(2), 0
    for _ in range(60):
        group = np.repeat(np.arange(200), 40)
        theirs = rng.random(len(group))
        ours = np.where(rng.random(len(group)) < 0.2, 1 - theirs, theirs)
        found = tuple(compare(pair(ours, theirs), [(f"g={i}", group == i) for i in range(200)]))
        made = Replay(candidate=NEW, baseline=OLD, task="binary", requests=len(group), evidence=found)
        said = verdicts(made, GateSection(max_flips=0.2))
        alarms += any(o is Outcome.FAIL and "[" in n for n, o in said.items())
    assert alarms <= 6  # 1.5 expected of one-sided 95 % intervals


@settings(max_examples=60)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=40), st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_ks_is_the_largest_gap(a: list[float], b: list[float]) -> None:
    gaps = [abs(np.mean([x <= t for x in a]) - np.mean([x <= t for x in b])) for t in (*a, *b)]
    assert ks(np.array(a), np.array(b)) == pytest.approx(max(gaps))


def test_the_intervals_cover() -> None:
    rng, hits = np.random.default_rng(3), 0
    for _ in range(200):
        theirs = rng.random(500)
        found = measured(pair(theirs + 0.1 * rng.standard_normal(500) - 0.05, theirs, "regression"))
        shift, gap = found[SHIFT, ""], found[KS, ""]
        assert shift.low is not None and shift.high is not None
        assert gap.low is not None and gap.high is not None and gap.low <= gap.value <= gap.high
        hits += shift.low <= -0.05 <= shift.high
    assert 183 <= hits <= 198


def test_days_are_blocks() -> None:
    rng = np.random.default_rng(4)
    day = np.repeat(np.arange(20), 100)
    theirs = rng.random(2_000)
    ours = np.where((rng.random(20) < 0.5)[day], 1 - theirs, theirs)  # whole days flip
    loose, blocked = (measured(pair(ours, theirs, blocks=b))[FLIPS, ""] for b in (None, day))
    widths = [e.high - e.low for e in (loose, blocked) if e.high is not None and e.low is not None]
    assert widths[1] > 4 * widths[0]


def test_too_few_requests_hold_nobody_back_and_errors_are_named() -> None:
    few = Evidence(subject=NEW, measure=UNANSWERED, value=0.0, n=10, low=0.0, high=0.28)
    made = Replay(candidate=NEW, baseline=OLD, task="binary", requests=10, evidence=(few,))
    assert verdicts(made, GateSection())["answers recorded requests"] is Outcome.UNKNOWN
    assert all(not c.on_unknown & {"hold"} for c in replay_checks(GateSection(), made, 0.002))
    broken = Replay(candidate=NEW, baseline=OLD, task="binary", requests=10, causes=(
        Cause(column="x", requests=1, message="column 'x' is null"),
        Cause(column="dest", requests=9, message="column 'dest' cannot take 'ABQ'")))  # fmt: skip
    assert replay_checks(GateSection(), broken, 0.002)[0].name == (
        "answers recorded requests: column 'dest' cannot take 'ABQ'")  # fmt: skip


def test_labels_of_a_few_days_are_noted_and_those_of_many_decide() -> None:
    worse = Evidence(subject=NEW, measure="gain:replay:auc", value=-0.1, n=5_000, low=-0.12, high=-0.08)
    for days, acts in ((6, False), (15, True)):
        made = Replay(candidate=NEW, baseline=OLD, task="binary", requests=5_000, days=days,
                      evidence=(worse,))  # fmt: skip
        check = replay_checks(GateSection(), made, 0.002)[-1]
        assert ("rollback" in check.on_fail) is acts


def test_checks_of_the_manifest_replace_the_ready_made() -> None:
    made = Replay(candidate=NEW, baseline=OLD, task="binary", requests=1)
    own = (Check(name="mine", measure=FLIPS, rule=Bound(high=0.1)),)
    assert FLIPS not in {c.measure for c in replay_checks(GateSection(), made, 0.002, own)}


def test_spreads_count_every_answer() -> None:
    rng = np.random.default_rng(5)
    edges, ours, theirs, moved = spreads(pair(rng.normal(9, 2, 300), rng.normal(10, 2, 300), "regression"))
    assert sum(ours.counts) == sum(theirs.counts) == 300
    assert len(edges) == len(ours.counts) + 1 and moved[2] < 0
