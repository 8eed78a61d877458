"""Twins: what a shadow answers beside the baseline on the same requests, before any label is known."""

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from fairlead.core.artifact import PackageSpec
from fairlead.core.catalogue import TWIN_FLIPS, TWIN_SHIFT
from fairlead.core.evidence import Evidence
from fairlead.core.ledger import FALLBACK, LIVE, Rows
from fairlead.core.ref import Ref
from fairlead.core.replay import Pair, flipped
from fairlead.core.sequential import mean_interval, rate_interval
from fairlead.core.vitals import Frame

__all__ = ["twins"]

LEAST = 30
"""Requests of a group below which nothing is said of it."""

Vector = NDArray[np.float64]


def twins(
    rows: Rows, candidate: tuple[int, PackageSpec], baseline: tuple[int, PackageSpec],
    groups: Mapping[str, Mapping[str, int]], frame: Frame, against: Ref,
) -> Iterator[Evidence]:  # fmt: skip
    """How mirrored answers of a candidate agree with the baseline's live ones.

    Each pair: the package's place in `rows.package` and its spec. `groups`: of each slice column
    its values, as `Ledger.groups`. The intervals are confidence sequences at `frame.level` (one
    request's flip must not depend on another's): they may be looked at at any time, and those of
    all groups hold together. The shift is that of the score of binary answers; of other tasks in
    standard deviations of the baseline's, at most 1 each.
    """
    ours = rows.where((rows.package == candidate[0]) & ((rows.flags & LIVE) == 0))
    theirs = rows.where((rows.package == baseline[0]) & ((rows.flags & (LIVE | FALLBACK)) == LIVE))
    _, a, b = np.intersect1d(ours.key, theirs.key, return_indices=True)
    task, width = candidate[1].task, len(candidate[1].classes) if candidate[1].task == "multiclass" else 1
    if not len(a) or task != baseline[1].task or ours.scores.shape[1] < width:
        return
    order = np.argsort(a)
    ours, theirs = ours.where(a[order]), theirs.where(b[order])
    pair = Pair(subject=frame.subject, against=against, task=task, ours=ours.scores[:, :width],
                theirs=theirs.scores[:, :width],
                thresholds=(candidate[1].threshold, baseline[1].threshold))  # fmt: skip
    both, flips = pair.both, flipped(pair)
    if not both.any():
        return
    yield _rate(flips[both], frame, against)
    found = [(f"{column}={value}", both & (ours.groups[:, i] == place))
             for i, (column, values) in enumerate(groups.items()) for value, place in values.items()]  # fmt: skip
    told = [(name, chosen) for name, chosen in found if np.count_nonzero(chosen) >= LEAST]
    for name, chosen in told:
        yield _rate(flips[chosen], frame, against, name, parts=len(told))
    yield _shift(pair, frame)


def _rate(
    happened: NDArray[np.bool_], frame: Frame, against: Ref, slice: str = "", parts: int = 1
) -> Evidence:
    k, n = int(np.count_nonzero(happened)), len(happened)
    alpha = (1 - frame.level) / parts
    low, high = rate_interval([(k, n)], alpha)
    return Evidence(subject=frame.subject, measure=TWIN_FLIPS, value=k / n, n=n, low=low, high=high,
                    level=1 - alpha, against=against, slice=slice, since=frame.since, until=frame.until)  # fmt: skip


def _shift(pair: Pair, frame: Frame) -> Evidence:
    ours, theirs = (s[pair.both].max(axis=1) for s in (pair.ours, pair.theirs))
    scale = 1.0 if pair.task == "binary" else float(theirs.std()) or 1.0
    change = np.clip((ours - theirs) / scale, -1.0, 1.0)
    x = (change + 1) / 2
    low, high = mean_interval([(len(x), float(x.sum()), float((x * x).sum()))], 1 - frame.level)
    return Evidence(subject=frame.subject, measure=TWIN_SHIFT, value=float(change.mean()), n=len(x),
                    low=2 * low - 1, high=2 * high - 1, level=frame.level, against=pair.against,
                    since=frame.since, until=frame.until)  # fmt: skip
