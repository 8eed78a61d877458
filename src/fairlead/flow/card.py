"""Cards from records: what a model is, what a dataset holds, why a release ended so, whom it treats how."""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from math import isfinite
from typing import Any

from fairlead.core import fairness
from fairlead.core.alert import Alerts
from fairlead.core.approval import Approvals
from fairlead.core.artifact import (
    Artifact,
    DatasetSpec,
    FeaturesSpec,
    ModelSpec,
    PackageSpec,
    ancestors,
)
from fairlead.core.card import Card, Cell, Chapter, Fact, Grid
from fairlead.core.decision import Decision
from fairlead.core.event import Event
from fairlead.core.evidence import Evidence
from fairlead.core.manifest import Manifest
from fairlead.core.profile import ColumnProfile
from fairlead.core.ref import SHORT, Ref, digest
from fairlead.core.release import Release
from fairlead.core.run import Run
from fairlead.core.traffic import Fixed
from fairlead.errors import Corrupt, Invalid, Missing
from fairlead.flow import data
from fairlead.flow.fairness import Fairness
from fairlead.ports import Blobs, Records

__all__ = ["Clerk", "measured", "model_behind", "tables_behind"]

FEW = 5
"""Groups of fewer people are not counted out: a table must not point at somebody."""

MEASURED = ("measure", "of", "value", "low", "high", "rows", "source")


