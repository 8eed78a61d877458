"""Forecasts: how many requests a plan will need, walked through by simulated traffic before it starts."""

from math import inf, log

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from fairlead.core import sequential
from fairlead.core.check import Action, Amount, Check, Harm, Odds, PairedLoss
from fairlead.core.feedback import EVENT
from fairlead.core.traffic import Adaptive, Step, TrafficPlan
from fairlead.errors import Invalid

__all__ = ["Need", "Outlook", "forecast"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LOOKS, FIRST = 240, 10
"""Looks at the evidence of a step, from the tenth request on; each sees a few percent more."""


class Need(Struct, frozen=True, kw_only=True):
    """Requests (of both arms) that half, and nine tenths, of the runs needed; infinite for never."""

    median: float
    most: float


class Outlook(Struct, frozen=True, kw_only=True):
    """What became of `runs` releases of a candidate that fails `ratio` times as often as the
    baseline. `steps`: requests spent on each step by those that passed it; `found`: requests until
    harm was proven. The shares of runs: `passed` every step, `rolled_back` for proven harm, `late`
    when patience ran out."""

    ratio: float
    runs: int
    steps: tuple[Need, ...]
    found: Need
    passed: float
    rolled_back: float
    late: float


def forecast(
    plan: TrafficPlan, *, rate: float, errors: float, ratio: float = 1.0, runs: int = 200, seed: int = 0
) -> Outlook:  # fmt: skip
    """Walk `runs` simulated releases through a plan; the same arguments give the same numbers.

    `rate`: requests per second. `errors`: how often the baseline fails; the candidate fails `ratio`
    times as often. Nothing else goes wrong, requests are independent, and checks that wait for
    labels are left out. Evidence is that of `core.check`: it adds up from step to step.
    Raises Invalid for a rate or a share of errors that cannot be.
    """
    if rate <= 0:
        raise Invalid(f"{rate:g} requests are no traffic", hint="give a rate above 0")
    if not 0 <= errors < 1 or ratio <= 0:
        raise Invalid(f"errors {errors:g} and ratio {ratio:g} are not a share and a factor",
                      hint="0.5 % is 0.005")  # fmt: skip
    rng = np.random.default_rng((seed, round(1000 * ratio)))
    walk = _Walk(plan.odds, runs)
    needs = []
    for step in plan.steps:
        grid = _grid(step, rate)
        exposed = _exposed(rng, step, grid, runs)
        failed = tuple(np.cumsum(rng.binomial(_steps(n), p), axis=1)
                       for n, p in zip(exposed, (min(errors * ratio, 1.0), errors), strict=True))  # fmt: skip
        needs.append(walk.take(step, grid, exposed, (failed[0], failed[1]), step.hold * rate))
    found = np.where(walk.failed, walk.spent, inf)
    return Outlook(ratio=ratio, runs=runs, steps=tuple(needs), found=_need(found),
                   passed=float(walk.alive.mean()), rolled_back=float(walk.failed.mean()),
                   late=float((~walk.alive & ~walk.failed).mean()))  # fmt: skip


class _Walk:
    """All runs at once: who is still on the way, and the evidence each has gathered."""

    def __init__(self, odds: Odds, runs: int) -> None:
        self.alive, self.failed = np.ones(runs, dtype=np.bool_), np.zeros(runs, dtype=np.bool_)
        self.spent = np.zeros(runs)
        self._odds, self._known = odds, dict[Check, Known]()

    def take(self, step: Step, grid: Ints, exposed: tuple[Ints, Ints], failed: tuple[Ints, Ints],
             hold: float) -> Need:  # fmt: skip
        """One step for everybody who is still there; what it cost those that passed."""
        bad, good = self._judge(step, exposed, failed)
        good &= (grid >= hold) & ~bad
        fails, passes = _first(bad), _first(good)
        here = self.alive
        through, lost = here & (passes < fails), here & (fails < passes)
        at = np.minimum(np.minimum(fails, passes), len(grid) - 1)
        self.spent += np.where(here, grid[at], 0)
        self.alive, self.failed = through, self.failed | lost
        for known in self._known.values():
            known.close(at)
        return _need(grid[at[through]].astype(np.float64))

    def _judge(
        self, step: Step, exposed: tuple[Ints, Ints], failed: tuple[Ints, Ints]
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Where harm is proven, and where every check passes (runs, looks)."""
        act, sure = log(1 / self._odds.alpha), log(1 / self._odds.beta)
        good, harms, weights = np.ones(exposed[0].shape, dtype=np.bool_), [], list[float]()
        for check in step.checks:
            if not isinstance(check.rule, Harm) or check.measure.startswith(EVENT):
                continue
            known = self._known.setdefault(check, Known(check.rule, len(self.alive)))
            events = failed if check.measure == "errors" else (0 * failed[0], 0 * failed[1])
            harm, safe = known.look(exposed, events)
            enough = exposed[0] >= check.min_n
            good &= enough & (safe >= sure) & (harm < act)
            if Action.ROLLBACK in check.on_fail:
                harms.append(np.where(enough, harm, 0.0))
                weights.append(check.weight)
        silent = [c.weight for c in step.checks if Action.ROLLBACK in c.on_fail
                  and (isinstance(c.rule, PairedLoss | Amount) or c.measure.startswith(EVENT))]  # fmt: skip
        harms += [np.zeros(good.shape)] * len(silent)
        if not harms:
            return np.zeros_like(good), good
        shares = np.log(np.array(weights + silent) / sum(weights + silent))[:, None, None]
        return np.logaddexp.reduce(np.stack(harms) + shares, axis=0) >= act, good


class Known:
    """The evidence of one check in all runs: windows closed before, and one per step that grows."""

    def __init__(self, rule: Harm, runs: int) -> None:
        self._rule = rule
        self._harm = _Mixture("harm", rule.ratio, runs)
        self._safe = _Mixture("safe", rule.exclude, runs)
        self._totals = np.zeros((2, runs))
        self._window: tuple[Floats, Floats] = (np.zeros((4, runs, 1)), np.zeros((2, runs, 1)))

    def look(self, exposed: tuple[Ints, Ints], events: tuple[Ints, Ints]) -> tuple[Floats, Floats]:
        """log e of harm and of safety (runs, looks)."""
        c, t = (1, 0) if self._rule.welcome else (0, 1)
        window = np.stack([events[c], exposed[c], events[t], exposed[t]]).astype(np.float64)
        own = np.stack([events[0], exposed[0]]).astype(np.float64)
        self._window = window, own
        harm, safe = self._harm.look(window), self._safe.look(window)
        if self._rule.negligible > 0:
            x, n = own + self._totals[:, :, None]
            safe = np.logaddexp(safe, _below(x, n, self._rule.negligible)) - log(2)
        return harm, safe

    def close(self, at: Ints) -> None:
        """Keep what was seen up to one look per run."""
        window, own = self._window
        runs = np.arange(len(at))
        place = np.minimum(at, window.shape[2] - 1)
        self._harm.close(window[:, runs, place])
        self._safe.close(window[:, runs, place])
        self._totals += own[:, runs, place]
        self._window = np.zeros((4, len(at), 1)), np.zeros((2, len(at), 1))


class _Mixture:
    """`log_e_harm` or `log_e_safe` for many runs: one term per alternative."""

    def __init__(self, kind: str, ratio: float, runs: int) -> None:
        self._steps, weights = sequential.alternatives("harm" if kind == "harm" else "safe", ratio)
        self._sum = weights[:, None] + np.zeros((1, runs))
        self._ratio = ratio

    def look(self, window: Floats) -> Floats:
        """Of a window (4, runs, looks): log e (runs, looks)."""
        if not window[[0, 2]].any() and not self._moved:
            return np.zeros(window.shape[1:])
        terms = self._sum[:, :, None] + self._terms(window)
        top = terms.max(axis=0)
        return np.asarray(top + np.log(np.exp(terms - top).sum(axis=0)))

    def close(self, window: Floats) -> None:
        """Of a window (4, runs) that ends here."""
        self._sum = self._sum + self._terms(window)

    @property
    def _moved(self) -> bool:
        return bool(np.ptp(self._sum, axis=1).any())

    def _terms(self, window: Floats) -> Floats:
        xc, nc, xt, nt = window
        odds = np.where((nc > 0) & (nt > 0), nc / np.maximum(nt, 1), 0.0) * self._ratio
        steps = self._steps.reshape(-1, *([1] * xc.ndim))
        gain = np.log1p(odds) - np.log1p(odds * np.exp(steps))
        return np.asarray(np.where(odds > 0, xc * steps + (xc + xt) * gain, 0.0))


def _below(x: Floats, n: Floats, bound: float) -> Floats:
    """`log_e_below` of totals (runs, looks)."""
    steps, weights = (v[:, None, None] for v in sequential.alternatives("below"))
    terms = weights + x * steps - n * np.log1p(bound * np.expm1(steps))
    top = terms.max(axis=0)
    return np.asarray(top + np.log(np.exp(terms - top).sum(axis=0)))


def _grid(step: Step, rate: float) -> Ints:
    """After how many requests of a step to look: as it begins to tell, when the hold ends, and
    until patience does."""
    last = max(step.patience * rate, FIRST + 1.0)
    marks = np.geomspace(FIRST, last, LOOKS) if step.checks else np.array([1.0])
    hold = max(1.0, step.hold * rate)
    return np.unique(np.ceil(np.append(marks[marks <= last], min(hold, last))).astype(np.int64))


def _exposed(rng: np.random.Generator, step: Step, grid: Ints, runs: int) -> tuple[Ints, Ints]:
    """Answers of the candidate and of the baseline at every look (runs, looks)."""
    share = step.share.floor if isinstance(step.share, Adaptive) else step.share.weight
    asked = np.broadcast_to(np.diff(grid, prepend=0), (runs, len(grid)))
    ours = rng.binomial(asked, share or step.mirror)
    theirs = asked - ours if share else asked
    return np.cumsum(ours, axis=1), np.cumsum(theirs, axis=1)


def _steps(total: Ints) -> Ints:
    return np.asarray(np.diff(total, axis=1, prepend=0), dtype=np.int64)


def _first(true: NDArray[np.bool_]) -> Ints:
    """The first look of every run (runs, looks) at which it holds; beyond the last when never."""
    never = true.shape[1]
    return np.asarray(np.where(true.any(axis=1), true.argmax(axis=1), never), dtype=np.int64)


def _need(requests: Floats) -> Need:
    if not len(requests):
        return Need(median=inf, most=inf)
    ranked = np.sort(requests)
    middle, most = (float(ranked[min(int(q * len(ranked)), len(ranked) - 1)]) for q in (0.5, 0.9))
    return Need(median=middle, most=most)
