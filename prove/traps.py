"""Traps: harmless candidates that a test rolls back when it counts the wrong thing."""

from math import log

import numpy as np
from numpy.typing import NDArray

from fairlead.core.check import Balance, Check, Harm
from fairlead.core.cohort import Cohort
from fairlead.core.cohort import tallies as cohort_tallies
from fairlead.core.evidence import Fact
from fairlead.core.sequential import log_e_mismatch
from prove import ours
from prove.errors import CHECK
from prove.ours import ACT, NEW, OLD, Mixture, audit, pooled, tallies
from prove.peers import peeking, worse
from prove.row import Row, counted, percent, requests
from prove.traffic import HOUR, NEVER, Floats, Ints, Traffic, draw, first, median, share_of

__all__ = ["delayed", "eight", "leaking", "sticky"]

Events = NDArray[np.int16]

UNITS = 4000


def sticky(runs: int) -> Row:
    """One user in fifty hits a bad path, some ask a hundred times as often as others, and each always
    meets the same package: their requests are not independent, their first errors are."""
    rng = np.random.default_rng(30)
    counts = np.zeros((8, runs, HOUR), dtype=np.int64)
    for run in range(runs):
        arm = rng.random(UNITS) < 0.1
        habit = rng.lognormal(0, 1.5, UNITS)
        chance = np.where(rng.random(UNITS) < 0.02, 0.3, 0.0005)
        fresh = np.ones(UNITS, dtype=bool)
        for look in range(HOUR):
            asked = rng.poisson(habit)
            failed = rng.binomial(asked, chance)
            risk = fresh & (asked > 0)
            hit = risk & (failed > 0)
            fresh &= ~hit
            for i, (x, n) in enumerate(((hit, risk), (failed, asked))):
                counts[4 * i : 4 * i + 4, run, look] = (
                    x[arm].sum(), n[arm].sum(), x[~arm].sum(), n[~arm].sum()
                )  # fmt: skip
    units = Traffic(counts[0], counts[1], counts[2], counts[3], UNITS)
    requested = Traffic(counts[4], counts[5], counts[6], counts[7], UNITS)
    path = ours.harm(units)
    false = share_of(first(path >= ACT))
    naive = share_of(first(ours.harm(requested) >= ACT))
    done = audit((CHECK,), lambda run, looks: tallies(units, run, looks, "errors"), path)
    return Row(situation="sticky heavy users, 1 hour: rolled back", bar="≤ 5 %",
               ours=f"{counted(false, runs)}, first error of each user", met=false <= 0.05,
               others=f"the same test on requests {percent(naive)}", seed=30, runs=runs, judged=done)  # fmt: skip


def leaking(runs: int) -> Row:
    """The router sends 13 % where 10 % was promised."""
    traffic = draw(31, runs, HOUR, base=0.01, rows=1000, share=0.13)
    path = ours.harm(traffic)
    false = share_of(first(path >= ACT))
    told = Traffic(
        traffic.xc, np.full_like(traffic.nc, 100), traffic.xt, np.full_like(traffic.nt, 900), 1000
    )
    naive = share_of(first(ours.harm(told) >= ACT))
    done = audit((CHECK,), lambda run, looks: tallies(traffic, run, looks, "errors"), path)
    return Row(situation="router sends 13 % when told 10 %, 1 hour: rolled back for errors", bar="≤ 5 %",
               ours=f"{counted(false, runs)}; the mismatch itself is told after {requests(_noticed(traffic))}",
               met=false <= 0.05, others=f"trusting the promised share {percent(naive)}", seed=31,
               runs=runs, judged=done)  # fmt: skip


def _noticed(traffic: Traffic) -> float:
    """Median requests until the check of the split fails (a hundred runs, looks of a minute)."""
    nc, nt = (np.cumsum(n, axis=1) for n in (traffic.nc[:100], traffic.nt[:100]))
    log_e = [[log_e_mismatch((int(a), int(b)), (0.1, 0.9)) for a, b in zip(x, y, strict=True)]
             for x, y in zip(nc, nt, strict=True)]  # fmt: skip
    return median(first(np.array(log_e) >= log(1 / Balance().alpha)), traffic.rows)


WEEK = 168
RATE, WAIT = 0.1, 72.0
"""One in ten converts, after 72 hours on average."""

SALES = Check(name="conversions", measure="sales", rule=Harm(welcome=True))


