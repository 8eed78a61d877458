"""Records and audit log in one SQLite file, written by many processes, one transaction at a time.

Why a rollback journal and not WAL: the command line and the controller both write, so no single
connection can own the file for life, and SQLite before 3.51.3 (3.44.6, 3.50.7) may lose or damage
committed data when two connections of a WAL database write or checkpoint at the same moment
(promises.md, fact 1; Debian 12 ships 3.40.1). A rollback journal is not affected in any version.
PERSIST is the quickest of its modes (the journal's header is zeroed and synced, no file is made or
cut), synchronous=FULL makes a commit survive a power cut. A file that somebody switched to WAL is
switched back, or refused while they hold it open.

Why a lock file beside SQLite's own locks: a transaction holds an exclusive flock on
``records.lock`` from before it reads until it is committed, so a `before` that was compared stays
true, waiting is bounded (5 s), and the one who waits is told the process id of the one who writes.
"""

import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from fairlead.adapters.records.sql import SqlRecords, statements, translated
from fairlead.errors import Conflict, Invalid, Unavailable

if TYPE_CHECKING:
    import sqlalchemy as sa

__all__ = ["REVISION", "SqliteRecords"]

REVISION = "0001"
"""The newest migration; a database that has it is opened without loading Alembic."""

PATIENCE = 5.0
"""Seconds to wait for another writer."""


class SqliteRecords(SqlRecords):
    """Records in the file `path`, made or brought up to date when opened.

    `readonly`: for people who may look but not write; the file must exist and be up to date.
    Raises Unavailable (no file, busy, read-only disk), Invalid (written by a newer Fairlead),
    Conflict (another process has been writing for `patience` seconds).
    """

    def __init__(self, path: Path, *, readonly: bool = False, patience: float = PATIENCE) -> None:
        statements()
        self.path, self._patience, self._readonly = path, patience, readonly
        super().__init__(_engine(path, readonly, patience), self._transaction)
        try:
            self._prepare()
        except BaseException:
            self.close()
            raise

    def _prepare(self) -> None:
        if not self._readonly and not self.path.exists():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with _writer(self.path, self._patience):
                self.path.touch(mode=0o600)
        if (seen := self._version()) == REVISION:
            return
        if self._readonly or seen > REVISION:
            raise Invalid(f"{self.path} has records of version {seen or 'none'}, not {REVISION}",
                          hint="open it with the newest Fairlead that wrote it")  # fmt: skip
        with translated(), self._transaction() as connection:
            _upgrade(connection)

    def _version(self) -> str:
        from sqlalchemy import column, inspect, select, table

        version = table("version", column("version_num"))
        with translated(), self.engine.connect() as connection:
            if not inspect(connection).has_table("version"):
                return ""
            return str(connection.execute(select(version)).scalar() or "")

    def compact(self) -> None:
        """Rewrite the file, and remove the journal that remembers what stood in it before."""
        with translated(), _writer(self.path, self._patience), self.engine.connect() as connection:
            for statement in ("PRAGMA journal_mode=DELETE", "VACUUM", "PRAGMA journal_mode=PERSIST"):
                connection.exec_driver_sql(statement)

    @contextmanager
    def _transaction(self) -> "Iterator[sa.Connection]":
        if self._readonly:
            raise Invalid(f"{self.path} was opened for reading only", hint="open it for writing")
        with _writer(self.path, self._patience), self.engine.connect() as connection:
            try:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                yield connection
                connection.commit()
            except BaseException:
                # A commit that failed may have reached the disk or not: only a new connection,
                # which looks at the journal, may say which. Never retry on this one.
                connection.invalidate()
                raise


def _engine(path: Path, readonly: bool, patience: float) -> "sa.Engine":
    from sqlalchemy import create_engine, event, exc
    from sqlalchemy.pool import QueuePool

    def connect() -> sqlite3.Connection:
        where = f"file:{quote(str(path.absolute()))}?mode={'ro' if readonly else 'rw'}"
        raw = sqlite3.connect(where, uri=True, timeout=patience, isolation_level=None,
                              check_same_thread=False)  # fmt: skip
        if not readonly:
            try:
                _configure(raw, path)
            except BaseException:
                raw.close()
                raise
        return raw

    def remember(raw: object, record: "sa.pool.ConnectionPoolEntry") -> None:
        record.info["file"] = _identity(path)

    def same(raw: object, record: "sa.pool.ConnectionPoolEntry", _: object) -> None:
        if record.info["file"] != _identity(path):
            raise exc.DisconnectionError(f"{path} was replaced")

    engine = create_engine("sqlite+pysqlite://", creator=connect, poolclass=QueuePool)
    event.listen(engine, "connect", remember)
    event.listen(engine, "checkout", same)
    return engine


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file stands there now: a restored backup is another one, and a removed one none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _configure(raw: sqlite3.Connection, path: Path) -> None:
    mode = raw.execute("PRAGMA journal_mode=PERSIST").fetchone()[0]
    if mode != "persist":
        raise Unavailable(f"{path} is in journal mode {mode!r} and another program holds it open",
                          hint="close the other program: only a rollback journal is safe here")  # fmt: skip
    raw.execute("PRAGMA synchronous=FULL")


@contextmanager
def _writer(path: Path, patience: float) -> Iterator[None]:
    """Be the only writer. Raises Conflict naming the process that has been writing for too long."""
    handle = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + patience
        while not _taken(handle):
            if time.monotonic() >= deadline:
                pid = os.pread(handle, 32, 0).decode(errors="replace").strip() or "unknown"
                raise Conflict(f"process {pid} has been writing {path.name} for {patience:g} s",
                               hint=f"retry; if it hangs, look at process {pid}")  # fmt: skip
            time.sleep(0.002)
        os.ftruncate(handle, os.pwrite(handle, f"{os.getpid()}\n".encode(), 0))
        yield
    finally:
        os.close(handle)


def _taken(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _upgrade(connection: "sa.Connection") -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    here = Path(__file__).parent / "migrations"
    config.set_main_option("script_location", str(here).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
