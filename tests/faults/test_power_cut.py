"""R13: the power fails after every single operation on the journal; what was acknowledged is there."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fairlead.adapters.predictions.files import PredictionFiles
from fairlead.core.artifact import PackageSpec
from fairlead.core.journal import HEADER, Batch, frames
from fairlead.errors import Corrupt
from tests.faults.bar import Bar, twin
from tests.faults.caller import Answer, Calls
from tests.faults.conftest import Ground

pytestmark = pytest.mark.faults
FILES = 60
"""States of the disk that are also read through the prediction log's own reader, from files."""

Fate = Callable[[bytes, random.Random], bytes]
"""What becomes of bytes that were written and not synced."""


def lost(data: bytes, dice: random.Random) -> bytes:
    return b""


def kept(data: bytes, dice: random.Random) -> bytes:
    return data


def torn(data: bytes, dice: random.Random) -> bytes:
    return data[: dice.randrange(len(data) + 1)]


def unfilled(data: bytes, dice: random.Random) -> bytes:
    """The file had grown, the data never came."""
    part = dice.randrange(len(data) + 1)
    return data[:part] + bytes(len(data) - part)


def holed(data: bytes, dice: random.Random) -> bytes:
    """One page in the middle never came."""
    at = dice.randrange(len(data) + 1)
    return data[:at] + bytes(len(data[at : at + 4096])) + data[at + 4096 :]


class Disk:
    """What a power cut would leave: files with a synced part and a rest, names that are safe or not."""

    def __init__(self) -> None:
        self.synced: dict[str, bytes] = {}
        self.rest: dict[str, bytes] = {}
        self.names: dict[str, str] = {}
        self.safe: set[str] = set()

    def turn(self, what: str, name: str, text: str) -> None:
        """One finished operation; `names` are those of the files now, contents go by them."""
        match what:
            case "write":
                self.rest[name] = self.rest.get(name, b"") + bytes.fromhex(text)
            case "cut":
                whole = (self.synced.get(name, b"") + self.rest.get(name, b""))[: int(text)]
                size = len(self.synced.get(name, b""))
                self.synced[name], self.rest[name] = whole[:size], whole[size:]
            case "sync":
                self.synced[name] = self.synced.get(name, b"") + self.rest.pop(name, b"")
            case "rename":
                for part in (self.synced, self.rest):
                    if name in part:
                        part[text] = part.pop(name)
            case "names":
                self.safe = {n for n in (*self.synced, *self.rest) if n.endswith(".log")}

    def after(self, fate: Fate, dice: random.Random) -> dict[str, bytes]:
        """Journal files by name, as found when the power is back."""
        names = self.safe | {n for n in self.rest if n.endswith(".log") and fate is kept}
        return {n: self.synced.get(n, b"") + fate(self.rest.get(n, b""), dice) for n in names}


def states(operations: list[tuple[float, str, str, str]]) -> Iterator[tuple[float, Fate, dict[str, bytes]]]:
    """(until when the power held, fate, files) for every prefix of the operations."""
    disk, dice = Disk(), random.Random(7)
    ends = [o[0] for o in operations[1:]] + [float("inf")]
    for (_, what, name, text), end in zip(operations, ends, strict=True):
        disk.turn(what, name, text)
        for fate in (lost, kept, torn, unfilled, holed):
            yield end, fate, disk.after(fate, dice)


def read(files: dict[str, bytes], known: dict[bytes, set[str]]) -> set[str]:
    """Ids in these files; contents seen before are not read again. Raises Corrupt."""
    found = set()
    for data in files.values():
        if data not in known:
            known[data] = {i for e, _ in frames(data, len(HEADER)) if isinstance(e, Batch) for i in e.ids}
        found |= known[data]
    return found


def load(plant: Ground, log: Path) -> tuple[list[tuple[float, str, str, str]], list[Answer]]:
    plant.publish(plant.package())
    plant.start(durability="fsync", env={"FAIRLEAD_TEST_OPERATIONS": str(log)})
    answers = Calls(plant.port, (150, 4.0)).answers()
    plant.stop()
    lines = [line.split(" ") for line in log.read_text().splitlines()]
    return [(float(at), what, name, text) for at, what, name, text in lines], answers


@pytest.mark.parametrize("bug", ["tests.faults.bugs.recorded", twin("tests.faults.bugs.recorded_early"),
                                 twin("tests.faults.bugs.recorded_nameless")])  # fmt: skip
def test_r13_the_power_fails_anywhere(plant: Ground, bar: Bar, bug: str, tmp_path: Path) -> None:
    operations, answers = load(plant, tmp_path / "operations")
    assert len(operations) > 300 and sum(a.status == 200 for a in answers) > 500
    missing = failed = count = 0
    known: dict[bytes, set[str]] = {}
    step = max(1, 5 * len(operations) // FILES)
    for count, (end, _, files) in enumerate(states(operations), 1):
        told = {a.id for a in answers if a.status == 200 and a.done < end}
        try:
            found = read(files, known)
            if not count % step:
                folder = tmp_path / f"state{count}" / "journal"
                folder.mkdir(parents=True)
                for name, data in files.items():
                    (folder / name).write_bytes(data)
                tail = PredictionFiles(folder.parent, _no_spec).tail({})
                assert {i for a in tail.answers for i in a.ids} == found
        except Corrupt:
            failed += 1
        else:
            missing += len(told - found)
    bar(f"acknowledged predictions missing in {count:,} states of the disk", missing, "= 0")
    bar("states that the reader refused", failed, "= 0")


def _no_spec(package: str) -> PackageSpec:
    raise AssertionError("reading for monitors needs no spec")
