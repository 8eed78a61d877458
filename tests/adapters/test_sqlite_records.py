"""What only the SQLite engine of records promises: many processes, crashes, edits, migrations."""

import fcntl
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from fairlead.adapters.records.sql import PAGE, statements
from fairlead.adapters.records.sqlite import REVISION, SqliteRecords
from fairlead.core.artifact import Artifact, DatasetSpec
from fairlead.core.event import verify
from fairlead.core.ref import Ref
from fairlead.core.release import Release
from fairlead.core.schema import Schema
from fairlead.core.traffic import canary
from fairlead.errors import Conflict, Corrupt, Invalid, Unavailable
from fairlead.ports import Change

PACKAGE = Ref("package", "fraud", "b2" * 32)
DATA = Artifact(ref=Ref("dataset", "flights", "b1" * 32), created_at=1.0,
                spec=DatasetSpec(parts=(), contract=Schema(columns=())))  # fmt: skip
RELEASE = Release(id="fraud-1", service="fraud", candidates=(PACKAGE,), baseline=None,
                  plan=canary(()), started_at=0.1, entered_at=0.2)  # fmt: skip


def change(**more: object) -> Change:
    whole: dict[str, object] = {"at": 1.5, "actor": "ann", "verb": "test", "subject": "thing/1"}
    return Change(**(whole | more))  # type: ignore[arg-type]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a %s ?# folder" / "records.db"


def closed(path: Path, *changes: Change) -> None:
    records = SqliteRecords(path)
    for each in changes:
        records.commit(each)
    records.close()


def test_it_is_all_there_after_reopening(path: Path) -> None:
    closed(path, change(artifacts=(DATA,)), change(releases=((None, RELEASE),)))
    again = SqliteRecords(path)
    assert again.artifacts() == [DATA] and again.releases() == [RELEASE]
    assert verify(again.events(), again.head()[1]) == 2
    again.close()


def test_the_journal_is_a_rollback_journal_and_commits_are_synced(path: Path) -> None:
    records = SqliteRecords(path)
    with records.engine.connect() as connection:
        mode = connection.exec_driver_sql("PRAGMA journal_mode").scalar()
        level = connection.exec_driver_sql("PRAGMA synchronous").scalar()
    assert (mode, level) == ("persist", 2)
    records.close()


def test_a_file_switched_to_wal_is_switched_back_or_refused(path: Path) -> None:
    closed(path, change())
    other = sqlite3.connect(path)
    other.execute("PRAGMA journal_mode=WAL")
    other.execute("SELECT * FROM head").fetchall()
    with pytest.raises(Unavailable, match=r"locked|journal mode 'wal'") as refusal:
        SqliteRecords(path, patience=0.1)
    assert refusal.value.hint
    other.close()
    records = SqliteRecords(path)
    with records.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "persist"
    assert records.commit(change()).seq == 2
    records.close()


def test_a_busy_writer_is_named(path: Path) -> None:
    closed(path, change())
    records = SqliteRecords(path, patience=0.1)
    code = ("import fcntl, os, sys\nf = open(sys.argv[1], 'r+')\nfcntl.flock(f, fcntl.LOCK_EX)\n"
            "os.pwrite(f.fileno(), f'{os.getpid()}\\n'.encode(), 0)\nprint('held', flush=True)\n"
            "sys.stdin.read()")  # fmt: skip
    lock = path.with_suffix(".lock")
    with subprocess.Popen([sys.executable, "-c", code, str(lock)], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True) as other:  # fmt: skip
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        assert records.head()[0] == 1, "reading does not wait for a writer"
        with pytest.raises(Conflict, match=f"process {other.pid} has been writing") as refusal:
            records.commit(change())
        assert str(other.pid) in refusal.value.hint
        other.send_signal(signal.SIGKILL)
    assert records.commit(change()).seq == 2
    records.close()


def test_a_locked_database_is_unavailable_and_stores_nothing(path: Path) -> None:
    closed(path, change())
    records = SqliteRecords(path, patience=0.1)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    for ask in (lambda: records.commit(change()), records.head):
        with pytest.raises(Unavailable, match="locked"):
            ask()
    other.close()
    assert records.head()[0] == 1 and records.commit(change()).seq == 2
    records.close()


