"""The report: a stretch of production on one page that a person wants to read."""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from itertools import groupby
from math import inf, nan

from fairlead.api.present.figures import count, measure, percent, span, stamp
from fairlead.api.present.monitors import unwatched
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
from fairlead.api.present.picture import SERIES, Picture, days, extent, legend, steps
from fairlead.core.alert import Alert, lines
from fairlead.core.evidence import Evidence
from fairlead.core.ref import Ref
from fairlead.core.release import Phase, Release
from fairlead.flow.report import Report, Slot

__all__ = ["report_page"]

Point = tuple[float, float]

ENDS: dict[Phase, Ink] = {Phase.RUNNING: "ours", Phase.PAUSED: "warm", Phase.PROMOTED: "good",
                          Phase.KEPT: "good", Phase.ROLLED_BACK: "bad", Phase.ABORTED: "bad"}  # fmt: skip
STATES: dict[str, Ink] = {"open": "bad", "acknowledged": "warm", "resolved": "muted"}
MEASURES = {"binary": ("auc", "log_loss", "brier"), "multiclass": ("accuracy", "log_loss"),
            "regression": ("r2", "mae", "rmse")}  # fmt: skip
"""What is drawn of performance, the measure that releases are judged by first."""
WORDS = {"auc": "The higher the better; 0.5 is chance.", "accuracy": "The higher the better.",
         "r2": "The higher the better; 0 is as good as the mean."}  # fmt: skip

WATCH, MOVED, FAR = 0.1, 0.25, 1.0
"""Population stability index from which on a column is worth a look, has moved, is far away."""
MOST = 24
"""Columns drawn; the others are named in a table."""
LANE, NAMES = 30.0, 150.0


def report_page(seen: Report) -> str:
    """The whole page; the same records give the same bytes."""
    title = f"{seen.service}, {_day(seen.since)} to {_day(seen.until)}"
    return html(
        title, _summary(seen), _headlines(seen), _story(seen), _traffic(seen), _quality(seen),
        _drift(seen), _alerts(seen), _releases(seen),
        foot=f"Fairlead, as known on {stamp(seen.now)} UTC. Everything here is in the records: "
             "no network, no scripts.",
    )  # fmt: skip


def _summary(seen: Report) -> str:
    asked, failed = _sum(seen.whole, "volume"), _failed(seen)
    opened = sum(a.state != "resolved" for a in seen.alerts)
    raised = f"{_number(len(seen.alerts), 'alert')}, {opened or 'none'} still open"
    done = [r for r in seen.releases if r.phase.final]
    released = f"{_number(len(seen.releases), 'release')}" + (
        f", {sum(r.phase is Phase.ROLLED_BACK for r in done)} rolled back" if done else "")  # fmt: skip
    answered = f"{percent(failed)} of them not answered" if failed else "every one answered"
    return (f"{count(asked)} requests in {span(seen.until - seen.since)}, {answered} by the package "
            f"they met; {raised}; {released}.")  # fmt: skip


def _headlines(seen: Report) -> Markup:
    last = seen.whole[-1].facts
    key = MEASURES.get(seen.task, ("accuracy",))[0]
    opened = sum(a.state != "resolved" for a in seen.alerts)
    rows: list[tuple[str, str, Ink]] = [
        ("requests", count(_sum(seen.whole, "volume")), "ink"),
        ("errors", percent(_failed(seen)), "bad" if _failed(seen) > 0.01 else "ink"),
    ]
    for name, words, unit in (("latency_p99_ms", "99 of 100 answers within", " ms"),
                              (key, f"{_title(key)} of the last package", "")):  # fmt: skip
        if name in last:
            rows.append((words, measure(last[name].value) + unit, "ink"))
    if "labelled" in last:
        rows.append(("labelled by now", percent(last["labelled"].value), "ink"))
    rows.append(("open alerts", str(opened), "bad" if opened else "good"))
    return facts(rows)


