"""A package that comes as an image: signature first, proven apart, then released like one of the house."""

import io
import sys
import tarfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from fairlead.adapters.images.layout import Layout
from fairlead.adapters.keys.local import LocalSigner
from fairlead.api.cli import main
from fairlead.core.artifact import Artifact, PackageSpec, name_of
from fairlead.core.oci import INDEX, MODELPACK, Descriptor, Document, named, pem, read
from fairlead.core.oci import MANIFEST as IMAGE
from fairlead.core.ref import canonical
from fairlead.core.release import Phase
from fairlead.errors import FairleadError, Invalid, Missing
from fairlead.flow import image, origin
from fairlead.project import Project
from fairlead.serve.apart import apart
from fairlead.settings import Settings
from tests.flow.conftest import Here

MANIFEST = """
service: loans
data: {{source: loans.csv, target: status}}
train: {{}}
environment: {environment}
"""
TRAIN = """
from sklearn.ensemble import HistGradientBoostingClassifier

def train(data, params):
    return HistGradientBoostingClassifier(max_iter=10, random_state=0).fit(data.X, data.y)
"""


def opened(root: Path, environment: str) -> Project:
    root.mkdir(exist_ok=True)
    (root / "fairlead.yaml").write_text(MANIFEST.format(environment=environment))
    (root / "train.py").write_text(TRAIN)
    return Project.open(root, Settings(actor="ann"))


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Project, Artifact, Path]]:
    """(project of staging, its package, the layout with its image)."""
    root = tmp_path_factory.mktemp("staging")
    draw = np.random.default_rng(0)
    income = draw.normal(50, 10, 600)
    status = np.where(income + draw.normal(0, 5, 600) > 50, "paid", "lost")
    pl.DataFrame({"income": income, "region": draw.choice(["n", "s"], 600), "status": status}).write_csv(root / "loans.csv")
    before, bytecode = list(sys.path), sys.dont_write_bytecode
    with threadpool_limits(1), opened(root, "{name: staging}") as project:
        compute, project.compute = project.compute, Here()
        project.snapshot()
        model = project.train()
        project.gate(model.ref)
        package = project.package(model.ref)
        project.compute = compute
        built = project.build_image(package)
        project.send_image(built, str(root / "image"))
        yield project, package, root / "image"
    sys.path, sys.dont_write_bytecode = before, bytecode
    sys.modules.pop("train", None)


def accepts(key: str, **more: Any) -> str:
    return canonical({"name": "prod", "accepts": {"staging": key}, "promoted": False} | more).decode()


def test_it_is_proven_apart_released_and_says_where_it_came_from(
    sent: tuple[Project, Artifact, Path], tmp_path: Path
) -> None:
    staging, package, layout = sent
    with opened(tmp_path / "prod", accepts(staging.signer.key)) as prod:
        made, found, proof = prod.take_image(str(layout))
        assert (made.ref, found.signer) == (package.ref, "staging")
        assert "rows agree" in proof
        assert prod.records.artifact(made.ref).parents == ()
        begun = prod.start_release(made.ref, prod.plan("replace"))
        prod.tick()
        assert prod.records.release(begun.id).phase is Phase.PROMOTED
        (event,) = [e for e in prod.records.events(subject=str(made.ref)) if e.verb == "package.received"]
        assert (event.body["image"], event.body["key"]) == (found.image.digest, staging.signer.key)
        said = msgspec.json.decode(prod.blobs.get(event.body["said"]))
        assert said[origin.PROVENANCE]["buildDefinition"]["externalParameters"]["package"] == str(package.ref)
        with pytest.raises(Invalid, match="only its builder can vouch for it"):
            prod.build_image(made)


