"""Monitors: checks on what serves, repeated for ever with a stated rate of false alarms. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from math import inf
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from fairlead.core.check import Action, Bound, Check, Outcome, Verdict, judge
from fairlead.core.decision import Decision, decide
from fairlead.core.duration import seconds
from fairlead.core.event import Event
from fairlead.core.evidence import EvidenceSet
from fairlead.core.manifest import MonitorText
from fairlead.core.ref import Ref
from fairlead.core.traffic import DAY

__all__ = ["MEASURES", "Look", "Monitor", "Watch", "due", "level", "look", "monitors", "remembered"]

LOOKS = 8
"""A window is judged so many times while it passes: trouble is seen after an eighth of it."""

QUARTER = 91 * DAY

MEASURES: dict[str, str] = {
    "volume": "requests in the window",
    "errors": "share of requests this package failed to answer",
    "slow": "share of requests not answered within release.slow_ms",
    "fallback": "share of requests another package had failed",
    "latency_p50_ms": "median latency in milliseconds",
    "latency_p99_ms": "99th percentile of latency in milliseconds",
    "positive_rate": "share of predictions of the second class (binary)",
    "mean_prediction": "mean predicted value (regression)",
    "labelled": "share of predictions whose truth has arrived",
    "label_delay": "median seconds from question to truth",
    "drift": "largest population stability index of a column against training",
    "nulls": "largest rise of the share of missing values in a column",
    "unseen": "largest rise of the share of values outside what training saw",
    "auc": "area under the ROC curve, of labelled predictions (binary)",
    "accuracy": "share of right classes, of labelled predictions",
    "brier": "mean squared error of the probability (binary)",
    "log_loss": "logarithmic loss",
    "precision": "share of right ones among predicted positives (binary)",
    "true_positive_rate": "share of found ones among true positives (binary)",
    "false_positive_rate": "share of false alarms among true negatives (binary)",
    "f1": "harmonic mean of precision and true positive rate (binary)",
    "rmse": "root mean squared error (regression)",
    "mae": "mean absolute error (regression)",
    "r2": "explained share of the variance (regression)",
}
"""What a monitor can watch; drift, nulls and unseen also of one column, as ``drift:column``."""


class Monitor(Struct, frozen=True, kw_only=True):
    """A check on the last `window` seconds; after it fired it keeps quiet for `cooldown` seconds."""

    name: str
    check: Check
    window: float
    cooldown: float


class Watch(Struct, frozen=True, kw_only=True):
    """Where a monitor stands. `failing`: what it watches was bad at the last clear look."""

    judged_at: float = -inf
    fired_at: float = 0.0
    failing: bool = False


class Look(Struct, frozen=True, kw_only=True):
    """One look: the new state, the verdict, and what to do (None: nothing, or nothing again).

    `cleared`: what was failing passes now.
    """

    watch: Watch
    verdict: Verdict
    decision: Decision | None = None
    cleared: bool = False


def monitors(texts: Mapping[str, MonitorText]) -> tuple[Monitor, ...]:
    """The monitors of a manifest. Raises Invalid for a duration that is none."""
    return tuple(
        Monitor(
            name=name,
            check=Check(
                name=name, measure=text.measure, min_n=0 if text.measure == "volume" else text.min_n,
                rule=Bound(low=text.min, high=text.max, certain=True),
                on_fail=frozenset(Action(a) for a in text.then), on_unknown=frozenset(),
            ),
            window=seconds(text.window),
            cooldown=seconds(text.cooldown),
        )
        for name, text in texts.items()
    )  # fmt: skip


def level(all_monitors: Sequence[Monitor], per_quarter: float = 1.0) -> float:
    """The level of every interval, so that all looks of a quarter together raise `per_quarter`
    false alarms at most (on the average; intervals that cover as they say)."""
    looks = sum(QUARTER * LOOKS / m.window for m in all_monitors)
    return 1 - min(0.05, per_quarter / looks) if looks else 0.95


def due(monitor: Monitor, watch: Watch, now: float) -> bool:
    """Whether it is time to look again. A clock that went back makes it due."""
    return not 0 <= now - watch.judged_at < monitor.window / LOOKS


def look(
    monitor: Monitor, watch: Watch, evidence: EvidenceSet, subject: Ref, now: float
) -> Look:
    """Judge once. A failure is acted upon when the cooldown is over; silence changes nothing."""
    verdict = judge(monitor.check, evidence, subject, None)
    after = replace(watch, judged_at=now)
    if verdict.outcome is Outcome.UNKNOWN:
        return Look(watch=after, verdict=verdict)
    if verdict.outcome is Outcome.PASS:
        return Look(watch=replace(after, failing=False), verdict=verdict, cleared=watch.failing)
    if watch.fired_at and 0 <= now - watch.fired_at < monitor.cooldown:
        return Look(watch=replace(after, failing=True), verdict=verdict)
    decision = decide(subject, (verdict,), now)
    return Look(watch=replace(after, failing=True, fired_at=now), verdict=verdict, decision=decision)


def remembered(events: Iterable[Event]) -> dict[str, Watch]:
    """The state of the monitors from the audit log, for a controller that starts anew."""
    states: dict[str, Watch] = {}
    for event in events:
        name: Any = event.body.get("monitor", "")
        if event.verb == "alert.raised" and name:
            states[name] = Watch(fired_at=event.at, failing=True)
        elif event.verb == "alert.cleared" and name in states:
            states[name] = replace(states[name], failing=False)
    return states
