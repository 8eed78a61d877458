"""Cohorts: labels that come days later are compared among those who could still get one.

"Converted so far" mixes young and old requests: while the candidate's share grows its requests are
younger, so it looks worse although nothing is wrong (statistics.md 4: every harmless candidate is
rolled back). Here each event is held against those of its own cohort that had no event yet
(log-rank), so no label has to mature first and a ramp does no harm.
"""

from collections.abc import Iterable, Iterator, Mapping

from msgspec import Struct

from fairlead.core.evidence import Tally
from fairlead.core.ref import Ref
from fairlead.core.sequential import Window

__all__ = ["Cohort", "at_risk", "merged", "tallies"]

Pair = tuple[int, int]
"""A count of the candidate and one of the baseline."""


class Cohort(Struct, frozen=True, kw_only=True):
    """Units of both arms that came in together, within a span so short that shares stood still.

    `entered`: how many units of the candidate and of the baseline. `events`, `left`: age (seconds,
    or any bucket number) -> how many had their event, or were lost from sight, at that age.
    """

    entered: Pair
    events: dict[float, Pair] = {}
    left: dict[float, Pair] = {}


def merged(one: Cohort, other: Cohort) -> Cohort:
    """The same cohort as two replicas counted it; the order of merging does not matter."""
    return Cohort(entered=_plus(one.entered, other.entered),
                  events=_added(one.events, other.events), left=_added(one.left, other.left))  # fmt: skip


def at_risk(cohorts: Iterable[Cohort]) -> Iterator[Window]:
    """For every age of every cohort: events and units still at risk, of both arms.

    They feed `sequential.log_e_harm` and its kin (statistics.md 3.6). Null: at every age the
    candidate's hazard is at most `ratio` times that of the baseline's units of the same cohort;
    the hazards themselves, and how they differ between cohorts, may be anything.
    Who is lost from sight at an age was at risk at that age.
    """
    for cohort in cohorts:
        ours, theirs = cohort.entered
        for age in sorted({*cohort.events, *cohort.left}):
            xc, xt = cohort.events.get(age, (0, 0))
            gone_c, gone_t = cohort.left.get(age, (0, 0))
            yield xc, ours, xt, theirs
            ours, theirs = ours - xc - gone_c, theirs - xt - gone_t


def tallies(
    cohorts: Iterable[Cohort], measure: str, candidate: Ref, baseline: Ref, *, start: int = 0
) -> Iterator[Tally]:
    """Evidence for a check with the rule `Harm`. Windows are numbered from `start` on: both arms
    carry the same, and every candidate others."""
    for place, (xc, nc, xt, nt) in enumerate(at_risk(cohorts), start):
        yield Tally(subject=candidate, measure=measure, at=float(place), events=xc, n=nc)
        yield Tally(subject=baseline, measure=measure, at=float(place), events=xt, n=nt)


def _added(one: Mapping[float, Pair], other: Mapping[float, Pair]) -> dict[float, Pair]:
    return {age: _plus(one.get(age, (0, 0)), other.get(age, (0, 0)))
            for age in sorted({*one, *other})}  # fmt: skip


def _plus(a: Pair, b: Pair) -> Pair:
    return a[0] + b[0], a[1] + b[1]
