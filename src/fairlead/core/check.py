"""Checks: the one way this system says yes, no or not yet.

A CI gate, a canary analysis and a production monitor are the same call with
evidence from a different place. A check never fetches anything and never
raises on bad news: it reads evidence and returns a verdict.
"""

from collections.abc import Iterable, Sequence
from enum import IntEnum, StrEnum
from math import exp, log

from msgspec import Struct
from msgspec.structs import replace as changed

from fairlead.core import amounts, sequential
from fairlead.core.evidence import Evidence, EvidenceSet, Moments, Tally
from fairlead.core.fairness import disparity
from fairlead.core.ref import Ref
from fairlead.core.rule import Amount, Balance, Bound, Harm, NoWorse, PairedLoss, Parity, Rule
from fairlead.core.sequential import Window

__all__ = ["EVERY", "Action", "Amount", "Balance", "Bound", "Check", "Harm", "NoWorse", "Odds", "Outcome",
           "PairedLoss", "Parity", "Rule", "Verdict", "judge", "judge_all", "judge_again",
           "worst"]  # fmt: skip

EVERY = "*"
"""The slice of a bound that every group must keep."""

DIGITS = 6
"""Decimals of recorded evidence: far finer than any decision needs, and coarse enough that another
processor, whose logarithms differ in the last digit, replays a decision to the same bytes."""


class Outcome(IntEnum):
    """Ordered from good to bad, so the verdict of many checks is their maximum."""

    PASS = 0
    UNKNOWN = 1
    FAIL = 2


class Action(StrEnum):
    """What a verdict asks for; asking for nothing means: proceed.

    Text, because members of a set must have an order for its canonical JSON.
    """

    ALERT = "alert"
    HOLD = "hold"
    RETRAIN = "retrain"
    ROLLBACK = "rollback"


class Check(Struct, frozen=True, kw_only=True):
    """A measure, the rule it must meet, and what its failure or its silence asks for.

    `weight`: how much of alpha a guardrail gets beside the others of its step.
    """

    name: str
    measure: str
    rule: Rule
    min_n: int = 1
    slice: str = ""
    weight: float = 1.0
    on_fail: frozenset[Action] = frozenset({Action.ROLLBACK})
    on_unknown: frozenset[Action] = frozenset({Action.HOLD})


class Odds(Struct, frozen=True, kw_only=True):
    """The two errors a release states: rolling back the harmless, promoting the harmful."""

    alpha: float = 0.05
    beta: float = 0.05


class Verdict(Struct, frozen=True, kw_only=True):
    """One check's answer, its reason in words, and the numbers it read.

    `log_e_harm`, `log_e_safe`: natural logarithms of the e-values of a sequential rule.
    `counters`: what it counted, in all. `windows` (by measure; neighbours without any event added
    together) and `moments` (of an `Amount`: candidate, baseline, candidate, ...), both in order of
    time: what the e-values are made of.
    `seen`, `windows` and `moments` are all that judging reads, so the verdict can be replayed.
    """

    check: Check
    subject: Ref
    outcome: Outcome
    reason: str
    seen: tuple[Evidence, ...] = ()
    log_e_harm: float | None = None
    log_e_safe: float | None = None
    counters: dict[str, float] = {}
    windows: dict[str, tuple[Window, ...]] = {}
    moments: tuple[tuple[int, float, float], ...] = ()


def judge_all(
    checks: Sequence[Check],
    evidence: EvidenceSet,
    subject: Ref,
    baseline: Ref | None,
    odds: Odds = Odds(),  # noqa: B008  immutable
) -> tuple[Verdict, ...]:
    """Judge every check. Guardrails that may roll back share alpha: their e-values are averaged, by
    the weights of their checks.

    An average of e-values, its weights fixed beforehand, is an e-value under any dependence (statistics.md 3.3), so the chance
    that a candidate harmless in all of them is ever failed by any of them is at most alpha. A
    guardrail that has seen too little counts as 1: leaving it out would be choosing by the data.
    """
    return _share([judge(c, evidence, subject, baseline, odds) for c in checks], odds)


