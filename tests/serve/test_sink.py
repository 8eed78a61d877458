import errno
import fcntl
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue

import pytest

from fairlead.core.journal import HEADER, Entry, Note, frames
from fairlead.serve import segment
from fairlead.serve import sink as module
from fairlead.serve.sink import FsyncSink, MemorySink, OsSink, Sink


def note(i: int, size: int = 0) -> Note:
    return Note(prediction=f"{i:06d}", name="x" * size, value=float(i), at=0.0)


def entries(folder: Path) -> Iterator[Entry]:
    for path in sorted(folder.glob("*.log")):
        data = path.read_bytes()
        assert data.startswith(HEADER)
        yield from (e for e, _ in frames(data, len(HEADER)))


def free(path: Path) -> bool:
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def wait(sink: Sink, seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while sink.waiting and time.monotonic() < end:
        sink.flush()
        time.sleep(0.005)
    assert not sink.waiting


def test_rotates_and_locks_only_the_newest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment, "ROTATE_BYTES", 2000)
    sink = MemorySink(tmp_path, "0001")
    for i in range(50):
        assert sink.add(note(i, 100))
        wait(sink)
    paths = sorted(tmp_path.glob("*.log"))
    assert len(paths) > 2
    assert [free(p) for p in paths] == [True] * (len(paths) - 1) + [False]
    assert [p.name for p in paths] == [f"0001-{i:06d}.log" for i in range(len(paths))]
    sink.close()
    assert free(paths[-1]) and list(entries(tmp_path)) == [note(i, 100) for i in range(50)]
    assert all(p.stat().st_mode & 0o077 == 0 for p in paths)


def test_a_disk_that_does_not_keep_up_costs_rows_not_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LIMIT", 1000)
    sink = MemorySink(tmp_path, "0001")
    taken = [i for i in range(100) if sink.add(note(i, 100))]
    assert 5 < len(taken) < 20 and sink.lost == 100 - len(taken)
    wait(sink)
    assert sink.add(note(100))
    sink.close()
    assert list(entries(tmp_path)) == [note(i, 100) for i in taken] + [note(100)]


FULL = """
import resource, signal, sys, time
from pathlib import Path
from fairlead.core.journal import Note
from fairlead.serve import segment
from fairlead.serve import sink as module
module.PATIENCE = 0.02
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (3000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
sink = module.MemorySink(Path(sys.argv[1]), "0001")
for i in range(60):
    sink.add(Note(prediction=f"{i:06d}", name="x" * 100, value=float(i), at=0.0))
    sink.flush()
time.sleep(0.3)
assert sink.waiting > 0
resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
sink.close()
assert sink.waiting == 0
"""


def test_a_full_disk_leaves_no_torn_frame_and_heals(tmp_path: Path) -> None:
    """The file may not grow beyond 3000 bytes for a while: what is written is whole, then the rest."""
    subprocess.run([sys.executable, "-c", FULL, str(tmp_path)], check=True, timeout=20)
    assert list(entries(tmp_path)) == [note(i, 100) for i in range(60)]


def test_os_has_it_in_the_file_before_it_says_so(tmp_path: Path) -> None:
    """Another process reads the file at once: nothing is left in this one."""
    sink, said = OsSink(tmp_path, "0001"), []
    for i in range(20):
        assert sink.add(note(i))
        sink.commit(lambda logged: said.append((logged, len(list(entries(tmp_path))))))
    assert said == [(True, i + 1) for i in range(20)] and sink.waiting == 0
    sink.close()


class Broken:
    """A system call that refuses while `on`."""

    def __init__(self, call: Callable[..., int | None], number: int) -> None:
        self.call, self.number, self.on, self.refused = call, number, False, 0

    def __call__(self, *given: object) -> int | None:
        if self.on:
            self.refused += 1
            raise OSError(self.number, os.strerror(self.number))
        return self.call(*given)


def test_os_says_when_the_disk_refuses_and_writes_it_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.05)
    monkeypatch.setattr(module, "PIECE", 1000)
    sink, said = OsSink(tmp_path, "0001"), list[bool]()
    write = Broken(os.write, errno.ENOSPC)
    monkeypatch.setattr(os, "write", write)
    for i in range(100):
        write.on = 20 <= i < 60
        assert sink.add(note(i, 100))
        sink.commit(said.append)
    assert said[:20] == [True] * 20 and not any(said[20:60])
    # While it refuses, it is not asked for every prediction; what came back says so again.
    assert write.refused < 5 and sink.trouble in ("", os.strerror(errno.ENOSPC))
    wait(sink)
    sink.commit(said.append)
    assert said[-1] and sink.trouble == "" and sink.lost == 0
    sink.close()
    assert list(entries(tmp_path)) == [note(i, 100) for i in range(100)]


class Waiting:
    """Hears, in the thread that asks `turn`, what the sink says."""

    def __init__(self) -> None:
        self.calls: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self.said: dict[int, bool] = {}

    def add(self, sink: Sink, number: int) -> None:
        assert sink.add(note(number))
        sink.commit(lambda logged: self.hear_of(number, logged))

    def hear_of(self, number: int, logged: bool) -> None:
        assert number not in self.said
        self.said[number] = logged

    def hear(self, count: int) -> None:
        while len(self.said) < count:
            self.calls.get(timeout=5.0)()


def test_fsync_says_yes_only_to_what_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failed sync is never repeated on the same file: what it held is refused and taken back."""
    monkeypatch.setattr(module, "PATIENCE", 0.0)
    sync, waiting = Broken(os.fdatasync, errno.EIO), Waiting()
    monkeypatch.setattr(os, "fdatasync", sync)
    sink = FsyncSink(tmp_path, "0001", waiting.calls.put)
    for i in range(60):
        sync.on = i % 3 == 1
        waiting.add(sink, i)
        waiting.hear(i + 1)
    assert waiting.said == {i: i % 3 != 1 for i in range(60)}
    assert sync.refused == 20 == sink.lost and sink.trouble == "" and sink.waiting == 0
    assert len(list(tmp_path.glob("*.log"))) == 21
    sink.close()
    assert list(entries(tmp_path)) == [note(i) for i in range(60) if i % 3 != 1]


def test_fsync_syncs_many_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate, syncs, real = threading.Event(), list[int](), os.fdatasync

    def slow(fd: int) -> None:
        syncs.append(fd)
        gate.wait(5.0)
        real(fd)

    monkeypatch.setattr(os, "fdatasync", slow)
    waiting = Waiting()
    sink = FsyncSink(tmp_path, "0001", waiting.calls.put)
    for i in range(500):
        waiting.add(sink, i)
    # Those who have waited too long hear no; it may still be written, and is not said twice.
    sink.expire(time.perf_counter() - 60)
    assert not waiting.said
    sink.expire(time.perf_counter())
    assert waiting.said == dict.fromkeys(range(500), False)
    waiting.add(sink, 500)
    gate.set()
    waiting.hear(501)
    assert waiting.said[500] and sum(waiting.said.values()) == 1 and len(syncs) < 10
    sink.close()
    assert list(entries(tmp_path)) == [note(i) for i in range(501)]
