"""A review as others read it: on a screen, as JUnit, as SARIF, and as a comment in Markdown."""

import json
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import escape, quoteattr

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fairlead import __version__
from fairlead.api.present.verdicts import COLOURS, MARKS, readable
from fairlead.core.check import Outcome
from fairlead.core.review import MANIFEST, Finding, Review

__all__ = ["VERDICTS", "markdown", "review_junit", "review_view", "sarif"]

VERDICTS = {Outcome.PASS: "passed", Outcome.UNKNOWN: "undecided", Outcome.FAIL: "refused"}
LEVELS = {Outcome.FAIL: "error", Outcome.UNKNOWN: "warning"}
BADGES = {Outcome.PASS: "✅", Outcome.UNKNOWN: "❔", Outcome.FAIL: "❌"}
FEW = 12
"""Rows of the table that a comment shows before it folds."""
MANY = 200
"""Rows below the fold: GitHub takes comments of 65,536 letters."""


def review_view(review: Review) -> RenderableType:
    """The verdict first, then what changed, then every finding, the worst first."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for column in range(3):
        table.add_column(no_wrap=column < 2, overflow="fold")
    for f in _worst_first(review):
        colour = COLOURS[f.outcome] if f.blocks else "dim"
        table.add_row(Text(f" {MARKS[f.outcome]}", colour), Text(f.name, colour), Text(f.text))
    head = Text.assemble((VERDICTS[review.outcome], COLOURS[review.outcome]), f"  {_headline(review)}")
    return Group(head, table) if review.findings else head


def review_junit(review: Review, prefix: str = "") -> str:
    """One test case per check: what blocks fails or errs, what is only told is skipped. `prefix`: of
    the project's folder within the repository."""
    suite, cases = f"fairlead {review.service}", []
    for f in review.findings or (_nothing(review),):
        case = f"    <testcase classname={quoteattr(suite)} name={quoteattr(f.name)} file={quoteattr(prefix + f.file)} line=\"{f.line}\">"
        said = quoteattr(f.text)
        inner = f"<system-out>{escape(f.text)}</system-out>"
        if f.outcome is not Outcome.PASS and not f.blocks:
            inner = f"<skipped message={said}/>"
        elif f.outcome is not Outcome.PASS:
            kind = "failure" if f.outcome is Outcome.FAIL else "error"
            inner = f"<{kind} type={quoteattr(f.rule)} message={said}>{escape(f.text)}</{kind}>"
        cases.append(f"{case}{inner}</testcase>")
    bad = [f.outcome for f in review.findings if f.blocks]
    counts = (f'tests="{len(cases)}" failures="{bad.count(Outcome.FAIL)}" errors="{bad.count(Outcome.UNKNOWN)}" '
              f'skipped="{sum(not f.blocks for f in review.findings if f.outcome)}"')  # fmt: skip
    return readable('<?xml version="1.0" encoding="utf-8"?>', f"<testsuites {counts}>",
                    f"  <testsuite name={quoteattr(suite)} {counts}>", *cases, "  </testsuite>", "</testsuites>")  # fmt: skip


def sarif(review: Review, prefix: str = "") -> str:
    """SARIF 2.1.0: a result for each finding that did not pass. `prefix`: as of `review_junit`."""
    found = [f for f in review.findings if f.outcome is not Outcome.PASS]
    rules = list(dict.fromkeys(f.rule for f in found))
    driver = {"name": "Fairlead", "semanticVersion": __version__,
              "rules": [{"id": r, "shortDescription": {"text": f"fairlead ci: {r}"}} for r in rules]}  # fmt: skip
    run = {"tool": {"driver": driver}, "columnKind": "utf16CodeUnits",
           "results": [_result(f, rules, prefix) for f in found]}  # fmt: skip
    return json.dumps({"$schema": "https://json.schemastore.org/sarif-2.1.0.json", "version": "2.1.0", "runs": [run]}, indent=1) + "\n"