def judge_again(verdicts: Sequence[Verdict], odds: Odds) -> tuple[Verdict, ...]:
    """The verdicts on one subject once more, from what they recorded: `judge_all` without evidence.

    Whoever doubts a decision gets the same bytes from the same counters.
    """
    read = [Verdict(check=v.check, subject=v.subject, outcome=Outcome.UNKNOWN, reason="",
                    seen=v.seen, windows=v.windows, moments=v.moments) for v in verdicts]  # fmt: skip
    return _share([_conclude(v, odds) for v in read], odds)


def _share(alone: list[Verdict], odds: Odds) -> tuple[Verdict, ...]:
    """Let the guardrails share alpha."""
    guards = [i for i, v in enumerate(alone) if _guards(v.check)]
    if len(guards) < 2:
        return tuple(alone)
    log_es = [alone[i].log_e_harm or 0.0 for i in guards]
    weights = [alone[i].check.weight for i in guards]
    failed = sequential.log_mean(log_es, weights) >= log(1 / odds.alpha)
    blamed = {guards[k] for k in _blame(log_es, weights, odds.alpha)} if failed else set()
    for i in guards:
        verdict = alone[i]
        if i in blamed:
            alone[i] = changed(verdict, outcome=Outcome.FAIL)
        elif verdict.outcome is Outcome.FAIL:
            reason = f"{verdict.reason}; waits for the evidence of all guardrails together"
            alone[i] = changed(verdict, outcome=Outcome.UNKNOWN, reason=reason)
    return tuple(alone)


def judge(
    check: Check,
    evidence: EvidenceSet,
    subject: Ref,
    baseline: Ref | None,
    odds: Odds = Odds(),  # noqa: B008  immutable
) -> Verdict:
    """Apply one check. Too little evidence is UNKNOWN, never PASS."""
    return _conclude(_read(check, evidence, subject, baseline), odds)


def _read(check: Check, evidence: EvidenceSet, subject: Ref, baseline: Ref | None) -> Verdict:
    """A verdict still to be given: it holds what the check reads, and nothing else."""
    blank = Verdict(check=check, subject=subject, outcome=Outcome.UNKNOWN, reason="")
    match check.rule:
        case Bound() if check.slice == EVERY:
            return changed(blank, seen=tuple(evidence.slices(subject, check.measure)))
        case Bound() | NoWorse():
            number = evidence.get(subject, check.measure, check.slice)
            return blank if number is None else changed(blank, seen=(number,))
        case Parity():
            groups = evidence.slices(subject, check.measure)
            cut = f"{check.slice}=" if check.slice else ""
            return changed(blank, seen=tuple(e for e in groups if e.slice.startswith(cut)))
        case Harm(over=over):
            measures = [f"{check.measure}:{part}" for part in over] or [check.measure]
            return changed(
                blank, windows={m: _windows(evidence, m, subject, baseline) for m in measures}
            )
        case PairedLoss():
            found = sorted(evidence.moments(subject, check.measure).items())
            return changed(blank, moments=tuple(_sums(m) for _, m in found))
        case Amount():
            beside = {} if baseline is None else evidence.moments(baseline, check.measure)
            both = [(m, beside[at]) for at, m in sorted(evidence.moments(subject, check.measure).items())
                    if at in beside]  # fmt: skip
            return changed(blank, moments=tuple(_sums(m) for pair in both for m in pair))
        case Balance():
            ours, theirs = _tallies(evidence, check.measure, subject, baseline)
            all_of = (0, sum(t.n for t in ours.values()), 0, sum(t.n for t in theirs.values()))
            return changed(blank, windows={check.measure: (all_of,)})


def _conclude(read: Verdict, odds: Odds) -> Verdict:
    match read.check.rule:
        case Bound() as rule if read.check.slice == EVERY:
            return _judge_every(read, rule)
        case Bound() | NoWorse():
            return _judge_number(read)
        case Parity() as rule:
            return _judge_parity(read, rule)
        case Harm() as rule:
            return _judge_harm(read, rule, odds)
        case PairedLoss() as rule:
            return _judge_paired(read, rule, odds)
        case Amount() as rule:
            return _judge_amount(read, rule, odds)
        case Balance() as rule:
            return _judge_balance(read, rule)