class Clerk:
    """Writes cards from the records of one project; the same records give the same cards.

    `approvals`, `alerts`: folds of the same audit log.
    """

    def __init__(self, records: Records, blobs: Blobs, manifest: Manifest, approvals: Approvals,
                 alerts: Alerts, lived: Callable[[], Fairness | None] = lambda: None) -> None:  # fmt: skip
        self._records, self._blobs, self._manifest = records, blobs, manifest
        self._approvals, self._alerts, self._lived = approvals, alerts, lived

    def model(self, subject: Artifact) -> Card:
        """The card of a model, or of the model in a package."""
        model = model_behind(subject, self._records)
        chapters = (self._purpose(), self._made(model), self._data(model), self._measures(model), self._gate(model),
                    *self.fairness(model), self._environment(model), self._limits(),
                    self._approved(model), self._released(model), self._watched(model))  # fmt: skip
        return Card(kind="model", title=f"Model card: {model.ref.name}", subject=str(model.ref),
                    lead=self._manifest.card.purpose or "Nobody has written yet what it is for.",
                    chapters=chapters)  # fmt: skip

    def dataset(self, subject: Artifact) -> Card:
        """The card of a dataset version."""
        spec = subject.spec
        if not isinstance(spec, DatasetSpec):
            raise Invalid(f"{subject.ref.short} is not a dataset", hint="`fairlead data log` lists them")
        columns = self._profile(spec)
        chapters = (self._collected(subject, spec), self._columns(subject, spec, columns),
                    self._people(subject, columns), self._versions(subject))  # fmt: skip
        return Card(kind="data", title=f"Data card: {subject.ref.name}", subject=str(subject.ref),
                    lead=f"{spec.rows:,} rows, {len(spec.contract.columns)} columns.", chapters=chapters)  # fmt: skip

    def release(self, release: Release) -> Card:
        """The decision record of a release: what was promised, seen and decided, and by whom."""
        told = list(self._records.events(subject=f"release/{release.id}"))
        decided = [d for d in self._records.decisions(release.candidates[0])
                   if d.stay is not None and release.started_at <= d.at <= (release.ended_at or d.at)]  # fmt: skip
        chapters = (_promised(release), _verdicts("What the last look saw", decided[-1:]),
                    _happened(told), *self._granted((*release.candidates,), release.id))  # fmt: skip
        return Card(kind="release", title=f"Decision record: {release.id}", subject=release.id,
                    lead=f"{release.phase.value.replace('_', ' ')}: {release.reason or 'still under way'}.",
                    chapters=chapters)  # fmt: skip

    def bias(self, subject: Artifact) -> Card:
        """The bias summary of a model."""
        model = model_behind(subject, self._records)
        decided = [d for d in self._records.decisions(model.ref) if d.stay is None][-1:]
        parity = [v for d in decided for v in d.because if "parity" in v.check.name]
        judged = Chapter(title="What the gate said", grids=(
            Grid(titles=("check", "outcome", "reason", "source"),
                 rows=tuple((v.check.name, v.outcome.name.lower(), v.reason, _decision(decided[0])) for v in parity)),
        ) if parity else (), facts=() if parity else (_gap("parity checks", "declare data.sensitive, then `fairlead gate`"),))  # fmt: skip
        who = Chapter(title="Who is affected", facts=(
            self._said("affected", "affected people"), self._said("risks", "risks to their rights"),
            self._said("oversight", "human oversight")))  # fmt: skip
        return Card(kind="bias", title=f"Bias summary: {model.ref.name}", subject=str(model.ref),
                    lead="Rates by group with 95 % intervals; a group of few people has a wide one.",
                    chapters=(who, *self.fairness(model), judged, self._living(model)))  # fmt: skip

    def fairness(self, model: Artifact) -> tuple[Chapter, ...]:
        """Rates by group of the sensitive columns, and how far groups lie apart."""
        columns = self._manifest.data.sensitive
        if not columns:
            ask = "name the columns in data.sensitive, commit and train again"
            return (Chapter(title="Fairness", facts=(_gap("groups", ask),)),)
        run, facts = measured(model, self._records)
        of = {c for c in columns} | set(fairness.crossings(columns, self._manifest.data.crossed))
        rates = [e for e in facts if e.slice.partition("=")[0] in of and e.measure in fairness.FORMS]
        apart = list(fairness.disparities(rates, sorted(of)))
        if not rates:
            return (Chapter(title="Fairness", facts=(_gap("rates by group", "`fairlead gate` measures them"),)),)
        said = "parity: the lower rate over the higher; gap: their difference. Intervals cover all pairs of groups."
        return (Chapter(title="Fairness", lead=said, grids=(_grid(apart, run), _grid(rates, run))),)

    def _living(self, model: Artifact) -> Chapter:
        """The same in production, where the model serves and the log knows the groups."""
        title, found = "In production", self._lived()
        if found is None or model_behind(self._records.artifact(found.subject), self._records).ref != model.ref:
            return Chapter(title=title, facts=(_gap("groups in production", "release a package of it; data.sensitive names the groups"),))
        source = f"prediction log, {found.subject.short}"
        rows = tuple((c.measure, c.by, c.outcome, c.reason, min(g.n for g in c.groups), source) for c in found.compared)
        gaps = tuple(_gap("groups in production", text) for text in found.gaps)
        return Chapter(title=title, lead="Of what it answered lately, with the labels that have come.", facts=gaps,
                       grids=(Grid(titles=("measure", "by", "outcome", "reason", "fewest", "source"), rows=rows),) if rows else ())  # fmt: skip

    def _purpose(self) -> Chapter:
        names = {"purpose": "purpose", "users": "users", "affected": "affected people",
                 "out_of_scope": "not to be used for", "provider": "provider", "contact": "contact",
                 "risk": "risk class (EU AI Act)"}  # fmt: skip
        return Chapter(title="What it is for", facts=tuple(self._said(k, n) for k, n in names.items()))

    def _said(self, key: str, name: str) -> Fact:
        """What a person wrote in the manifest."""
        text = getattr(self._manifest.card, key)
        return Fact(name=name, value=text or None, source=f"fairlead.yaml card.{key}" if text else "",
                    ask="" if text else f"write card.{key} in fairlead.yaml")  # fmt: skip

    def _made(self, model: Artifact) -> Chapter:
        spec = _model(model)
        where, run = str(model.ref), self._run(model)
        facts = [Fact(name="model", value=str(model.ref), source=where),
                 Fact(name="kind", value=f"{spec.task}, kept as {spec.flavor}", source=where),
                 Fact(name="classes", value=", ".join(spec.classes) or "a number", source=where),
                 Fact(name="reads", value=", ".join(spec.inputs.names), source=where),
                 Fact(name="parameters", value=", ".join(f"{k} = {v}" for k, v in spec.params.items()) or "none", source=where),
                 Fact(name="made", value=_day(model.created_at), source=where)]  # fmt: skip
        if run is None:
            return Chapter(title="How it was made", facts=(*facts, _gap("training run", "trained elsewhere: ask the environment it came from")))
        source = f"run/{run.id}"
        facts += [Fact(name="training code (SHA-256)", value=run.code, source=source),
                  Fact(name="seed", value=run.seed, source=source)]  # fmt: skip
        return Chapter(title="How it was made", facts=tuple(facts))

    def _data(self, model: Artifact) -> Chapter:
        facts: list[Fact] = []
        for event in self._records.events(subject=str(model.ref)):
            if event.verb == "model.trained":
                facts += [Fact(name="rows learnt from", value=event.body["rows"], source=_event(event)),
                          Fact(name="rows held out", value=event.body["held_out"], source=_event(event))]  # fmt: skip
        rows = tuple((str(t.ref), _rows(t), _span(t), str(t.ref)) for t in tables_behind(model, self._records))
        return Chapter(title="What it learnt from", facts=tuple(facts) or (_gap("rows", "the model was not trained here"),),
                       grids=(Grid(titles=("table", "rows", "time span", "source"), rows=rows),))  # fmt: skip

    def _measures(self, model: Artifact) -> Chapter:
        run, facts = measured(model, self._records)
        if run is None:
            return Chapter(title="How good it is", facts=(_gap("measures", "`fairlead gate` measures them"),))
        shown = [e for e in facts if ":" not in e.measure]
        whole, parts = [e for e in shown if not e.slice], [e for e in shown if e.slice]
        grids = tuple(_grid(g, run) for g in (whole, parts) if g)
        gaps = () if parts else (_gap("measures by group", "name columns in data.slices or data.sensitive"),)
        return Chapter(title="How good it is", lead="On rows it never learnt from; intervals at 95 %.",
                       facts=(self._said("measures", "why these measures fit"), *gaps), grids=grids)  # fmt: skip

    def _gate(self, model: Artifact) -> Chapter:
        decided = [d for d in self._records.decisions(model.ref) if d.stay is None]
        return _verdicts("What the gate decided", decided[-1:])

    def _environment(self, model: Artifact) -> Chapter:
        spec = _model(model)
        try:
            lines = self._blobs.get(spec.environment).decode().splitlines()
        except (Missing, Invalid):
            return Chapter(title="Environment", facts=(_gap("packages", "the record of the environment is gone"),))
        source = f"blob/{spec.environment[:SHORT]}"
        head = [Fact(name=n, value=v, source=source) for n, _, v in (i.partition("==") for i in lines[:2])]
        return Chapter(title="Environment", facts=(*head, Fact(name="packages", value=len(lines) - 2, source=source)),
                       lead="`fairlead card bom` lists every package with its version.")  # fmt: skip

    def _limits(self) -> Chapter:
        names = {"limits": "known limits", "oversight": "human oversight", "risks": "risks",
                 "security": "cybersecurity", "instructions": "instructions for use"}  # fmt: skip
        return Chapter(title="Limits and oversight", facts=tuple(self._said(k, n) for k, n in names.items()))

    def _approved(self, model: Artifact) -> Chapter:
        found = self._granted(self._packages(model))
        return found[0] if found else Chapter(title="Who let it through", facts=(
            _gap("approvals", "nobody was asked: governance.approvals in fairlead.yaml asks for them"),))  # fmt: skip

    def _granted(self, packages: Sequence[Ref], used: str = "") -> tuple[Chapter, ...]:
        """Who approved, denied, or broke the glass for these packages."""
        rows: list[tuple[Cell, ...]] = []
        for one in self._approvals.all.values():
            if set(one.bound.packages) & set(packages) and used in ("", one.used):
                words = [("asked", one.asked), *(("granted", g) for g in one.grants)]
                words += [("denied", one.denied)] if one.denied else []
                rows += [(what, w.by, _day(w.at), w.reason, f"event {one.id}") for what, w in words]
        for glass in self._approvals.broken.values():
            if {str(p) for p in packages} & set(glass.packages) and used in ("", glass.release):
                rows.append(("broke the glass", glass.told.by, _day(glass.told.at), glass.told.reason, f"release/{glass.release}"))
        grid = Grid(titles=("what", "who", "when", "reason", "source"), rows=tuple(rows))
        return (Chapter(title="Who let it through", grids=(grid,)),) if rows else ()

    def _released(self, model: Artifact) -> Chapter:
        packages = set(self._packages(model))
        rows = tuple((r.id, r.plan.name, r.phase.value.replace("_", " "), _day(r.started_at), _day(r.ended_at),
                      r.reason, f"release/{r.id}")
                     for r in self._records.releases() if packages & {*r.candidates, *filter(None, (r.winner,))})  # fmt: skip
        titles = ("release", "plan", "stands", "started", "ended", "why", "source")
        if not rows:
            return Chapter(title="Releases", facts=(_gap("releases", "none yet: `fairlead release start`"),))
        return Chapter(title="Releases", grids=(Grid(titles=titles, rows=rows),))

    def _watched(self, model: Artifact) -> Chapter:
        packages = {str(p) for p in self._packages(model)}
        rows = tuple((a.name, a.state, a.cause, a.count, _day(a.raised_at), f"event {a.id}")
                     for a in self._alerts.all if a.package in packages)  # fmt: skip
        facts = (Fact(name="monitors of its own", value=len(self._manifest.monitors), source="fairlead.yaml monitors"),
                 Fact(name="ready-made monitors", value=self._manifest.watch.ready_made, source="fairlead.yaml watch.ready_made"),
                 Fact(name="alerts", value=len(rows), source="audit log"))  # fmt: skip
        grid = Grid(titles=("monitor", "state", "cause", "times", "first", "source"), rows=rows)
        return Chapter(title="In production", facts=facts, grids=(grid,) if rows else ())

    def _collected(self, subject: Artifact, spec: DatasetSpec) -> Chapter:
        where, roles = str(subject.ref), spec.contract
        files = [(str(e.body.get("source", "")), _event(e)) for e in self._records.events(subject=where)
                 if e.verb == "data.committed"]  # fmt: skip
        facts = (Fact(name="dataset", value=where, source=where), Fact(name="rows", value=spec.rows, source=where),
                 *(Fact(name="file", value=name, source=event) for name, event in files),
                 Fact(name="time span", value=_span(subject) or None, source=where, ask="name data.time"),
                 Fact(name="target", value=roles.target or None, source=where, ask="name data.target"),
                 self._said("collection", "how it was collected and labelled"))  # fmt: skip
        parts = tuple((i + 1, p.rows, p.size, p.digest, where) for i, p in enumerate(spec.parts))
        grid = Grid(titles=("part", "rows", "bytes", "SHA-256", "source"), rows=parts)
        return Chapter(title="Where it comes from", facts=facts, grids=(grid,))

    def _profile(self, spec: DatasetSpec) -> dict[str, ColumnProfile]:
        try:
            return {c.name: c for c in data.profile_of(spec, self._blobs).columns}
        except (Missing, Corrupt, Invalid):
            return {}

    def _columns(self, subject: Artifact, spec: DatasetSpec, columns: dict[str, ColumnProfile]) -> Chapter:
        source = f"blob/{spec.profile[:SHORT]}"
        rows = []
        for c in spec.contract.columns:
            seen = columns.get(c.name)
            low, high = (_end(v, c.dtype) for v in (c.low, c.high))
            rows.append((c.name, c.dtype, "yes" if c.nullable else "no", low, high, len(c.categories) or None,
                         _number(seen.null_rate) if seen else None,
                         _number(seen.mean) if seen and seen.kind == "number" and c.dtype != "datetime" else None,
                         source if seen else str(subject.ref)))  # fmt: skip
        titles = ("column", "type", "may be empty", "lowest", "highest", "known values", "share empty", "mean", "source")
        gaps = () if columns else (_gap("profile", "it was erased or is gone: only the contract is left"),)
        return Chapter(title="Columns", lead="The contract every later version is held to, and what was seen.",
                       facts=gaps, grids=(Grid(titles=titles, rows=tuple(rows)),))  # fmt: skip

    def _people(self, subject: Artifact, columns: dict[str, ColumnProfile]) -> Chapter:
        sensitive, rows = self._manifest.data.sensitive, []
        for column in (columns[n] for n in sensitive if n in columns):
            rows += [(column.name, label, n if n >= FEW else f"fewer than {FEW}",
                      _number(n / column.n) if n >= FEW else None, str(subject.ref))
                     for label, n in sorted(column.labels.items(), key=lambda i: (-i[1], i[0]))]  # fmt: skip
        grid = Grid(titles=("column", "group", "rows", "share", "source"), rows=tuple(rows))
        gaps = () if rows else (_gap("groups of people", "name the columns in data.sensitive"),)
        return Chapter(title="Who is in it", facts=(*gaps, self._said("affected", "affected people")),
                       grids=(grid,) if rows else ())  # fmt: skip

    def _versions(self, subject: Artifact) -> Chapter:
        history = data.log(self._records.artifacts("dataset", subject.ref.name))
        rows = tuple((v.ref.short, _day(v.at), v.rows, v.added, v.change.size,
                      "; ".join(f"{c.column} {c.text}" for c in v.change.changes), str(v.ref)) for v in history)  # fmt: skip
        titles = ("version", "made", "rows", "more than before", "contract", "changes", "source")
        return Chapter(title="Versions", grids=(Grid(titles=titles, rows=rows),))

    def _packages(self, model: Artifact) -> tuple[Ref, ...]:
        return tuple(a.ref for a in self._records.artifacts("package")
                     if isinstance(a.spec, PackageSpec) and a.spec.model == model.ref)  # fmt: skip

    def _run(self, model: Artifact) -> Run | None:
        try:
            return self._records.run(model.run) if model.run else None
        except Missing:
            return None


