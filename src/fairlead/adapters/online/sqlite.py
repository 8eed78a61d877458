"""Online features in one SQLite file: written by one process, read by many as of any moment.

A view that aggregates keeps running sums per entity and moment, so a window of any length costs two
index seeks; they are whole numbers (core/sums.py), so a late fact changes nothing but the rows
after it, and the answer equals the as-of join of training to the last bit. Every definition of a
view has a table of its own: a package keeps its features while those of the next one fill up.

Only the writer's connection ever checkpoints (SQLite before 3.51.3 may lose writes otherwise): a
lock file keeps it alone, and readers open the file read-only.
"""

import fcntl
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Self

import msgspec

from fairlead.adapters.online.plans import Plan, facts_of, key, plan_of
from fairlead.core.feature import FeatureView
from fairlead.core.ref import canonical
from fairlead.core.sums import instant
from fairlead.errors import Conflict, Corrupt, FairleadError, Unavailable

__all__ = ["SqliteOnline"]

CHUNK = 100_000
"""Facts merged at once: a bound on memory, and on how often unsorted facts rewrite a tail."""

BUSY_SECONDS = 0.25
"""How long a reader waits when it meets the writer opening or closing the file."""

TABLES = """
CREATE TABLE IF NOT EXISTS views ("table" TEXT PRIMARY KEY, definition TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS batches ("table" TEXT, batch TEXT, PRIMARY KEY ("table", batch))
WITHOUT ROWID;
"""


class SqliteOnline:
    """The `Online` port over the file `path`; `readonly` in every process but the one that pushes.

    Raises Conflict when somebody else already writes to `path`. A reader may come before the file
    does: until then its reads raise Unavailable. One object serves one thread.
    """

    def __init__(self, path: Path, readonly: bool = False) -> None:
        self._path = path
        self._readonly = readonly
        self._plans: dict[FeatureView, Plan] = {}
        self._db: sqlite3.Connection | None = None
        self._lock = -1
        if not readonly:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = _claim(path)
            try:
                self._db = _writer(path)
            except sqlite3.Error as error:
                self.close()
                raise _translated(error, path) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the file back; closing twice is fine."""
        if self._db is not None:
            self._db.close()
            self._db = None
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def read(self, view: FeatureView, entity: str | int | None, at: float) -> dict[str, Any]:
        """`view.outputs` -> value as of `at`; None where nothing is known.

        An entity without facts has counts of 0; no entity (None) has None everywhere. Raises
        Unavailable while the file is absent or locked, Corrupt when it is damaged.
        """
        text = key(entity)
        if text is None:
            return dict.fromkeys(view.outputs)
        plan = self._plans.get(view) or self._plan(view)
        moment = instant(at) if view.time else 0
        try:
            db = self._db or self._open()
            rows = db.execute(plan.query, plan.keys(text, moment)).fetchall()
        except sqlite3.Error as error:
            if f"no such table: {plan.table}" not in str(error):
                raise _translated(error, self._path) from error
            rows = []
        return plan.answer(rows, moment)

    def push(self, view: FeatureView, rows: Iterable[Mapping[str, Any]], batch: str = "") -> int:
        """Add facts in order of arrival, all or none; return how many. Durable on return.

        A fact without entity or time is left out. A named `batch` is added once: pushed again,
        nothing happens and 0 returns. Raises Invalid for a fact the view cannot use.
        """
        if self._db is None or self._readonly:
            raise Conflict(f"{self._path} is not open for writing",
                           hint="push in the process that holds the lock")  # fmt: skip
        plan = self._plans.get(view) or self._plan(view)
        pushed = 0
        try:
            with _transaction(self._db) as db:
                db.execute(plan.create)
                db.execute("INSERT OR IGNORE INTO views VALUES (?, ?)",
                           (plan.table, canonical(view).decode()))  # fmt: skip
                if batch and not _first(db, plan.table, batch):
                    return 0
                facts = facts_of(plan, rows)
                while chunk := list(islice(facts, CHUNK)):
                    plan.add(db, chunk)
                    pushed += len(chunk)
        except sqlite3.Error as error:
            raise _translated(error, self._path) from error
        return pushed

    def forget(self, entity: str, value: str) -> int:
        """Delete all facts about an entity, of every definition a view ever had; return how many.

        The file is rewritten and its log cut, so that no page remembers them.
        """
        if self._db is None or self._readonly:
            raise Conflict(f"{self._path} is not open for writing",
                           hint="erase in the process that holds the lock")  # fmt: skip
        gone = 0
        try:
            with _transaction(self._db) as db:
                for table, text in db.execute('SELECT "table", definition FROM views').fetchall():
                    if msgspec.json.decode(text, type=FeatureView).entity == entity:
                        gone += db.execute(f"DELETE FROM {table} WHERE entity = ?", (value,)).rowcount
            if gone:
                self._db.execute("VACUUM")
                self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error as error:
            raise _translated(error, self._path) from error
        return gone

    def _plan(self, view: FeatureView) -> Plan:
        made = self._plans[view] = plan_of(view)
        return made

    def _open(self) -> sqlite3.Connection:
        if not self._readonly:
            raise Unavailable(f"{self._path} was closed", hint="open it again")
        if not self._path.exists():
            raise Unavailable(f"no online features at {self._path}", hint="push facts first")
        uri = f"{self._path.resolve().as_uri()}?mode=ro"
        self._db = _connect(uri)
        return self._db


def _connect(uri: str) -> sqlite3.Connection:
    return sqlite3.connect(
        uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None, cached_statements=512
    )


def _claim(path: Path) -> int:
    """Become the only writer, until the returned descriptor is closed. Raises Conflict."""
    lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise Conflict(f"another process writes to {path}",
                       hint="open it with readonly=True, or stop that process") from error  # fmt: skip
    return lock


def _writer(path: Path) -> sqlite3.Connection:
    db = _connect(path.resolve().as_uri())
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.executescript(TABLES)
    except BaseException:
        db.close()
        raise
    return db


@contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield db
        db.execute("COMMIT")
    finally:
        if db.in_transaction:
            db.execute("ROLLBACK")


def _first(db: sqlite3.Connection, table: str, batch: str) -> bool:
    """Whether this batch is new to the table; it is not from now on."""
    return db.execute("INSERT OR IGNORE INTO batches VALUES (?, ?)", (table, batch)).rowcount == 1


def _translated(error: sqlite3.Error, path: Path) -> FairleadError:
    if isinstance(error, sqlite3.OperationalError):
        return Unavailable(f"online features at {path}: {error}", hint="try again; check the disk")
    return Corrupt(f"online features at {path}: {error}", hint="delete the file and push all facts")