def _tallies(
    evidence: EvidenceSet, measure: str, subject: Ref, baseline: Ref | None
) -> tuple[dict[float, Tally], dict[float, Tally]]:
    theirs = {} if baseline is None else evidence.tallies(baseline, measure)
    return evidence.tallies(subject, measure), theirs


def _windows(
    evidence: EvidenceSet, measure: str, subject: Ref, baseline: Ref | None
) -> tuple[Window, ...]:
    """Counts of both arms per window, in order of time. Windows without an event only say how many
    were exposed, so neighbours are added together: the same evidence, and a short record."""
    ours, theirs = _tallies(evidence, measure, subject, baseline)
    windows: list[Window] = []
    for at, t in sorted(ours.items()):
        other = theirs.get(at)
        x, n = (0, 0) if other is None else (other.events, other.n)
        if windows and not (t.events or x or windows[-1][0] or windows[-1][2]):
            _, before, _, beside = windows.pop()
            windows.append((0, before + t.n, 0, beside + n))
        else:
            windows.append((t.events, t.n, x, n))
    return tuple(windows)


def _sums(m: Moments) -> tuple[int, float, float]:
    return m.n, float(m.total), float(m.squares)


def worst(verdicts: Iterable[Verdict]) -> Outcome:
    """The outcome of many checks; of none, PASS (a gate without checks is refused earlier)."""
    return max((v.outcome for v in verdicts), default=Outcome.PASS)


def _guards(check: Check) -> bool:
    return isinstance(check.rule, Harm | PairedLoss | Amount) and Action.ROLLBACK in check.on_fail


def _blame(log_es: list[float], weights: list[float], alpha: float) -> list[int]:
    most = max(range(len(log_es)), key=lambda i: log_es[i] + log(weights[i]))
    return sequential.culprits(log_es, alpha, weights) or [most]


def _unknown(read: Verdict, reason: str, **more: object) -> Verdict:
    return changed(read, outcome=Outcome.UNKNOWN, reason=f"{read.check.measure}: {reason}", **more)


def _judge_number(read: Verdict) -> Verdict:
    check, rule = read.check, read.check.rule
    if not read.seen:
        return _unknown(read, "was not measured")
    seen = read.seen[0]
    if seen.value != seen.value:
        return _unknown(read, "is not a number")
    if seen.n < check.min_n:
        return _unknown(read, f"seen {seen.n} rows, needs {check.min_n}")
    outcome, reason = (
        _bounded(rule, seen) if isinstance(rule, Bound) else _no_worse(rule, seen)  # type: ignore[arg-type]
    )
    text = f"{check.measure}{f' [{check.slice}]' if check.slice else ''}: {reason}"
    return changed(read, outcome=outcome, reason=text)


def _judge_every(read: Verdict, rule: Bound) -> Verdict:
    """A bound for all groups; those that are too small to judge are left out."""
    enough = [e for e in read.seen if e.n >= read.check.min_n]
    if not enough:
        return _unknown(read, f"no group has {read.check.min_n:,} rows")
    found = [(*_bounded(rule, e), e) for e in enough]
    outcome, reason, worst_of = max(found, key=lambda f: (f[0], f[2].value))
    text = f"{read.check.measure} [{worst_of.slice}, the most of {len(enough)}]: {reason}"
    if worst_of.example:
        text += f", as in {worst_of.example}"
    return changed(read, outcome=outcome, reason=text)


def _bounded(rule: Bound, seen: Evidence) -> tuple[Outcome, str]:
    lo = float("-inf") if rule.low is None else rule.low
    hi = float("inf") if rule.high is None else rule.high
    allowed = _range(rule.low, rule.high)
    inside = lo <= seen.value <= hi
    if not rule.certain or seen.low is None or seen.high is None:
        return (Outcome.PASS if inside else Outcome.FAIL), f"{seen.value:.4g}, allowed {allowed}"
    text = f"{seen.value:.4g} [{seen.low:.4g}, {seen.high:.4g}], allowed {allowed}"
    if lo <= seen.low and seen.high <= hi:
        return Outcome.PASS, text
    return (Outcome.FAIL if seen.high < lo or seen.low > hi else Outcome.UNKNOWN), text


