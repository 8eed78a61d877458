import fcntl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fairlead.core.journal import HEADER, Entry, Note, frames
from fairlead.serve import sink as module
from fairlead.serve.sink import Sink


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
    sink.flush()
    end = time.monotonic() + seconds
    while sink.waiting and time.monotonic() < end:
        time.sleep(0.005)
    assert not sink.waiting


def test_rotates_and_locks_only_the_newest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROTATE_BYTES", 2000)
    sink = Sink(tmp_path, "0001")
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
    sink = Sink(tmp_path, "0001")
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
from fairlead.serve import sink as module
module.PATIENCE = 0.02
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (3000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
sink = module.Sink(Path(sys.argv[1]), "0001")
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