def measured(model: Artifact, records: Records) -> tuple[Run | None, tuple[Evidence, ...]]:
    """The newest run that measured `model`, and what it found of it; (None, ()) when none did."""
    runs = [r for r in records.runs() if r.state == "done" and any(e.subject == model.ref for e in r.evidence)]
    judged = [r for r in runs if r.verb == "evaluate"] or runs
    if not judged:
        return None, ()
    return judged[-1], tuple(e for e in judged[-1].evidence if e.subject == model.ref)


def model_behind(subject: Artifact, records: Records) -> Artifact:
    """The model itself, or that of a package. Raises Invalid for another kind."""
    found = records.artifact(subject.spec.model) if isinstance(subject.spec, PackageSpec) else subject
    _model(found)
    return found


def tables_behind(model: Artifact, records: Records) -> list[Artifact]:
    """The datasets and features a model descends from, the nearest first; those recorded here."""
    found: list[Artifact] = []
    try:
        found += (a for a in ancestors(model.ref, records.artifact)
                  if isinstance(a.spec, DatasetSpec | FeaturesSpec))  # fmt: skip
    except Missing:
        return found
    return found


def _model(artifact: Artifact) -> ModelSpec:
    if not isinstance(artifact.spec, ModelSpec):
        raise Invalid(f"{artifact.ref.short} is not a model", hint="name a model or a package")
    return artifact.spec


