"""Monitors fire on what is certain, once per cooldown, and remember through a restart."""

import pytest

from fairlead.core.check import Action
from fairlead.core.event import Event
from fairlead.core.evidence import Evidence, EvidenceSet
from fairlead.core.manifest import MonitorText
from fairlead.core.monitor import (
    LOOKS,
    Watch,
    budget,
    due,
    level,
    look,
    monitors,
    ready_made,
    remembered,
    spacing,
)
from fairlead.core.ref import Ref

PACKAGE = Ref("package", "p", "1" * 64)
DAY = 86400.0


def seen(value: float, half: float = 0.01, n: int = 1000) -> EvidenceSet:
    return EvidenceSet([Evidence(subject=PACKAGE, measure="auc", value=value, n=n,
                                 low=value - half, high=value + half)])  # fmt: skip


(AUC,) = monitors({"quality": MonitorText(measure="auc", min=0.7, then=("alert", "retrain"))})


def test_fires_only_when_the_whole_interval_is_bad() -> None:
    assert look(AUC, Watch(), seen(0.695), PACKAGE, 10.0).decision is None
    fired = look(AUC, Watch(), seen(0.6), PACKAGE, 10.0)
    assert fired.decision is not None
    assert fired.decision.actions == {Action.ALERT, Action.RETRAIN}
    assert fired.watch == Watch(judged_at=10.0, fired_at=10.0, failing=True)


@pytest.mark.parametrize("evidence", [EvidenceSet(), seen(0.1, n=10), seen(float("nan"))])
def test_silence_changes_nothing(evidence: EvidenceSet) -> None:
    before = Watch(fired_at=5.0, failing=True)
    after = look(AUC, before, evidence, PACKAGE, 10.0)
    assert (after.decision, after.cleared) == (None, False)
    assert after.watch == Watch(judged_at=10.0, fired_at=5.0, failing=True)


def test_keeps_quiet_for_its_cooldown_then_fires_again() -> None:
    watch = look(AUC, Watch(), seen(0.6), PACKAGE, 10.0).watch
    again = look(AUC, watch, seen(0.6), PACKAGE, 10.0 + DAY - 1)
    assert again.decision is None and again.watch.failing
    assert look(AUC, again.watch, seen(0.6), PACKAGE, 10.0 + DAY).decision is not None


def test_tells_once_when_it_is_over() -> None:
    watch = look(AUC, Watch(), seen(0.6), PACKAGE, 10.0).watch
    over = look(AUC, watch, seen(0.8), PACKAGE, 20.0)
    assert over.cleared and not over.watch.failing
    assert not look(AUC, over.watch, seen(0.8), PACKAGE, 30.0).cleared


def test_is_due_after_a_part_of_its_window_or_when_the_clock_went_back() -> None:
    watch = Watch(judged_at=1000.0)
    assert not due(AUC, watch, 1000.0 + DAY / LOOKS - 1)
    assert due(AUC, watch, 1000.0 + DAY / LOOKS)
    assert due(AUC, watch, 900.0)


def test_the_level_shares_one_false_alarm_among_all_looks_of_a_quarter() -> None:
    assert level([AUC]) == pytest.approx(1 - 1 / (91 * LOOKS))
    assert level([AUC] * 10) == pytest.approx(1 - 1 / (91 * LOOKS * 10))
    assert level([AUC], per_quarter=4) == pytest.approx(1 - 4 / (91 * LOOKS))
    assert level([]) == 0.95


def test_volume_needs_no_volume() -> None:
    (volume,) = monitors({"v": MonitorText(measure="volume", min=10)})
    none = EvidenceSet([Evidence(subject=PACKAGE, measure="volume", value=0, n=0, low=0, high=0)])
    assert look(volume, Watch(), none, PACKAGE, 10.0).decision is not None


def test_memory_is_the_audit_log() -> None:
    def event(seq: int, verb: str, **body: str) -> Event:
        return Event(seq=seq, at=100.0 * seq, actor="f", verb=verb, subject="s", body=body)

    states = remembered([
        event(1, "alert.raised", monitor="quality"), event(2, "alert.raised", release="r1"),
        event(3, "alert.raised", monitor="drift"), event(4, "alert.cleared", monitor="drift"),
    ])  # fmt: skip
    assert states == {
        "quality": Watch(fired_at=100.0, failing=True),
        "drift": Watch(fired_at=300.0, failing=False),
    }


def test_ready_made_monitors_give_way_to_own_ones() -> None:
    made = ready_made({})
    assert {"errors", "drift", "quality", "concept", "estimate", "nulls"} <= made.keys()
    own = {"mine": MonitorText(measure="drift_evidence:x", max=1), "errors": MonitorText(measure="slow", max=0.5)}
    made = ready_made(own)
    assert made["errors"] is own["errors"] and "drift" not in made and "slow" not in made
    assert all(m.every == m.window / LOOKS for m in monitors(made))


@pytest.mark.parametrize(("text", "quarterly"), [("1 per quarter", 1), ("1 per year", 0.25), ("2 per day", 182), ("0 per week", 0)])
def test_a_budget_is_spoken(text: str, quarterly: float) -> None:
    assert budget(text) == pytest.approx(quarterly)


def test_detectors_and_intervals_share_one_budget() -> None:
    both = monitors({"q": MonitorText(measure="auc", min=0.7), "d": MonitorText(measure="drift_evidence", max=1)})
    assert level(both) == pytest.approx(1 - 0.5 / (91 * LOOKS))
    assert spacing(both) == pytest.approx(2 * 91), "half an alarm a quarter"
    assert spacing(both, 4.0) == pytest.approx(91 / 2)


def test_own_pace_and_one_group() -> None:
    (slow,) = monitors({"s": MonitorText(measure="auc", min=0.7, every="2d", slice="site=east")})
    assert not due(slow, Watch(judged_at=0.0), 1.9 * DAY) and due(slow, Watch(judged_at=0.0), 2 * DAY)
    assert look(slow, Watch(), seen(0.1), PACKAGE, 10.0).decision is None, "the whole is not the group"
