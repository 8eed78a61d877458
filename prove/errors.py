"""Errors: candidates that fail as often as the baseline, or more often, and how soon each is told."""

import numpy as np

from fairlead.core.catalogue import release_checks
from fairlead.core.check import Check, Harm
from fairlead.core.evidence import Fact
from fairlead.core.latency import QUANTILES, SLOWER
from fairlead.core.manifest import ReleaseSection
from prove import ours
from prove.ours import ACT, audit, pooled, tallies
from prove.peers import PEERS, kayenta, oracle
from prove.row import Row, counted, percent, requests
from prove.traffic import HOUR, Floats, Ints, Traffic, draw, first, median, share_of

__all__ = ["CHECK", "better", "effects", "guarded", "harmful", "harmless", "incident", "others",
           "quiet", "tenfold", "twofold"]  # fmt: skip

CHECK = Check(name="errors", measure="errors", rule=Harm())

DAY = 24 * HOUR
LESS = 4
"""The Mann-Whitney test costs the square of the looks: over a day it sees every fourth run."""


def judged(traffic: Traffic, log_harm: Floats, log_safe: Floats | None = None) -> int:
    """Decisions compared with those of the product."""
    return audit(
        (CHECK,), lambda run, looks: tallies(traffic, run, looks, "errors"), log_harm, log_safe
    )


def others(traffic: Traffic) -> dict[str, Ints]:
    """Every peer's look of action; of long traffic Kayenta sees fewer runs."""
    runs, looks = traffic.xc.shape
    part = runs // LESS if looks > 6 * HOUR else runs
    fewer = Traffic(traffic.xc[:part], traffic.nc[:part], traffic.xt[:part], traffic.nt[:part],
                    traffic.rows)  # fmt: skip
    return {name: peer(fewer if peer is kayenta else traffic) for name, peer in PEERS.items()}


def shares(acted: dict[str, Ints]) -> str:
    """How many runs each of them rolled back."""
    return ", ".join(f"{name} {percent(share_of(at))}" for name, at in acted.items())


def medians(acted: dict[str, Ints], rows: int) -> str:
    """After how many requests each of them rolled back."""
    return ", ".join(f"{name} {requests(median(at, rows))}" for name, at in acted.items())


def harmless(runs: int) -> tuple[Row, Row]:
    """A day of a candidate that is no worse: who rolls it back, and when it is promoted."""
    traffic = draw(1, runs, DAY)
    path, sure = ours.harm(traffic), ours.safe(traffic)
    false, good = share_of(first(path >= ACT)), first(sure >= ACT)
    middle = median(good, traffic.rows)
    return (
        Row(situation="harmless candidate, 24 hours: ever rolled back", bar="≤ 5 %",
            ours=counted(false, runs), met=false <= 0.05, others=shares(others(traffic)),
            seed=1, runs=runs, judged=judged(traffic, path, sure)),
        Row(situation="harmless candidate: median requests to promote", bar="≤ 30,000",
            ours=f"{requests(middle)}; {percent(share_of(good, HOUR))} within the hour",
            met=middle <= 30_000, others="after the minutes somebody wrote down", seed=1, runs=runs),
    )  # fmt: skip


def incident(runs: int) -> Row:
    """Ten minutes in which both arms fail twenty times as often."""
    rate = np.full(HOUR, 0.005)
    rate[20:30] = 0.1
    traffic = draw(2, runs, HOUR, base=rate)
    path = ours.harm(traffic)
    false = share_of(first(path >= ACT))
    return Row(situation="harmless candidate, 1 hour with an incident that hits both arms: rolled back",
               bar="≤ 5 %", ours=counted(false, runs), met=false <= 0.05,
               others=shares(others(traffic)), seed=2, runs=runs, judged=judged(traffic, path))  # fmt: skip


def twofold(runs: int) -> Row:
    traffic = draw(3, runs, 4 * HOUR, ratio=2.0)
    path = ours.harm(traffic)
    mine, best = first(path >= ACT), oracle(traffic, 2.0)
    middle, lower = median(mine, traffic.rows), median(best, traffic.rows)
    told = f"{requests(middle)}, {middle / lower:.2f} × the oracle ({requests(lower)})"
    return Row(situation="errors 0.5 → 1.0 %: median requests to roll back",
               bar="≤ 24,000 and ≤ 1.5 × the oracle", ours=told,
               met=middle <= 24_000 and middle <= 1.5 * lower,
               others=medians(others(traffic), traffic.rows), seed=3, runs=runs,
               judged=judged(traffic, path))  # fmt: skip


def tenfold(runs: int) -> Row:
    traffic = draw(4, runs, 60, ratio=10.0, rows=250)
    path = ours.harm(traffic)
    middle = median(first(path >= ACT), traffic.rows)
    best = median(oracle(traffic, 10.0), traffic.rows)
    return Row(situation="errors 0.5 → 5 %, a look every 5 seconds: median requests to roll back",
               bar="≤ 1,000", ours=requests(middle), met=middle <= 1000,
               others=f"oracle {requests(best)}", seed=4, runs=runs, judged=judged(traffic, path))  # fmt: skip


