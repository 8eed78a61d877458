"""The ready-made checks: what a gate asks of a model, and what a release asks of a package."""

from collections.abc import Iterable, Sequence

from msgspec.structs import replace as changed

from fairlead.core import traffic
from fairlead.core.artifact import Task
from fairlead.core.check import (
    EVERY,
    Action,
    Amount,
    Balance,
    Bound,
    Check,
    Harm,
    NoWorse,
    Odds,
    PairedLoss,
    Parity,
    Rule,
)
from fairlead.core.duration import seconds
from fairlead.core.evidence import Evidence
from fairlead.core.fairness import FORMS, crossings
from fairlead.core.fairness import GAP as DIFFERENCE
from fairlead.core.feedback import AMOUNT, EVENT, LABEL
from fairlead.core.latency import QUANTILES, SLOWER
from fairlead.core.manifest import CheckText, FeedbackText, GateSection, ReleaseSection, StepText
from fairlead.core.schema import Change
from fairlead.core.skew import FEW
from fairlead.core.traffic import Fixed, Step, TrafficPlan
from fairlead.errors import Invalid

__all__ = ["BREAKS", "DRIFT", "GAIN", "NEGLIGIBLE", "PRIMARY", "SCALE", "SHIFT", "TWIN_FLIPS",
           "TWIN_SHIFT", "gate_checks",
           "latency_check", "plan_of", "release_checks", "split_check"]  # fmt: skip

PRIMARY: dict[Task, str] = {"binary": "auc", "multiclass": "accuracy", "regression": "r2"}
"""What "no worse than the baseline" is measured by; all are free of the target's unit."""

GAIN, DRIFT, SHIFT, SCALE, BREAKS = "gain:", "drift:", "shift:", "scale:", "breaks:"
"""Families of measures: ``gain:auc``, ``drift:distance``, ..."""

TWIN_FLIPS, TWIN_SHIFT = "twins:flips", "twins:shift"
"""Share of requests that a shadow decides otherwise than the baseline; mean change of the score."""

NEGLIGIBLE = 0.01
"""A share of slow answers, or of held-out rows without one, that is no harm by itself."""

MOVED = 0.1
"""PSI between two versions of one column over one period, what chance explains taken off."""

FLOOR, APART, GROUP = 0.8, 0.1, 100
"""Without a word in the manifest: four fifths, a tenth apart; groups of 100 rows at least agree."""

UNITS = {1.609344: "kilometres for miles", 1.852: "kilometres for sea miles",
         0.45359237: "kilograms for pounds", 0.3048: "metres for feet", 2.54: "centimetres for inches",
         60: "a 60th of the unit", 100: "percent or cents", 1000: "thousandths", 3600: "seconds for hours",
         86400: "seconds for days", 1e6: "millionths", 1e9: "nanoseconds for seconds"}  # fmt: skip
"""Factors between units that feeds confuse, read in both directions."""

WARM = 500
"""Answers of a candidate before its latency is judged."""

GRAVEST = 8.0
"""The weight of errors beside the other guardrails: what nobody else can repair is found soonest."""

NOTED, ROLLBACK = frozenset({Action.ALERT}), frozenset({Action.ROLLBACK})


def gate_checks(
    section: GateSection, task: Task, measured: Iterable[Evidence], changes: Sequence[Change] = (), *,
    compared: bool, sensitive: Sequence[str] = (), crossed: int = 2,
) -> tuple[Check, ...]:  # fmt: skip
    """What a candidate must meet, given what was `measured` of it.

    `compared`: there is a baseline. `crossed`: so many sensitive columns at most form groups together. `changes`: of the request contract against the baseline's.
    The manifest's own checks replace a ready-made one of the same measure and kind.
    Raises Invalid for a check in the manifest that says too little or too much.
    """
    facts = list(measured)
    own = [c for i, text in enumerate(section.checks) for c in _own(i, text, facts)]
    ready = [
        *(_against_baseline(section, task, facts) if compared else ()),
        Check(name="better than a constant", measure="gain_trivial", rule=NoWorse()),
        Check(name="latency of the package", measure="latency_p99_ms",
              rule=Bound(high=section.latency_ms)),
        Check(name="answers every row", measure="unanswered", rule=Bound(high=NEGLIGIBLE)),
        *_schema(changes, compared),
        *_parity(task, (*sensitive, *crossings(sensitive, crossed)), section.checks),
    ]
    said = {(c.measure, type(c.rule), c.slice) for c in own}
    return (*own, *(c for c in ready if (c.measure, type(c.rule), c.slice) not in said))