def _story(seen: Report) -> Markup:
    rows = [(stamp(e.at)[:16], e.verb.replace(".", " ").replace("_", " "), e.subject.partition("/")[2],
             e.actor, _why(e.body)) for e in seen.events]  # fmt: skip
    listed = table(("when", "what", "of", "by", "why"), rows, tight=("when", "what", "of"))
    return section(
        "What happened", figure("Packages, releases and alerts", _timeline(seen), _KEY, wide=True),
        cards(folded(f"All {len(rows)} events", listed)) if rows else "",
        lead="Who answered, what was being released, and what was wrong, on one clock.",
    )  # fmt: skip


_KEY = ("A package is as high as its share of the traffic. Releases: blue is running, green was "
        "promoted, red rolled back. Alerts: from raised to resolved.")  # fmt: skip


def _timeline(seen: Report) -> Markup:
    names = list(dict.fromkeys(a.name for a in seen.alerts))
    lanes = len(seen.packages) + bool(seen.releases) + len(names)
    chart = Picture("Timeline of packages, releases and alerts", (seen.since, seen.until), (0.0, lanes),
                    width=980, height=lanes * LANE + 34, left=NAMES)  # fmt: skip
    rows = [*(_short(p) for p in seen.packages), *(["releases"] if seen.releases else []), *names]
    chart.axes(days((seen.since, seen.until), 9), [(lanes - i - 0.6, t) for i, t in enumerate(rows)])
    total = _totals(seen.fine)
    for i, package in enumerate(seen.packages):
        floor = lanes - i - 0.95
        for run in _answering(seen.fine, package):
            edge = [(t, floor, floor + 0.8 * _volume(s) / total[s.since]) for s in run
                    for t in (s.since, s.until)]  # fmt: skip
            chart.band(edge, _ink(i), soft=False)
    floor = lanes - len(seen.packages) - 0.8
    for release in seen.releases:
        _bar(chart, seen, (release.started_at, release.ended_at), floor, ENDS[release.phase],
             f"{release.id}, {release.plan.name}: {release.phase.value} {release.reason}")  # fmt: skip
    for alert in seen.alerts:
        floor = len(names) - names.index(alert.name) - 0.8
        _bar(chart, seen, (alert.raised_at, alert.ended_at), floor, "bad", f"{alert.name}: {alert.cause}")
    return chart.svg()


def _bar(chart: Picture, seen: Report, between: Point, floor: float, ink: Ink, title: str) -> None:
    start, end = max(between[0], seen.since), min(between[1] or seen.until, seen.until)
    end = max(end, start + (seen.until - seen.since) / 300)
    chart.band([(start, floor, floor + 0.5), (end, floor, floor + 0.5)], ink, soft=False, title=title)


def _traffic(seen: Report) -> Markup:
    rate = lambda s: 3600 * _volume(s) / (s.until - s.since) if _volume(s) else nan  # noqa: E731
    ms = [s.facts[m].value for s in seen.fine for m in ("latency_p50_ms", "latency_p99_ms") if m in s.facts]
    latency = Picture("Latency", _x(seen), extent(ms, zero=True))
    _axes(latency, seen, extent(ms, zero=True))
    for i, package in enumerate(seen.packages):
        own = _of(seen.fine, package)
        latency.line(_points(own, "latency_p99_ms"), _ink(i), title=f"p99 {_short(package)}")
        latency.line(_points(own, "latency_p50_ms"), _ink(i), dash=True, title=f"p50 {_short(package)}")
    return section(
        "Traffic", _packages(seen),
        cards(
            figure("Requests per hour", _lines(seen, seen.fine, rate, zero=True), "By the package they were assigned to."),
            figure("Errors", _lines(seen, seen.fine, _value("errors"), zero=True, low=0.01),
                   "Share that the package failed to answer; a fallback may have answered it. Upright lines, here and below: alerts."),
            figure("Latency in ms", latency.svg(), "Solid: 99 of 100 are faster. Dashed: half are."),
            figure("Answers", _lines(seen, seen.fine, _value("positive_rate", "mean_prediction"), zero=True),
                   "Share of positive answers (of a regression, their mean): prediction drift is seen here."),
        ),
    )  # fmt: skip