def harmful(runs: int) -> Row:
    """A candidate that is twice as bad: whether the evidence ever suffices to promote it, also
    where it would have been rolled back before."""
    traffic = draw(5, runs, DAY, ratio=2.0)
    path, sure = ours.harm(traffic), ours.safe(traffic)
    wrong = share_of(first(sure >= ACT))
    return Row(situation="twice the harm, 24 hours: evidence ever suffices to promote", bar="≤ 5 %",
               ours=counted(wrong, runs), met=wrong <= 0.05, others="no peer states it", seed=5,
               runs=runs, judged=judged(traffic, path, sure))  # fmt: skip


def better(runs: int) -> Row:
    """The baseline is worse than the threshold, the candidate is the cure."""
    rng = np.random.default_rng(6)
    nc = rng.binomial(3000, 0.1, (runs, HOUR))
    nt = 3000 - nc
    traffic = Traffic(rng.binomial(nc, 0.012), nc, rng.binomial(nt, 0.02), nt, 3000)
    path = ours.harm(traffic)
    return Row(situation="candidate that repairs a bad baseline (2.0 → 1.2 %), 1 hour: rolled back",
               ours=counted(share_of(first(path >= ACT)), runs), others=shares(others(traffic)),
               seed=6, runs=runs, judged=judged(traffic, path))  # fmt: skip


def quiet(runs: int) -> Row:
    """A tenth of the traffic: the same number of requests, ten times the minutes."""
    traffic = draw(7, runs, 8 * HOUR, ratio=2.0, rows=300)
    path = ours.harm(traffic)
    return Row(situation="errors 0.5 → 1.0 % at 300 requests/min: median requests to roll back",
               ours=requests(median(first(path >= ACT), 300)),
               others=medians(others(traffic), 300), seed=7, runs=runs,
               judged=judged(traffic, path))  # fmt: skip


READY = {c.measure: c for c in release_checks(ReleaseSection(), "binary") if c.measure in (
    "errors", "slow", SLOWER)}  # fmt: skip


def guarded(runs: int) -> Row:
    """The guardrails every canary has: what fails, what is slow, and latency. Only the first is in
    trouble; failures count as slow answers too, as in `core.arms`."""
    rng, bad = np.random.default_rng(8), draw(3, runs, 4 * HOUR, ratio=2.0)
    beyond = [0.005, *(1 - q for q in QUANTILES.values())]
    late = [_with_late(rng, bad, share) for share in beyond]
    counted_as = dict(zip(["slow", *(f"{SLOWER}:{name}" for name in QUANTILES)], late, strict=True))
    paths = {m: ours.harm(t) for m, t in {"errors": bad, **counted_as}.items()}
    latency = pooled([paths[m] for m in paths if m.startswith(SLOWER)])
    latency[np.cumsum(bad.nc, axis=1) < READY[SLOWER].min_n] = 0.0
    weights = [READY[m].weight for m in ("errors", "slow", SLOWER)]
    path = pooled([paths["errors"], paths["slow"], latency], weights)
    middle = median(first(path >= ACT), bad.rows)

    def facts(run: int, looks: int) -> list[Fact]:
        return [f for m, t in {"errors": bad, **counted_as}.items() for f in tallies(t, run, looks, m)]

    return Row(situation="errors 0.5 → 1.0 % beside the other ready-made guardrails, which are fine: median requests",
               bar="≤ 24,000", ours=requests(middle), met=middle <= 24_000, seed=8, runs=runs,
               judged=audit(tuple(READY.values()), facts, path))  # fmt: skip


def _with_late(rng: np.random.Generator, traffic: Traffic, share: float) -> Traffic:
    """The failures of a traffic, and a share of late answers, the same in both arms."""
    return Traffic(traffic.xc + rng.binomial(traffic.nc - traffic.xc, share), traffic.nc,
                   traffic.xt + rng.binomial(traffic.nt - traffic.xt, share), traffic.nt, traffic.rows)  # fmt: skip


def effects(runs: int) -> list[tuple[float, float, float]]:
    """(harm as a ratio, median requests of Fairlead, of the oracle) from small looks."""
    found = []
    for ratio, rows, looks in ((1.5, 1000, 400), (2.0, 250, 400), (3.0, 100, 300), (5.0, 50, 200),
                               (10.0, 25, 150)):  # fmt: skip
        traffic = draw(9, runs, looks, ratio=ratio, rows=rows)
        mine = median(first(ours.harm(traffic) >= ACT), rows)
        found.append((ratio, mine, median(oracle(traffic, ratio), rows)))
    return found
