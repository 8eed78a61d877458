"""Parcels between environments: what arrives is what was signed, or nothing arrives."""

import io
import tarfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import polars as pl
import pytest

from fairlead.adapters.blobs.local import LocalBlobs
from fairlead.adapters.keys.local import LocalSigner, verify
from fairlead.adapters.records.memory import MemoryRecords
from fairlead.core.artifact import Artifact
from fairlead.core.release import Phase
from fairlead.core.traffic import replace as at_once
from fairlead.errors import Corrupt, FairleadError, Invalid
from fairlead.flow import package, parcel, release
from fairlead.ports import Change

if TYPE_CHECKING:
    from tests.flow.conftest import Lab


class There:
    """The environment that receives."""

    def __init__(self, root: Path, lab: "Lab", key: str) -> None:
        self.records, self.blobs, self.root = MemoryRecords(), LocalBlobs(root / "blobs"), root
        self.doors: dict[str, Any] = {
            "records": self.records, "blobs": self.blobs, "clock": lab.doors["clock"], "actor": "olga",
            "jobs": root / "jobs", "verify": verify, "trusted": {"staging": key}, "promoted": False,
        }  # fmt: skip

    def receive(self, source: Path, **more: Any) -> Artifact:
        return parcel.receive(source, **{**self.doors, **more})[0]


@pytest.fixture
def sent(lab: "Lab", flights: pl.DataFrame, tmp_path: Path) -> tuple[Artifact, Path, There]:
    model = lab.train(lab.commit(flights))
    lab.gate(model)
    made, signer = lab.package(model), LocalSigner(tmp_path / "key")
    _pack(lab, made, signer, tmp_path / "p.tar")
    return made, tmp_path / "p.tar", There(tmp_path / "there", lab, signer.key)


def _pack(lab: "Lab", made: Artifact, signer: LocalSigner, target: Path) -> parcel.Spoken:
    doors = {k: v for k, v in lab.doors.items() if k != "compute"}
    return parcel.pack(made, target, environment="staging", signer=signer, **doors)


def test_a_package_arrives_with_all_that_speaks_for_it(
    sent: tuple[Artifact, Path, There], lab: "Lab"
) -> None:
    made, path, there = sent
    assert there.receive(path) == made
    model = there.records.artifact(made.parents[0])
    assert there.records.run(model.run).evidence == lab.records.run(model.run).evidence
    assert there.records.decisions(model.ref) == lab.records.decisions(model.ref) != []
    laid = package.restore(made, there.root / "packages", there.blobs)
    assert (laid / "model.onnx").read_bytes() == (lab.root / "packages" / made.ref.digest / "model.onnx").read_bytes()
    event = list(there.records.events())[-1]
    assert (event.verb, event.actor, event.body["environment"]) == ("package.received", "olga", "staging")
    parcel.check_origin(made.ref, there.doors["trusted"], there.records)
    with pytest.raises(Invalid, match="did not come from staging"):
        parcel.check_origin(made.ref, there.doors["trusted"], lab.records)


def test_only_what_was_promoted_there_is_taken_in(
    sent: tuple[Artifact, Path, There], lab: "Lab", tmp_path: Path
) -> None:
    made, path, there = sent
    with pytest.raises(Invalid, match="was never promoted in staging"):
        there.receive(path, promoted=True)
    clock = lab.doors["clock"]
    begun = release.start(lab.records, clock, "late", (made.ref,), at_once(), actor="ann", force="a test")
    ended = msgspec.structs.replace(begun, phase=Phase.PROMOTED, winner=made.ref, ended_at=clock.now())
    lab.records.commit(Change(at=clock.now(), actor="ann", verb="release.promoted",
                                     subject=f"release/{begun.id}", releases=((begun, ended),)))  # fmt: skip
    spoken = _pack(lab, made, LocalSigner(tmp_path / "key"), path)
    assert spoken.released == begun.id
    assert there.receive(path, promoted=True) == made


