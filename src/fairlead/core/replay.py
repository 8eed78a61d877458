"""Replay: two models on the same recorded requests, compared before anybody meets the new one."""

from collections.abc import Iterable, Iterator, Sequence
from math import log, sqrt

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from fairlead.core.artifact import Task
from fairlead.core.catalogue import GAIN, PRIMARY
from fairlead.core.check import Action, Bound, Check, NoWorse
from fairlead.core.evidence import Evidence
from fairlead.core.intervals import z_score
from fairlead.core.manifest import GateSection
from fairlead.core.metrics import METRICS, metric_interval
from fairlead.core.ref import Ref

__all__ = ["DAYS", "FLIPS", "KS", "SAME", "SHIFT", "UNANSWERED", "Cause", "Flip", "Pair", "Replay",
           "Spread", "Vector", "compare", "decided", "flipped", "flips", "replay_checks", "spreads",
           "surest"]  # fmt: skip

FLIPS, SHIFT, KS, UNANSWERED, SAME = (
    "replay:flips", "replay:shift", "replay:ks", "replay:unanswered", "replay:same")  # fmt: skip
"""Share of decisions that change; mean change of the score; largest gap between the distributions
of the scores; share of requests without an answer; share of logged answers the baseline gives again."""

FAR = 0.5
"""A number flips when it moves by this many standard deviations of the baseline's answers."""

DAYS = 15
"""Days of requests from which on a day is one block: requests of one day resemble each other, and
fewer blocks make no honest interval."""

BINS = 24
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)

NOTED = frozenset({Action.ALERT})

Vector = NDArray[np.float64]
Mask = NDArray[np.bool_]


class Pair(Struct, frozen=True, kw_only=True, eq=False):
    """Scores float64 [n, k] of both models for n requests, NaN where one gave no answer.

    `thresholds`: of the candidate and of the baseline (binary). `blocks`: requests of one block
    may depend on each other (None: all are independent).
    """

    subject: Ref
    against: Ref
    task: Task
    ours: Vector
    theirs: Vector
    thresholds: tuple[float, float] = (0.5, 0.5)
    level: float = 0.95
    since: float = 0.0
    until: float = 0.0
    blocks: NDArray[np.int64] | None = None

    @property
    def both(self) -> Mask:
        """Requests that both answered."""
        return np.asarray(np.isfinite(self.ours).all(axis=1) & np.isfinite(self.theirs).all(axis=1))


class Cause(Struct, frozen=True, kw_only=True):
    """Why `requests` recorded requests got no answer from the candidate: the column at fault ("":
    the model itself), and what was said to the first of them."""

    column: str
    requests: int
    message: str


class Flip(Struct, frozen=True, kw_only=True):
    """`requests` were decided `before` by the baseline and `after` by the candidate."""

    before: str
    after: str
    requests: int


class Spread(Struct, frozen=True, kw_only=True):
    """How scores lie: their quantiles (5, 25, 50, 75, 95 %) and counts between the edges."""

    quantiles: tuple[float, ...]
    counts: tuple[int, ...]


class Replay(Struct, frozen=True, kw_only=True):
    """What became of recorded requests. `evidence` holds every number that is judged.

    `requests` were replayed, asked from `since` to `until` on so many `days`;
    `labelled` of them judge who is right.
    `moved`: quantiles (5, 25, 50, 75, 95 %) of the change of the score. `notes`: what could not be
    replayed, and why.
    """

    candidate: Ref
    baseline: Ref
    task: Task
    requests: int
    labelled: int = 0
    days: int = 0
    since: float = 0.0
    until: float = 0.0
    evidence: tuple[Evidence, ...] = ()
    causes: tuple[Cause, ...] = ()
    flips: tuple[Flip, ...] = ()
    edges: tuple[float, ...] = ()
    ours: Spread | None = None
    theirs: Spread | None = None
    moved: tuple[float, ...] = ()
    notes: tuple[str, ...] = ()


def flipped(pair: Pair) -> Mask:
    """Requests that both answered and decided differently."""
    if pair.task == "regression":
        scale = float(pair.theirs[pair.both].std()) or 1.0
        different = np.abs(pair.ours - pair.theirs)[:, 0] > FAR * scale
    else:
        different = decided(pair.ours, pair.task, pair.thresholds[0]) != decided(
            pair.theirs, pair.task, pair.thresholds[1])  # fmt: skip
    return np.asarray(pair.both & different)


