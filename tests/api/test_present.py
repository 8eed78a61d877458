"""What people read: figures, bars, reports and trees made from core values."""

from io import StringIO
from math import inf, log, nan
from typing import Any
from xml.etree import ElementTree

import pytest
from rich.console import Console, RenderableType

from fairlead.api.console import console
from fairlead.api.present import figures, script
from fairlead.api.present.evidence import BAR, gauge, spark
from fairlead.api.present.rollout import View, line, release_view, seen
from fairlead.api.present.verdicts import decision_panel, junit
from fairlead.core.check import Action, Bound, Check, Harm, Odds, Outcome, Verdict
from fairlead.core.decision import decide
from fairlead.core.evidence import Evidence, EvidenceSet, Tally
from fairlead.core.ref import Ref
from fairlead.core.release import Phase, Release, Service, advance, route, settle
from fairlead.core.traffic import canary

OLD, NEW = Ref("package", "flights", "a" * 64), Ref("package", "flights", "b" * 64)


def text(shown: RenderableType) -> str:
    out = StringIO()
    console(out).print(shown)
    return out.getvalue()


@pytest.mark.parametrize(("seconds", "said"), [
    (0, "0 s"), (0.00123, "1.2 ms"), (0.0345, "34.5 ms"), (0.9996, "1.0 s"), (9.96, "10 s"), (59.6, "1m"),
    (125, "2m 05s"), (3600, "1h"), (5400, "1h 30m"), (86399.6, "1d"), (100 * 3600, "4d 4h"), (inf, "for ever"),
])  # fmt: skip
def test_a_span_has_its_two_largest_units(seconds: float, said: str) -> None:
    assert figures.span(seconds) == said


@pytest.mark.parametrize(("call", "said"), [
    (figures.count(336776), "336,776"), (figures.size(999), "999 B"), (figures.size(8.7e6), "8.7 MB"),
    (figures.size(999_999), "1.0 MB"), (figures.size(5e13), "50.0 TB"), (figures.percent(0.05), "5 %"),
    (figures.percent(1), "100 %"), (figures.percent(0.99999), "100 %"), (figures.percent(0.9996), "99.96 %"),
    (figures.measure(0.71234), "0.7123"), (figures.measure(123456), "123,456"), (figures.measure(nan), "-"),
    (figures.stamp(1367673721), "2013-05-04 13:22:01"), (figures.stamp(0), "never"),
    (figures.ago(100, 160), "1m ago"), (figures.ago(0, 1), "never"), (figures.name(NEW), "package/flights@bbbbbbbbbbbb"),
])  # fmt: skip
def test_figures_are_short(call: str, said: str) -> None:
    assert call == said


def test_a_script_reads_references_outcomes_and_sets_as_words() -> None:
    value = {"ref": NEW, "outcome": Outcome.FAIL, "actions": frozenset({Action.RETRAIN, Action.ALERT}),
             "worth": [nan, 1.5, inf], "rule": Bound(low=1.0)}  # fmt: skip
    assert script.simple(value) == {
        "ref": str(NEW), "outcome": "fail", "actions": ["alert", "retrain"], "worth": [None, 1.5, None],
        "rule": {"type": "bound", "low": 1.0, "high": None, "certain": False},
    }  # fmt: skip