def release_checks(
    section: ReleaseSection, task: Task, *, feedback: bool = True, sliced: bool = False,
    featured: bool = False,
) -> tuple[Check, ...]:  # fmt: skip
    """What a package must meet in traffic: first that the traffic is split as promised, then
    errors, slow answers, latency beside the baseline's, and, where it is mirrored and feedback
    arrives, the paired loss on the same requests; without labels how far it agrees there with the
    baseline, in every group of the slice columns where there are some (`sliced`); and, where
    features are looked up (`featured`), that they are served as they are computed offline."""
    checks = [split_check(),
              Check(name="errors", measure="errors", rule=Harm(negligible=section.max_errors),
                    weight=GRAVEST)]  # fmt: skip
    if task != "chat":  # What a sentence may take, only the baseline can say.
        checks.append(Check(name=f"slower than {section.slow_ms:g} ms", measure="slow", rule=Harm(negligible=NEGLIGIBLE)))
    if section.max_slower:
        checks.append(latency_check(section.max_slower))
    checks += [_feedback_check(name, text) for name, text in section.feedback.items()]
    checks += _agreement(section, sliced) if task != "chat" else ()
    checks += _proof(section) if featured else ()
    if feedback and section.min_pairs and task != "chat":
        loss = {"binary": "Brier", "multiclass": "errors", "regression": "absolute error"}[task]
        checks.append(Check(name=f"no worse by feedback ({loss})", measure="brier_pair",
                            rule=PairedLoss(margin=section.margin, tolerate=section.margin),
                            min_n=section.min_pairs))  # fmt: skip
    return tuple(checks)


def _agreement(section: ReleaseSection, sliced: bool) -> Iterable[Check]:
    """What a shadow decides otherwise. Told always; it holds and takes back where a limit is set."""
    limited = section.max_flips < 1
    flips = Bound(high=section.max_flips, certain=limited)
    asks = frozenset({Action.HOLD} if limited else ())
    yield Check(name="decisions that flip", measure=TWIN_FLIPS, rule=flips, min_n=GROUP, on_unknown=asks)
    if sliced:
        yield Check(name="flips in every group", measure=TWIN_FLIPS, rule=flips, slice=EVERY, min_n=GROUP,
                    on_unknown=asks)  # fmt: skip
    yield Check(name="change of the score", measure=TWIN_SHIFT, rule=Bound(), on_unknown=frozenset())


def _proof(section: ReleaseSection) -> Iterable[Check]:
    """Training-serving skew. Nothing is judged by the answers to wrong features, the baseline's no
    more than the candidate's: the release stops where it stands, tells, and ends with its patience."""
    yield Check(name="features as computed offline", measure="skew", slice=EVERY, min_n=FEW,
                rule=Bound(high=section.max_skew), on_unknown=frozenset(),
                on_fail=frozenset({Action.ALERT, Action.HOLD}))  # fmt: skip
    if section.min_recomputed:
        yield Check(name="features recomputed", measure="recomputed", rule=Bound(low=section.min_recomputed),
                    on_fail=frozenset({Action.HOLD}))  # fmt: skip


def _feedback_check(name: str, text: FeedbackText) -> Check:
    """No fewer purchases, no more chargebacks, no less revenue: one guardrail per feedback."""
    welcome = text.better == "more" and name != LABEL
    rule: Rule = Harm(welcome=welcome, exclude=1 / (1 - text.loss) if welcome else 1 + text.loss)
    if text.kind == "amount":
        rule = Amount(cap=text.cap, loss=text.loss, planned=text.planned, welcome=welcome)
    return Check(
        name="wrong by its label" if name == LABEL else f"{'no less' if welcome else 'no more'} {name}",
        measure=(AMOUNT if text.kind == "amount" else EVENT) + name, rule=rule,
        on_unknown=frozenset({Action.HOLD} if text.wait else ()),
    )  # fmt: skip


def split_check() -> Check:
    """The router splits as the step says (sample-ratio mismatch). A mismatch is nobody's harm, so it
    stops the release where it stands and tells; it does not roll back."""
    return Check(name="split as promised", measure="requests", rule=Balance(),
                 on_fail=frozenset({Action.ALERT, Action.HOLD}))  # fmt: skip


def latency_check(slower: float = 1.0) -> Check:
    """At most `slower` times as slow as the baseline at its own quantiles, p50 to p99.5: one guardrail.

    It sees what no limit in milliseconds sees: a longer tail, far below the limit. Only answers
    that somebody waited for count, and nothing is said of the first: a new process starts cold.
    """
    rule = Harm(over=tuple(QUANTILES), slower=slower, negligible=NEGLIGIBLE)
    name = "latency" if slower == 1 else f"latency within × {slower:g}"
    return Check(name=name, measure=SLOWER, rule=rule, min_n=WARM)