def _range(low: float | None, high: float | None) -> str:
    if low is None:
        return "any" if high is None else f"at most {high:g}"
    return f"at least {low:g}" if high is None else f"{low:g} to {high:g}"


def _no_worse(rule: NoWorse, seen: Evidence) -> tuple[Outcome, str]:
    low = seen.value if seen.low is None else seen.low
    high = seen.value if seen.high is None else seen.high
    text = f"{seen.value:+.4f} [{low:+.4f}, {high:+.4f}] on {seen.n:,} paired rows, allowed loss {rule.margin:g}"
    if low >= -rule.margin:
        return Outcome.PASS, text
    if high < 0:
        return Outcome.FAIL, text
    return Outcome.UNKNOWN, f"{text}: more rows are needed to tell"


def _judge_parity(read: Verdict, rule: Parity) -> Verdict:
    enough = [e for e in read.seen if e.n >= read.check.min_n]
    apart = disparity(enough, gap=rule.gap is not None)
    if apart is None:
        return _unknown(read, f"fewer than two groups of {read.check.min_n:,} were measured")
    if rule.gap is None:
        sign, limit, passed, failed = "/", f"floor {rule.floor:g}", apart.low >= rule.floor, apart.high < rule.floor
    else:
        sign, limit, passed, failed = "from", f"at most {rule.gap:g}", apart.high <= rule.gap, apart.low > rule.gap
    a, b = apart.least, apart.most
    text = (f"{a.slice} {a.value:.3f} (n={a.n:,}) {sign} {b.slice} {b.value:.3f} (n={b.n:,}) = "
            f"{apart.value:.3f} [{apart.low:.3f}, {apart.high:.3f}], {limit}")  # fmt: skip
    outcome = Outcome.PASS if passed else Outcome.FAIL if failed else Outcome.UNKNOWN
    if outcome is Outcome.UNKNOWN:
        text += ": not enough data to decide"
    return changed(read, outcome=outcome, reason=f"{read.check.measure}: {text}")


def _judge_harm(read: Verdict, rule: Harm, odds: Odds) -> Verdict:
    harms = {m: _harm(rule, windows) for m, windows in read.windows.items()}
    worst_of = max(harms, key=harms.__getitem__)
    xc, nc, xt, nt = (
        sum(column) for column in zip((0, 0, 0, 0), *read.windows[worst_of], strict=True)
    )
    names = ("candidate_events", "candidate_n", "baseline_events", "baseline_n")
    counters = dict(zip(names, map(float, (xc, nc, xt, nt)), strict=True))
    fewest = min(sum(w[1] for w in windows) for windows in read.windows.values())
    if fewest < read.check.min_n:
        reason = f"candidate answered {fewest:,}, needs {read.check.min_n:,}"
        return _unknown(read, reason, counters=counters)
    harm = round(sequential.log_mean(list(harms.values())), DIGITS)
    safe = round(min(_safe(rule, windows) for windows in read.windows.values()), DIGITS)
    text = f"{worst_of}: {xc:,} of {nc:,} against {xt:,} of {nt:,}; {_grows(harm, odds.alpha)}"
    return changed(read, outcome=_sequential(harm, safe, odds), reason=text, log_e_harm=harm,
                   log_e_safe=safe, counters=counters)  # fmt: skip


def _harm(rule: Harm, windows: Sequence[Window]) -> float:
    return sequential.log_e_harm(_turned(windows) if rule.welcome else windows, rule.ratio)


def _safe(rule: Harm, windows: Sequence[Window]) -> float:
    safe = sequential.log_e_safe(_turned(windows) if rule.welcome else windows, rule.exclude)
    if rule.negligible > 0:
        below = sequential.log_e_below([(w[0], w[1]) for w in windows], rule.negligible)
        safe = sequential.log_mean([safe, below])
    return safe


def _turned(windows: Sequence[Window]) -> list[Window]:
    """The arms change places: too few of a welcome event is too many beside it."""
    return [(xt, nt, xc, nc) for xc, nc, xt, nt in windows]