@pytest.mark.parametrize(("harm", "safe", "red", "green"), [
    (-3.0, -1.0, 0, 0), (log(20) / 2, -1.0, BAR // 2, 0), (log(20), 0.0, BAR, 0), (-2.0, 99.0, 0, BAR),
    (log(20) / 4, log(20) / 2, BAR // 4, BAR // 2),
])  # fmt: skip
def test_a_gauge_fills_to_both_sides_as_evidence_nears_its_bounds(
    harm: float, safe: float, red: int, green: int
) -> None:
    verdict = Verdict(check=Check(name="e", measure="e", rule=Harm()), subject=NEW, reason="",
                      outcome=Outcome.UNKNOWN, log_e_harm=harm, log_e_safe=safe)  # fmt: skip
    left, right = gauge(verdict, Odds()).plain.split("●")
    assert (left.count("━"), right.count("━")) == (red, green)
    assert left.endswith("━" * red) and right.startswith("━" * green)


def canary_view(errors: int) -> View:
    checks = (Check(name="errors", measure="errors", rule=Harm(negligible=0.01)),
              Check(name="auc <b>", measure="auc", rule=Bound(low=0.6)))  # fmt: skip
    release = Release(id="flights-2", service="flights", candidates=(NEW,), baseline=OLD,
                      plan=canary(checks), started_at=1000.0, entered_at=1000.0)  # fmt: skip
    facts: list[Any] = [Tally(subject=NEW, measure="errors", at=1000.0, events=errors, n=400),
                        Tally(subject=OLD, measure="errors", at=1000.0, events=2, n=7600),
                        Evidence(subject=NEW, measure="auc", value=0.7, n=10)]  # fmt: skip
    decision = advance(release, EvidenceSet(facts), 1065.0)
    service = settle(Service(name="flights", package=OLD, epoch=1), release)
    return seen(release, decision, route(service, release), 1065.0)


def test_a_running_release_shows_arms_counts_and_both_bodies_of_evidence() -> None:
    said = text(release_view(canary_view(errors=3)))
    for part in ("flights-2  canary  running", "step 1 of 3, 5 % live, for 1m 05s", "95 %", "3 of 400  0.75 %", "2 of 7,600",
                 "out at 20 ◂ evidence ▸ on at 20", "━", "28 [", "✓ auc <b>", "0.7, allowed at least 0.6",
                 "8,000 requests of both arms counted, 123 a second"):  # fmt: skip
        assert part in said
    assert "\x1b" not in said


def test_a_line_says_what_moved() -> None:
    assert line(canary_view(errors=0)).startswith("1970-01-01 00:17:45  flights-2  running  step 1/3 5 % live  errors=unknown")  # fmt: skip


def test_a_finished_release_says_why() -> None:
    view = canary_view(errors=40)
    ended = Release(**{**{f: getattr(view.release, f) for f in view.release.__struct_fields__},
                       "phase": Phase.ROLLED_BACK, "ended_at": 1060.0, "reason": "too many errors"})  # fmt: skip
    said = text(release_view(View(release=ended, decision=view.decision, route=None, now=1065.0)))
    assert "rolled back  after 1m, 5.0 s ago" in said
    assert "too many errors" in said


def test_a_gate_report_reads_worst_first_and_as_junit() -> None:
    verdicts = canary_view(errors=40).decision
    assert verdicts is not None
    decision = decide(NEW, verdicts.because, 1.0)
    said = text(decision_panel(decision)).splitlines()
    assert said[0].startswith("refused")
    assert [row.split()[0] for row in said[1:3]] == ["✗", "✓"]
    suite = ElementTree.fromstring(junit(decision, 'gate of "x" & y'))
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("2", "1", "0")
    assert [c.get("name") for c in suite] == ["errors", "auc <b>"]


def test_a_narrow_terminal_keeps_the_gauge_and_the_counts() -> None:
    def at(width: int) -> str:
        out = StringIO()
        Console(file=out, width=width).print(release_view(canary_view(errors=3)))
        return out.getvalue()

    assert "so far" in at(140) and "times as often" in at(140)
    assert "so far" not in at(110) and "times as often" in at(110)
    assert "times as often" not in at(90) and "3 of 400" in at(90) and "━" in at(90)
    assert "…" not in at(80) and "harm" not in at(80), "nothing is cut off"
    assert max(map(len, at(80).splitlines()[3:])) <= 80


def test_a_curve_rises_with_the_evidence() -> None:
    growth = canary_view(errors=3).growths[0]
    curve = spark(growth, Odds())
    assert curve.plain == "".join(sorted(curve.plain)) and curve.plain[-1] != curve.plain[0]


def test_colour_comes_with_a_terminal_only() -> None:
    shown, out = release_view(canary_view(errors=3)), StringIO()
    Console(file=out, force_terminal=True, color_system="truecolor", width=140).print(shown)
    assert "\x1b[" in out.getvalue()
    assert "\x1b[" not in text(shown)