def compare(pair: Pair, groups: Sequence[tuple[str, Mask]]) -> Iterator[Evidence]:
    """Unanswered requests, flips (whole and by group), shift of the mean and KS distance.

    The intervals of the groups hold together: the level of each is that of all m of them,
    1 - (1 - level) / m (Bonferroni), so that many groups do not find a flip by chance.
    """
    unanswered = np.asarray(~np.isfinite(pair.ours).all(axis=1))
    yield _share(pair, UNANSWERED, unanswered, np.ones_like(unanswered), pair.level)
    both, flips = pair.both, flipped(pair)
    if not both.any():
        return
    yield _share(pair, FLIPS, flips, both, pair.level)
    level = 1 - (1 - pair.level) / max(len(groups), 1)
    for name, chosen in groups:
        if (chosen & both).any():
            yield _share(pair, FLIPS, flips, chosen & both, level, name)
    ours, theirs = _height(pair.ours[both]), _height(pair.theirs[both])
    change, n = ours - theirs, len(ours)
    reach = z_score(pair.level) * float(change.std(ddof=1)) / sqrt(n) if n > 1 else float("inf")
    mean = float(change.mean())
    yield _number(pair, SHIFT, mean, n, mean - reach, mean + reach)
    gap, reach = ks(ours, theirs), 2 * sqrt(log(4 / (1 - pair.level)) / (2 * n))
    yield _number(pair, KS, gap, n, max(gap - reach, 0.0), min(gap + reach, 1.0))


def ks(a: Vector, b: Vector) -> float:
    """Kolmogorov-Smirnov distance: the largest gap between two empirical distributions.

    Its interval in `compare` adds two bands of Dvoretzky, Kiefer, Wolfowitz (Massart 1990), one
    per sample, so it holds although both samples come from the same requests.
    """
    points = np.sort(np.concatenate([a, b]))
    gaps = [np.searchsorted(np.sort(x), points, side="right") / len(x) for x in (a, b)]
    return float(np.abs(gaps[0] - gaps[1]).max())