def markdown(review: Review) -> str:
    """A comment: the verdict, what stands in the way, and the rest to be unfolded."""
    findings = _worst_first(review)
    told = [f for f in findings if f.outcome is not Outcome.PASS and f.blocks][:FEW]
    rest = [f for f in findings if f not in told]
    lines = [f"### {BADGES[review.outcome]} Fairlead: {VERDICTS[review.outcome]}", "", _cell(_headline(review)), ""]
    lines += _rows(told)
    if rest:
        title = f"{len(rest)} more: {_counts(rest)}" if told else f"{len(rest)} checks: {_counts(rest)}"
        lines += ["<details>", f"<summary>{title}</summary>", "", *_rows(rest[:MANY]), "</details>", ""]
    if review.changed:
        lines.append("Changed: " + ", ".join(f"{c.kind} {_code(c.path)}" for c in review.changed[:FEW]))
    if review.model:
        lines.append(f"\n<sub>{review.model.short} beside {review.baseline.short if review.baseline else 'nothing'}</sub>")
    return "\n".join(lines).rstrip() + "\n"


def _headline(review: Review) -> str:
    if not review.findings:
        return f"{review.service}: nothing the model depends on changed since {review.base}"
    bad = [f for f in review.findings if f.blocks and f.outcome is review.outcome]
    what = ", ".join(dict.fromkeys(c.kind for c in review.changed))
    changed = f" (changed: {what})" if what else ""
    if review.outcome is Outcome.PASS:
        return f"{review.service}: {len(bad)} checks pass, {_beside(review)}{changed}"
    more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
    words = {Outcome.FAIL: "do not hold" if more else "does not hold", Outcome.UNKNOWN: "cannot be decided"}
    beside = f", {_beside(review)}" if review.model else ""
    return f"{review.service}: “{bad[0].name}”{more} {words[review.outcome]}{beside}{changed}".removeprefix(": ")


def _beside(review: Review) -> str:
    if review.baseline is None:
        return "with nothing to compare it with"
    return f"{'the same model as' if review.model == review.baseline else 'compared with'} {review.base}"


def _result(f: Finding, rules: list[str], prefix: str) -> dict[str, Any]:
    made: dict[str, Any] = {
        "ruleId": f.rule, "ruleIndex": rules.index(f.rule), "level": LEVELS[f.outcome] if f.blocks else "note",
        "message": {"text": f"{f.name}: {f.text}".replace("](", "] (")},  # names of columns become no links
        "locations": [_location(prefix, f.file, f.line)],
        "partialFingerprints": {"fairlead/v1": f"{f.rule}/{f.name}"},
    }  # fmt: skip
    if f.rule_line:
        made["relatedLocations"] = [_location(prefix, MANIFEST, f.rule_line) | {"message": {"text": "asked for here"}}]
    return made


def _location(prefix: str, file: str, line: int) -> dict[str, Any]:
    return {"physicalLocation": {"artifactLocation": {"uri": quote(prefix + file)}, "region": {"startLine": line}}}


def _worst_first(review: Review) -> list[Finding]:
    return sorted(review.findings, key=lambda f: (-f.outcome if f.blocks else 0, -f.outcome))


def _nothing(review: Review) -> Finding:
    return Finding(rule="changes", name="what the model depends on", outcome=Outcome.PASS, text=_headline(review))


def _counts(findings: Iterable[Finding]) -> str:
    outcomes = [("passed" if f.outcome is Outcome.PASS else "noted" if not f.blocks else VERDICTS[f.outcome]) for f in findings]
    return ", ".join(f"{outcomes.count(o)} {o}" for o in dict.fromkeys(outcomes))


def _rows(findings: list[Finding]) -> list[str]:
    if not findings:
        return []
    rows = [f"| {BADGES[f.outcome] if f.blocks else 'ℹ️'} | {_cell(f.name)} | {_cell(f.text)} | {_code(f'{f.file}:{f.line}')} |" for f in findings]
    return ["| | check | evidence | where |", "|---|---|---|---|", *rows, ""]


def _cell(text: str) -> str:
    """Text of a table's cell that cannot become markup: names of columns are anybody's."""
    for mark in "\\`*_[]<>|@#~":
        text = text.replace(mark, f"\\{mark}" if mark not in "<>@" else {"<": "&lt;", ">": "&gt;", "@": "&#64;"}[mark])
    return "<br>".join(text.splitlines())


def _code(text: str) -> str:
    """A path as code, in which no mark needs escaping but a table's bar, and backticks cannot be."""
    plain = " ".join(text.split()).replace("`", "'").replace("|", "\\|")
    return f"`{plain}`"
