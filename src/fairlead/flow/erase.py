"""Erasing one person: rows rewritten into new versions, what held them deleted, and what remains said.

New things come first, then the event, then the deletions: an erasure that was cut short is repeated
with the same words and finds what is left. Events name columns and counts, never a value.
"""

import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace as changed

from fairlead.core.artifact import (
    Artifact,
    DatasetSpec,
    FeaturesSpec,
    ModelSpec,
    PackageSpec,
    Part,
    name_of,
)
from fairlead.core.prediction import Erased
from fairlead.core.ref import Ref
from fairlead.core.release import Service
from fairlead.core.retention import HOLD, LOG, holds
from fairlead.core.schema import Column, Schema
from fairlead.core.tombs import ERASED, ERASURE, REDACTED, cleaned, record_of, without
from fairlead.errors import Conflict, Invalid, Missing
from fairlead.flow import data, outline, parts
from fairlead.flow.conform import infer_contract
from fairlead.flow.explain import orphans
from fairlead.flow.impact import impact
from fairlead.flow.remains import SHORTEST, Remain, remains, sweep
from fairlead.flow.rows import ROW
from fairlead.ports import Blobs, Change, Clock, Online, PredictionLog, Records, Stored

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Eraser", "Erasure", "Found", "Log"]

Where = Mapping[str, str]

MASK = "\0theirs"
"""A column no table can have."""


class Log(Struct, frozen=True, kw_only=True):
    """How the person is named in the prediction log: per column the value, and what stands there
    instead of it when it is redacted; the units they are."""

    where: dict[str, tuple[str, ...]]
    units: tuple[str, ...] = ()


class Found(Struct, frozen=True, kw_only=True):
    """Rows of the person in a table, or what a model or package has to do with them: `rows` it
    learnt from or was judged by. `live`: it answers now, so it stays until another one does."""

    ref: Ref
    rows: int
    live: bool = False


class Erasure(Struct, frozen=True, kw_only=True):
    """What is to be erased, or was. `successors`: the new version of each table. `facts`: of the
    online store; `predictions`: answers of affected packages that callers saw; `remains`: where
    something is left, and why."""

    columns: tuple[str, ...]
    tables: tuple[Found, ...]
    models: tuple[Found, ...]
    packages: tuple[Found, ...]
    predictions: int = 0
    log: Erased = Erased()
    facts: int = 0
    successors: dict[str, str] = {}
    remains: tuple[Remain, ...] = ()

    @property
    def anything(self) -> bool:
        """Whether there was anything to erase."""
        return any((self.tables, self.models, self.packages, self.log.answers, self.log.feedback, self.log.refused,
                    self.facts))  # fmt: skip

    @property
    def waiting(self) -> tuple[Ref, ...]:
        """What answers now, and is erased by `finish` when it does not any more."""
        return tuple(f.ref for f in (*self.models, *self.packages) if f.live)