def flips(pair: Pair, classes: Sequence[str]) -> tuple[Flip, ...]:
    """Which decisions became which, the most frequent first; of numbers whether they rose or fell."""
    where = np.flatnonzero(flipped(pair))
    if pair.task == "regression":
        rose = int((pair.ours[where, 0] > pair.theirs[where, 0]).sum())
        found = {("lower", "higher"): rose, ("higher", "lower"): len(where) - rose}
    else:
        after, before = (decided(s[where], pair.task, t).astype(np.intp) for s, t in
                         zip((pair.ours, pair.theirs), pair.thresholds, strict=True))  # fmt: skip
        codes, n = np.unique(before * len(classes) + after, return_counts=True)
        found = {(classes[c // len(classes)], classes[c % len(classes)]): int(k)
                 for c, k in zip(codes.tolist(), n.tolist(), strict=True)}  # fmt: skip
    kept = [Flip(before=b, after=a, requests=n) for (b, a), n in found.items() if n]
    return tuple(sorted(kept, key=lambda f: (-f.requests, f.before, f.after)))


def spreads(pair: Pair) -> tuple[tuple[float, ...], Spread, Spread, tuple[float, ...]]:
    """Edges, how both models' scores lie between them, and the quantiles of the change."""
    ours, theirs = _height(pair.ours[pair.both]), _height(pair.theirs[pair.both])
    low, high = 0.0, 1.0
    if pair.task == "regression":
        low, high = np.quantile(np.concatenate([ours, theirs]), [0.005, 0.995]).tolist()
    edges = np.linspace(low, high if high > low else low + 1.0, BINS + 1)
    sides = [Spread(quantiles=_quantiles(s), counts=tuple(
        np.histogram(np.clip(s, edges[0], edges[-1]), edges)[0].tolist())) for s in (ours, theirs)]  # fmt: skip
    return tuple(edges.tolist()), sides[0], sides[1], _quantiles(ours - theirs)


def replay_checks(
    section: GateSection, made: Replay, max_errors: float, own: Iterable[Check] = ()
) -> tuple[Check, ...]:  # fmt: skip
    """What a candidate must show on recorded requests.

    It answers all but `max_errors` of them, it flips no more than `gate.max_flips` (as a whole and
    in any group), and where labels are known it is no worse; over fewer than `DAYS` days that is
    noted only, for one week may favour anybody. Each fails only when its whole interval does; too
    little traffic is UNKNOWN and holds nobody back, since the release itself will judge. `own`: checks of the manifest, which replace these of the same measure and group.
    """
    named = "recorded requests" if made.requests else f"recorded requests ({', '.join(made.notes)})"
    if made.causes:
        worst = max(made.causes, key=lambda c: c.requests)
        named = f"recorded requests: {worst.message}"
    ready = [Check(name=f"answers {named}", measure=UNANSWERED, on_unknown=NOTED,
                   rule=Bound(high=max_errors, certain=True))]  # fmt: skip
    rule = Bound(high=section.max_flips, certain=True)
    ready.append(Check(name="decisions that flip", measure=FLIPS, rule=rule, on_unknown=NOTED))
    ready += [Check(name=f"decisions that flip [{e.slice}]", measure=FLIPS, rule=rule,
                    slice=e.slice, on_unknown=NOTED)
              for e in _worst(made.evidence, section.max_flips)]  # fmt: skip
    measure = f"{GAIN}replay:{PRIMARY[made.task]}"
    if any(e.measure == measure for e in made.evidence):
        enough = made.days >= DAYS
        name = "no worse on recorded requests"
        ready.append(Check(name=name if enough else f"{name} ({made.days} days: noted)",
                           measure=measure, rule=NoWorse(margin=section.margin), on_unknown=NOTED,
                           on_fail=frozenset({Action.ROLLBACK}) if enough else NOTED))  # fmt: skip
    said = {(c.measure, c.slice) for c in own}
    return tuple(c for c in ready if (c.measure, c.slice) not in said)


def _worst(evidence: Iterable[Evidence], most: float) -> list[Evidence]:
    """Every group proven to flip more than `most`; where none is, the one that comes nearest to it
    in the name of all."""
    groups = sorted((e for e in evidence if e.measure == FLIPS and e.slice), key=_surely)
    return [e for e in groups if -_surely(e) > most] or groups[:1]


def _surely(e: Evidence) -> float:
    """Order by what is certain, the largest first: a group of few requests proves little."""
    return -(e.value if e.low is None else e.low)


def surest(made: Replay) -> list[Evidence]:
    """Flips by group, those that surely flip most first."""
    return sorted((e for e in made.evidence if e.measure == FLIPS and e.slice), key=_surely)


def _share(pair: Pair, measure: str, happened: Mask, among: Mask, level: float,
           slice: str = "") -> Evidence:  # fmt: skip
    values = happened[among].astype(np.float64)
    blocks = None if pair.blocks is None else pair.blocks[among]
    if blocks is not None and len(np.unique(blocks)) < 2:
        blocks = None
    value, low, high = metric_interval(METRICS["positive_rate"], values, values, level=level,
                                       blocks=blocks)  # fmt: skip
    return _number(pair, measure, value, len(values), low, high, slice, level)


def _number(pair: Pair, measure: str, value: float, n: int, low: float, high: float,
            slice: str = "", level: float | None = None) -> Evidence:  # fmt: skip
    return Evidence(subject=pair.subject, measure=measure, value=value, n=n, low=low, high=high,
                    level=level or pair.level, slice=slice, against=pair.against,
                    since=pair.since, until=pair.until)  # fmt: skip


def decided(scores: Vector, task: Task, threshold: float) -> Vector:
    """The class each row of scores decides for."""
    if task == "multiclass":
        return np.asarray(np.where(np.isfinite(scores), scores, -1.0).argmax(axis=1))
    return np.asarray(scores[:, 0] >= threshold, dtype=np.float64)


def _height(scores: Vector) -> Vector:
    """One number per answer: the score, or the highest of several."""
    return np.asarray(scores.max(axis=1))


def _quantiles(values: Vector) -> tuple[float, ...]:
    return tuple(np.quantile(values, QUANTILES).tolist())
