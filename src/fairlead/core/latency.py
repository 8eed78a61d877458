"""Latency: how often answers are slower than the baseline's own quantiles, frozen beforehand.

A p99 has no exact test that may be looked at every second, a count has. So the baseline's p50 to
p99.5 are frozen before anything is compared, and from then on answers beyond each of them are
counted like errors (statistics.md 3.3). The thresholds need not be accurate, only frozen: under
no harm both arms exceed any fixed threshold equally often. The six counts form ONE guardrail.
"""

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["FEWEST", "GRACE", "QUANTILES", "RECENT", "SLOWER", "allowed", "frozen"]

SLOWER = "slower"
"""The measure; its parts are ``slower:p50`` to ``slower:p99.5``."""

QUANTILES = {"p50": 0.5, "p75": 0.75, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p99.5": 0.995}
"""Together they see a shift of everything and a tail that alone grows longer."""

FEWEST, RECENT = 1000, 20_000
"""Answers of the baseline that freeze the thresholds: at least, and at most (the newest)."""


GRACE = 0.005
"""Seconds by which an answer may be slower without being anybody's harm."""


def allowed(thresholds: tuple[float, ...], slower: float) -> tuple[float, ...]:
    """What a candidate's latencies are held against that may take `slower` times as long as the
    baseline's. The test stays exact: its null says that the candidate's latency, so much reduced,
    exceeds no threshold more often than the baseline's does."""
    return tuple(t * slower + GRACE for t in thresholds) if slower > 1 else thresholds


def frozen(latencies: ArrayLike) -> tuple[float, ...]:
    """The thresholds, one per quantile, of the baseline's latencies (n,) in order of time; in
    their unit. () when there are fewer than FEWEST."""
    seen = np.asarray(latencies, dtype=np.float64)[-RECENT:]
    if len(seen) < FEWEST:
        return ()
    return tuple(np.quantile(seen, list(QUANTILES.values())).tolist())