class Eraser:
    """Erases from one project. `state`: its folder of state; `root`: the folder of the project."""

    def __init__(self, records: Records, blobs: Blobs, log: PredictionLog, clock: Clock, root: Path,
                 state: Path, known_at: str = "") -> None:  # fmt: skip
        self._records, self._blobs, self._log, self._clock = records, blobs, log, clock
        self._root, self._state, self._known_at = root, state, known_at

    def find(self, where: Where, log: Log) -> tuple[Erasure, "_Rows"]:
        """What would be erased. Raises Invalid when no table has these columns."""
        tables = [a for a in self._tables() if set(where) <= set(_schema(a).names) or ROW in _schema(a).names]
        if not any(set(where) <= set(_schema(a).names) for a in tables):
            raise Invalid(f"no table has the column {' and '.join(where)}",
                          hint="`fairlead card data` lists the columns")  # fmt: skip
        asked = self._asked(log) if any(ROW in _schema(a).names for a in tables) else frozenset()
        rows = _Rows(log.where, asked, self._tables(), self._blobs)
        held = [Found(ref=a.ref, rows=n) for a in tables if (n := sum(rows.of(p) for p in _parts(a)))]
        live, reached = self._live(), 0
        touched: dict[Ref, int] = {}
        for table in held:
            seen = impact(self._records.artifact(table.ref), self._log, self._records, self._blobs,
                          rows=where if ROW not in _schema(self._records.artifact(table.ref)).names
                          else {ROW: rows.named}, known_at=self._known_at)  # fmt: skip
            lessons = {t.model: t.learnt + t.held_out for t in seen.taught}
            for made in seen.artifacts:
                taught = made.spec.model if isinstance(made.spec, PackageSpec) else made.ref
                if lessons.get(taught):
                    touched[made.ref] = lessons[taught]
            reached = max(reached, seen.predictions)
        gone = rows.personal() if held else set()
        for made in self._named(gone):
            touched.setdefault(made.ref, 0)
        found = [Found(ref=ref, rows=n, live=ref in live) for ref, n in touched.items()]
        return Erasure(
            columns=tuple(where), tables=tuple(held), predictions=reached,
            models=tuple(f for f in found if f.ref.kind == "model"),
            packages=tuple(f for f in found if f.ref.kind == "package"),
        ), rows  # fmt: skip

    def erase(self, where: Where, log: Log, online: Online | None, reason: str, actor: str) -> Erasure:
        """Erase for good. Raises Invalid (no such column; a reason that names the person), Conflict
        (something is held, or another process holds the log or the online store)."""
        plan, rows = self.find(where, log)
        alone = where if len(where) == 1 else {}  # of two columns neither needs to name a person
        gone = rows.personal() | set(alone.values())
        if any(value in reason for value in gone if len(value) >= SHORTEST):
            raise Invalid("the reason names the person", hint="it stays in the audit log: name the request instead")
        self._held(plan)
        out = self._log.erase(log.where, log.units)
        facts = sum(online.forget(c, v) for c, v in alone.items()) if online is not None else 0
        made = {f.ref: self._successor(f.ref, rows, gone) for f in plan.tables if self._newest(f.ref)}
        plan = changed(plan, log=out, facts=facts, successors={str(old): str(a.ref) for old, a in made.items()})
        if plan.anything:
            self._write(plan, list(made.values()), gone, reason, actor)
        self._delete(plan, rows, gone)
        return changed(plan, remains=tuple(remains(self._root, self._state, gone, self._records)))

    def _asked(self, log: Log) -> frozenset[str]:
        """The ids of the person's requests, by which the tables made from the log know them."""
        return frozenset(p.id for p in self._log.predictions() if p.unit in log.units
                         or (log.where and all(str(p.inputs.get(c)) in vs for c, vs in log.where.items())))  # fmt: skip

    def finish(self, reason: str, actor: str) -> Erasure:
        """Erase what answered at the time of an earlier erasure and does not any more."""
        live, waiting = self._live(), dict.fromkeys(r for e in self._records.events(subject=ERASURE)
                                                    for r in e.body.get("waiting", ()))  # fmt: skip
        done = {r for e in self._records.events(subject=ERASURE) for r in e.body.get("erased", ())}
        refs = [Ref.parse(r) for r in waiting if r not in done]
        found = [Found(ref=r, rows=0, live=r in live) for r in refs]
        plan = Erasure(columns=(), tables=(), models=tuple(f for f in found if f.ref.kind == "model"),
                       packages=tuple(f for f in found if f.ref.kind == "package"))  # fmt: skip
        if any(not f.live for f in found):
            gone = self._unknown(f.ref for f in found if not f.live)
            self._write(plan, [], gone, reason, actor)
            self._delete(plan, None, gone)
        return plan

    def _tables(self) -> list[Artifact]:
        return [a for a in self._records.artifacts() if isinstance(a.spec, DatasetSpec | FeaturesSpec)]

    def _live(self) -> set[Ref]:
        """Packages that answer now or are in a running release, and the models in them."""
        packages = {s.package for s in self._records.services() if s.package}
        for release in self._records.releases():
            if not release.phase.final:
                packages |= {*release.candidates, *filter(None, (release.baseline,))}
        specs = [(p, self._records.artifact(p).spec) for p in packages]
        return packages | {s.model for _, s in specs if isinstance(s, PackageSpec)}

    def _named(self, gone: Collection[str]) -> Iterator[Artifact]:
        """Models and packages whose record names a value that only this person had."""
        for made in self._records.artifacts():
            if isinstance(made.spec, ModelSpec | PackageSpec) and without(made, gone) != made:
                yield made

    def _held(self, plan: Erasure) -> None:
        standing = holds(self._records.events(subject=HOLD))
        for ref in (LOG, *(str(f.ref) for f in (*plan.tables, *plan.models, *plan.packages))):
            if hold := standing.get(ref):
                raise Conflict(f"{ref[:60]} is held by {hold.by}: {hold.reason}",
                               hint=f"`fairlead data hold remove {ref[:60]}` when the duty to keep it has ended")  # fmt: skip

    def _newest(self, ref: Ref) -> bool:
        """Whether it is the newest dataset of its name: only that one gets a successor."""
        return ref.kind == "dataset" and self._records.artifacts("dataset", ref.name)[-1].ref == ref

    def _successor(self, ref: Ref, rows: "_Rows", gone: Collection[str]) -> Artifact:
        """The table without the person, as a new version."""
        spec = self._records.artifact(ref).spec
        assert isinstance(spec, DatasetSpec)
        kept: list[Part] = []
        for part in spec.parts:
            kept += [part] if not rows.of(part) else parts.store(rows.rest(part), self._blobs)
        if not kept:
            raise Invalid(f"{ref.short} holds nobody else", hint="delete the whole project instead")
        old = spec.contract
        frame = data.read(changed(spec, parts=tuple(kept)), self._blobs)
        seen = infer_contract(frame, target=old.target, time=old.time, entity=old.entity, like=old)
        contract = _fitted(old, seen, gone)
        profile = outline.store(outline.profile(frame, contract), self._blobs)
        made = DatasetSpec(parts=tuple(kept), contract=contract, profile=profile)
        return Artifact(ref=name_of(ref.name, made), spec=made, created_at=self._clock.now())

    def _write(self, plan: Erasure, made: Sequence[Artifact], gone: Collection[str], reason: str,
               actor: str) -> None:  # fmt: skip
        """The new versions, the redacted records, the event, in one change."""
        dead = {f.ref for f in plan.packages if not f.live}
        services = [(s, _left(s, dead)) for s in self._records.services() if dead & set(s.previous)]
        erased = {str(f.ref): f.rows for f in (*plan.tables, *plan.models, *plan.packages) if not f.live}
        body = {"columns": plan.columns, "reason": reason, "erased": erased, "successors": plan.successors,
                "waiting": [str(r) for r in plan.waiting], "answers": plan.log.answers,
                "feedback": plan.log.feedback, "refused": plan.log.refused, "facts": plan.facts}  # fmt: skip
        self._records.commit(Change(
            at=self._clock.now(), actor=actor, verb=ERASED, subject=ERASURE, body=body, artifacts=tuple(made),
            services=tuple(services), redacted=tuple(self._redacted(gone)),
        ))  # fmt: skip
        # A live package keeps its record: its digest is checked whenever it is loaded.
        for one in (a for a in self._records.artifacts() if a.ref not in plan.waiting):
            if (clean := without(one, gone)) != one:
                self._records.commit(Change(at=self._clock.now(), actor=actor, verb=REDACTED,
                                            subject=record_of(one.ref), redacted=((one, clean),)))  # fmt: skip

    def _redacted(self, gone: Collection[str]) -> Iterator[tuple[Stored, Stored]]:
        """Runs and decisions that name a value only this person had, and what they become."""
        for run in self._records.runs():
            if (clean_run := without(run, gone)) != run:
                yield run, clean_run
        for subject in dict.fromkeys(a.ref for a in self._records.artifacts()):
            for decision in self._records.decisions(subject):
                if (clean_decision := without(decision, gone)) != decision:
                    yield decision, clean_decision

    def _delete(self, plan: Erasure, rows: "_Rows | None", gone: Collection[str]) -> None:
        """Every blob and folder that held the person."""
        doomed = {p.digest for p in rows.parts()} if rows is not None else set()
        for found in (*plan.tables, *plan.models, *plan.packages):
            spec = self._records.artifact(found.ref).spec
            if isinstance(spec, DatasetSpec):
                doomed.add(spec.profile)
            elif isinstance(spec, ModelSpec) and not found.live:
                doomed.update(d for n, d in spec.files.items())
            elif isinstance(spec, PackageSpec) and not found.live:
                shutil.rmtree(self._state / "packages" / found.ref.digest, ignore_errors=True)
        doomed |= {*self._told(gone), *orphans(self._log, self._records, self._blobs)}
        for digest in doomed - self._needed(plan) - {""}:
            self._blobs.delete(digest)
        if any(not f.live for f in plan.packages):
            shutil.rmtree(self._state / "images", ignore_errors=True)  # packed copies of packages
        for leftovers in ("jobs", "blobs/drafts"):
            sweep(self._state / leftovers, gone)
        self._records.compact()

    def _needed(self, plan: Erasure) -> set[str]:
        """Files that others still stand on: live models, and versions without the person."""
        dead = {f.ref for f in (*plan.tables, *plan.models, *plan.packages) if not f.live}
        specs = [a.spec for a in self._records.artifacts() if a.ref not in dead]
        files = {d for s in specs if isinstance(s, ModelSpec | PackageSpec) for d in s.files.values()}
        return files | {s.profile for s in specs if isinstance(s, DatasetSpec)}

    def _told(self, gone: Collection[str]) -> Iterator[str]:
        """What jobs were told, where it names a value only this person had."""
        for run in self._records.runs():
            with suppress(Missing):
                told = msgspec.json.decode(self._blobs.get(run.job)) if run.job else None
                if cleaned(told, gone) != told:
                    yield run.job

    def _unknown(self, refs: Iterable[Ref]) -> set[str]:
        """Category values in the records of these that no newest version of a table knows any more."""
        known: set[str] = set()
        for table in {a.ref.name: a for a in self._records.artifacts("dataset")}.values():
            known |= _categories(_schema(table))
        specs = [self._records.artifact(r).spec for r in refs]
        seen = (_categories(s.inputs if isinstance(s, ModelSpec) else s.contract)
                for s in specs if isinstance(s, ModelSpec | PackageSpec))  # fmt: skip
        return set().union(*seen) - known