def plan_of(section: ReleaseSection, checks: tuple[Check, ...]) -> TrafficPlan:
    """The plan a manifest asks for. A step takes those `checks` its traffic can answer.

    Raises Invalid, naming the field, for a duration or a number that cannot be meant.
    """
    odds = Odds(alpha=section.alpha, beta=section.beta)
    hold, patience = _seconds(section.hold, "hold"), _seconds(section.patience, "patience")
    live = tuple(c for c in checks if not _needs_mirror(c))
    mirrored = tuple(c for c in checks if _sees_mirrored(c))
    if section.steps:
        steps = tuple(_step(i, text, checks) for i, text in enumerate(section.steps))
        return TrafficPlan(name="steps", steps=steps, sticky_by=section.sticky_by, odds=odds)
    match section.plan:
        case "replace":
            return changed(traffic.replace(), sticky_by=section.sticky_by, odds=odds)
        case "blue_green":
            return traffic.blue_green(mirrored, pin=section.pin, odds=odds, hold=hold, patience=patience)
        case "shadow":
            return traffic.shadow(mirrored, odds=odds, hold=hold, patience=patience)
        case "canary":
            return _canary(section, live, odds, hold, patience)
        case "shadow_canary":
            first = traffic.shadow(mirrored, odds=odds, hold=hold, patience=patience).steps
            then = _canary(section, live, odds, hold, patience)
            return changed(then, name="shadow_canary", steps=first + then.steps)
        case "ab_test":
            _rising(section)
            return traffic.ab_test(live, share=section.shares[-1], days=section.days, odds=odds,
                                   sticky_by=section.sticky_by, goal=section.goal)  # fmt: skip
        case "bandit":
            if not section.goal:
                raise Invalid("a bandit needs release.goal: what its shares are to follow",
                              hint="goal: NAME of a feedback, or a metric such as accuracy",
                              pointer="/release/goal")  # fmt: skip
            weighed = tuple(c for c in live if not isinstance(c.rule, Balance))
            return traffic.bandit(weighed, reward=section.goal, days=section.days, odds=odds,
                                  sticky_by=section.sticky_by)  # fmt: skip


def _canary(
    section: ReleaseSection, checks: tuple[Check, ...], odds: Odds, hold: float, patience: float
) -> TrafficPlan:
    _rising(section)
    return traffic.canary(checks, shares=section.shares, sticky_by=section.sticky_by, odds=odds,
                          hold=hold, patience=patience)  # fmt: skip


def _rising(section: ReleaseSection) -> None:
    if not section.shares or list(section.shares) != sorted(set(section.shares)):
        raise Invalid(f"release.shares {list(section.shares)} do not rise",
                      hint="write shares like [0.05, 0.25, 0.5]", pointer="/release/shares")  # fmt: skip


def _step(place: int, text: StepText, checks: tuple[Check, ...]) -> Step:
    def asks(check: Check) -> bool:
        if text.share > 0 and not _needs_mirror(check):
            return True
        return text.mirror > 0 and _sees_mirrored(check)

    return Step(share=Fixed(text.share), mirror=text.mirror, pin=text.pin,
                hold=_seconds(text.hold, f"steps/{place}/hold"),
                patience=_seconds(text.patience, f"steps/{place}/patience"),
                checks=tuple(c for c in checks if asks(c)))  # fmt: skip


def _needs_mirror(check: Check) -> bool:
    """Whether only pairs of answers to the same request can answer it."""
    return isinstance(check.rule, PairedLoss) or check.measure in (TWIN_FLIPS, TWIN_SHIFT)


def _sees_mirrored(check: Check) -> bool:
    """Whether answers that nobody waited for, and that no dice gave, can answer it."""
    lived = (EVENT, AMOUNT, SLOWER)
    return not check.measure.startswith(lived) and not isinstance(check.rule, Balance)


def _seconds(text: str, field: str) -> float:
    try:
        return seconds(text)
    except Invalid as error:
        raise Invalid(f"release.{field.replace('/', '.')}: {error}", hint=error.hint,
                      pointer=f"/release/{field}") from None  # fmt: skip


def _against_baseline(
    section: GateSection, task: Task, facts: Sequence[Evidence]
) -> Iterable[Check]:
    measure, margin = PRIMARY[task], NoWorse(margin=section.margin)
    yield Check(name="no worse than the baseline", measure=GAIN + measure, rule=margin)
    if task == "binary":
        # Silence blocks nothing here: small tables cannot prove two measures at once.
        yield Check(name="as well calibrated", measure=f"{GAIN}skill", rule=margin, on_unknown=NOTED)
    if any(e.measure == f"reference_{GAIN}{measure}" for e in facts):
        yield Check(name="no worse on the baseline's own table", rule=margin, on_unknown=NOTED,
                    measure=f"reference_{GAIN}{measure}")  # fmt: skip
    yield from _drift(facts)
    yield from _drift(facts, SHIFT)  # without a time nobody can tell change from growth


