"""Packages through their public door: laid out, proven, restored, refused."""

from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import polars as pl
import pytest
from msgspec.structs import replace

from fairlead.adapters.compute.local import LocalCompute
from fairlead.core.artifact import Artifact, ModelSpec, PackageSpec, name_of
from fairlead.core.ref import canonical
from fairlead.errors import Corrupt, Invalid
from fairlead.flow.package import profile_of, restore
from fairlead.settings import child_environment

if TYPE_CHECKING:
    from tests.flow.conftest import Lab


@pytest.fixture
def model(lab: "Lab", flights: pl.DataFrame) -> Artifact:
    return lab.train(lab.commit(flights))


def changed(lab: "Lab", model: Artifact, name: str, data: bytes) -> Artifact:
    """The model with other bytes in one of its files."""
    assert isinstance(model.spec, ModelSpec)
    files = {**model.spec.files, name: lab.blobs.put(data)}
    spec = replace(model.spec, files=files)
    return replace(model, spec=spec, ref=name_of("late", spec))


def test_a_package_carries_all_it_needs_under_its_own_digest(lab: "Lab", model: Artifact) -> None:
    made = lab.package(model)
    folder = lab.root / "packages" / made.ref.digest
    data = (folder / "package.json").read_bytes()
    assert sha256(data).hexdigest() == made.ref.digest
    spec = msgspec.json.decode(data, type=PackageSpec)
    assert spec == made.spec
    assert set(spec.files) == {
        "model.onnx", "samples.json", "profile.msgpack", "reference.msgpack"
    }  # fmt: skip
    for name, digest in spec.files.items():
        assert sha256((folder / name).read_bytes()).hexdigest() == digest
    assert "late" not in spec.contract.names
    assert made.parents == (model.ref,)
    event = list(lab.records.events())[-1]
    assert event.verb == "package.built"
    assert "64 rows agree" in event.body["proof"]
    assert 0 < event.body["p50_ms"] <= event.body["p99_ms"]
    assert [p.name for p in (lab.root / "packages").iterdir()] == [made.ref.digest]
    assert lab.package(model).ref == made.ref


def test_the_profile_of_training_travels_with_it(
    lab: "Lab", model: Artifact, tmp_path: Path
) -> None:
    made = lab.package(model)
    profile = profile_of(lab.root / "packages" / made.ref.digest)
    assert profile is not None
    assert profile.n == 2_400
    assert set(profile.column("carrier").labels) == {"AA", "B6", "DL", "UA"}
    assert profile_of(tmp_path) is None


def test_a_package_that_answers_otherwise_is_never_laid_down(lab: "Lab", model: Artifact) -> None:
    assert isinstance(model.spec, ModelSpec)
    samples = msgspec.json.decode(lab.blobs.get(model.spec.files["samples.json"]))
    samples["scores"][7][0] += 0.001
    wrong = changed(lab, model, "samples.json", canonical(samples))
    with pytest.raises(Corrupt, match=r"1 of 64 rows differ, by up to 0\.001"):
        lab.package(wrong)
    assert not list((lab.root / "packages").iterdir())
    assert not lab.records.artifacts("package")


def test_an_encoding_that_reads_otherwise_is_caught(lab: "Lab", model: Artifact) -> None:
    assert isinstance(model.spec, ModelSpec)
    columns = model.spec.encoding.columns
    swapped = msgspec.convert(
        {"columns": [msgspec.to_builtins(c) for c in (columns[1], columns[0], *columns[2:])]},
        type(model.spec.encoding),
    )
    spec = replace(model.spec, encoding=swapped)
    with pytest.raises(Corrupt, match="rows differ"):
        lab.package(replace(model, spec=spec, ref=name_of("late", spec)))


def test_bytes_that_are_no_model_are_refused(lab: "Lab", model: Artifact) -> None:
    with pytest.raises(Invalid, match="failed"):
        lab.package(changed(lab, model, "model.onnx", b"\x80\x05not a model"))
    with pytest.raises(Corrupt, match="names a file"):
        lab.package(changed(lab, model, "../escape.onnx", b"x"))
    assert not list((lab.root / "packages").iterdir())


def test_a_damaged_folder_is_laid_anew(lab: "Lab", model: Artifact) -> None:
    made = lab.package(model)
    folder = lab.root / "packages" / made.ref.digest
    whole = (folder / "model.onnx").read_bytes()
    assert restore(made, lab.root / "packages", lab.blobs) == folder
    (folder / "model.onnx").write_bytes(whole[:-1] + b"!")
    (folder / "samples.json").unlink()
    restore(made, lab.root / "packages", lab.blobs)
    assert (folder / "model.onnx").read_bytes() == whole
    assert (folder / "samples.json").exists()
    assert len(list((lab.root / "packages").iterdir())) == 1


def test_the_whole_way_through_real_processes(lab: "Lab", flights: pl.DataFrame) -> None:
    lab.doors["compute"] = LocalCompute(child_environment({}))
    model = lab.train(lab.commit(flights))
    assert lab.gate(model).proceed
    made = lab.package(model)
    assert (lab.root / "packages" / made.ref.digest / "model.onnx").exists()
    lab.code("def train(data, params):\n    raise RuntimeError('no luck today')\n")
    with pytest.raises(Invalid, match="no luck today") as caught:
        lab.train(lab.commit(flights.head(500)))
    assert "train.py" in caught.value.hint
