"""Rules: what a measure must meet, each a handful of numbers that a record can hold."""

from msgspec import Struct

from fairlead.errors import Invalid

__all__ = ["Amount", "Balance", "Bound", "Harm", "NoWorse", "PairedLoss", "Parity", "Rule"]


class Bound(Struct, frozen=True, tag="bound", kw_only=True):
    """The value lies between `low` and `high`; None leaves that side open.

    With a confidence interval the answer is PASS or FAIL only when the interval agrees.
    """

    low: float | None = None
    high: float | None = None
    certain: bool = False


class NoWorse(Struct, frozen=True, tag="no_worse", kw_only=True):
    """A paired difference against the baseline (positive: the candidate is better).

    PASS when its interval lies above -`margin`; FAIL when the interval lies below 0 and does not
    pass, or the whole interval lies below -`margin`; else UNKNOWN.
    """

    margin: float = 0.0


class Parity(Struct, frozen=True, tag="parity", kw_only=True):
    """Of any two groups the lower value is at least `floor` of the higher (ratio, MOVER interval);
    where `gap` is given, the two differ by that much at most instead (difference, Newcombe).

    PASS when this is certain of every pair, FAIL when a pair certainly breaks it; else UNKNOWN.
    """

    floor: float = 0.8
    gap: float | None = None


class Harm(Struct, frozen=True, tag="harm", kw_only=True):
    """Sequential test on event counts of both arms, valid at every look (statistics.md 3.1).

    FAIL: the event rate is proven more than `ratio` times the baseline's (error alpha).
    PASS: a harm of `exclude` times the baseline's rate, and a rate of `negligible` at least, is
    ruled out (error beta). With `negligible` 0 only the ratio counts.

    `over`: parts of one guardrail, each counted as ``measure:part`` (slower than the baseline's
    p50, its p75, ...). Their evidence of harm is averaged; every one of them must pass.
    `slower`: of latencies, how many times as long as the baseline the candidate may take.
    `welcome`: the event is wanted (a conversion), so harm is a baseline rate more than `ratio`
    times the candidate's.
    """

    ratio: float = 1.0
    exclude: float = 2.0
    negligible: float = 0.0
    over: tuple[str, ...] = ()
    slower: float = 1.0
    welcome: bool = False

    def __post_init__(self) -> None:
        if self.welcome and self.negligible:
            raise Invalid(f"negligible {self.negligible:g} has no meaning for a welcome event",
                          hint="leave it 0: too few of a wanted event is never harmless")  # fmt: skip


class PairedLoss(Struct, frozen=True, tag="paired_loss", kw_only=True):
    """Sequential test on paired losses of candidate and baseline on the same requests (shadow).

    Reads Moments of (loss_candidate - loss_baseline + 1) / 2. FAIL: a mean difference above
    `tolerate` is proven (error alpha). PASS: one of `margin` or more is ruled out (error beta).
    `votes`: every loss is 0 (right) or 1 (wrong). Then only pairs on which the two differ can
    tell them apart (McNemar), and harm, a loss above 0, is found in about half the pairs.
    """

    margin: float = 0.01
    tolerate: float = 0.0
    votes: bool = False


class Balance(Struct, frozen=True, tag="balance", kw_only=True):
    """Sample-ratio mismatch: of the candidate's and the baseline's requests (units, where they are
    sticky) the candidate receives the `share` it was promised (error `alpha`, for ever).

    `share` None: what the step of the release promises. A mismatch is nobody's harm, so its alpha
    is its own, and small: a release must not end because the dice looked loaded.
    """

    share: float | None = None
    alpha: float = 0.001


class Amount(Struct, frozen=True, tag="amount", kw_only=True):
    """Sequential test on a mean of both arms, for amounts whose tail is heavy (`core.amounts`).

    Reads Moments of each unit's amount as a part of `cap`, where it is cut off. FAIL: the
    candidate's mean is proven below the baseline's (error alpha). PASS: a loss of the share `loss`
    of it is ruled out (error beta). Both hold in the limit of many units, and are tightest after
    `planned` units. `welcome` False: the amount is a cost, and harm is a higher mean.
    """

    cap: float
    loss: float = 0.2
    planned: int = 20_000
    welcome: bool = True


Rule = Bound | NoWorse | Parity | Harm | PairedLoss | Balance | Amount
