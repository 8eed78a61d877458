"""Dossiers: one release on one page, drawn from nothing but its records."""

from collections.abc import Sequence
from math import isfinite, log10

from msgspec import Struct

from fairlead.api.present.evidence import amount, ratio_words
from fairlead.api.present.figures import count, name, percent, short, span, stamp
from fairlead.api.present.page import (
    Ink,
    Markup,
    cards,
    facts,
    figure,
    folded,
    html,
    note,
    section,
    table,
    tag,
)
from fairlead.api.present.picture import Picture, legend, steps
from fairlead.api.present.rollout import View, step_words
from fairlead.core.check import (
    EVERY,
    Amount,
    Balance,
    Bound,
    Check,
    Harm,
    NoWorse,
    Outcome,
    PairedLoss,
    Parity,
    Verdict,
)
from fairlead.core.decision import Decision, replay
from fairlead.core.event import Event
from fairlead.core.growth import Growth
from fairlead.core.ref import canonical, digest
from fairlead.core.release import Phase

__all__ = ["Dossier", "dossier", "hypothesis"]

LN10 = 2.302585092994046
INKS: dict[Outcome, Ink] = {Outcome.PASS: "good", Outcome.UNKNOWN: "warm", Outcome.FAIL: "bad"}
ENDS: dict[Phase, Ink] = {Phase.PROMOTED: "good", Phase.KEPT: "good", Phase.ROLLED_BACK: "bad",
                          Phase.ABORTED: "bad"}  # fmt: skip


class Dossier(Struct, frozen=True, kw_only=True):
    """A release as it stands, its events oldest first, and every decision that moved it."""

    view: View
    events: tuple[Event, ...]
    decisions: tuple[Decision, ...]


def dossier(made: Dossier) -> str:
    """The page: what was asked, how the evidence grew, what happened when."""
    release = made.view.release
    parts = [_headline(made)]
    if made.view.growths:
        parts.append(_curves(made))
    parts += [_story(made), _judged(made)]
    lead = f"{release.plan.name}: {', '.join(name(c) for c in release.candidates)} beside {name(release.baseline)}"
    return html(f"Release {release.id}", lead, *parts,
                foot=f"Drawn from the records as of {stamp(made.view.now)} UTC.")  # fmt: skip


def hypothesis(check: Check) -> str:
    """What a check holds possible until its evidence speaks, in words."""
    match check.rule:
        case Harm(welcome=True, ratio=ratio, exclude=exclude):
            return f"harm: less often than 1/{ratio:g} of the baseline; safe: not as rare as 1/{exclude:g}"
        case Harm(over=over, ratio=ratio, exclude=exclude, negligible=negligible, slower=slower):
            below = f", or below {percent(negligible)}" if negligible else ""
            beyond = f" beyond its {over[0]} to {over[-1]}, {slower:g} times as long," if over else ""
            return f"harm:{beyond} more often than {ratio:g} × the baseline; safe: not {exclude:g} × as often{below}"
        case Amount(cap=cap, loss=loss, welcome=welcome):
            worse = "less" if welcome else "more"
            return f"harm: {worse} a unit than the baseline (up to {cap:g}); safe: not {percent(loss)} {worse}"
        case PairedLoss(margin=margin, tolerate=tolerate):
            return f"harm: a mean loss above {tolerate:g} on the same requests; safe: below {margin:g}"
        case Balance(share=share):
            return f"the candidate gets {percent(share or 0.0)} of the requests of both"
        case Bound(low=low, high=high):
            ends = (f"at least {low:g}" if low is not None else "", f"at most {high:g}" if high is not None else "")
            where = "in every group " if check.slice == EVERY else ""
            return where + (" and ".join(e for e in ends if e) or "told, not judged")
        case NoWorse(margin=margin):
            return f"loses less than {margin:g} against the baseline"
        case Parity(gap=float(gap)):
            return f"two groups differ by {gap:g} at most"
        case Parity(floor=floor):
            return f"of two groups the lower value is {percent(floor)} of the higher at least"


def _headline(made: Dossier) -> Markup:
    view, release = made.view, made.view.release
    ended = release.ended_at if release.phase.final else view.now
    pairs: list[tuple[str, str, Ink]] = [
        ("outcome", release.phase.value.replace("_", " "), ENDS.get(release.phase, "ours")),
        ("requests counted", count(view.requests), "ink"),
        ("after", span(max(ended - release.started_at, 0.0)), "ink"),
        ("steps", f"{release.step + 1} of {len(release.plan.steps)}", "ink"),
        ("α, a false alarm", percent(release.plan.odds.alpha), "ink"),
        ("β, a miss", percent(release.plan.odds.beta), "ink"),
        ("unit", release.plan.sticky_by or "request", "ink"),
    ]  # fmt: skip
    why = [tag("p", release.reason)] if release.reason else []
    return tag("section", facts(pairs), *why)


def _curves(made: Dossier) -> Markup:
    moves = [_requests(d) for d in made.decisions if d.proceed]
    shown = (figure(_title(made, g), _curve(made, g, moves), _caption(made, g)) for g in made.view.growths)
    key = legend([("evidence of harm", "bad"), ("evidence of safety", "good"), ("a step was taken", "muted")])
    lead = "Each curve starts at 1: nothing known. It acts where it crosses its bound, at whatever look that happens."
    return section("How the evidence grew", key, cards(*shown), lead=lead)