def ramp(seed: int, runs: int, *, ratio: float, hourly: int = 600) -> tuple[Ints, Events]:
    """Units entered (2, runs, hours) and conversions (2, runs, hour of entry, age in hours) of a
    week in which the share grows from 5 to 25 to 50 %."""
    rng = np.random.default_rng(seed)
    share = np.repeat([0.05, 0.25, 0.5], WEEK // 3)
    entered = np.zeros((2, runs, WEEK), dtype=np.int64)
    entered[0] = rng.binomial(hourly, share, (runs, WEEK))
    entered[1] = hourly - entered[0]
    events = np.zeros((2, runs, WEEK, WEEK), dtype=np.int16)
    for arm, rate in enumerate((RATE * ratio, RATE)):
        risk = entered[arm].copy()
        for age in range(WEEK):
            gone = rate * (1 - np.exp(-np.array([age, age + 1]) / WAIT))
            known = WEEK - age
            hit = rng.binomial(risk[:, :known], (gone[1] - gone[0]) / (1 - gone[0]))
            events[arm, :, :known, age] = hit
            risk[:, :known] -= hit
    return entered, events


def by_hour(entered: Ints, events: Events) -> tuple[Floats, Floats]:
    """(evidence that conversions are fewer, naive z of converted so far) (runs, hours)."""
    runs = entered.shape[1]
    mixture = Mixture(runs)
    risk, converted = entered.copy(), np.zeros((2, runs))
    path, z = np.zeros((runs, WEEK)), np.zeros((runs, WEEK))
    for hour in range(WEEK):
        born = np.arange(hour + 1)
        x = events[:, :, born, hour - born].astype(np.int64)
        for s in born:
            path[:, hour] = mixture.add(x[1, :, s], risk[1, :, s], x[0, :, s], risk[0, :, s])
        risk[:, :, born] -= x
        converted += x.sum(axis=2)
        asked = entered[:, :, : hour + 1].sum(axis=2).astype(np.float64)
        z[:, hour] = worse(converted[1], asked[1], converted[0], asked[0])
    return path, z


def delayed(runs: int) -> tuple[Row, Row]:
    """Conversions arrive days later, while the candidate's share, and so its youth, grows."""
    entered, events = ramp(32, runs, ratio=1.0)
    path, z = by_hour(entered, events)
    false, naive = share_of(first(path >= ACT)), share_of(first(z[:, 20:] > 1.959963984540054))

    def facts(run: int, hours: int) -> list[Fact]:
        cohorts = [Cohort(entered=(int(entered[0, run, s]), int(entered[1, run, s])),
                          events={float(a): (int(events[0, run, s, a]), int(events[1, run, s, a]))
                                  for a in range(hours - s)}) for s in range(hours)]  # fmt: skip
        return list(cohort_tallies(cohorts, "sales", NEW, OLD))

    done = audit((SALES,), facts, path, sample=4)
    worse_by = by_hour(*ramp(33, runs, ratio=0.8))[0]
    at = first(worse_by >= ACT)
    day = float(np.median(at)) / 24 if share_of(at) > 0.5 else float("inf")
    return (
        Row(situation="delayed labels during a ramp, 7 days: rolled back", bar="≤ 5 %",
            ours=counted(false, runs), met=false <= 0.05,
            others=f"rates of what converted so far {percent(naive)}", seed=32, runs=runs, judged=done),
        Row(situation="delayed labels during a ramp, a fifth fewer conversions: found within 7 days",
            ours=f"{counted(share_of(at), runs)}, median day {day:.1f}", seed=33, runs=runs),
    )  # fmt: skip


def eight(runs: int) -> Row:
    """Eight guardrails, all of them fine."""
    parts = [draw(40 + i, runs, HOUR, base=0.01) for i in range(8)]
    path = pooled([ours.harm(traffic) for traffic in parts])
    false = share_of(first(path >= ACT))
    naive = np.minimum.reduce([peeking(traffic) for traffic in parts])
    checks = tuple(Check(name=f"g{i}", measure=f"g{i}", rule=Harm()) for i in range(8))

    def facts(run: int, looks: int) -> list[Fact]:
        return [f for i, traffic in enumerate(parts) for f in tallies(traffic, run, looks, f"g{i}")]

    return Row(situation="8 guardrails at once, 1 hour: rolled back", bar="≤ 5 %",
               ours=counted(false, runs), met=false <= 0.05,
               others=f"peeking z-test on each {percent(float((naive < NEVER).mean()))}", seed=40,
               runs=runs, judged=audit(checks, facts, path))  # fmt: skip
