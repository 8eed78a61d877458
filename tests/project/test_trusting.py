"""What may run here is asked before a release starts: the libraries it was made with, and trust in its code."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fairlead.core.artifact import Artifact, PackageSpec, name_of
from fairlead.core.encoding import Encoding, Number
from fairlead.core.ref import Ref, canonical
from fairlead.core.schema import Column, Schema
from fairlead.errors import Forbidden, Invalid
from fairlead.flavors.environment import FILE as LOCK
from fairlead.flavors.environment import record
from fairlead.flavors.python import FILE, MAGIC, Bundle
from fairlead.ports import Change
from fairlead.project import Project


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    (tmp_path / "fairlead.yaml").write_text("service: late\ndata: {source: t.csv, target: late}\ntrain: {serve: model.py}\n")
    with Project.open(tmp_path) as made:
        yield made


def package(project: Project, folder: Path, source: str = "def load(folder): ...", **spoiled: str) -> Artifact:
    """A package of Python that lies where it is served from; `spoiled`: versions it names."""
    record(folder, ("numpy",))
    lock = msgspec.json.decode((folder / LOCK).read_bytes(), type=dict[str, str])
    (folder / LOCK).unlink()
    kept = Bundle(entry="model.py", sources={"model.py": source}, state={})
    files = {FILE: MAGIC + msgspec.msgpack.encode(kept), LOCK: canonical(lock | spoiled)}
    spec = PackageSpec(model=Ref("model", "late", "0" * 64), flavor="python", task="binary", classes=("no", "yes"),
                       contract=Schema(columns=(Column(name="x", dtype="float"),)), encoding=Encoding((Number("x"),)),
                       files={n: project.blobs.put(d) for n, d in files.items()})  # fmt: skip
    made = Artifact(ref=name_of("late", spec), spec=spec, created_at=1.0)
    project.records.commit(Change(at=1.0, actor="ben", verb="package.built", subject=str(made.ref), artifacts=(made,)))
    project.code_of(made)  # lays it out
    return made


def test_another_environment_is_refused_before_trust_is_asked(project: Project, tmp_path: Path) -> None:
    made = package(project, tmp_path, numpy="1.0")
    for ask in (project.vouch, project.start_release):
        run: Any = ask
        with pytest.raises(Invalid, match=r"made with numpy 1\.0 \(here is"):
            run(made.ref)


def test_code_is_shown_then_trusted_then_released_never_before(project: Project, tmp_path: Path) -> None:
    made = package(project, tmp_path, source="raise AssertionError('it ran')")
    assert project.code_of(made).sources == {"model.py": "raise AssertionError('it ran')"}
    with pytest.raises(Forbidden, match=f"fairlead trust {made.ref.digest[:12]}"):
        project.start_release(made.ref)
    project.trust(made, "read", "1d")
    project.vouch(made.ref)
    with pytest.raises(Invalid, match="its model was never judged"):
        project.start_release(made.ref)
    project.distrust(made, "a flaw")
    with pytest.raises(Forbidden):
        project.vouch(made.ref)


def test_who_made_it_does_not_trust_it(project: Project, tmp_path: Path) -> None:
    made = package(project, tmp_path)
    admin = project.add_person("ada", ["admin"], "1d")
    refusals = {"ben": "nobody trusts their own", "tom": "may not approve", "ann": ""}
    for name, roles in (("ben", ["trainer", "approver"]), ("tom", ["trainer"]), ("ann", ["approver"])):
        project.show(admin)
        project.show(project.add_person(name, roles, "1d"))
        if refusals[name]:
            with pytest.raises(Forbidden, match=refusals[name]):
                project.trust(made, "read", "1d")
    assert project.trust(made, "read", "1d").by == "ann"
