"""Packages on disk are read again: what changed under them is found, mended, and told."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fairlead.adapters.blobs.local import LocalBlobs
from fairlead.adapters.clock import SystemClock
from fairlead.adapters.records.memory import MemoryRecords
from fairlead.core.alert import Alerts
from fairlead.core.artifact import Artifact
from fairlead.flow.scrub import Scrubber
from tests.flow.test_image import packaged

Lose = Callable[[Path], object]
SPOILT: dict[str, Lose] = {
    "a bit": lambda folder: (folder / "model.onnx").write_bytes(b"?" + (folder / "model.onnx").read_bytes()[1:]),
    "an end": lambda folder: (folder / "samples.json").write_bytes(b"{"),
    "a file": lambda folder: (folder / "model.onnx").unlink(),
    "a spec": lambda folder: (folder / "package.json").write_bytes(b"{}"),
    "a link": lambda folder: (folder / "model.onnx").symlink_to((folder / "model.onnx").rename(folder.parent / "m")),
}  # fmt: skip


class Shed:
    """A package on disk and in blobs, and its scrubber."""

    def __init__(self, root: Path) -> None:
        made, draft = packaged(root / "draft")
        self.made, self.records, self.blobs = made, MemoryRecords(), LocalBlobs(root / "blobs")
        spec: Any = made.spec
        for name in spec.files:
            self.blobs.put(draft / name)
        self.folder = root / "packages" / made.ref.digest
        self.folder.parent.mkdir()
        draft.rename(self.folder)
        self.scrubber = Scrubber(self.wanted, self.folder.parent, self.records, self.blobs, SystemClock(), "late", stride=1000)

    def wanted(self) -> list[Artifact]:
        return [self.made]

    def round(self, now: float) -> list[str]:
        """The causes of the alerts of one round."""
        turns = [self.scrubber.turn(now) for _ in range(1000)]
        return [event.body["cause"] for event in turns if event is not None]


@pytest.fixture
def shed(tmp_path: Path) -> Shed:
    return Shed(tmp_path)


@pytest.mark.parametrize("what", SPOILT)
def test_damage_is_found_mended_and_told(what: str, shed: Shed) -> None:
    sound = {p.name: p.read_bytes() for p in shed.folder.iterdir()}
    assert shed.round(0.0) == []
    SPOILT[what](shed.folder)
    assert shed.round(10.0) == [], "a round an hour"
    (cause,) = shed.round(4000.0)
    assert "it was laid anew" in cause
    assert {p.name: p.read_bytes() for p in shed.folder.iterdir()} == sound and not (shed.folder / "model.onnx").is_symlink()
    assert shed.round(8000.0) == []
    (alert,) = Alerts("late", shed.records.events()).open
    assert (alert.monitor, alert.package) == ("damage", str(shed.made.ref))


def test_what_cannot_be_mended_is_told_again_and_again(shed: Shed) -> None:
    SPOILT["a bit"](shed.folder)
    spec: Any = shed.made.spec
    shed.blobs.delete(spec.files["model.onnx"])
    assert ["cannot be laid anew" in cause for cause in shed.round(0.0) + shed.round(4000.0)] == [True, True]
    (alert,) = Alerts("late", shed.records.events()).open
    assert alert.count == 2 and "none starts from this" in alert.next


def test_a_turn_reads_no_more_than_it_may(shed: Shed, monkeypatch: pytest.MonkeyPatch) -> None:
    size = sum(p.stat().st_size for p in shed.folder.iterdir() if p.name != "package.json")
    turns = 0
    while shed.scrubber._round is not None or not turns:
        assert shed.scrubber.turn(0.0) is None
        turns += 1
    assert turns >= size / 1000
