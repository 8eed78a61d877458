"""Reviews: what a pull request changes of a model, and what the gate finds. Pure."""

from collections.abc import Iterable, Mapping
from typing import Literal

from msgspec import Struct

from fairlead.core.catalogue import BREAKS, DRIFT, GAIN, SCALE, SHIFT
from fairlead.core.check import Action, Outcome, Verdict
from fairlead.core.manifest import Manifest
from fairlead.core.ref import Ref
from fairlead.core.rule import Bound

__all__ = ["MANIFEST", "Changed", "Finding", "Kind", "Review", "finding", "sorted_out", "sources"]

Kind = Literal["data", "code", "manifest"]

MODEL, JUDGED = ("data", "features", "train"), ("gate",)
"""Sections of the manifest that a model depends on, and those its judgement depends on."""
ASIDE = frozenset({"docs", "doc", "tests", "test"})
"""Folders that no training reads."""
MANIFEST = "fairlead.yaml"
STOPS = frozenset({Action.HOLD, Action.ROLLBACK})


class Changed(Struct, frozen=True, order=True):
    """Something a model depends on and that is not what it was: a file, or a section of the manifest."""

    kind: Kind
    path: str


class Finding(Struct, frozen=True, kw_only=True):
    """One answer. `blocks`: it stands in the way of the change. `file`, `line`: where to look first
    (line from 1); `rule_line`: the line of the manifest that asks for it, 0 when nobody wrote it."""

    rule: str
    name: str
    outcome: Outcome
    text: str
    blocks: bool = True
    file: str = MANIFEST
    line: int = 1
    rule_line: int = 0


class Review(Struct, frozen=True, kw_only=True):
    """`base`: what it was compared with, in words; `baseline`: the model that stands for it."""

    service: str
    base: str = ""
    changed: tuple[Changed, ...] = ()
    model: Ref | None = None
    baseline: Ref | None = None
    findings: tuple[Finding, ...] = ()

    @property
    def outcome(self) -> Outcome:
        """The worst of what blocks; PASS when nothing does."""
        return max((f.outcome for f in self.findings if f.blocks), default=Outcome.PASS)


def sources(manifest: Manifest) -> list[str]:
    """The files with rows, that of the model first."""
    return list(dict.fromkeys([manifest.data.source, *(v.source for v in manifest.features.values())]))


def sorted_out(paths: Iterable[str], before: Manifest, after: Manifest) -> tuple[Changed, ...]:
    """What of the changed `paths` (from the project's folder) a model or its judgement depends on.

    A file that is neither data nor the manifest counts as code unless it is Markdown, hidden, or
    lies in a folder that no training reads: doing too much is safer than too little.
    """
    tables = {*sources(before), *sources(after)}
    found: set[Changed] = set()
    for path in paths:
        parts = path.split("/")
        if path == MANIFEST:
            found |= {Changed("manifest", s) for s in (*MODEL, *JUDGED)
                      if getattr(before, s) != getattr(after, s)}  # fmt: skip
        elif path in tables:
            found.add(Changed("data", path))
        elif not (path.endswith(".md") or any(p.startswith(".") for p in parts) or ASIDE & set(parts[:-1])):
            found.add(Changed("code", path))
    return tuple(sorted(found))


def blocks(verdict: Verdict) -> bool:
    """Whether this verdict alone keeps a model back."""
    asked = {Outcome.FAIL: verdict.check.on_fail, Outcome.UNKNOWN: verdict.check.on_unknown}
    return bool(STOPS & asked.get(verdict.outcome, frozenset()))


def spot(
    verdict: Verdict, changed: Iterable[Changed], manifest: Manifest, lines: Mapping[str, int], train: int
) -> tuple[str, int]:  # fmt: skip
    """Where whoever made the change looks first: (file, line). `lines` of the manifest by key;
    `train`: line of the training function."""
    kinds = {c.kind for c in changed}
    if verdict.check.measure.startswith((DRIFT, SHIFT, SCALE, BREAKS)) or kinds == {"data"}:
        return manifest.data.source, 1
    if kinds == {"manifest"}:
        section = min((c.path for c in changed if c.kind == "manifest"), key=lambda s: lines.get(s, 1))
        return MANIFEST, _written(verdict, manifest, lines) or lines.get(section, 1)
    return manifest.train.code, train


def _written(verdict: Verdict, manifest: Manifest, lines: Mapping[str, int]) -> int:
    """The line of the check in the manifest; 0 for a ready-made one."""
    measure = verdict.check.measure.removeprefix(GAIN)
    for place, text in enumerate(manifest.gate.checks):
        if text.measure == measure and verdict.check.slice.startswith(text.by):
            return lines.get(f"gate.checks[{place}]", 0)
    return 0


def finding(
    verdict: Verdict, changed: tuple[Changed, ...], manifest: Manifest, lines: Mapping[str, int], train: int
) -> Finding:  # fmt: skip
    """A verdict of the gate as a finding."""
    file, line = spot(verdict, changed, manifest, lines, train)
    text = verdict.reason.removeprefix(f"{verdict.check.measure}: ") + _between(verdict)
    return Finding(rule=f"gate/{verdict.check.measure.partition(':')[0]}", name=verdict.check.name, text=text,
                   outcome=verdict.outcome, blocks=verdict.outcome is Outcome.PASS or blocks(verdict),
                   file=file, line=line, rule_line=_written(verdict, manifest, lines))  # fmt: skip


def _between(verdict: Verdict) -> str:
    """The interval of a bounded number, which its reason leaves out."""
    if not isinstance(verdict.check.rule, Bound) or len(verdict.seen) != 1 or verdict.seen[0].low is None:
        return ""
    (e,) = verdict.seen
    return f"; {e.level:.0%} interval [{e.low:.4g}, {e.high:.4g}] on {e.n:,} rows"
