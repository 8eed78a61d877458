"""Labels: a shadow whose truth is known, and what users spend."""

import numpy as np

from fairlead.core.amounts import FEWEST, Amounts, amounts, cap, log_e_less
from fairlead.core.check import Check, PairedLoss
from fairlead.core.evidence import Fact, Moments
from prove import ours
from prove.ours import ACT, NEW, Mixture, audit
from prove.row import Row, counted, percent, requests
from prove.traffic import Floats, Ints, Traffic, first, median, share_of

__all__ = ["revenue", "shadow"]

PAIRS = 50
"""Labelled requests between two looks at a shadow."""

VOTES = Check(name="accuracy", measure="wrong_pair", rule=PairedLoss(votes=True, margin=0.02))


def discord(seed: int, runs: int, looks: int, *, loss: float) -> tuple[Ints, Ints]:
    """Pairs per look that only the baseline, or only the candidate, had right (runs, looks). They
    agree on 95 % of the requests; the candidate's accuracy is lower by `loss`."""
    rng = np.random.default_rng(seed)
    x = rng.multinomial(PAIRS, [0.025 + loss / 2, 0.025 - loss / 2, 0.95], (runs, looks))
    return x[..., 0], x[..., 1]


def evidence(losses: Ints, wins: Ints) -> Floats:
    runs, mixture = len(losses), Mixture(len(losses))
    one = np.ones(runs, dtype=np.int64)
    looks = zip(losses.T, wins.T, strict=True)
    return np.stack([mixture.add(lost, one, won, one) for lost, won in looks], axis=1)


def shadow(runs: int) -> Row:
    quiet, bad = discord(50, runs, 400, loss=0.0), discord(51, runs, 120, loss=0.02)
    calm, path = evidence(*quiet), evidence(*bad)
    false, middle = share_of(first(calm >= ACT)), median(first(path >= ACT), PAIRS)
    rng = np.random.default_rng(52)
    half = np.full((runs, 400), 500)
    split = Traffic(rng.binomial(half, 0.12), half, rng.binomial(half, 0.1), half, 1000)
    apart = median(first(ours.harm(split) >= ACT), 1000)

    def facts(run: int, looks: int) -> list[Fact]:
        lost, won = (int(x[run, :looks].sum()) for x in bad)
        n = looks * PAIRS
        return [Moments(subject=NEW, measure="wrong_pair", at=0.0, n=n, total=(n + lost - won) / 2,
                        squares=lost + (n - lost - won) / 4)]  # fmt: skip

    return Row(situation="shadow with labels, accuracy 90 → 88 %: median requests to roll back",
               bar="≤ 1,000", ours=f"{requests(middle)}; harmless one rolled back {percent(false)}",
               met=middle <= 1000, others=f"a 50/50 split with the same test {requests(apart)}",
               seed=51, runs=runs, judged=audit((VOTES,), facts, path))  # fmt: skip


def revenue(runs: int) -> Row:
    """Five in a hundred users buy, for amounts with a heavy tail; sixty looks at 1,000 new users of
    each arm. The candidate loses nothing, or a fifth."""
    false, naive = spending(53, runs, 1.0)
    found, _ = spending(54, runs, 0.8)
    return Row(situation="revenue with a heavy tail, 60 looks: rolled back",
               ours=f"{counted(false, runs)}; a fifth less found {percent(found)}",
               others=f"peeking t-test {percent(naive)}", seed=53, runs=runs)  # fmt: skip


def spending(
    seed: int, runs: int, scale: float, looks: int = 60, users: int = 1000
) -> tuple[float, float]:
    """Shares of runs rolled back by the winsorised sequence, and by a t-test at every look."""
    rng = np.random.default_rng(seed)

    def spent(n: int, times: float = 1.0) -> Floats:
        return (rng.random(n) < 0.05) * rng.lognormal(0, 1.8, n) * times

    acted = naive = 0
    for _ in range(runs):
        top = cap(spent(20_000))
        arms, plain = [Amounts(), Amounts()], [Amounts(), Amounts()]
        hit = peeked = False
        for _ in range(looks):
            for i, times in enumerate((scale, 1.0)):
                x = spent(users, times)
                arms[i] += amounts(x, top)
                plain[i] += amounts(x, float("inf"))
            if min(a.n for a in arms) >= FEWEST:
                hit |= log_e_less([(arms[0], arms[1])], planned=2 * looks * users) >= ACT
            peeked |= _t(*plain) < -1.959963984540054
        acted, naive = acted + hit, naive + peeked
    return acted / runs, naive / runs


def _t(a: Amounts, b: Amounts) -> float:
    va, vb = (x.squares / x.n - (x.total / x.n) ** 2 for x in (a, b))
    return float((a.total / a.n - b.total / b.n) / np.sqrt(va / a.n + vb / b.n))
