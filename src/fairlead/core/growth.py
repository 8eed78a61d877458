"""Growth: how the evidence behind a verdict came together, request by request, and where it heads.

Everything is computed from what the verdict recorded, so a picture drawn next year is the one that
was seen while the release ran.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from math import log

from msgspec import Struct
from msgspec.structs import replace as changed

from fairlead.core.check import Harm, Odds, PairedLoss, Verdict, judge_again
from fairlead.core.sequential import Window, mean_interval, ratio_interval

__all__ = ["Growth", "Mark", "grown", "needed"]

MARKS = 24
"""Points of a curve: more than a screen shows."""


class Mark(Struct, frozen=True):
    """Natural logarithms of both e-values after so many requests (pairs, of a shadow)."""

    requests: int
    harm: float
    safe: float


class Growth(Struct, frozen=True, kw_only=True):
    """The curve of one check. `low`, `high`: confidence sequence of how many times as often the
    candidate had the event (of paired losses: of the difference of the mean losses), `value` as
    counted; of several parts, that with the most evidence of harm. Infinity is None in JSON."""

    check: str
    measure: str
    subject: str
    marks: tuple[Mark, ...]
    value: float
    low: float
    high: float


def grown(verdicts: Iterable[Verdict], odds: Odds) -> tuple[Growth, ...]:
    """The curves of all sequential checks that have seen anything."""
    found = (_grown(verdict, odds) for verdict in verdicts)
    return tuple(growth for growth in found if growth is not None)


def needed(growths: Sequence[Growth], odds: Odds) -> float | None:
    """Requests until every check is safe, or one of them proves harm, if evidence goes on growing
    as in the second half so far; None while nobody can say."""
    safe = [_ahead([(m.requests, m.safe) for m in g.marks], log(1 / odds.beta)) for g in growths]
    harm = [_ahead([(m.requests, m.harm) for m in g.marks], log(1 / odds.alpha)) for g in growths]
    ends = [n for n in harm if n is not None]
    if safe and None not in safe:
        ends.append(max(n for n in safe if n is not None))
    return min(ends, default=None)


def _ahead(curve: Sequence[tuple[int, float]], bound: float) -> float | None:
    last, log_e = curve[-1]
    if log_e >= bound:
        return 0.0
    before = max((c for c in curve if c[0] <= last / 2), default=(0, 0.0))
    pace = (log_e - before[1]) / max(last - before[0], 1)
    return (bound - log_e) / pace if pace > 0 else None


def _grown(verdict: Verdict, odds: Odds) -> Growth | None:
    match verdict.check.rule:
        case Harm() if any(verdict.windows.values()):
            worst = max(verdict.windows, key=lambda m: _alone(verdict, {m: verdict.windows[m]}, odds))
            low, high = ratio_interval(verdict.windows[worst], odds.alpha)
            xc, nc, xt, nt = (sum(column) for column in zip(*verdict.windows[worst], strict=True))
            value = xc * nt / (nc * xt) if nc and xt else float("inf") if xc else 1.0
        case PairedLoss() if verdict.moments:
            low, high = (2 * v - 1 for v in mean_interval(verdict.moments, odds.alpha))
            value = 2 * sum(m[1] for m in verdict.moments) / sum(m[0] for m in verdict.moments) - 1
        case _:
            return None
    marks = tuple(_mark(verdict, upto, odds) for upto in _stops(verdict))
    return Growth(check=verdict.check.name, measure=verdict.check.measure, subject=str(verdict.subject), marks=marks, value=value,
                  low=low, high=high)  # fmt: skip


def _alone(verdict: Verdict, windows: dict[str, tuple[Window, ...]], odds: Odds) -> float:
    return _judged(changed(verdict, windows=windows), odds).log_e_harm or 0.0


def _judged(verdict: Verdict, odds: Odds) -> Verdict:
    """The verdict by itself, however few it has seen."""
    return judge_again([changed(verdict, check=changed(verdict.check, min_n=1))], odds)[0]


def _stops(verdict: Verdict) -> list[int]:
    """After how many requests to look: evenly spaced, from none to all."""
    sizes = [sum(w[1] + w[3] for w in windows) for windows in verdict.windows.values()]
    last = max([*sizes, sum(m[0] for m in verdict.moments)])
    return sorted({round(i * last / (MARKS - 1)) for i in range(MARKS)})


def _mark(verdict: Verdict, upto: int, odds: Odds) -> Mark:
    """What the verdict would have been after so many requests."""
    windows = {m: tuple(_before(w, upto)) for m, w in verdict.windows.items()}
    ends = accumulate(m[0] for m in verdict.moments)
    moments = tuple(m for m, end in zip(verdict.moments, ends, strict=True) if end <= upto)
    then = _judged(changed(verdict, windows=windows, moments=moments), odds)
    return Mark(upto, then.log_e_harm or 0.0, then.log_e_safe or 0.0)


def _before(windows: Sequence[Window], upto: int) -> Iterator[Window]:
    """The windows that had ended, and the part so far of one in which nothing happened."""
    left = upto
    for window in windows:
        xc, nc, xt, nt = window
        if nc + nt <= left:
            yield window
        elif left > 0 and not xc + xt:
            yield 0, nc * left // (nc + nt), 0, nt * left // (nc + nt)
        left -= nc + nt
        if left < 0:
            return