def _promised(release: Release) -> Chapter:
    where, odds = f"release/{release.id}", release.plan.odds
    facts = (Fact(name="candidates", value=", ".join(map(str, release.candidates)), source=where),
             Fact(name="baseline", value=str(release.baseline) if release.baseline else "none: the first", source=where),
             Fact(name="plan", value=release.plan.name, source=where),
             Fact(name="chance to roll back the harmless", value=odds.alpha, source=where),
             Fact(name="chance to promote the harmful", value=odds.beta, source=where),
             Fact(name="started", value=_day(release.started_at), source=where),
             Fact(name="ended", value=_day(release.ended_at) or "still running", source=where),
             Fact(name="winner", value=str(release.winner) if release.winner else "none", source=where))  # fmt: skip
    rows = tuple((i + 1, s.share.weight if isinstance(s.share, Fixed) else "adaptive", s.mirror, s.hold, s.patience,
                  ", ".join(c.name for c in s.checks), where) for i, s in enumerate(release.plan.steps))  # fmt: skip
    titles = ("step", "share", "mirrored", "hold (s)", "patience (s)", "checks", "source")
    return Chapter(title="What was promised", facts=facts, grids=(Grid(titles=titles, rows=rows),))


def _verdicts(title: str, decided: Sequence[Decision]) -> Chapter:
    if not decided:
        return Chapter(title=title, facts=(_gap("verdicts", "nothing was judged: no check applied, or it has not run"),))
    last = decided[-1]
    rows = tuple((v.check.name, v.outcome.name.lower(), v.reason, _decision(last)) for v in last.because)
    facts = (Fact(name="decision", value="proceed" if last.proceed else ", ".join(sorted(last.actions)), source=_decision(last)),
             Fact(name="when", value=_day(last.at), source=_decision(last)), Fact(name="by", value=last.actor, source=_decision(last)))  # fmt: skip
    return Chapter(title=title, facts=facts, grids=(Grid(titles=("check", "outcome", "reason", "source"), rows=rows),))


