"""Peers: what other tools do with the same counts, as their documentation or source says.

Each function takes traffic and returns the look at which every run is rolled back (NEVER: not).
Sources (statistics of the tools, read in 2026): Argo Rollouts, docs/features/analysis.md; Flagger,
docs/gitbook/usage/metrics.md and pkg/controller/scheduler.go; Kayenta, NetflixACAJudge.scala.
"""

from collections.abc import Callable
from math import log

import numpy as np

from prove.traffic import Floats, Ints, Traffic, first

__all__ = ["PEERS", "argo", "failing", "flagger", "kayenta", "later_worse", "oracle", "peeking",
           "worse"]  # fmt: skip

WORST = 0.01
"""A success rate below 99 % fails a check: the default of Flagger, and taken for Argo too."""


def argo(traffic: Traffic) -> Ints:
    """Argo Rollouts with failureLimit 3 as in its documentation: the fourth failed check ends it."""
    return failing(_rate(traffic) > WORST, more_than=3)


def flagger(traffic: Traffic) -> Ints:
    """Flagger with threshold 10 as in its documentation; failed checks add up, none is forgiven."""
    return failing(_rate(traffic) > WORST, more_than=9)


def failing(failed: np.typing.NDArray[np.bool_], more_than: int) -> Ints:
    """The look at which more than so many checks have failed (runs, looks)."""
    return first(np.cumsum(failed, axis=1) > more_than)


def peeking(traffic: Traffic) -> Ints:
    """The two-sample z-test at 5 % on everything so far, repeated at every look; only the harmful
    side acts."""
    sums = (np.cumsum(part, axis=1).astype(np.float64) for part in
            (traffic.xc, traffic.nc, traffic.xt, traffic.nt))  # fmt: skip
    return first(worse(*sums) > 1.959963984540054)


def worse(xc: Floats, nc: Floats, xt: Floats, nt: Floats) -> Floats:
    """z of the difference of two rates; positive when the candidate's is higher."""
    p = (xc + xt) / (nc + nt)
    spread = np.sqrt(np.maximum(p * (1 - p), 1e-300) * (1 / nc + 1 / nt))
    return np.asarray((xc / nc - xt / nt) / spread)


def kayenta(traffic: Traffic) -> Ints:
    """Kayenta style: Mann-Whitney at 98 % on the rates per look, against as large a piece of the
    baseline, at every look. Its tolerance of a quarter of the estimate is left out."""
    rng = np.random.default_rng(17)
    piece = np.minimum(traffic.nc, traffic.nt)
    theirs = rng.hypergeometric(traffic.xt, traffic.nt - traffic.xt, piece) / piece
    return later_worse(_rate(traffic), theirs)


def later_worse(ours: Floats, theirs: Floats) -> Ints:
    """The look at which the Mann-Whitney test of both series (runs, looks) so far says: larger."""
    runs, looks = ours.shape
    wins, zeros, at = np.zeros(runs), np.zeros(runs), np.full((runs, looks), False)
    for t in range(looks):
        a, b = ours[:, t, None], theirs[:, t, None]
        wins += ((a > theirs[:, : t + 1]) + 0.5 * (a == theirs[:, : t + 1])).sum(axis=1)
        wins += ((ours[:, :t] > b) + 0.5 * (ours[:, :t] == b)).sum(axis=1)
        zeros += (ours[:, t] == 0).astype(np.float64) + (theirs[:, t] == 0)
        n = t + 1
        # Rates without any event are the only ties that matter.
        ties = (zeros**3 - zeros) / (2 * n * (2 * n - 1))
        spread = np.sqrt(np.maximum(n * n / 12 * (2 * n + 1 - ties), 1e-9))
        at[:, t] = (wins - n * n / 2 - 0.5) / spread > 2.3263478740408408
    return first(at)


def oracle(traffic: Traffic, ratio: float, alpha: float = 0.05, share: float = 0.1) -> Ints:
    """Wald's test of somebody who knows the true ratio: no test that keeps alpha is much faster."""
    theta = share * ratio / (1 - share + share * ratio)
    gain = traffic.xc * log(theta / share) + traffic.xt * log((1 - theta) / (1 - share))
    return first(np.cumsum(gain, axis=1) >= log(1 / alpha))


def _rate(traffic: Traffic) -> Floats:
    return traffic.xc / np.maximum(traffic.nc, 1)


PEERS: dict[str, Callable[[Traffic], Ints]] = {
    "Argo Rollouts": argo, "Flagger": flagger, "peeking z-test": peeking, "Kayenta style": kayenta,
}  # fmt: skip