class _Rows:
    """The rows of the person in every part of every table, each part read once. `where`: by column
    the values that are theirs; `asked`: their requests, whose rows in tables of the log are theirs too;
    `named`: of their rows in such tables the ids."""

    def __init__(self, where: Mapping[str, Collection[str]], asked: Collection[str],
                 tables: Iterable[Artifact], blobs: Blobs) -> None:  # fmt: skip
        self._where, self._asked, self._blobs = where, asked, blobs
        self.named: list[str] = []
        self._counts: dict[str, int] = {}
        self._held: dict[str, Part] = {}
        self._gone: set[str] = set()
        self._kept: set[str] = set()
        for part in {p.digest: p for a in tables for p in _parts(a)}.values():
            with suppress(Missing):  # erased before
                self._take(part)

    def of(self, part: Part) -> int:
        """How many rows of a part are theirs."""
        return self._counts.get(part.digest, 0)

    def parts(self) -> list[Part]:
        """Those with a row of theirs."""
        return list(self._held.values())

    def personal(self) -> set[str]:
        """Texts in their rows that nobody else's rows hold."""
        return self._gone - self._kept

    def rest(self, part: Part) -> "pl.DataFrame":
        """The rows of the others."""
        frame = parts.load(part, self._blobs)
        return frame.filter(~self._mask(frame))

    def _take(self, part: Part) -> None:
        frame = parts.load(part, self._blobs)
        mask = self._mask(frame)
        theirs, others = frame.filter(mask), frame.filter(~mask)
        self._gone |= _texts(theirs)
        self._kept |= _texts(others)
        if ROW in theirs.columns:
            self.named += theirs.get_column(ROW).to_list()
        if theirs.height:
            self._counts[part.digest], self._held[part.digest] = theirs.height, part

    def _mask(self, frame: "pl.DataFrame") -> "pl.Series":
        import polars as pl

        theirs = [pl.lit(False)]
        if set(self._where) <= set(frame.columns):
            tests = [pl.col(c).cast(pl.String).is_in(list(vs)) for c, vs in self._where.items()]
            theirs.append(pl.all_horizontal(tests))
        if ROW in frame.columns:
            theirs.append(pl.col(ROW).is_in(list(self._asked)))
        mask = pl.any_horizontal(*(t.fill_null(False) for t in theirs))
        return frame.with_columns(mask.alias(MASK)).get_column(MASK)


