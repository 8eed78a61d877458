"""Fairness: how far groups of people lie apart in a rate, with intervals that hold for small groups."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations

from msgspec import Struct

from fairlead.core.evidence import Evidence
from fairlead.core.intervals import mover_difference, mover_ratio, wilson, z_score

__all__ = ["CROSS", "FORMS", "GAP", "PARITY", "Bounds", "Disparity", "beside", "crossings", "disparities",
           "disparity", "parts"]  # fmt: skip

PARITY, GAP = "parity:", "gap:"
"""Families of measures: ``parity:positive_rate`` is a ratio, ``gap:calibration`` a difference."""

FORMS: dict[str, str] = {
    "positive_rate": PARITY, "true_positive_rate": PARITY, "precision": PARITY,
    "false_positive_rate": GAP, "calibration": GAP,
}  # fmt: skip
"""How groups are compared in each rate: by ratio; by difference where a rate is near 0 in a good
model, so that a ratio would make much of little."""

CROSS = "+"
"""Joins the columns of an intersection, and its values: ``sex+race=Female+Black``."""

Bounds = tuple[float, float, float]


class Disparity(Struct, frozen=True, kw_only=True):
    """How far apart groups lie in one measure: of the pair with the clearest disparity (`least`,
    `most`) the ratio of the lower value to the higher, or their difference.

    `low`, `high`: no pair certainly has a ratio below `low`, and some pair certainly has one below
    `high`; of differences, some pair certainly lies above `low`, and none above `high`.
    """

    value: float
    low: float
    high: float
    least: Evidence
    most: Evidence


def crossings(columns: Sequence[str], depth: int = 2) -> tuple[str, ...]:
    """The intersections of two and more columns, at most `depth`, as slice columns."""
    return tuple(CROSS.join(some) for size in range(2, depth + 1) for some in combinations(columns, size))


def parts(column: str, known: Iterable[str]) -> tuple[str, ...]:
    """The columns a slice column is made of: itself where it is `known`, else those it joins."""
    return (column,) if column in set(known) else tuple(column.split(CROSS))


def disparity(groups: Sequence[Evidence], *, gap: bool = False) -> Disparity | None:
    """Compare all pairs of groups that have an interval; None of fewer than two.

    Where the groups certainly lie apart (the end of the interval that convicts), each of the m
    pairs is judged at the level 1 - (1 - level) / m (Bonferroni), so that many groups raise no more
    false alarms than two. That all lie together must hold of every pair, which needs no correction.
    """
    known = [e for e in groups if e.low is not None and e.high is not None]
    if len(known) < 2:
        return None
    pairs = [tuple(sorted(pair, key=_value)) for pair in combinations(known, 2)]
    strict = [1 - (1 - a.level) / len(pairs) for a, _ in pairs]
    compare = _difference if gap else _ratio
    plain = [compare(_bounds(a, a.level), _bounds(b, b.level)) for a, b in pairs]
    sure = [compare(_bounds(a, s), _bounds(b, s)) for (a, b), s in zip(pairs, strict, strict=True)]
    if gap:
        clear = max(range(len(pairs)), key=lambda i: (sure[i][1], plain[i][0]))
        low, high = sure[clear][1], max(p[2] for p in plain)
    else:
        clear = min(range(len(pairs)), key=lambda i: (sure[i][2], plain[i][0]))
        low, high = min(p[1] for p in plain), sure[clear][2]
    least, most = pairs[clear]
    return Disparity(value=plain[clear][0], low=low, high=high, least=least, most=most)


def disparities(facts: Iterable[Evidence], columns: Iterable[str]) -> Iterator[Evidence]:
    """``parity:rate`` and ``gap:rate`` of each slice column, from rates by group; n: the smallest
    number of rows behind a group."""
    found: Mapping[tuple[str, str], list[Evidence]] = {(c, m): [] for c in columns for m in FORMS}
    for fact in facts:
        place = fact.slice.partition("=")[0], fact.measure
        if place in found:
            found[place].append(fact)
    for (column, measure), groups in found.items():
        apart = disparity(groups, gap=FORMS[measure] == GAP)
        if apart is not None:
            least = apart.least
            yield Evidence(subject=least.subject, measure=FORMS[measure] + measure, value=apart.value,
                           low=apart.low, high=apart.high, n=min(e.n for e in groups), slice=column,
                           level=least.level, since=least.since, until=least.until)  # fmt: skip


def beside(group: Evidence, best: Evidence, *, gap: bool = False) -> Bounds:
    """(value, low, high) of a group's value over (minus) that of the best one, both with intervals."""
    a, b = _bounds(group, group.level), _bounds(best, best.level)
    if gap:
        return a[0] - b[0], *mover_difference(a, b)
    return (a[0] / b[0] if b[0] else 1.0), *mover_ratio(a, b)


def _value(e: Evidence) -> float:
    return e.value


def _ratio(a: Bounds, b: Bounds) -> Bounds:
    """(value, low, high) of the lower over the higher of two rates of which a <= b was seen."""
    low, high = mover_ratio(a, b)
    turned = 0.0 if high == float("inf") else 1 / high if high > 0 else 1.0
    return (a[0] / b[0] if b[0] else 1.0), min(low, turned), min(high, 1.0)


def _difference(a: Bounds, b: Bounds) -> Bounds:
    """(value, low, high) of the distance of two values of which a <= b was seen."""
    low, high = mover_difference(b, a)
    return b[0] - a[0], max(low, 0.0), max(high, -low)


def _bounds(e: Evidence, level: float) -> Bounds:
    """The value with its interval at another level: Wilson's at the n that its own interval tells
    of; of what is no rate, as wide as the normal quantiles say."""
    assert e.low is not None and e.high is not None, "groups without an interval were left out"
    if level == e.level:
        return e.value, e.low, e.high
    z = z_score(e.level)
    if e.measure == "calibration" or e.low < 0 or e.high > 1:
        wider = z_score(level) / z
        return e.value, e.value - (e.value - e.low) * wider, e.value + (e.high - e.value) * wider
    end = e.low if e.low > 0 and e.value > e.low else e.high
    if end == e.value:
        return e.value, e.low, e.high
    n = z * z * end * (1 - end) / (e.value - end) ** 2
    return e.value, *wilson(e.value * n, n, level)