def _happened(told: Iterable[Event]) -> Chapter:
    rows = tuple((_day(e.at), e.actor, e.verb, str(e.body.get("reason") or e.body.get("cause") or ""), _event(e)) for e in told)
    return Chapter(title="What happened", grids=(Grid(titles=("when", "who", "what", "why", "source"), rows=rows),))


def _grid(facts: Iterable[Evidence], run: Run | None) -> Grid:
    source = f"run/{run.id}" if run else ""
    rows = tuple((e.measure, e.slice or "all", _number(e.value), _number(e.low), _number(e.high), e.n, source) for e in facts)
    return Grid(titles=MEASURED, rows=rows)


def _gap(name: str, ask: str) -> Fact:
    return Fact(name=name, ask=ask)


def _event(event: Event) -> str:
    return f"event {event.seq}"


def _decision(decision: Decision) -> str:
    """Decisions have no number: the digest of one names it."""
    return f"decision {digest(decision)[:SHORT]}"


def _day(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S") if at else ""


def _rows(table: Artifact) -> int:
    spec = table.spec
    assert isinstance(spec, DatasetSpec | FeaturesSpec)
    return sum(p.rows for p in spec.parts)


def _span(table: Artifact) -> str:
    """From and to of the time column, by the contract."""
    spec: Any = table.spec
    schema = spec.contract if isinstance(spec, DatasetSpec) else spec.schema
    column = schema.column(schema.time) if schema.time else None
    if column is None or column.low is None or column.high is None:
        return ""
    return f"{_day(column.low)} to {_day(column.high)}"


def _end(value: float | None, dtype: str) -> Cell:
    return _day(value) if value is not None and dtype == "datetime" else _number(value)


def _number(value: float | None) -> float | None:
    """Six significant digits; None of what is no number."""
    return float(f"{value:.6g}") if value is not None and isfinite(value) else None