def _texts(frame: "pl.DataFrame") -> set[str]:
    import polars as pl

    columns = frame.drop(ROW, strict=False).select(pl.col(pl.String)).get_columns()
    return {text for c in columns for text in c.unique().to_list() if text}


def _schema(table: Artifact) -> Schema:
    spec: Any = table.spec
    return spec.contract if isinstance(spec, DatasetSpec) else spec.schema


def _parts(table: Artifact) -> tuple[Part, ...]:
    spec: Any = table.spec
    return tuple(spec.parts)


def _categories(schema: Schema) -> set[str]:
    return {value for column in schema.columns for value in column.categories}


def _fitted(old: Schema, seen: Schema, gone: Collection[str]) -> Schema:
    """The contract as it was, without the values and the ranges that only the erased rows knew."""
    now = {c.name: c for c in seen.columns}

    def column(c: Column) -> Column:
        return changed(c, low=now[c.name].low, high=now[c.name].high,
                       categories=tuple(v for v in c.categories if v not in gone))  # fmt: skip

    return changed(old, columns=tuple(column(c) if c.name in now else c for c in old.columns))


def _left(service: Service, dead: Collection[Ref]) -> Service:
    """Nobody goes back to what was erased."""
    previous = tuple(p for p in service.previous if p not in dead)
    return changed(service, previous=previous, epoch=service.epoch + 1)
