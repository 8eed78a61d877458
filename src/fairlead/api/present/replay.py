"""A replay on a screen and as a page: what a candidate would have answered to recorded requests."""

from collections.abc import Iterable, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fairlead.api.present.figures import count, measure, percent, stamp
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
)
from fairlead.api.present.picture import Picture, extent, legend, steps
from fairlead.api.present.table import grid
from fairlead.api.present.verdicts import COLOURS, MARKS, verdict_table
from fairlead.core.catalogue import GAIN
from fairlead.core.check import Outcome, Verdict, worst
from fairlead.core.decision import decide
from fairlead.core.evidence import Evidence
from fairlead.core.replay import FLIPS, KS, SAME, SHIFT, UNANSWERED, Replay, surest

__all__ = ["replay_page", "replay_view"]

WORDS = {Outcome.PASS: "nothing stands against it", Outcome.UNKNOWN: "passes, with questions open",
         Outcome.FAIL: "refused"}  # fmt: skip
INKS: dict[Outcome, Ink] = {Outcome.PASS: "good", Outcome.UNKNOWN: "warm", Outcome.FAIL: "bad"}
SHOWN = 8
"""Groups that are listed, those with most flips first."""

NAMES = {FLIPS: "decisions that flip", UNANSWERED: "requests without an answer",
         SHIFT: "mean change of the score", KS: "distance of the scores (KS)"}  # fmt: skip
SHARES = (FLIPS, UNANSWERED)


def replay_view(made: Replay, verdicts: tuple[Verdict, ...]) -> RenderableType:
    """The whole report for a terminal."""
    outcome = _outcome(made, verdicts)
    head = Text.assemble((WORDS[outcome], COLOURS[outcome]), "  ", made.candidate.short,
                         (" against ", "dim"), made.baseline.short)  # fmt: skip
    parts: list[RenderableType] = [head, Text(_lead(made), "dim"), Text(""), verdict_table(verdicts)]
    if made.requests:
        parts += [Text(""), _numbers(made), Text(""), _sides(made)]
    groups = _groups(made)
    if groups:
        parts += [Text(""), _table(("group", "flips", "interval", "requests"), _group_rows(groups))]
    if made.flips:
        parts += [Text(""), _table(("decided before", "now", "requests"), _flip_rows(made))]
    if made.causes:
        parts += [Text(""), _table(("not answered", "requests", "why"), _cause_rows(made))]
    parts += [Text(f"note  {text}", "yellow") for text in made.notes]
    return Group(*parts)


def replay_page(made: Replay, verdicts: tuple[Verdict, ...]) -> str:
    """The whole report as one page that loads nothing."""
    outcome = _outcome(made, verdicts)
    said = table(("", "check", "on which numbers"), (
        (note(MARKS[v.outcome], INKS[v.outcome]), v.check.name, v.reason) for v in sorted(verdicts, key=lambda v: -v.outcome)))  # fmt: skip
    body = [_headline(made, outcome), section("Verdict", said, lead=(
        "A check fails only when its whole interval does; what too few requests tell is left open."))]  # fmt: skip
    if made.ours is not None:
        body.append(section("Scores", cards(_distribution(made), _change(made))))
    groups = _groups(made)
    if groups:
        numbers = table(("group", "flips", "interval", "requests"), _group_rows(groups),
                        right=("flips", "requests"))  # fmt: skip
        body.append(section("Flips by group", _bars(made, groups), folded("the same in numbers", numbers),
            lead="The groups that flip most; their intervals hold all together."))  # fmt: skip
    if made.flips:
        body.append(section("Which decisions", table(("before", "now", "requests"), _flip_rows(made),
                                                     right=("requests",))))  # fmt: skip
    if made.causes:
        body.append(section("Not answered", table(("column", "requests", "why"), _cause_rows(made),
                                                  right=("requests",))))  # fmt: skip
    body += [section("Beside each other", table(("", "candidate", "baseline"), _side_rows(made))),
             section("All numbers", table(("measure", "value", "interval", "of"), _number_rows(made),
                                          right=("value", "of")))]  # fmt: skip
    body += [note(text, "warm") for text in made.notes]
    return html(f"Replay of {made.candidate.short}", _lead(made), *body)


