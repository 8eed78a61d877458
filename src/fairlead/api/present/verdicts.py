"""Verdicts and decisions on a screen: what was judged, how it came out, and on which numbers."""

import re
from xml.sax.saxutils import escape, quoteattr

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fairlead.api.present.figures import name
from fairlead.core.check import Outcome, Verdict
from fairlead.core.decision import Decision

__all__ = ["COLOURS", "MARKS", "decision_panel", "junit", "readable", "verdict_table"]

MARKS = {Outcome.PASS: "✓", Outcome.UNKNOWN: "?", Outcome.FAIL: "✗"}
COLOURS = {Outcome.PASS: "green", Outcome.UNKNOWN: "yellow", Outcome.FAIL: "bold red"}
UNWRITABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 has no way to write, escaped neither."""


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
    return readable('<?xml version="1.0" encoding="utf-8"?>', head, *cases, "</testsuite>")


def readable(*lines: str) -> str:
    """Lines of XML, where what cannot be written in it (a name of a column may hold it) is a mark."""
    return UNWRITABLE.sub("\ufffd", "\n".join((*lines, "")))


def _reason(verdict: Verdict) -> str:
    check = verdict.check
    group = f" [{check.slice}]" if check.slice else ""
    return verdict.reason.removeprefix(f"{check.measure}{group}: ")