def _title(made: Dossier, grown: Growth) -> str:
    several = len({g.subject for g in made.view.growths}) > 1
    return f"{grown.check} ({_short(grown.subject)})" if several else grown.check


def _caption(made: Dossier, grown: Growth) -> str:
    verdict = next(v for v in _last(made) if (v.check.name, str(v.subject)) == (grown.check, grown.subject))
    paired = isinstance(verdict.check.rule, PairedLoss)
    what = "mean loss against the baseline" if paired else "times as often as the baseline"
    if not paired and not isfinite(grown.high) and grown.low == 0:
        return "how much more often cannot be told yet"
    return f"{ratio_words(grown, paired=paired)} {what}"


def _curve(made: Dossier, grown: Growth, moves: Sequence[int]) -> Markup:
    odds, last = made.view.release.plan.odds, grown.marks[-1].requests
    lines: list[tuple[list[tuple[float, float]], Ink]] = [
        ([(m.requests, m.harm / LN10) for m in grown.marks], "bad"),
        ([(m.requests, m.safe / LN10) for m in grown.marks], "good"),
    ]
    values = [y for points, _ in lines for _, y in points]
    bounds = sorted({-log10(odds.alpha), -log10(odds.beta)})
    low, high = max(min(values), -2.0) - 0.1, min(max(*values, *bounds), 4.0) + 0.25
    picture = Picture(f"Evidence of {grown.check} over {last} requests", (0, last), (low, high))
    picture.axes(steps((0, last)), [(y, f"{10.0**y:,g}") for y in range(-2, 5) if low <= y <= high])
    for move in moves:
        if move < last:
            picture.moment(move, title=f"a step was taken after {move} requests")
    for bound in bounds:
        picture.level(bound, "muted", f"acts at {10**bound:.3g}")
    for points, ink in lines:
        picture.line(points, ink)
    return picture.svg()


def _story(made: Dossier) -> Markup:
    known = {digest(d): d for d in made.decisions}
    rows = []
    for event in made.events:
        decision = known.get(str(event.body.get("decision", "")))
        again = "" if decision is None else _replayed(decision)
        rows.append((stamp(event.at), event.verb.removeprefix("release."), _where(made, event),
                     event.actor, str(event.body.get("reason", "")), again))  # fmt: skip
    lead = "Each decision was computed once more from its own record alone, just now."
    return section("What happened", table(("when (UTC)", "what", "then", "who", "why", "decision"), rows,
                                          tight=("when (UTC)", "what")), lead=lead)  # fmt: skip


def _replayed(decision: Decision) -> Markup:
    same = canonical(replay(decision)) == canonical(decision)
    code = tag("code", short(digest(decision)))
    return tag("span", code, note(" replays byte for byte", "good") if same else note(" does NOT replay", "bad"))


def _where(made: Dossier, event: Event) -> str:
    to = event.body.get("to")
    if not isinstance(to, dict):
        return ""
    plan = made.view.release.plan.steps
    step = int(to.get("step", 0))
    if to.get("phase") in ("running", "paused"):
        return f"step {step + 1}: {step_words(plan[step])}"
    return str(to.get("phase", "")).replace("_", " ")


def _judged(made: Dossier) -> Markup:
    rows = [(tag("span", v.outcome.name.lower(), class_=f"t-{INKS[v.outcome]}"), v.check.name,
             _short(str(v.subject)), hypothesis(v.check), _counts(v),
             "" if v.log_e_harm is None else amount(v.log_e_harm),
             "" if v.log_e_safe is None else amount(v.log_e_safe)) for v in _last(made)]  # fmt: skip
    titles = ("verdict", "check", "package", "hypothesis", "counted", "harm", "safe")
    found = table(titles, rows, right=("harm", "safe"), tight=("verdict", "package"))
    record = "\n\n".join(canonical(d).decode() for d in made.decisions)
    raw = folded("The records of its decisions, as stored", tag("pre", record, class_="card scroll mono"))
    lead = "The newest judgement: what each check held possible, what it counted, and what it concluded."
    return section("What was judged", found, raw, lead=lead)


def _counts(verdict: Verdict) -> str | Markup:
    c = verdict.counters
    if "pairs" in c:
        return f"{c['pairs']:,.0f} pairs"
    if "candidate_units" in c:
        return (f"{c['candidate_total']:,.0f} of {c['candidate_units']:,.0f} units against "
                f"{c['baseline_total']:,.0f} of {c['baseline_units']:,.0f}")  # fmt: skip
    if "candidate_n" in c and "candidate_events" in c:
        return (f"{c['candidate_events']:,.0f} of {c['candidate_n']:,.0f} against "
                f"{c['baseline_events']:,.0f} of {c['baseline_n']:,.0f}")  # fmt: skip
    said = verdict.reason.removeprefix(f"{verdict.check.measure}: ")
    if verdict.check.slice != EVERY or len(verdict.seen) < 2:
        return said
    each = [tag("div", note(f"{e.slice}  "), f"{e.value:.4g} of {e.n:,}")
            for e in sorted(verdict.seen, key=lambda e: (-e.value, e.slice))]  # fmt: skip
    return tag("div", said, *each)


def _last(made: Dossier) -> tuple[Verdict, ...]:
    return made.view.decision.because if made.view.decision else ()


def _requests(decision: Decision) -> int:
    return max((int(v.counters.get("candidate_n", 0) + v.counters.get("baseline_n", 0))
                for v in decision.because), default=0)  # fmt: skip


def _short(subject: str) -> str:
    return subject.partition("@")[2][:12]