def _drift(facts: Sequence[Evidence], family: str = DRIFT) -> Iterable[Check]:
    """Every column that moved, or, when none did, the one that moved most in the name of all."""
    moved = sorted((e for e in facts if e.measure.startswith(family)), key=lambda e: -e.value)
    scales = {e.measure.removeprefix(SCALE): e.value for e in facts if e.measure.startswith(SCALE)}
    for place, fact in enumerate(moved):
        if place and fact.value <= MOVED:
            return
        column, name = fact.measure.removeprefix(family), f"same values as before ({len(moved)} columns)"
        if fact.value > MOVED:
            when = " for the same period" if family == DRIFT else " than before"
            name = f"{column}: other values{when}{_unit(scales.get(column))}"
        yield Check(name=name, measure=fact.measure, rule=Bound(high=MOVED),
                    on_fail=ROLLBACK if family == DRIFT else NOTED)  # fmt: skip


def _unit(scale: float | None) -> str:
    """What a ratio of medians suggests: a unit that changed on the way."""
    if scale is None or scale <= 0 or abs(scale - 1) < 0.02:
        return ""
    for factor, words in UNITS.items():
        for ratio, said in ((factor, words), (1 / factor, f"the reverse of {words}")):
            if abs(scale / ratio - 1) < 0.005:
                return f", {scale:.4g} times as large ({said}?)"
    return f", {scale:.4g} times as large"


def _schema(changes: Sequence[Change], compared: bool) -> Iterable[Check]:
    breaking = [c for c in changes if c.size == "breaking"]
    for change in breaking:
        yield Check(name=f"schema: {change.column} {change.text}", measure=BREAKS + change.column, rule=Bound(high=0))
    if compared and not breaking:
        yield Check(name="schema", measure="breaking_changes", rule=Bound(high=0))


def _parity(task: Task, columns: Sequence[str], said: Sequence[CheckText]) -> Iterable[Check]:
    """Every rate, by every sensitive column and by their intersections. Whoever wrote a check by a
    column has said what fairness by that column is: no two of the rates can be kept at once where
    the truth itself differs between groups."""
    spoken = {t.by for t in said if t.parity is not None or t.gap is not None}
    for column in columns if task == "binary" else ():
        for measure, form in () if column in spoken else FORMS.items():
            rule = Parity(floor=FLOOR, gap=APART if form == DIFFERENCE else None)
            yield Check(name=_title(rule, measure, column), measure=measure, slice=column, rule=rule,
                        on_unknown=NOTED)  # fmt: skip


def _title(rule: Parity, measure: str, by: str) -> str:
    return f"{'parity' if rule.gap is None else 'gap'} of {measure} by {by}"


def _own(place: int, text: CheckText, facts: Sequence[Evidence]) -> list[Check]:
    """The checks one entry of the manifest stands for: one, or one per group of `by`."""
    pointer = f"/gate/checks/{place}"
    kinds = (text.no_worse is not None, text.min is not None or text.max is not None,
             text.parity is not None, text.gap is not None)  # fmt: skip
    if sum(kinds) != 1:
        raise Invalid(f"gate.checks[{place}] ({text.measure}) asks {sum(kinds)} things",
                      hint="write one of no_worse, min and/or max, parity, or gap", pointer=pointer)  # fmt: skip
    if text.parity is not None or text.gap is not None:
        if not text.by:
            raise Invalid(f"gate.checks[{place}] ({text.measure}) does not say between whom",
                          hint="add by: COLUMN", pointer=f"{pointer}/by")  # fmt: skip
        between = Parity(floor=text.parity or 0.0, gap=text.gap)
        return [Check(name=_title(between, text.measure, text.by), measure=text.measure,
                      slice=text.by, rule=between, min_n=text.min_n)]  # fmt: skip
    rule: Rule = Bound(low=text.min, high=text.max)
    measure, name = text.measure, f"bound of {text.measure}"
    if text.no_worse is not None:
        rule, measure = NoWorse(margin=text.no_worse), GAIN + text.measure
        name = f"{text.measure} no worse than the baseline"
    groups = _groups(measure, text.by, facts) if text.by else [""]
    return [Check(name=f"{name} [{g}]" if g else name, measure=measure, rule=rule, slice=g,
                  min_n=text.min_n) for g in groups]  # fmt: skip


def _groups(measure: str, by: str, facts: Sequence[Evidence]) -> list[str]:
    """Groups that were measured; the column itself when none was, so that silence is seen."""
    found = dict.fromkeys(e.slice for e in facts if e.measure == measure and e.slice.startswith(f"{by}="))  # fmt: skip
    return list(found) or [f"{by}=?"]
