"""Verdicts and decisions on a screen: what was judged, how it came out, and on which numbers."""

from math import exp, log
from xml.sax.saxutils import escape, quoteattr

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fairlead.api.present.figures import name
from fairlead.core.check import Odds, Outcome, Verdict
from fairlead.core.decision import Decision

__all__ = ["COLOURS", "MARKS", "bar", "decision_panel", "evidence_table", "junit", "verdict_table"]

MARKS = {Outcome.PASS: "✓", Outcome.UNKNOWN: "?", Outcome.FAIL: "✗"}
COLOURS = {Outcome.PASS: "green", Outcome.UNKNOWN: "yellow", Outcome.FAIL: "bold red"}
BAR = 16


def decision_panel(decision: Decision) -> RenderableType:
    """A gate's answer: the headline, then every check with its reason."""
    if decision.proceed:
        head = Text.assemble(("accepted", "bold green"), "  ", name(decision.subject))
    else:
        head = Text.assemble(("refused", "bold red"), "  ", name(decision.subject))
    return Group(head, verdict_table(decision.because))


def verdict_table(verdicts: tuple[Verdict, ...]) -> Table:
    """One line per check: mark, name, reason. What failed comes first."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for verdict in sorted(verdicts, key=lambda v: -v.outcome):
        colour = COLOURS[verdict.outcome]
        table.add_row(Text(f" {MARKS[verdict.outcome]}", colour), Text(verdict.check.name, colour),
                      Text(_reason(verdict)))  # fmt: skip
    return table


def evidence_table(verdicts: tuple[Verdict, ...], odds: Odds) -> Table:
    """Checks of a release: counts of both arms, and both bodies of evidence against their bounds."""
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")
    table.add_column("check", no_wrap=True)
    table.add_column("seen", no_wrap=True)
    table.add_column(f"harm (out at {1 / odds.alpha:.0f})", no_wrap=True)
    table.add_column(f"safe (on at {1 / odds.beta:.0f})", no_wrap=True)
    for verdict in verdicts:
        mark = Text(f"{MARKS[verdict.outcome]} {verdict.check.name}", COLOURS[verdict.outcome])
        if verdict.log_e_harm is None and verdict.log_e_safe is None:
            table.add_row(mark, Text(_reason(verdict), "default"), "", "")
            continue
        table.add_row(mark, _seen(verdict),
                      bar(verdict.log_e_harm, log(1 / odds.alpha), "red"),
                      bar(verdict.log_e_safe, log(1 / odds.beta), "green"))  # fmt: skip
    return table


def bar(log_e: float | None, bound: float, colour: str) -> Text:
    """Evidence on its way to the bound, both logarithms: empty at an e-value of 1, full at 1/alpha."""
    if log_e is None:
        return Text("")
    filled = round(BAR * min(max(log_e / bound, 0.0), 1.0))
    full = "bold " if log_e >= bound else ""
    e = exp(min(log_e, 50))
    said = f"{e:.2g}" if e < 10 else f"{e:,.0f}" if e < 10_000 else "over 10,000"
    return Text.assemble(("━" * filled, full + colour), ("─" * (BAR - filled), "dim"),
                         (f" {said}", full + colour if full else "dim"))  # fmt: skip


def junit(decision: Decision, suite: str) -> str:
    """The decision as a JUnit report: a failed check fails, one without enough data is an error."""
    cases = []
    for verdict in decision.because:
        case = f"  <testcase classname={quoteattr(suite)} name={quoteattr(verdict.check.name)}>"
        said = {Outcome.FAIL: f"<failure message={quoteattr(verdict.reason)}/>",
                Outcome.UNKNOWN: f"<error message={quoteattr(verdict.reason)}/>"}.get(
                    verdict.outcome, f"<system-out>{escape(verdict.reason)}</system-out>")  # fmt: skip
        cases.append(f"{case}{said}</testcase>")
    outcomes = [v.outcome for v in decision.because]
    head = (f"<testsuite name={quoteattr(suite)} tests=\"{len(cases)}\" "
            f'failures="{outcomes.count(Outcome.FAIL)}" errors="{outcomes.count(Outcome.UNKNOWN)}">')  # fmt: skip
    return "\n".join(['<?xml version="1.0" encoding="utf-8"?>', head, *cases, "</testsuite>", ""])


def _seen(verdict: Verdict) -> Text:
    c = verdict.counters
    if "candidate_n" in c and "baseline_n" in c:
        ours = f"{c.get('candidate_events', 0):,.0f} of {c['candidate_n']:,.0f}"
        theirs = f"{c.get('baseline_events', 0):,.0f} of {c['baseline_n']:,.0f}"
        return Text.assemble(ours, (" against ", "dim"), theirs)
    if "pairs" in c:
        return Text(f"{c['pairs']:,.0f} pairs")
    return Text(_reason(verdict))


def _reason(verdict: Verdict) -> str:
    return verdict.reason.removeprefix(f"{verdict.check.measure}: ")