def _outcome(made: Replay, verdicts: tuple[Verdict, ...]) -> Outcome:
    """What a gate would do: FAIL to refuse, UNKNOWN to let it pass with questions."""
    if not decide(made.candidate, verdicts, made.until).proceed:
        return Outcome.FAIL
    return Outcome.UNKNOWN if worst(verdicts) else Outcome.PASS


def _lead(made: Replay) -> str:
    if not made.requests:
        return "no recorded request could be replayed"
    labelled = f", {count(made.labelled)} with their label" if made.labelled else ", none with a label yet"
    return (f"{count(made.requests)} recorded requests from {stamp(made.since)} to "
            f"{stamp(made.until)} UTC{labelled}")  # fmt: skip


def _headline(made: Replay, outcome: Outcome) -> Markup:
    shown = {e.measure: _value(e) for e in made.evidence if not e.slice and e.subject == made.candidate}
    rest: list[tuple[str, str, Ink]] = [
        (NAMES[m], shown[m], "ink") for m in (FLIPS, UNANSWERED, SHIFT) if m in shown]  # fmt: skip
    return facts([("verdict", WORDS[outcome], INKS[outcome]), *rest])


def _value(e: Evidence) -> str:
    return percent(e.value) if e.measure in SHARES else measure(e.value)


def _between(e: Evidence) -> str:
    if e.low is None or e.high is None:
        return ""
    if e.measure in SHARES:
        return f"{percent(e.low)} to {percent(e.high)}"
    return f"{measure(e.low)} to {measure(e.high)}"


def _number_rows(made: Replay) -> list[tuple[str, ...]]:
    whole = [e for e in made.evidence if not e.slice and e.subject == made.candidate
             and not e.measure.startswith("replay:latency")]  # fmt: skip
    return [(_named(e.measure), _value(e), _between(e), count(e.n)) for e in whole]


def _named(measured: str) -> str:
    if measured.startswith(f"{GAIN}replay:"):
        return f"gain in {measured.removeprefix(f'{GAIN}replay:')} where labels are known"
    if measured.startswith(f"{GAIN}value:"):
        return f"gain in {measured.removeprefix(f'{GAIN}value:')} per request, off policy"
    family, _, name = measured.partition(":")
    earned = {"value": "doubly robust", "snips": "SNIPS"}.get(family)
    return f"{name} per request, off policy ({earned})" if earned else NAMES.get(measured, measured)


def _numbers(made: Replay) -> Table:
    return _table(("measure", "value", "interval", "of"), _number_rows(made))


def _side_rows(made: Replay) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for title, key in (("median, ms", "replay:latency_p50_ms"), ("99 %, ms", "replay:latency_p99_ms")):
        pair = [next((e for e in made.evidence if (e.subject, e.measure) == (ref, key)), None)
                for ref in (made.candidate, made.baseline)]  # fmt: skip
        if pair[0] and pair[1]:
            rows.append((f"one answer, {title}", *(f"{e.value:.3g}  ({_between(e)})" for e in pair if e)))
    if made.ours and made.theirs:
        for title, ours, theirs in zip(("5 %", "25 %", "50 %", "75 %", "95 %"), made.ours.quantiles,
                                       made.theirs.quantiles, strict=True):  # fmt: skip
            rows.append((f"score, {title} quantile", measure(ours), measure(theirs)))
    for e in made.evidence:
        if e.measure == SAME:
            rows.append(("gives its logged answers again", "", percent(e.value)))
        if e.subject == made.baseline and e.measure.startswith("value:"):
            rows.append((_named(e.measure), _earned(made, e.measure), f"{measure(e.value)}  ({_between(e)})"))
    return rows


def _earned(made: Replay, measured: str) -> str:
    found = [e for e in made.evidence if (e.subject, e.measure) == (made.candidate, measured)]
    return f"{measure(found[0].value)}  ({_between(found[0])})" if found else "the log cannot say"


