"""Planted bugs: each breaks one promise, and the test of that promise must find it."""

import os
import time
from importlib import import_module
from typing import Any


def cold_gateway(process: str) -> None:
    """No warm parent: a dead gateway is started from nothing, and loads model code."""
    from fairlead import dataplane

    inner: Any = dataplane
    if process == "gateway":
        import_module("sklearn.ensemble")
        inner.keep = lambda work, overdue=None: work(0)
        os.getppid = os.getpid


def early_word(process: str) -> None:
    """The fsync level tells the caller before the disk has it."""
    from fairlead.serve.sink import FsyncSink, OsSink

    inner: Any = FsyncSink
    inner.commit = lambda self, then: (self._hand(None), then(True))
    inner = OsSink
    inner.commit = lambda self, then: then(True)


def recorded(process: str) -> None:
    """No bug: every write, sync and renaming of the gateway's journal goes into a list of its own."""
    if process != "gateway":
        return
    from fairlead.serve import segment

    inner: Any = segment
    inner.os = Recorder(os.environ["FAIRLEAD_TEST_OPERATIONS"])
    inner.sync = inner.os.sync_folder


class Recorder:
    """The module `os` as segments see it. Each line: what, file, bytes as hex; written when done."""

    def __init__(self, path: str) -> None:
        self._out = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._names: dict[int, str] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def _note(self, what: str, name: object, text: str = "") -> None:
        os.write(self._out, f"{time.monotonic()} {what} {name} {text}\n".encode())

    def open(self, path: Any, *rest: Any) -> int:
        fd = os.open(path, *rest)
        self._names[fd] = os.path.basename(path)
        return fd

    def write(self, fd: int, data: Any) -> int:
        count = os.write(fd, data)
        self._note("write", self._names[fd], bytes(data[:count]).hex())
        return count

    def ftruncate(self, fd: int, size: int) -> None:
        os.ftruncate(fd, size)
        self._note("cut", self._names[fd], str(size))

    def fsync(self, fd: int) -> None:
        os.fsync(fd)
        self._note("sync", self._names[fd])

    fdatasync = fsync

    def rename(self, old: Any, new: Any) -> None:
        os.rename(old, new)
        self._names = {f: new.name if n == old.name else n for f, n in self._names.items()}
        self._note("rename", old.name, new.name)

    def sync_folder(self, folder: Any) -> None:
        from fairlead.disk import sync

        sync(folder)
        self._note("names", folder.name)


def recorded_early(process: str) -> None:
    """Recorded, and the fsync level tells the caller before the disk has it."""
    recorded(process)
    early_word(process)


def recorded_nameless(process: str) -> None:
    """Recorded, and a new file's name is not made to survive."""
    recorded(process)
    from fairlead.serve import segment

    inner: Any = segment
    inner.sync = lambda folder: None


def sync_believed(process: str) -> None:
    """A failed sync counts as done."""
    from fairlead.serve.segment import Segments

    inner: Any = Segments
    sound = inner.sync
    inner.sync = lambda self: sound(self) or True


def halves_left(process: str) -> None:
    """What was half written when the disk was full stays where it is."""
    from fairlead.serve.segment import Segments

    inner: Any = Segments
    inner._refused = lambda self, error, size: setattr(self, "trouble", str(error))


def silent_disk(process: str) -> None:
    """The `os` level does not say that the disk refused."""
    from fairlead.serve.sink import OsSink

    inner: Any = OsSink
    sound = inner._store
    inner._store = lambda self: sound(self) or True


def lenient_contract(process: str) -> None:
    """What breaks the contract is not refused by the gateway, but handed on."""
    from fairlead.core.contract import Contract

    inner: Any = Contract
    sound = inner.read

    def read(self: Any, body: bytes) -> Any:
        from fairlead.core.contract import Refused

        try:
            return sound(self, body)
        except Refused:
            return tuple(None for _ in self.names)

    inner.read = read