def test_who_only_reads_needs_no_lock_and_cannot_write(path: Path) -> None:
    closed(path, change())
    records = SqliteRecords(path, readonly=True)
    assert records.head()[0] == 1
    with pytest.raises(Invalid, match="reading only"):
        records.commit(change())
    records.close()
    with pytest.raises(Unavailable, match="unable to open"):
        SqliteRecords(path.with_name("none.db"), readonly=True)
    assert not path.with_name("none.db").exists()


def test_a_removed_or_replaced_file_is_noticed_by_a_running_process(path: Path) -> None:
    closed(path, change())
    backup = path.read_bytes()
    records = SqliteRecords(path)
    records.commit(change())
    path.unlink()
    for ask in (records.head, lambda: records.commit(change())):
        with pytest.raises(Unavailable, match="unable to open"):
            ask()
    assert not path.exists(), "a lost database is never silently replaced by an empty one"
    path.write_bytes(backup)
    assert records.head()[0] == 1
    assert records.commit(change()).seq == 2
    records.close()


def test_a_newer_database_is_not_touched(path: Path) -> None:
    closed(path)
    with sqlite3.connect(path) as raw:
        raw.execute("UPDATE version SET version_num = '9999'")
    raw.close()
    with pytest.raises(Invalid, match="9999") as refusal:
        SqliteRecords(path)
    assert "newest Fairlead" in refusal.value.hint


def test_bytes_that_are_no_database_are_corrupt(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"not a database at all, but long enough to look like one" * 50)
    with pytest.raises(Corrupt, match="not a database"):
        SqliteRecords(path)


def test_a_stored_value_that_cannot_be_read_is_corrupt(path: Path) -> None:
    closed(path, change(releases=((None, RELEASE),)))
    with sqlite3.connect(path) as raw:
        raw.execute("UPDATE release SET body = '{\"id\": 3}'")
        raw.execute("UPDATE event SET body = '{'")
    raw.close()
    records = SqliteRecords(path)
    with pytest.raises(Corrupt, match="stored Release"):
        records.releases()
    with pytest.raises(Corrupt, match="event 1"):
        list(records.events())
    records.close()


EDITS = {
    "actor": "UPDATE event SET actor = 'eve' WHERE seq = 3",
    "body": "UPDATE event SET body = '{\"i\":99}' WHERE seq = 3",
    "time": "UPDATE event SET at = at + 0.001 WHERE seq = 3",
    "verb": "UPDATE event SET verb = 'other' WHERE seq = 5",
    "subject": "UPDATE event SET subject = 'thing/2' WHERE seq = 1",
    "delete": "DELETE FROM event WHERE seq = 2",
    "cut tail": "DELETE FROM event WHERE seq = 5",
    "swap": "UPDATE event SET seq = CASE seq WHEN 2 THEN 3 WHEN 3 THEN 2 ELSE seq END + 100",
    "insert": "INSERT INTO event SELECT 6, at, actor, verb, subject, body, prev FROM event WHERE seq = 5",
    "head": "UPDATE head SET seal = 'f00'",
}


@pytest.mark.parametrize("edit", EDITS)
def test_every_edit_of_the_log_is_found(path: Path, edit: str) -> None:
    closed(path, *(change(body={"i": i}) for i in range(5)))
    with sqlite3.connect(path) as raw:
        raw.execute(EDITS[edit])
    raw.close()
    records = SqliteRecords(path)
    with pytest.raises(Corrupt, match="audit log"):
        verify(records.events(), records.head()[1])
    records.close()


def test_after_a_cut_tail_no_new_event_hides_the_gap(path: Path) -> None:
    closed(path, *(change() for _ in range(5)))
    with sqlite3.connect(path) as raw:
        raw.execute("DELETE FROM event WHERE seq > 3")
    raw.close()
    records = SqliteRecords(path)
    assert records.commit(change()).seq == 6
    with pytest.raises(Corrupt, match="event 6"):
        verify(records.events(), records.head()[1])
    records.close()


