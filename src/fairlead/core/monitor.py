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

__all__ = ["BETWEEN", "COLUMNS", "FAMILIES", "MEASURES", "PROOF", "Look", "Monitor", "Watch", "budget", "due", "level", "look",
           "monitors", "proves", "ready_made", "remembered", "spacing"]  # fmt: skip

LOOKS = 8
"""A window is judged so many times while it passes: trouble is seen after an eighth of it."""

QUARTER = 91 * DAY

PERIODS = {"day": DAY, "week": 7 * DAY, "month": QUARTER / 3, "quarter": QUARTER, "year": 4 * QUARTER}

PROOF = "drift_evidence"
"""The measure whose false alarms the detectors bound themselves, not the width of an interval."""

FAMILIES = frozenset({"drift", "nulls", "unseen", PROOF, "lost", "skew", "parity", "gap", "refused", "attribution"})
"""Measures that are also known of one column, metric or reason: ``drift:column``, ``lost:auc``, ``refused:type``."""

COLUMNS = frozenset({"drift", "nulls", "unseen", PROOF})
"""Measures of every column that is watched."""

BETWEEN = frozenset({"parity", "gap"})
"""Measures that compare the groups of a slice column, in one rate: ``parity:positive_rate``."""

MEASURES: dict[str, str] = {
    "volume": "requests in the window",
    "errors": "share of requests this package failed to answer",
    "refused": "share of requests that were refused before a package was asked",
    "slow": "share of requests not answered within release.slow_ms",
    "fallback": "share of requests another package had failed",
    "latency_p50_ms": "median latency in milliseconds",
    "latency_p99_ms": "99th percentile of latency in milliseconds",
    "positive_rate": "share of predictions of the second class (binary)",
    "mean_prediction": "mean predicted value (regression)",
    "labelled": "share of predictions whose truth has arrived",
    "label_delay": "median seconds from question to truth",
    "drift": "largest population stability index of a column, or of the answers, against training",
    "drift_evidence": "evidence that a column, or the answers, moved, over what an alarm needs",
    "nulls": "largest rise of the share of missing values in a column, above the worst reference day",
    "unseen": "largest rise of the share of values outside what training saw, above the worst day",
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
    "lost": "loss of AUC (accuracy of many classes, R2) against the rows held out in training",
    "estimated_auc": "AUC expected without labels (binary); blind to concept drift",
    "estimated_accuracy": "accuracy expected without labels; blind to concept drift",
    "estimated_brier": "Brier score expected without labels (binary); blind to concept drift",
    "estimated_mae": "mean absolute error expected without labels; blind to concept drift",
    "estimated_rmse": "root mean squared error expected without labels; blind to concept drift",
    "estimated_lost": "the same loss, expected without labels; blind to concept drift",
    "missed": "how much worse the truth is than was expected without it: concept drift",
    "calibration": "share of positives less the share expected by the scores (binary)",
    "parity": "parity:RATE, with slice: COLUMN: smallest ratio of the rate between two groups (binary)",
    "gap": "gap:RATE, with slice: COLUMN: largest difference of the rate between two groups (binary)",
    "attribution": "largest change of a column's mean share in what moves the answers, against held-out rows",
    "silence": "seconds since the last request",
    "cost_per_thousand": "what a provider asks for 1,000 answers, by the package's price (chat)",
    "tokens": "mean tokens of question and answer (chat)",
    "first_token_p50_ms": "median milliseconds to the first token (chat)",
    "first_token_p99_ms": "99th percentile of milliseconds to the first token (chat)",
    "unserved": "largest share of values of a feature not served though the facts have them",
    "late": "largest share of served values of a feature that were right before a late fact came",
    "skew": "largest share of served values of a feature that differ from those recomputed from the facts",
}
"""What a monitor can watch."""