def _quality(seen: Report) -> Markup:
    drawn = [figure(_title(m), _banded(seen, m), WORDS.get(m, "The lower the better."))
             for m in MEASURES.get(seen.task, ())]  # fmt: skip
    drawn.append(figure("Truth that has arrived", _lines(seen, seen.coarse, _value("labelled"), zero=True),
                        "Share of the predictions of that time whose label is known by now."))  # fmt: skip
    return section("Performance", _packages(seen), cards(*drawn),
                   lead="Each point judges the predictions made in that stretch, whenever their truth came, "
                        "with its 95 % band: young cohorts have few labels and wide bands. Dashed: what was "
                        "expected without labels, which is blind to a world that changed its mind.")  # fmt: skip


def _drift(seen: Report) -> Markup:
    columns = _columns(seen.coarse)
    blind = [tag("p", note("Not watched: ", "warm"), unwatched(seen.unwatched))] if seen.unwatched else []
    if not columns:
        return section("Drift", tag("p", "No column was compared with training."), *blind)
    small = [_small(seen, name) for name in list(columns)[:MOST]]
    rest = [(name, measure(value)) for name, value in list(columns.items())[MOST:]]
    more = folded(f"and {len(rest)} more", table(("column", "largest index"), rest, right=("largest index",)))
    return section("Drift by column", cards(*small, small=True), cards(more) if rest else "", *blind,
                   lead="Population stability index against training, the worst column first, all on the scale "
                        f"from 0 to {FAR:g}. Dashed: {MOVED}, from which on a column has moved.")  # fmt: skip


def _small(seen: Report, name: str) -> Markup:
    key, top = f"drift:{name}", 0.0
    chart = Picture(f"Drift of {name}", _x(seen), (0.0, FAR), width=220, height=64, bare=True)
    chart.level(MOVED, "muted")
    for i, package in enumerate(seen.packages):
        own = _of(seen.coarse, package)
        top = max([top, *(v for _, v in _points(own, key) if v == v)])
        chart.line(_points(own, key), _ink(i))
    ink: Ink = "bad" if top > MOVED else "warm" if top > WATCH else "muted"
    return tag("figure", tag("h3", name), tag("figcaption", note(f"at most {measure(top)}", ink)), chart.svg(),
               class_="card")  # fmt: skip


def _alerts(seen: Report) -> Markup:
    rows = [(_state(a), stamp(a.raised_at)[:16], a.name, _told(a), f"{a.count}") for a in seen.alerts]
    if not rows:
        return section("Alerts", tag("p", "None."))
    return section("Alerts", table(("state", "raised", "monitor", "cause, evidence, what was done", "times"),
                                   rows, right=("times",), tight=("state", "raised", "monitor")))  # fmt: skip


def _state(alert: Alert) -> Markup:
    after = f" after {span(alert.ended_at - alert.raised_at)}" if alert.ended_at else ""
    return note(alert.state + after, STATES[alert.state])


def _told(alert: Alert) -> Markup:
    kept = [(w, t) for w, t in lines(alert) if w not in ("package", "release")]
    return Markup("".join(tag("div", note(f"{what}  "), text) for what, text in kept))


def _releases(seen: Report) -> Markup:
    if not seen.releases:
        return section("Releases", tag("p", "None."))
    rows = [(r.id, r.plan.name, ", ".join(map(_short, r.candidates)), stamp(r.started_at)[:16], _ended(r),
             r.reason) for r in seen.releases]  # fmt: skip
    return section("Releases", table(("release", "plan", "candidate", "started", "ended", "why"), rows,
                                     tight=("release", "plan", "candidate", "started", "ended")),
                   lead="`fairlead release report RELEASE --html FILE` shows how the evidence of one grew.")  # fmt: skip


def _ended(release: Release) -> Markup:
    took = f" after {span(release.ended_at - release.started_at)}" if release.phase.final else ""
    return note(release.phase.value.replace("_", " ") + took, ENDS[release.phase])


def _lines(seen: Report, slots: Sequence[Slot], value: Callable[[Slot], float], *, zero: bool = False,
           low: float = 0.0) -> Markup:  # fmt: skip
    """One line per package; the scale reaches `low` at least."""
    reach = extent([*map(value, slots), *([low] if low else [])], zero=zero)
    chart = Picture("By package", _x(seen), reach)
    _axes(chart, seen, reach)
    for i, package in enumerate(seen.packages):
        own = _of(slots, package)
        chart.line([(_middle(s), value(s)) for s in own], _ink(i), title=_short(package))
    return chart.svg()


