"""Feedback of a release: what became of the answers of each package, as the plan's checks ask for it.

An event (a purchase, a chargeback, a label that proves the answer wrong) is compared among those who
still wait for theirs (`core.cohort`), an amount as its sum per unit (`core.amounts`). Only units that
the dice gave out count, and they count for the package they were given to, whoever answered in the
end: a fallback must not make its candidate look better.
"""

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from fairlead.core.artifact import PackageSpec
from fairlead.core.check import Amount
from fairlead.core.cohort import tallies
from fairlead.core.evidence import Fact
from fairlead.core.join import Truth
from fairlead.core.ledger import FALLBACK, LIVE, Rows
from fairlead.core.quality import judged, misses
from fairlead.core.ref import Ref
from fairlead.core.release import Release
from fairlead.core.units import answered, cohorts, entries, spent
from fairlead.core.vitals import Frame

__all__ = ["AMOUNT", "EVENT", "LABEL", "feedback"]

EVENT, AMOUNT = "event:", "amount:"
"""Families of measures: ``event:bought``, ``amount:spent``."""

LABEL = "label"
"""The feedback name that tells the truth; others are rewards."""

FAR = 1_000_000
"""Windows of one candidate at most: those of the next are numbered from here on."""


def feedback(
    release: Release, rows: Rows, truths: Mapping[str, Truth], places: Mapping[Ref, int],
    specs: Mapping[Ref, PackageSpec | None], now: float,
) -> Iterator[Fact]:  # fmt: skip
    """Evidence for every check of the plan on an event or an amount: Tallies of those still at risk,
    Moments per unit, and as a number per package what the goal of an experiment compares.

    `truths`: by name of the feedback; `places`: of the packages in `rows.package`.
    """
    if release.baseline is None:
        return
    drawn = rows.where(((rows.flags & (LIVE | FALLBACK)) == LIVE) & (rows.propensity < 1)
                       & (rows.at >= release.started_at))  # fmt: skip
    arms = {ref: places[ref] for ref in (*release.candidates, release.baseline)}
    for measure, rule in {c.measure: c.rule for step in release.plan.steps for c in step.checks}.items():
        family, _, name = measure.partition(":")
        truth = truths.get(name)
        if truth is None or f"{family}:" not in (EVENT, AMOUNT):
            continue
        if f"{family}:" == EVENT:
            yield from _events(release, measure, drawn, truth, arms, specs, now)
        elif isinstance(rule, Amount):
            for ref, place in arms.items():
                mine = drawn.where(drawn.package == place)
                yield from _amounts(mine, truth, measure, _frame(release, ref, now), rule.cap)


def _events(
    release: Release, measure: str, drawn: Rows, truth: Truth, arms: Mapping[Ref, int],
    specs: Mapping[Ref, PackageSpec | None], now: float,
) -> Iterator[Fact]:  # fmt: skip
    assert release.baseline is not None
    name = measure.removeprefix(EVENT)
    happened, none = (_wrong(drawn, truth, arms, specs) if name == LABEL else answered(drawn, truth))
    found = entries(drawn, happened, none)
    theirs = arms[release.baseline]
    for i, candidate in enumerate(release.candidates):
        groups = cohorts(found, arms[candidate], theirs, now)
        yield from tallies(groups, measure, candidate, release.baseline, start=i * FAR)
    for ref, place in arms.items() if name != LABEL else ():
        mine = np.isfinite(found.event[found.package == place])
        if len(mine):
            yield _frame(release, ref, now).share(name, mine)


def _amounts(mine: Rows, truth: Truth, measure: str, frame: Frame, cap: float) -> Iterator[Fact]:
    moments = list(spent(mine, truth, measure, frame.subject, cap))
    yield from moments
    n, total, squares = (sum(column) for column in zip(
        (0, 0.0, 0.0), *((m.n, m.total, m.squares) for m in moments), strict=True))  # fmt: skip
    if n > 1:
        reach = 1.96 * (max(squares - total * total / n, 0.0) / (n - 1) / n) ** 0.5
        low, value, high = (cap * (total / n + sign * reach) for sign in (-1, 0, 1))
        yield frame.number(measure.removeprefix(AMOUNT), value, int(n), low, high)


def _wrong(
    drawn: Rows, truth: Truth, arms: Mapping[Ref, int], specs: Mapping[Ref, PackageSpec | None]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """When a label proved each answer wrong, and when one proved it right."""
    bad, good = np.full(len(drawn), np.inf), np.full(len(drawn), np.inf)
    for ref, place in arms.items():
        spec = specs.get(ref)
        if spec is None or spec.task == "regression":
            continue
        own = np.flatnonzero(drawn.package == place)
        data = judged(drawn.where(own), truth, spec)
        order = np.argsort(drawn.key[own])
        at = own[order[np.searchsorted(drawn.key[own][order], data.rows.key)]]
        missed = misses(data, spec) > 0
        bad[at[missed]], good[at[~missed]] = data.known_at[missed], data.known_at[~missed]
    return bad, good


def _frame(release: Release, subject: Ref, now: float) -> Frame:
    return Frame(subject=subject, since=release.started_at, until=now)