READY = {
    "errors": MonitorText(measure="errors", max=0.01, window="1h"),
    "slow": MonitorText(measure="slow", max=0.05, window="1h"),
    "refused": MonitorText(measure="refused", max=0.05, window="1h", cooldown="1d"),
    "nulls": MonitorText(measure="nulls", max=0.1, cooldown="7d"),
    "unseen": MonitorText(measure="unseen", max=0.2, cooldown="7d"),
    "drift": MonitorText(measure=PROOF, max=1.0, cooldown="7d"),
    "quality": MonitorText(measure="lost", max=0.05, window="7d", min_n=500, cooldown="7d"),
    "estimate": MonitorText(measure="estimated_lost", max=0.05, min_n=1000, cooldown="7d"),
    "concept": MonitorText(measure="missed", max=0.05, window="7d", min_n=500, cooldown="7d"),
    "unserved": MonitorText(measure="unserved", max=0.05, cooldown="7d"),
    "skew": MonitorText(measure="skew", max=0.001, then=("alert", "hold"), cooldown="7d"),
}
"""What is watched in every project. Each only tells somebody; skew also holds a running release."""


HEALTH = ("errors", "slow", "refused")
"""Those that hold of every service."""


class Monitor(Struct, frozen=True, kw_only=True):
    """A check on the last `window` seconds, made `every` so many; after it fired it keeps quiet for
    `cooldown` seconds."""

    name: str
    check: Check
    window: float
    cooldown: float
    every: float


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
                name=name, measure=text.measure, min_n=0 if text.measure in ("volume", "silence") else text.min_n,
                rule=Bound(low=text.min, high=text.max, certain=True),
                on_fail=frozenset(Action(a) for a in text.then), on_unknown=frozenset(),
                slice=text.slice,
            ),
            window=seconds(text.window),
            cooldown=seconds(text.cooldown),
            every=seconds(text.every) if text.every else seconds(text.window) / LOOKS,
        )
        for name, text in texts.items()
    )  # fmt: skip


def ready_made(own: Mapping[str, MonitorText], *, chats: bool = False) -> dict[str, MonitorText]:
    """`own` monitors, and those of READY whose name is free and whose measure none of them watches; of
    a service that `chats`, which has neither columns nor labels, those of its health."""
    watched = {m.measure.partition(":")[0] for m in own.values()}
    free = {n: t for n, t in READY.items()
            if n not in own and t.measure not in watched and (not chats or n in HEALTH)}  # fmt: skip
    return {**own, **free}


def budget(text: str) -> float:
    """False alarms a quarter that ``1 per quarter`` (day, week, month, year) stands for."""
    count, _, period = text.partition(" per ")
    return float(count) * QUARTER / PERIODS[period]


def level(all_monitors: Sequence[Monitor], per_quarter: float = 1.0) -> float:
    """The level of every interval, so that all looks of a quarter together raise `per_quarter`
    false alarms at most (on the average; intervals that cover as they say). Detectors of drift take
    their share of these off: one part, however many of them there are."""
    ordinary = [m for m in all_monitors if not proves(m)]
    looks = sum(QUARTER / m.every for m in ordinary)
    share = len(ordinary) / (len(ordinary) + any(map(proves, all_monitors)) or 1)
    return 1 - min(0.05, per_quarter * share / looks) if looks and per_quarter else 0.95


def spacing(all_monitors: Sequence[Monitor], per_quarter: float = 1.0) -> float:
    """Daily windows between two false alarms of the drift detectors, all columns together: what
    `level` leaves of the budget."""
    ordinary = sum(not proves(m) for m in all_monitors)
    return QUARTER / DAY * (ordinary + 1) / max(per_quarter, 1e-9)


def proves(monitor: Monitor) -> bool:
    """Whether detectors stand behind it, whose false alarms `spacing` bounds."""
    return monitor.check.measure.partition(":")[0] == PROOF


def due(monitor: Monitor, watch: Watch, now: float) -> bool:
    """Whether it is time to look again. A clock that went back makes it due."""
    return not 0 <= now - watch.judged_at < monitor.every


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