def _sides(made: Replay) -> Table:
    return _table(("", "candidate", "baseline"), _side_rows(made))


def _groups(made: Replay) -> list[Evidence]:
    return surest(made)[:SHOWN]


def _group_rows(groups: Sequence[Evidence]) -> list[tuple[str, ...]]:
    return [(e.slice, percent(e.value), _between(e), count(e.n)) for e in groups]


def _flip_rows(made: Replay) -> list[tuple[str, ...]]:
    return [(f.before, f.after, count(f.requests)) for f in made.flips[:SHOWN]]


def _cause_rows(made: Replay) -> list[tuple[str, ...]]:
    return [(c.column or "the model", count(c.requests), c.message) for c in made.causes[:SHOWN]]


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    made = grid(*titles, right=("flips", "requests", "value", "of"), fold=("why",))
    for row in rows:
        made.add_row(*(Text(cell) for cell in row))
    return made


def _distribution(made: Replay) -> Markup:
    """How the scores of both lie."""
    assert made.ours is not None and made.theirs is not None
    edges, n = made.edges, max(sum(made.ours.counts), 1)
    heights = [[c / n for c in side.counts] for side in (made.theirs, made.ours)]
    picture = Picture("Shares of requests by score, of the baseline and of the candidate",
                      (edges[0], edges[-1]), extent([h for hs in heights for h in hs], zero=True))  # fmt: skip
    picture.axes(steps((edges[0], edges[-1])), [(v, percent(v)) for v, _ in steps(
        extent([h for hs in heights for h in hs], zero=True))])  # fmt: skip
    picture.band([(x, 0.0, h) for x, h in _stairs(edges, heights[0])], "muted",
                 title="the baseline")  # fmt: skip
    picture.line(_stairs(edges, heights[1]), "ours", title="the candidate")
    names = legend((("baseline", "muted"), ("candidate", "ours")))
    return figure("Where the scores lie", Markup(picture.svg() + names), "share of requests by score")


def _change(made: Replay) -> Markup:
    """How far single scores move."""
    low, mid, high = made.moved[0], made.moved[2], made.moved[4]
    span = extent((low, high, 0.0), room=0.25)
    picture = Picture("How far the score of one request moves", span, (0.0, 1.0), height=120)
    picture.axes(steps(span), ())
    picture.line([(low, 0.5), (high, 0.5)], "muted", title="90 % of requests")
    picture.band([(made.moved[1], 0.3, 0.7), (made.moved[3], 0.3, 0.7)], "ours", title="half of them")
    picture.dots([(mid, 0.5)], "ours", size=5, title="the median")
    picture.moment(0.0, title="no change")
    caption = "candidate minus baseline: half of all requests in the box, 90 % on the line"
    return figure("How far single scores move", picture.svg(), caption)


def _bars(made: Replay, groups: Sequence[Evidence]) -> Markup:
    """The share of flips of each group with its interval, beside that of all."""
    whole = next(e for e in made.evidence if e.measure == FLIPS and not e.slice)
    ends = [(e.low or 0.0, e.value if e.high is None else e.high) for e in (whole, *groups)]
    top = extent([high for _, high in ends], zero=True)
    height = 40 + 34 * len(ends)
    picture = Picture("Share of decisions that flip by group", top, (0.0, float(len(ends))),
                      width=760, height=height)  # fmt: skip
    picture.axes([(v, percent(v)) for v, _ in steps(top, 6)], ())
    for place, (e, (low, high)) in enumerate(zip((whole, *groups), ends, strict=True)):
        y = len(groups) + 0.35 - place
        ink: Ink = "ours" if e.slice else "muted"
        picture.line([(low, y), (high, y)], ink)
        picture.dots([(e.value, y)], ink, size=4)
        picture.words(low, y, e.slice or "all requests", up=8)
    return figure("Flips, and how sure that is", picture.svg(), "share of requests, with its interval",
                  wide=True)  # fmt: skip


def _stairs(edges: Sequence[float], heights: Sequence[float]) -> list[tuple[float, float]]:
    return [(edge, h) for i, h in enumerate(heights) for edge in (edges[i], edges[i + 1])]