def _banded(seen: Report, key: str) -> Markup:
    estimate = f"estimated_{key}"
    known = [s.facts[k] for s in seen.coarse for k in (key, estimate) if k in s.facts]
    reach = extent([v for e in known for v in (e.value, *_bounds(e))])
    chart = Picture(f"{key} by cohort", _x(seen), reach)
    _axes(chart, seen, reach)
    for i, package in enumerate(seen.packages):
        own = _of(seen.coarse, package)
        chart.band([(_middle(s), *_bounds(s.facts.get(key))) for s in own], _ink(i))
        chart.line(_points(own, key), _ink(i), title=_short(package))
        chart.line(_points(own, estimate), _ink(i), dash=True, title=f"expected without labels, {_short(package)}")
    return chart.svg()


def _axes(chart: Picture, seen: Report, reach: Point) -> None:
    """Axes, and an upright line where an alert was raised."""
    for alert in seen.alerts:
        if alert.raised_at >= seen.since:
            chart.moment(alert.raised_at, "warm", f"{alert.name}: {alert.cause}")
    chart.axes(days(_x(seen)), steps(reach))


def _packages(seen: Report) -> Markup:
    return legend((_short(p), _ink(i)) for i, p in enumerate(seen.packages))


def _columns(slots: Iterable[Slot]) -> dict[str, float]:
    """The largest index of each column, the largest first."""
    found: dict[str, float] = {}
    for slot in slots:
        for key, fact in slot.facts.items():
            if key.startswith("drift:"):
                name = key.partition(":")[2]
                found[name] = max(found.get(name, -inf), fact.value)
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def _answering(slots: Sequence[Slot], package: Ref) -> list[list[Slot]]:
    """Stretches of slots in which a package answered."""
    own = _of(slots, package)
    return [list(run) for busy, run in groupby(own, key=lambda s: _volume(s) > 0) if busy]


def _totals(slots: Iterable[Slot]) -> dict[float, float]:
    found: dict[float, float] = {}
    for slot in slots:
        found[slot.since] = found.get(slot.since, 0.0) + _volume(slot)
    return found


def _points(slots: Iterable[Slot], key: str) -> list[Point]:
    return [(_middle(s), s.facts[key].value if key in s.facts else nan) for s in slots]


def _value(*keys: str) -> Callable[[Slot], float]:
    return lambda slot: next((slot.facts[k].value for k in keys if k in slot.facts), nan)


def _of(slots: Iterable[Slot], package: Ref) -> list[Slot]:
    return [s for s in slots if s.package == package]


def _bounds(seen: Evidence | None) -> Point:
    if seen is None or seen.low is None or seen.high is None:
        return nan, nan
    return seen.low, seen.high


def _volume(slot: Slot) -> float:
    return slot.facts["volume"].value


def _sum(slots: Iterable[Slot], key: str) -> float:
    return sum(s.facts[key].value for s in slots if key in s.facts)


def _failed(seen: Report) -> float:
    """The share of all requests that their package did not answer."""
    failed = sum(e.value * e.n for s in seen.whole for k in ("errors", "fallback") if (e := s.facts.get(k)))
    return failed / max(_sum(seen.whole, "volume"), 1.0)


def _why(body: dict[str, object]) -> str:
    said = body.get("cause") or body.get("reason") or body.get("plan") or body.get("note") or ""
    return str(said)


def _number(n: int, noun: str) -> str:
    return f"{n or 'no'} {noun}{'' if n == 1 else 's'}"


def _day(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%-d %B %Y}"


def _title(key: str) -> str:
    return {"auc": "AUC", "r2": "R²", "mae": "MAE"}.get(key, key.replace("_", " ").capitalize())


def _short(package: Ref) -> str:
    return f"{package.name}@{package.digest[:8]}"


def _ink(place: int) -> Ink:
    return SERIES[place % len(SERIES)]


def _x(seen: Report) -> Point:
    return seen.since, seen.until


def _middle(slot: Slot) -> float:
    return (slot.since + slot.until) / 2
