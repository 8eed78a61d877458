"""Fairness of one model: every rate, group by group, beside the group that fares best, and the verdict."""

from collections.abc import Iterable, Sequence
from math import isfinite

from msgspec import Struct

from fairlead.core.artifact import Artifact
from fairlead.core.catalogue import gate_checks
from fairlead.core.check import Check, Outcome, judge
from fairlead.core.evidence import Evidence, EvidenceSet
from fairlead.core.fairness import FORMS, GAP, beside, crossings, disparity
from fairlead.core.manifest import Manifest
from fairlead.core.ref import Ref
from fairlead.core.rule import Parity
from fairlead.errors import Invalid, Missing
from fairlead.ports import Records

__all__ = ["Compared", "Fairness", "Group", "assess", "held_out", "sensitive"]


class Group(Struct, frozen=True, kw_only=True):
    """A group's rate with its interval, the `n` people it is a rate of, and the same over (minus)
    the best group's; `beside_high` None: no upper end."""

    name: str
    n: int
    value: float
    low: float
    high: float
    beside: float
    beside_low: float
    beside_high: float | None


class Compared(Struct, frozen=True, kw_only=True):
    """One rate by one column (``a+b``: by an intersection). `form`: "ratio" or "difference".

    `outcome`: "pass", "fail", "not enough data", or "not judged" where the gate asks for other
    rates of this column. `reason`: on which pair of groups that rests.
    """

    measure: str
    by: str
    form: str
    outcome: str
    reason: str
    groups: tuple[Group, ...]


class Fairness(Struct, frozen=True, kw_only=True):
    """Of a model on held-out rows, or of a package on what it answered `since` - `until` (seconds)."""

    subject: Ref
    live: bool
    since: float = 0.0
    until: float = 0.0
    compared: tuple[Compared, ...] = ()
    gaps: tuple[str, ...] = ()


OUTCOMES = {Outcome.PASS: "pass", Outcome.FAIL: "fail", Outcome.UNKNOWN: "not enough data"}
ORDER = ("fail", "not enough data", "not judged", "pass")


def sensitive(manifest: Manifest) -> tuple[str, ...]:
    """The sensitive columns and their intersections. Raises Invalid when there are none."""
    columns = manifest.data.sensitive
    if not columns:
        raise Invalid("no column is called sensitive", pointer="/data/sensitive",
                      hint="name them in fairlead.yaml, for example  data: {sensitive: [sex, age]}")  # fmt: skip
    return (*columns, *crossings(columns, manifest.data.crossed))


def held_out(model: Artifact, records: Records) -> tuple[Evidence, ...]:
    """What the newest gate measured of a model on held-out rows. Raises Missing."""
    for run in reversed(records.runs()):
        if run.verb == "evaluate" and run.state == "done" and run.inputs[:1] == (model.ref,):
            return run.evidence
    raise Missing(f"{model.ref.short} was never judged, so nothing is measured by group",
                  hint="run `fairlead gate` first")  # fmt: skip


def assess(
    subject: Ref, facts: Iterable[Evidence], manifest: Manifest, *, live: bool = False
) -> Fairness:
    """Compare groups in every rate, the clearest trouble first. Raises Invalid without sensitive columns."""
    mine = [e for e in facts if e.subject == subject and e.low is not None and e.high is not None]
    columns, known = sensitive(manifest), EvidenceSet(mine)
    asked = {(c.measure, c.slice): c for c in _checks(manifest, mine)}
    found, gaps = [], []
    for column in columns:
        here = [e for e in mine if e.slice.startswith(f"{column}=")]
        if len({e.slice for e in here}) < 2:
            gaps.append(f"{column}: fewer than two groups are large enough to be measured")
            continue
        for measure in FORMS:
            groups = [e for e in here if e.measure == measure]
            if len(groups) > 1:
                found.append(_compared(subject, known, groups, column, asked.get((measure, column))))
    return Fairness(subject=subject, live=live, since=min((e.since for e in mine), default=0.0),
                    until=max((e.until for e in mine), default=0.0), gaps=tuple(gaps),
                    compared=tuple(sorted(found, key=lambda c: ORDER.index(c.outcome))))  # fmt: skip


def _checks(manifest: Manifest, facts: Sequence[Evidence]) -> Iterable[Check]:
    """What the gate asks between groups."""
    checks = gate_checks(manifest.gate, "binary", facts, compared=False,
                         sensitive=manifest.data.sensitive, crossed=manifest.data.crossed)  # fmt: skip
    return (c for c in checks if isinstance(c.rule, Parity))


def _compared(
    subject: Ref, known: EvidenceSet, groups: Sequence[Evidence], column: str, check: Check | None
) -> Compared:
    measure = groups[0].measure
    gap = FORMS[measure] == GAP
    if check is not None and isinstance(check.rule, Parity):
        gap = check.rule.gap is not None
        verdict = judge(check, known, subject, None)
        outcome, reason = OUTCOMES[verdict.outcome], verdict.reason.removeprefix(f"{measure}: ")
    else:
        apart = disparity(groups, gap=gap)
        outcome = "not judged"
        reason = "" if apart is None else f"{apart.value:.3f} [{apart.low:.3f}, {apart.high:.3f}]"
    best = _best(groups)
    return Compared(
        measure=measure, by=column, form="difference" if gap else "ratio", outcome=outcome,
        reason=reason.removesuffix(": not enough data to decide"),
        groups=tuple(_group(e, best, column, gap=gap) for e in sorted(groups, key=lambda e: e.slice)),
    )  # fmt: skip


def _best(groups: Sequence[Evidence]) -> Evidence:
    """Who certainly fares best: the most often chosen or found; the least often accused; the best
    foretold. By the far end of the interval, so that no handful of people is the measure of all."""
    if FORMS[groups[0].measure] == GAP:
        return min(groups, key=lambda e: max(abs(e.low or 0.0), abs(e.high or 0.0)))
    return max(groups, key=lambda e: e.low or 0.0)


def _group(e: Evidence, best: Evidence, column: str, *, gap: bool) -> Group:
    value, low, high = beside(e, best, gap=gap)
    if e is best:
        low = high = value
    assert e.low is not None and e.high is not None, "assess takes only what has an interval"
    return Group(name=e.slice.removeprefix(f"{column}="), n=e.n, value=e.value, low=e.low, high=e.high,
                 beside=value, beside_low=low, beside_high=high if isfinite(high) else None)  # fmt: skip