def test_the_same_state_makes_the_same_bytes(
    sent: tuple[Artifact, Path, There], lab: "Lab", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, _, _ = sent
    monkeypatch.setattr(lab.doors["clock"], "now", lambda: 5.0)
    monkeypatch.setattr(lab.records, "head", lambda: (9, "seal"))
    paths = [tmp_path / "1.tar", tmp_path / "2.tar"]
    for path in paths:
        _pack(lab, made, LocalSigner(tmp_path / "key"), path)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def rewritten(path: Path, change: Callable[[list[tuple[tarfile.TarInfo, bytes]]], Any]) -> Path:
    with tarfile.open(path) as old:
        members = [(m, old.extractfile(m).read()) for m in old]  # type: ignore[union-attr]
    change(members)
    target = path.with_name("changed.tar")
    with tarfile.open(target, "w") as new:
        for info, data in members:
            info.size = len(data) if info.isreg() else 0
            new.addfile(info, io.BytesIO(data))
    return target


def other(name: str, data: bytes = b"x", **more: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    for key, value in more.items():
        setattr(info, key, value)
    return info, data


def _append(member: tuple[tarfile.TarInfo, bytes], members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    members.append(member)


ESCAPES = [
    other("../escape"), other("/etc/escape"), other("blobs/../../escape"), other("blobs/" + "A" * 64),
    other("statement.json"), other("blobs/" + "0" * 64, type=tarfile.SYMTYPE, linkname="/etc/passwd"),
    other("blobs/" + "0" * 64, type=tarfile.LNKTYPE, linkname="statement.json"),
    other("blobs/" + "0" * 64, type=tarfile.CHRTYPE), other("blobs", type=tarfile.DIRTYPE),
    other("blobs/" + "0" * 64 + "\x00.py"), other("blobs/" + "0" * 64, type=tarfile.FIFOTYPE),
]  # fmt: skip


def test_names_links_and_devices_are_refused(sent: tuple[Artifact, Path, There]) -> None:
    _, path, there = sent
    for member in ESCAPES:
        with pytest.raises((Invalid, Corrupt)):
            there.receive(rewritten(path, partial(_append, member)))
        assert not list(there.records.events()), member[0].name
    assert sorted(p.name for p in there.root.iterdir()) == ["blobs", "jobs"]
    assert not list((there.root / "jobs").iterdir())


def flipped(place: int) -> Callable[[list[tuple[tarfile.TarInfo, bytes]]], None]:
    def change(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        info, data = members[place]
        middle = len(data) // 2
        members[place] = (info, data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])

    return change


def dropped(place: int) -> Callable[[list[tuple[tarfile.TarInfo, bytes]]], Any]:
    return lambda members: members.pop(place)


def test_every_changed_file_is_found_before_anything_is_recorded(
    sent: tuple[Artifact, Path, There],
) -> None:
    _, path, there = sent
    with tarfile.open(path) as tar:
        count = len(tar.getnames())
    changes: list[Callable[[list[tuple[tarfile.TarInfo, bytes]]], Any]] = [
        *map(flipped, range(count)), *map(dropped, range(count)),
        partial(_append, other("blobs/" + "0" * 64)), list.reverse,
    ]  # fmt: skip
    for i, change in enumerate(changes):
        with pytest.raises(FairleadError):
            there.receive(rewritten(path, change))
        assert not list(there.records.events()), i
    for cut in range(0, path.stat().st_size, 40_000):
        path.with_name("cut.tar").write_bytes(path.read_bytes()[:cut])
        with pytest.raises(FairleadError):
            there.receive(path.with_name("cut.tar"))
    assert not list(there.records.events())


def test_another_signer_is_refused(sent: tuple[Artifact, Path, There], lab: "Lab", tmp_path: Path) -> None:
    made, path, there = sent
    _pack(lab, made, LocalSigner(tmp_path / "stranger"), path)
    with pytest.raises(Invalid, match="whom nobody here trusts"):
        there.receive(path)
    with pytest.raises(Invalid, match="speaks of something else"):
        there.receive(path, trusted={"prod": LocalSigner(tmp_path / "stranger").key})