def test_long_logs_are_read_page_by_page(path: Path) -> None:
    closed(path, change())
    n = 2 * PAGE + 3
    with sqlite3.connect(path) as raw:
        raw.executemany("INSERT INTO event VALUES (?, 0, '', '', 's', '{}', '')",
                        [(i,) for i in range(2, n + 1)])  # fmt: skip
    raw.close()
    records = SqliteRecords(path)
    seen = [e.seq for e in records.events()]
    assert seen == list(range(1, n + 1)) and len([*records.events(subject="s")]) == n - 1
    records.close()


# Migrations


def test_the_migrations_make_exactly_the_tables_the_statements_use(path: Path) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.config import Config
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory

    import fairlead.adapters.records.sqlite as room

    records = SqliteRecords(path)
    with records.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": "version"})
        assert compare_metadata(context, statements().metadata) == []
        assert context.get_current_revision() == REVISION
    records.close()
    config = Config()
    config.set_main_option("script_location", str(Path(room.__file__).parent / "migrations"))
    assert ScriptDirectory.from_config(config).get_current_head() == REVISION


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_migration_killed_at_any_statement_leaves_the_old_version_or_the_new(path: Path) -> None:
    """Fork a process per statement, kill it there, and open the file again (R25)."""
    path.parent.mkdir()
    step = 0
    while True:
        step += 1
        place = path.with_name(f"r{step}.db")
        if (pid := os.fork()) == 0:
            _migrate_and_die(place, step)
        _, status = os.waitpid(pid, 0)
        records = SqliteRecords(place)
        assert records.commit(change()).seq == 1
        records.close()
        if not os.WIFSIGNALED(status):
            break
    assert os.WEXITSTATUS(status) == 0 and step > 10


def _migrate_and_die(place: Path, step: int) -> None:
    """In a child: die before the given statement of the first opening; else exit with 0."""
    from sqlalchemy import Engine, event

    left = [step]

    def count(*_: object) -> None:
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)

    event.listen(Engine, "before_cursor_execute", count)
    event.listen(Engine, "commit", count)
    try:
        SqliteRecords(place)
        os._exit(0)
    finally:
        os._exit(1)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_two_processes_that_open_a_new_file_at_once_both_succeed(path: Path) -> None:
    path.parent.mkdir()
    children = []
    for _ in range(4):
        if (pid := os.fork()) == 0:
            try:
                SqliteRecords(path).commit(change())
                os._exit(0)
            finally:
                os._exit(1)
        children.append(pid)
    assert [os.WEXITSTATUS(os.waitpid(pid, 0)[1]) for pid in children] == [0] * 4
    records = SqliteRecords(path)
    assert verify(records.events(), records.head()[1]) == 4
    records.close()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_crash_in_the_middle_of_a_commit_is_undone_by_the_next_to_open(path: Path) -> None:
    """A hot journal: pages of an unfinished transaction are in the file when the process dies."""
    closed(path, change())
    if (pid := os.fork()) == 0:
        raw = sqlite3.connect(path, isolation_level=None)
        raw.execute("PRAGMA journal_mode=PERSIST")
        raw.execute("PRAGMA cache_size=1")
        raw.execute("BEGIN IMMEDIATE")
        raw.execute("UPDATE head SET seq = 99")
        raw.executemany("INSERT INTO event VALUES (?, 0, '', '', '', ?, '')",
                        [(i, "x" * 3000) for i in range(100, 140)])  # fmt: skip
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    with pytest.raises(Unavailable):
        SqliteRecords(path, readonly=True)
    records = SqliteRecords(path)
    assert records.head()[0] == 1
    assert verify(records.events(), records.head()[1]) == 1
    records.close()


def test_the_lock_is_free_between_transactions(path: Path) -> None:
    records = SqliteRecords(path)
    records.commit(change())
    with path.with_suffix(".lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert lock.read().strip() == str(os.getpid())
    records.close()


