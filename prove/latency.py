"""Latency: answers that take longer, everywhere or only in the tail, seen by six frozen thresholds."""

from math import exp

import numpy as np
from msgspec import Struct

from fairlead.core.check import Check, Harm
from fairlead.core.evidence import Fact
from fairlead.core.latency import QUANTILES, SLOWER, frozen
from prove import ours
from prove.ours import ACT, audit, pooled, tallies
from prove.peers import failing
from prove.row import Row, percent, requests
from prove.traffic import HOUR, Floats, Ints, Traffic, first, median, share_of

__all__ = ["everywhere", "tail"]

CHECK = Check(name="latency", measure=SLOWER, rule=Harm(over=tuple(QUANTILES)))

SPREAD, P98, P99 = 0.6, 2.053748910631823, 2.3263478740408408
MIDDLE = 202 / exp(SPREAD * P99)
"""Lognormal milliseconds whose p99 is 202."""

ROWS = 3000
WIDE = 420
"""More requests than the candidate ever gets in a look."""


class Seen(Struct, frozen=True, eq=False):
    """Counts beyond each threshold, and the p99 of both arms at every look (runs, looks)."""

    beyond: dict[str, Traffic]
    p99: tuple[Floats, Floats]


def watch(seed: int, runs: int, looks: int, *, tail_by: float = 1.0, all_by: float = 1.0) -> Seen:
    """Latencies of both arms; the candidate's take `all_by` times as long, and those above the
    baseline's p98 `tail_by` times. The thresholds are frozen from 20,000 earlier answers."""
    rng = np.random.default_rng(seed)
    size = (len(QUANTILES), runs, looks)
    xc, xt = np.zeros(size, np.int64), np.zeros(size, np.int64)
    nc = rng.binomial(ROWS, 0.1, (runs, looks))
    p99 = np.zeros((2, runs, looks))
    for run in range(runs):
        limits = frozen(MIDDLE * np.exp(SPREAD * rng.standard_normal(20_000)))
        z = rng.standard_normal((looks, ROWS), dtype=np.float32)
        took = MIDDLE * np.exp(SPREAD * z)
        mine = np.arange(ROWS) < nc[run][:, None]
        ours_ = took[:, :WIDE] * all_by
        ours_[z[:, :WIDE] > P98] *= tail_by
        for i, limit in enumerate(limits):
            xc[i, run] = ((ours_ > limit) & mine[:, :WIDE]).sum(axis=1)
            xt[i, run] = ((took > limit) & ~mine).sum(axis=1)
        p99[0, run] = _p99(np.where(mine[:, :WIDE], ours_, 0), nc[run])
        p99[1, run] = _p99(np.where(mine, 0, took), ROWS - nc[run])
    beyond = {name: Traffic(xc[i], nc, xt[i], ROWS - nc, ROWS) for i, name in enumerate(QUANTILES)}
    return Seen(beyond, (p99[0], p99[1]))


def _p99(took: Floats, n: Ints) -> Floats:
    """The 99th percentile of the first n values of each row, the others being 0."""
    top = np.sort(np.partition(took, -40, axis=1)[:, -40:], axis=1)
    return np.asarray(top[np.arange(len(top)), 39 - (n - np.ceil(0.99 * n).astype(np.int64))])


def evidence(seen: Seen) -> Floats:
    """The average evidence of the six thresholds (runs, looks)."""
    return pooled([ours.harm(traffic) for traffic in seen.beyond.values()])


def judged(seen: Seen, path: Floats) -> int:
    def facts(run: int, looks: int) -> list[Fact]:
        return [fact for name, traffic in seen.beyond.items()
                for fact in tallies(traffic, run, looks, f"{SLOWER}:{name}")]  # fmt: skip

    return audit((CHECK,), facts, path)


def peers(seen: Seen) -> dict[str, Ints]:
    """The rules for p99 that tools document, as a tenth above the baseline's p99 of the same look."""
    failed = seen.p99[0] > 1.1 * seen.p99[1]
    return {"Argo Rollouts": failing(failed, 3), "Flagger": failing(failed, 9)}


def _compare(quiet: Seen, bad: Seen) -> str:
    false, found = peers(quiet), peers(bad)
    return ", ".join(f"{name} {requests(median(found[name], ROWS))} at {percent(share_of(false[name]))} false"
                     for name in false)  # fmt: skip


def tail(runs: int) -> Row:
    quiet, bad = watch(20, runs, 4 * HOUR), watch(21, runs, HOUR, tail_by=1.2)
    paths = evidence(quiet), evidence(bad)
    false, middle = share_of(first(paths[0] >= ACT)), median(first(paths[1] >= ACT), ROWS)
    return Row(situation="p99 + 20 %, in the tail only: median requests to roll back (false: 4 hours)",
               bar="≤ 18,000 at ≤ 5 % false", ours=f"{requests(middle)} at {percent(false)} false",
               met=middle <= 18_000 and false <= 0.05, others=_compare(quiet, bad), seed=20,
               runs=runs, judged=judged(quiet, paths[0]) + judged(bad, paths[1]))  # fmt: skip


def everywhere(runs: int) -> Row:
    bad = watch(22, runs, HOUR, all_by=1.2)
    path, found = evidence(bad), peers(bad)
    said = ", ".join(f"{name} {requests(median(at, ROWS))}" for name, at in found.items())
    return Row(situation="all answers take 20 % longer: median requests to roll back",
               ours=requests(median(first(path >= ACT), ROWS)), others=said, seed=22, runs=runs,
               judged=judged(bad, path))  # fmt: skip