def endless_keys(process: str) -> None:
    """A row may have any number of keys, and a body any number of rows, before anybody says no."""
    from fairlead.core import contract
    from fairlead.serve import dispatch

    inner: Any = contract
    inner.KEYS = 10**9
    inner = dispatch
    inner.OBJECTS = 10**9


def patient_ear(process: str) -> None:
    """Whoever was refused may go on sending."""
    from fairlead.serve import http

    inner: Any = http
    inner.SPILL, inner.LINGER = 10**12, 10.0


def keys_twice(process: str) -> None:
    """The last of two equal keys wins."""
    from fairlead.core import contract

    inner: Any = contract
    inner._parse = lambda body: inner.msgspec.json.decode(body)


def timed(process: str) -> None:
    """No bug: a model that takes a millisecond for each unit of a row's first column, and counts."""
    if process != "replica":
        return
    from fairlead import dataplane

    inner: Any = dataplane
    sound = inner._open
    out = os.open(os.environ["FAIRLEAD_TEST_OPERATIONS"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def opened(*args: Any) -> Any:
        score = sound(*args)

        def scorer(matrix: Any) -> Any:
            milliseconds = matrix[:, 0].clip(min=0).sum()
            time.sleep(float(milliseconds) / 1000)
            if milliseconds:
                os.write(out, b"%d\n" % len(matrix))
            return score(matrix)

        return scorer

    inner._open = opened


def timed_patient_queue(process: str) -> None:
    """Everything is let in while the queue has room, however long it will take."""
    timed(process)
    from fairlead.serve.guard import Pace

    inner: Any = Pace
    inner.took = lambda self, rows, seconds: setattr(self, "rows", self.most)


def timed_no_hint(process: str) -> None:
    """A refusal does not say when to come again."""
    timed(process)
    from fairlead.serve.refusal import Refusal

    inner: Any = Refusal
    inner.head = lambda self: self.headers


def timed_loyal(process: str) -> None:
    """Rows of callers that went away are kept until their turn comes."""
    timed(process)
    from fairlead.serve.batch import Lane

    inner: Any = Lane
    inner.forsake = lambda self: None


def naive_drain(process: str) -> None:
    """A gateway that is told to stop closes its door, answers nobody any more, and goes."""
    from fairlead.serve import gateway

    async def at_once(self: Any) -> None:
        return

    inner: Any = gateway
    inner._Gateway._drain = at_once


def no_sweep(process: str) -> None:
    """Nobody looks for connections that are too slow."""
    from fairlead.serve.http import Site

    inner: Any = Site
    inner.sweep = lambda self: None


def slow_store(process: str) -> None:
    """No bug: the feature store takes as many seconds as a file says."""
    if process != "gateway":
        return
    from fairlead.adapters.online.sqlite import SqliteOnline

    inner: Any = SqliteOnline
    sound, path = inner.read, os.environ["FAIRLEAD_TEST_OPERATIONS"]

    def read(*args: Any) -> Any:
        with open(path) as file:
            time.sleep(float(file.read()))
        return sound(*args)

    inner.read = read


def slow_store_waited_for(process: str) -> None:
    """The gateway waits for the feature store, however long it takes."""
    slow_store(process)
    if process == "gateway":
        from fairlead.serve import gateway

        class Patient:
            def __init__(self, store: Any, seconds: float) -> None:
                self.store = store

            def read(self, questions: Any, at: float) -> dict[str, Any]:
                return {k: v for q in questions for k, v in self.store.read(*q, at).items()}

        inner: Any = gateway
        inner.Timely = Patient


def asks_the_database(process: str) -> None:
    """The gateway looks into the records for every request."""
    if process != "gateway":
        return
    import sqlite3

    from fairlead.serve.dispatch import Dispatch

    inner: Any = Dispatch
    sound = inner.predict

    def predict(self: Any, exchange: Any) -> None:
        db = sqlite3.connect("file:../records.db?mode=rw", uri=True, timeout=0.01)
        try:
            db.execute("SELECT count(*) FROM sqlite_master").fetchall()
            sound(self, exchange)
        finally:
            db.close()

    inner.predict = predict