def test_only_what_was_promoted_there_is_taken_where_that_is_asked(
    sent: tuple[Project, Artifact, Path], tmp_path: Path
) -> None:
    staging, package, layout = sent
    with opened(tmp_path / "prod", accepts(staging.signer.key, promoted=True)) as prod:
        with pytest.raises(Invalid, match="was not promoted"):
            prod.take_image(str(layout))
        staging.start_release(package.ref, staging.plan("replace"))
        staging.tick()
        staging.take_image(str(layout))  # its own: what it made it can vouch for
        staging.send_image(staging.build_image(package), str(tmp_path / "again"))
        assert prod.take_image(str(tmp_path / "again"))[0].ref == package.ref


def test_a_key_that_is_given_is_the_only_one(
    sent: tuple[Project, Artifact, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    staging, _, layout = sent
    opened(tmp_path / "prod", "{name: prod}").close()
    here = ("-C", str(tmp_path / "prod"))
    (tmp_path / "right.pub").write_text(pem(staging.signer.key))
    (tmp_path / "wrong.pub").write_text(pem(LocalSigner(tmp_path / "stranger").key))
    assert main(["import", str(layout), *here]) == 2
    assert main(["import", str(layout), "--key", str(tmp_path / "wrong.pub"), *here]) == 2
    assert "whom nobody here trusts" in capsys.readouterr().err
    assert main(["import", str(tmp_path / "right.pub"), "--key", str(tmp_path / "right.pub"), *here]) == 2
    assert "--key speaks of images" in capsys.readouterr().err, "a key that nobody heeds is not taken"
    assert main(["import", str(layout), "--key", str(tmp_path / "right.pub"), "--json", *here]) == 0
    assert msgspec.json.decode(capsys.readouterr().out)["signer"] == ""


def forged(project: Project, folder: Path, files: dict[str, bytes], to: Path, name: str = "staging") -> None:
    """An image of a package with these files, signed by the right key."""
    folder.mkdir()
    before = project.records.artifacts("package")[-1].spec
    assert isinstance(before, PackageSpec)
    spec = msgspec.structs.replace(before, files={n: sha256(d).hexdigest() for n, d in files.items()})
    for file, data in {**files, "package.json": canonical(spec)}.items():
        (folder / file).write_bytes(data)
    bench = Layout(to)
    made = Artifact(ref=name_of("loans", spec), spec=spec, created_at=0.0)
    built = image.build(made, folder, bench, None, architecture="amd64")
    said = {origin.SIGNED: {}, origin.PROVENANCE: origin.provenance(built, name, None, ())}
    origin.vouch(bench, built, said, project.signer)


def unsigned(project: Project, package: Artifact, source: Path, to: Path) -> None:
    bench = Layout(to)
    image.build(package, project.state / "packages" / package.ref.digest, bench, None, architecture="amd64")


class Impostor:
    """Signs in the name of another key."""

    def __init__(self, key: str, folder: Path) -> None:
        self.key, self.sign = key, LocalSigner(folder).sign


def imitated(project: Project, package: Artifact, source: Path, to: Path) -> None:
    bench, folder = Layout(to), project.state / "packages" / package.ref.digest
    built = image.build(package, folder, bench, None, architecture="amd64")
    said = {origin.SIGNED: {}, origin.PROVENANCE: origin.provenance(built, "staging", None, ())}
    origin.vouch(bench, built, said, Impostor(project.signer.key, to / "stranger"))


def flipped(project: Project, package: Artifact, source: Path, to: Path) -> None:
    image.copy(Layout(source), Layout(to), "latest", "v1")
    blob = max((to / "blobs" / "sha256").iterdir(), key=lambda p: p.stat().st_size)
    data = bytearray(blob.read_bytes())
    data[len(data) // 2] ^= 1
    blob.write_bytes(data)


def swapped(project: Project, package: Artifact, source: Path, to: Path) -> None:
    flipped(project, package, source, to)
    blob = max((to / "blobs" / "sha256").iterdir(), key=lambda p: p.stat().st_size)
    with tarfile.open(blob, "w") as tar:
        info = tarfile.TarInfo("models/model.onnx")
        info.size = 3
        tar.addfile(info, io.BytesIO(b"\x08\x09\x0a"))


def elsewhere(project: Project, package: Artifact, source: Path, to: Path) -> None:
    forged(project, to.with_name("package"), parts(project, package), to, name="somewhere")


def pickled(project: Project, package: Artifact, source: Path, to: Path) -> None:
    forged(project, to.with_name("package"), parts(project, package) | {"model.onnx": b"\x80\x04cos\nsystem\n."}, to)


def traversing(project: Project, package: Artifact, source: Path, to: Path) -> None:
    forged(project, to.with_name("package"), parts(project, package) | {"..\\evil": b"x"}, to)


def other_answers(project: Project, package: Artifact, source: Path, to: Path) -> None:
    samples = msgspec.json.decode(parts(project, package)["samples.json"])
    samples["scores"] = [[1 - s for s in row] for row in samples["scores"]]
    forged(project, to.with_name("package"), parts(project, package) | {"samples.json": canonical(samples)}, to)


def bomb(project: Project, package: Artifact, source: Path, to: Path) -> None:
    """A layer that would be inflated, in an index that is signed by the right key."""
    bench, folder = Layout(to), project.state / "packages" / package.ref.digest
    built = image.build(package, folder, bench, None, architecture="amd64")
    document = read(bench.manifest(built.artifact.digest)[1])
    assert document.layers
    zeros = bench.layer([("models/model.onnx", bytes(1 << 24))], packed=True).stored
    layer = Descriptor(f"{document.layers[0].media_type}+gzip", zeros.digest, zeros.size)
    pack = canonical(msgspec.structs.replace(document, layers=(layer,)))
    entry = named(pack, IMAGE, artifact_type=MODELPACK)
    bench.publish(entry, pack)
    index = canonical(Document(2, INDEX, manifests=(entry,)))
    bench.publish(named(index, INDEX), index, built.tag)
    built = msgspec.structs.replace(built, index=named(index, INDEX))
    origin.vouch(bench, built, {origin.SIGNED: {}, origin.PROVENANCE: origin.provenance(built, "staging", None, ())},
                 project.signer)  # fmt: skip


def parts(project: Project, package: Artifact) -> dict[str, bytes]:
    folder = project.state / "packages" / package.ref.digest
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.name != "package.json"}


FAULTS = [unsigned, imitated, flipped, swapped, elsewhere, pickled, traversing, bomb, other_answers]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f.__name__)
def test_a_planted_fault_is_refused_and_nothing_is_kept(
    sent: tuple[Project, Artifact, Path], tmp_path: Path, fault: Any
) -> None:
    staging, package, layout = sent
    fault(staging, package, layout, tmp_path / "image")
    with opened(tmp_path / "prod", accepts(staging.signer.key)) as prod:
        with pytest.raises(FairleadError) as refusal:
            prod.take_image(str(tmp_path / "image"))
        assert not isinstance(refusal.value, Missing), refusal.value
        assert prod.records.artifacts("package") == []
        assert not (prod.state / "packages").exists()
        assert not list((prod.state / "jobs").glob("*"))


@pytest.mark.parametrize(("work", "said"), [
    (lambda: Path("/etc/passwd").read_bytes(), "PermissionError"),
    (lambda: bytes(Path("/tmp/fairlead-apart").write_bytes(b"x")), "PermissionError"),
    (lambda: bytes(__import__("socket").create_connection(("127.0.0.1", 9))), "PermissionError"),
    (lambda: __import__("subprocess").run(["true"]), "PermissionError"),
    (lambda: bytes(3 << 20), "takes too long"),
    (lambda: __import__("time").sleep(60), "takes too long"),
    (lambda: __import__("os")._exit(0), "ends the process"),
])  # fmt: skip
def test_work_apart_reaches_nothing(tmp_path: Path, work: Any, said: str) -> None:
    assert apart(lambda: b"fine", tmp_path) == b"fine"
    with pytest.raises(Invalid, match=said):
        apart(work, tmp_path, seconds=0.2)