def _judge_paired(read: Verdict, rule: PairedLoss, odds: Odds) -> Verdict:
    check, windows = read.check, read.moments
    n, total, squares = (sum(column) for column in zip((0, 0.0, 0.0), *windows, strict=True))
    counters = {"pairs": float(n), "total": float(total)}
    if n < check.min_n or n == 0:
        reason = f"{n:,} pairs, needs {max(check.min_n, 1):,}"
        return _unknown(read, reason, counters=counters)
    harm = sequential.log_e_mean_above(windows, 0.5 + rule.tolerate / 2)
    if rule.votes:
        # Each value is 0, 1/2 or 1, so the sums say how many there are of each.
        differ, ahead = round(4 * (squares - total) + n), round(2 * total - n)
        harm = sequential.log_e_discordant((differ - ahead) // 2, (differ + ahead) // 2)
    harm = round(harm, DIGITS)
    safe = round(sequential.log_e_mean_below(windows, 0.5 + rule.margin / 2), DIGITS)
    text = f"{check.measure}: {2 * total / n - 1:+.5f} over {n:,} pairs; {_grows(harm, odds.alpha)}"
    return changed(read, outcome=_sequential(harm, safe, odds), reason=text, log_e_harm=harm,
                   log_e_safe=safe, counters=counters)  # fmt: skip


def _judge_amount(read: Verdict, rule: Amount, odds: Odds) -> Verdict:
    ours = [amounts.Amounts(*m) for m in read.moments[::2]]
    theirs = [amounts.Amounts(*m) for m in read.moments[1::2]]
    a, b = sum(ours, amounts.Amounts()), sum(theirs, amounts.Amounts())
    counters = {"candidate_units": float(a.n), "candidate_total": a.total * rule.cap,
                "baseline_units": float(b.n), "baseline_total": b.total * rule.cap}  # fmt: skip
    if min(a.n, b.n) < max(amounts.FEWEST, read.check.min_n):
        reason = f"{a.n:,} and {b.n:,} units, needs {max(amounts.FEWEST, read.check.min_n):,} each"
        return _unknown(read, reason, counters=counters)
    less, more = list(zip(ours, theirs, strict=True)), list(zip(theirs, ours, strict=True))
    if rule.welcome:
        harm = amounts.log_e_less(less, planned=rule.planned)
        safe = amounts.log_e_less(more, ratio=1 / (1 - rule.loss), planned=rule.planned)
    else:
        harm = amounts.log_e_less(more, planned=rule.planned)
        safe = amounts.log_e_less(less, ratio=1 + rule.loss, planned=rule.planned)
    harm, safe = round(harm, DIGITS), round(safe, DIGITS)
    text = (f"{read.check.measure}: {a.total / a.n * rule.cap:.4g} a unit against "
            f"{b.total / b.n * rule.cap:.4g}; {_grows(harm, odds.alpha)}")  # fmt: skip
    return changed(read, outcome=_sequential(harm, safe, odds), reason=text, log_e_harm=harm,
                   log_e_safe=safe, counters=counters)  # fmt: skip


def _judge_balance(read: Verdict, rule: Balance) -> Verdict:
    check, share = read.check, rule.share
    _, a, _, b = read.windows[check.measure][0]
    if a + b < check.min_n or a + b == 0:
        return _unknown(read, f"{a + b:,} requests, needs {max(check.min_n, 1):,}")
    if share is None:
        return _unknown(read, "no step says which share was promised")
    log_e = round(sequential.log_e_mismatch((a, b), (share, 1 - share)), DIGITS)
    bad = log_e >= log(1 / rule.alpha)
    text = f"{check.measure}: candidate received {a / (a + b):.2%}, promised {share:.2%}"
    return changed(read, reason=text, outcome=Outcome.FAIL if bad else Outcome.PASS,
                   counters={"candidate_n": float(a), "baseline_n": float(b), "log_e": log_e})  # fmt: skip


def _sequential(harm: float, safe: float, odds: Odds) -> Outcome:
    if harm >= log(1 / odds.alpha):
        return Outcome.FAIL
    return Outcome.PASS if safe >= log(1 / odds.beta) else Outcome.UNKNOWN


def _grows(log_e: float, alpha: float) -> str:
    return f"evidence of harm {exp(min(log_e, 50)):.3g}, acts at {1 / alpha:.3g}"
