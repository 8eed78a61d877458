"""Planted bugs about replicas: each breaks one promise beside the misbehaving models."""

import signal
from math import inf
from pathlib import Path
from typing import Any

from tests.faults.models import misbehave


def cold_replica(process: str) -> None:
    """R2: no warm parent; a dead worker takes its parent along, and the next one starts from nothing."""
    from fairlead.serve import parent

    inner: Any = parent._Parent
    misbehave(process)
    if process == "replica":
        reap = inner._reap

        def changed(self: Any) -> None:
            reap(self)
            self.told = self.told or self.child is None

        inner._reap = changed


def batch_again(process: str) -> None:
    """R3: the batch of a dead replica is asked again as it was."""
    from fairlead.serve.batch import Lane

    misbehave(process)
    inner: Any = Lane
    inner._again = lambda self, flights, guilty: [
        self.put_first(a) for asks in reversed(flights) for a in reversed(asks)]  # fmt: skip
    inner._safe = lambda self, asks: asks


def no_memory(process: str) -> None:
    """R3: nobody remembers the row that killed."""
    from fairlead.serve.blame import Blame

    misbehave(process)
    inner: Any = Blame
    inner.convicted = lambda self, row, now: False


def no_end_of_crashes(process: str) -> None:
    """R3: a package whose replicas keep dying is asked for ever."""
    from fairlead.serve.blame import Crashes

    misbehave(process)
    inner: Any = Crashes
    inner.died = lambda self, now: None


def patient_parent(process: str) -> None:
    """R4: nobody notices that a replica hangs."""
    from fairlead.serve import replica

    misbehave(process)
    inner: Any = replica._Care
    inner.left = lambda self: inf


def no_deadline(process: str) -> None:
    """R4: the gateway waits as long as the replica takes."""
    from fairlead.serve.batch import Lane

    misbehave(process)
    inner: Any = Lane
    inner.expire = lambda self, now: None


def hoarder(process: str) -> None:
    """R5: the gateway keeps every row that it wrote down."""
    from fairlead.serve.ledger import Ledger

    misbehave(process)
    inner: Any = Ledger
    record, kept = inner.record, list[object]()

    def hoarding(self: Any, *args: Any) -> Any:
        kept.append((*args, bytes(1000)))
        return record(self, *args)

    inner.record = hoarding


def stop_first(process: str) -> None:
    """R5: a spent worker ends before the next one begins."""
    from fairlead.serve.parent import _Child

    misbehave(process)
    inner: Any = _Child
    told = inner.signal
    inner.signal = lambda self, number: told(
        self, signal.SIGKILL if number == signal.SIGUSR1 else number)  # fmt: skip


def hopeful(process: str) -> None:
    """R6: a candidate is asked before it is loaded."""
    from fairlead.serve import plan
    from fairlead.serve.batch import Lane

    misbehave(process)
    inner: Any = plan
    inner._settled = lambda lane: True
    inner = Lane
    inner.trouble = lambda self, now, patience: None


def unverified(process: str) -> None:
    """R6, R16: the files of a package are opened as they lie there."""
    from fairlead.serve import package

    misbehave(process)
    inner: Any = package
    inner.files = unverified_files


def unverified_files(folder: Path, spec: Any) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in spec.files}


def wide_margin(process: str) -> None:
    """R7: a score need not lie between 0 and 1."""
    from fairlead.serve import batch

    misbehave(process)
    inner: Any = batch
    inner.CHANCE = -100.0, 100.0


def any_shape(process: str) -> None:
    """R7: the replica sends whatever numbers the model gives."""
    from fairlead.serve import replica
    from fairlead.serve.frames import OK, answer

    misbehave(process)
    inner: Any = replica._Worker

    def blind(self: Any, frame: bytes) -> bytes:
        import numpy as np

        number, rows = int.from_bytes(frame[:4], "little"), int.from_bytes(frame[4:8], "little")
        matrix = np.frombuffer(frame, dtype="<f4", offset=8).reshape(rows, self.hello.width)
        scores = np.asarray(self.scorer(matrix), dtype=np.float32)
        return answer(number, OK, np.ascontiguousarray(scores).tobytes())

    inner._answer = blind


def silent_drop(process: str) -> None:
    """R8: mirrored rows that find no room are forgotten."""
    from fairlead.serve.ledger import Ledger

    misbehave(process)
    inner: Any = Ledger
    inner.dropped = lambda self, package: None


def equal_rank(process: str) -> None:
    """R8: a shadow computes with the same right as everybody."""
    from fairlead.adapters.fleet import local

    misbehave(process)
    inner: Any = local
    inner.SHADOW = 0
