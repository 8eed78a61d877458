"""Records and audit log on a relational database: the tables and the statements all engines share.

Values are stored as their canonical JSON beside the columns they are found by; an event is stored
column by column, so that its seal covers everything a query may read of it.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar, cast

import msgspec

from fairlead.adapters.records.lookup import choose, missing, moved
from fairlead.core.artifact import Artifact
from fairlead.core.decision import Decision
from fairlead.core.event import Event, follow, seal
from fairlead.core.ref import Kind, Ref, canonical
from fairlead.core.release import Release, Service
from fairlead.core.run import Run
from fairlead.errors import Corrupt, Missing, Unavailable
from fairlead.ports import Change, Stored

if TYPE_CHECKING:
    import sqlalchemy as sa

__all__ = ["PAGE", "Statements", "SqlRecords", "statements", "translated"]

T = TypeVar("T", Artifact, Run, Decision, Release, Service)

PAGE = 1000
"""Events read at once: short reads never make a writer wait long."""


class Statements:
    """Every table and statement, built once. Raises Missing without SQLAlchemy.

    `place` numbers rows in the order of recording; `seq` is the event that recorded them.
    """

    def __init__(self) -> None:
        try:
            import sqlalchemy as sa
        except ImportError as error:
            raise Missing("records need SQLAlchemy, which is not installed",
                          hint='pip install "fairlead[lab]"') from error  # fmt: skip
        self.metadata = sa.MetaData()
        self._tables(sa.Integer(), sa.Text())
        self._reads(sa.bindparam)
        self._writes(sa.bindparam)

    def _tables(self, whole: "sa.Integer", text: "sa.Text") -> None:
        from sqlalchemy import Column, Double, Table

        def table(name: str, *columns: "sa.Column[Any]") -> "sa.Table":
            return Table(name, self.metadata, *columns)

        def place() -> "sa.Column[int]":
            return Column("place", whole, primary_key=True, autoincrement=True)

        def must(name: str, kind: "sa.types.TypeEngine[Any]", **more: Any) -> "sa.Column[Any]":
            return Column(name, kind, nullable=False, **more)

        self.artifact = table("artifact", place(), must("ref", text, unique=True),
                              must("kind", text), must("name", text), must("digest", text),
                              must("seq", whole), must("body", text))  # fmt: skip
        self.run = table("run", place(), must("id", text, unique=True), must("seq", whole),
                         must("body", text))  # fmt: skip
        self.decision = table("decision", place(), must("subject", text, index=True),
                              must("seq", whole), must("body", text))  # fmt: skip
        self.release = table("release", place(), must("id", text, unique=True),
                             must("service", text), must("seq", whole), must("body", text))  # fmt: skip
        self.service = table("service", Column("name", text, primary_key=True), must("seq", whole),
                             must("body", text))  # fmt: skip
        self.event = table("event", Column("seq", whole, primary_key=True, autoincrement=False),
                           must("at", Double()), must("actor", text), must("verb", text),
                           must("subject", text, index=True), must("body", text),
                           must("prev", text))  # fmt: skip
        self.head = table("head", Column("id", whole, primary_key=True, autoincrement=False),
                          must("seq", whole), must("seal", text))  # fmt: skip

    def _reads(self, bind: "Callable[[str], sa.BindParameter[Any]]") -> None:
        from sqlalchemy import func, or_, select

        def among(column: "sa.Column[Any]", name: str) -> "sa.ColumnElement[bool]":
            return or_(bind(name) == "", column == bind(name))

        a, e = self.artifact.c, self.event.c
        narrow = (among(a.kind, "kind"), among(a.name, "name"))
        prefix = func.substr(a.digest, 1, func.length(bind("prefix"))) == bind("prefix")
        self.one_artifact = select(a.body).where(a.ref == bind("key"))
        self.some_refs = select(a.ref).where(*narrow, prefix).order_by(a.place)
        self.some_artifacts = select(a.body).where(*narrow).order_by(a.place)
        self.one_run = select(self.run.c.body).where(self.run.c.id == bind("key"))
        self.all_runs = select(self.run.c.body).order_by(self.run.c.place)
        self.one_release = select(self.release.c.body).where(self.release.c.id == bind("key"))
        self.some_releases = (select(self.release.c.body)
                              .where(among(self.release.c.service, "service"))
                              .order_by(self.release.c.place))  # fmt: skip
        self.one_service = select(self.service.c.body).where(self.service.c.name == bind("key"))
        self.all_services = select(self.service.c.body).order_by(self.service.c.name)
        self.some_decisions = (select(self.decision.c.body)
                               .where(self.decision.c.subject == bind("key"))
                               .order_by(self.decision.c.place))  # fmt: skip
        self.page = select(self.event).where(e.seq > bind("since")).order_by(e.seq).limit(PAGE)
        self.page_about = self.page.where(e.subject == bind("subject"))
        self.read_head = select(self.head.c.seq, self.head.c.seal)
        self.lock_head = self.read_head.with_for_update()

    def _writes(self, bind: "Callable[[str], sa.BindParameter[Any]]") -> None:
        r, s = self.release, self.service
        self.move_release = r.update().where(r.c.id == bind("key")).values(
            seq=bind("seq"), body=bind("body"))  # fmt: skip
        self.move_service = s.update().where(s.c.name == bind("key")).values(
            seq=bind("seq"), body=bind("body"))  # fmt: skip
        named = {Artifact: (self.artifact, "ref"), Run: (self.run, "id"), Decision: (self.decision, "body")}
        self.redact = {kind: t.update().where(t.c[by] == bind("key")).values(body=bind("after"))
                       for kind, (t, by) in named.items()}  # fmt: skip
        self.move_head = self.head.update().values(seq=bind("seq"), seal=bind("seal"))


@cache
def statements() -> Statements:
    """The one set of statements; building it imports SQLAlchemy."""
    return Statements()


@contextmanager
def translated() -> Iterator[None]:
    """Turn what the database says into our errors: Unavailable (busy, full, gone) or Corrupt."""
    from sqlalchemy import exc

    try:
        yield
    except exc.OperationalError as error:
        raise Unavailable(f"records cannot be reached: {error.orig}",
                          hint="check disk space and who else holds the database") from error  # fmt: skip
    except exc.DatabaseError as error:
        raise Corrupt(f"records are damaged: {error.orig}",
                      hint="stop, and restore the newest backup of the database") from error  # fmt: skip


class SqlRecords:
    """Records on an engine. `writing` opens a transaction that no other writer can enter."""

    def __init__(self, engine: "sa.Engine",
                 writing: "Callable[[], AbstractContextManager[sa.Connection]]") -> None:  # fmt: skip
        self.engine = engine
        self._writing = writing
        self._sql = statements()

    def close(self) -> None:
        """Let go of every connection."""
        self.engine.dispose()

    def commit(self, change: Change) -> Event:
        with translated(), self._writing() as connection:
            row = connection.execute(self._sql.lock_head).one()
            event = follow((row.seq, row.seal), Event(
                at=change.at, actor=change.actor, verb=change.verb, subject=change.subject,
                body=change.body))  # fmt: skip
            self._swap(connection, event.seq, change)
            self._add(connection, event.seq, change)
            connection.execute(self._sql.event.insert(), _row(event))
            connection.execute(self._sql.move_head, {"seq": event.seq, "seal": seal(event)})
        return event

    def _swap(self, connection: "sa.Connection", seq: int, change: Change) -> None:
        sql = self._sql
        for before, after in change.services:
            stored = connection.execute(sql.one_service, {"key": after.name}).scalar()
            if (None if stored is None else _decoded(stored, Service)) != before:
                raise moved("service", after.name)
            if before is None:
                values = {"name": after.name, "seq": seq, "body": _text(after)}
                connection.execute(sql.service.insert(), values)
            else:
                values = {"key": after.name, "seq": seq, "body": _text(after)}
                connection.execute(sql.move_service, values)
        for last, new in change.releases:
            stored = connection.execute(sql.one_release, {"key": new.id}).scalar()
            if (None if stored is None else _decoded(stored, Release)) != last:
                raise moved("release", new.id)
            if last is None:
                values = {"id": new.id, "service": new.service, "seq": seq, "body": _text(new)}
                connection.execute(sql.release.insert(), values)
            else:
                values = {"key": new.id, "seq": seq, "body": _text(new)}
                connection.execute(sql.move_release, values)

    def _add(self, connection: "sa.Connection", seq: int, change: Change) -> None:
        sql = self._sql
        for artifact in change.artifacts:
            ref = artifact.ref
            if connection.execute(sql.one_artifact, {"key": str(ref)}).scalar() is None:
                connection.execute(sql.artifact.insert(), {
                    "ref": str(ref), "kind": ref.kind, "name": ref.name, "digest": ref.digest,
                    "seq": seq, "body": _text(artifact)})  # fmt: skip
        for run in change.runs:
            if connection.execute(sql.one_run, {"key": run.id}).scalar() is None:
                values = {"id": run.id, "seq": seq, "body": _text(run)}
                connection.execute(sql.run.insert(), values)
        for decision in change.decisions:
            connection.execute(sql.decision.insert(), {
                "subject": str(decision.subject), "seq": seq, "body": _text(decision)})  # fmt: skip

        for stored, clean in change.redacted:
            values = {"key": _key(stored), "after": _text(clean)}
            if not connection.execute(sql.redact[type(stored)], values).rowcount:
                raise moved("record", _key(stored)[:80])

    def artifact(self, ref: Ref) -> Artifact:
        return self._one(self._sql.one_artifact, str(ref), Artifact, "artifact")

    def find(self, text: str, kind: Kind | None = None) -> Artifact:
        return self.artifact(choose(text, kind, self._matching))

    def _matching(self, kind: str, name: str, prefix: str) -> list[Ref]:
        rows = self._rows(self._sql.some_refs, kind=kind, name=name, prefix=prefix)
        return [Ref.parse(row.ref) for row in rows]

    def artifacts(self, kind: Kind | None = None, name: str = "") -> list[Artifact]:
        return self._many(self._sql.some_artifacts, Artifact, kind=kind or "", name=name)

    def run(self, run_id: str) -> Run:
        return self._one(self._sql.one_run, run_id, Run, "run")

    def runs(self) -> list[Run]:
        return self._many(self._sql.all_runs, Run)

    def release(self, release_id: str) -> Release:
        return self._one(self._sql.one_release, release_id, Release, "release")

    def releases(self, service: str = "") -> list[Release]:
        return self._many(self._sql.some_releases, Release, service=service)

    def service(self, name: str) -> Service | None:
        found = self._many(self._sql.one_service, Service, key=name)
        return found[0] if found else None

    def services(self) -> list[Service]:
        return self._many(self._sql.all_services, Service)

    def decisions(self, subject: Ref) -> list[Decision]:
        return self._many(self._sql.some_decisions, Decision, key=str(subject))

    def events(self, since: int = 0, subject: str = "") -> Iterator[Event]:
        page = self._sql.page_about if subject else self._sql.page
        values = {"subject": subject} if subject else {}
        while rows := self._rows(page, since=since, **values):
            yield from map(_event, rows)
            since = rows[-1].seq

    def head(self) -> tuple[int, str]:
        row = self._rows(self._sql.read_head)[0]
        return row.seq, row.seal

    def _rows(self, query: "sa.Select[Any]", /, **values: Any) -> "list[sa.Row[Any]]":
        with translated(), self.engine.connect() as connection:
            return list(connection.execute(query, values))

    def _many(self, query: "sa.Select[Any]", stored: type[T], /, **values: str) -> list[T]:
        return [_decoded(row[0], stored) for row in self._rows(query, **values)]

    def _one(self, query: "sa.Select[Any]", key: str, stored: type[T], what: str) -> T:
        found = self._many(query, stored, key=key)
        if not found:
            raise missing(what, key)
        return found[0]


def _key(stored: Stored) -> str:
    """What a record is found by: decisions have no name but what they say."""
    match stored:
        case Artifact():
            return str(stored.ref)
        case Run():
            return stored.id
    return _text(stored)


def _text(value: Any) -> str:
    return canonical(value).decode()


def _decoded(text: str, kind: type[T]) -> T:
    try:
        return cast(T, _decoder(kind).decode(text))
    except msgspec.MsgspecError as error:
        raise Corrupt(f"a stored {kind.__name__} cannot be read: {error}",
                      hint="was it written by a newer Fairlead? Otherwise restore a backup") from error  # fmt: skip


@cache
def _decoder(kind: type[Any]) -> "msgspec.json.Decoder[Any]":
    return msgspec.json.Decoder(kind)


def _row(event: Event) -> dict[str, Any]:
    return {"seq": event.seq, "at": event.at, "actor": event.actor, "verb": event.verb,
            "subject": event.subject, "body": _text(event.body), "prev": event.prev}  # fmt: skip


def _event(row: Any) -> Event:
    seq, at, actor, verb, subject, text, prev = row
    try:
        body = msgspec.json.decode(text)
    except msgspec.MsgspecError as error:
        raise Corrupt(f"event {seq} cannot be read: {error}",
                      hint="somebody changed the log outside Fairlead") from error  # fmt: skip
    return Event(seq=seq, at=at, actor=actor, verb=verb, subject=subject, body=body, prev=prev)
