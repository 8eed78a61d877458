"""S18: what is shipped is what is committed, byte for byte, and stands on pinned and hashed packages."""

import os
import re
import subprocess
import tomllib
from base64 import urlsafe_b64encode
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import msgspec
import pytest

from requirements import sbom, wheel

LOCKS = ("all.lock", "dev.lock")
REQUIREMENTS = wheel.ROOT / "requirements"
PROJECT = """[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "fairlead"
version = "1"
[project.scripts]
fairlead = "fairlead:main"
[tool.hatch.build.targets.wheel]
packages = ["src/fairlead"]
[tool.hatch.build.targets.wheel.force-include]
"examples/flights" = "fairlead/examples/flights"
"""
HOOK = """from hatchling.builders.hooks.plugin.interface import BuildHookInterface
class CustomBuildHook(BuildHookInterface):
    def initialize(self, version, data):
        open("src/fairlead/made.py", "w").write("import os")
"""
Members = dict[str, bytes]


def git(root: Path, *arguments: str) -> None:
    who = {f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    subprocess.run(["git", "-c", "init.defaultBranch=main", *arguments], cwd=root, check=True,
                   capture_output=True, env={**os.environ, **who})  # fmt: skip


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("project")
    for name, text in {"pyproject.toml": PROJECT, "src/fairlead/__init__.py": "main = print\n",
                       "src/fairlead/core.py": "ONE = 1\n", "examples/flights/train.py": "pass\n"}.items():  # fmt: skip
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    git(root, "init")
    git(root, "add", ".")
    git(root, "commit", "-m", "all")
    return root


def built(root: Path, folder: Path) -> Path:
    folder.mkdir()
    return wheel.build(root, folder)


@pytest.fixture(scope="module")
def twice(project: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("built")
    return built(project, folder / "a"), built(project, folder / "b")


def packed(source: Path, target: Path, change: Callable[[Members], None]) -> Path:
    """The wheel with a change, whose RECORD agrees with it as an attacker's would."""
    with ZipFile(source) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    record = next(name for name in members if name.endswith("RECORD"))
    lines = [f"{n},sha256={urlsafe_b64encode(sha256(d).digest()).rstrip(b'=').decode()},{len(d)}"
             for n, d in members.items() if n != record]  # fmt: skip
    members[record] = "\n".join([*lines, f"{record},,"]).encode()
    with ZipFile(target, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return target


PLANTED: dict[str, tuple[Callable[[Members], None], str]] = {
    "a .pth": (lambda m: m.update({"start.pth": b"import os; os.mkdir('ran')"}), "start.pth: not in the commit"),
    "a module": (lambda m: m.update({"fairlead/more.py": b""}), "fairlead/more.py: not in the commit"),
    "a changed byte": (lambda m: m.update({"fairlead/core.py": b"ONE = 2\n"}), "fairlead/core.py: other bytes"),
    "a missing file": (lambda m: m.__delitem__("fairlead/core.py"), "fairlead/core.py: missing"),
    "a script": (lambda m: m.update({"fairlead-1.data/scripts/run": b"#!"}), "fairlead-1.data/scripts/run: not in"),
    "a command": (lambda m: m.update({"fairlead-1.dist-info/entry_points.txt": b"[console_scripts]\nls=os:x\n"}),
                  "entry_points.txt: other bytes"),
    "a dependency": (lambda m: m.update({"fairlead-1.dist-info/METADATA": b"Requires-Dist: evil\n"}),
                     "METADATA: other bytes"),
    "nothing, packed anew": (lambda m: None, "other bytes"),
}  # fmt: skip


@pytest.mark.parametrize("name", PLANTED)
def test_a_wheel_with_anything_else_is_found(
    name: str, project: Path, twice: tuple[Path, Path], tmp_path: Path
) -> None:
    sound, again = twice
    assert sound.read_bytes() == again.read_bytes() and not wheel.differences(sound, again, project)
    change, told = PLANTED[name]
    bad = packed(sound, tmp_path / sound.name, change)
    assert any(told in line for line in wheel.differences(bad, again, project))


def test_what_is_not_committed_is_not_shipped(project: Path, tmp_path: Path) -> None:
    before = built(project, tmp_path / "a").read_bytes()
    (project / "src/fairlead/left.pth").write_text("import os")
    try:
        assert built(project, tmp_path / "b").read_bytes() == before
    finally:
        (project / "src/fairlead/left.pth").unlink()


def test_a_build_that_makes_files_is_found(project: Path, tmp_path: Path) -> None:
    """The twin: building twice gives the same bytes, and they are not the commit's."""
    git(project, "checkout", "-b", "hooked")
    with (project / "pyproject.toml").open("a") as file:
        file.write("[tool.hatch.build.targets.wheel.hooks.custom]\n")
    (project / "hatch_build.py").write_text(HOOK)
    git(project, "add", ".")
    git(project, "commit", "-m", "hook")
    try:
        made, again = built(project, tmp_path / "a"), built(project, tmp_path / "b")
        assert wheel.differences(made, again, project) == ["fairlead/made.py: the build made it other than the commit"]
    finally:
        git(project, "checkout", "main")


@pytest.mark.skipif(not (wheel.ROOT / ".git").exists(), reason="compares with the commit")
def test_the_wheel_is_the_commit(tmp_path: Path) -> None:
    first, second = built(wheel.ROOT, tmp_path / "a"), built(wheel.ROOT, tmp_path / "b")
    assert wheel.differences(first, second, wheel.ROOT) == []


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_pins_and_hashes_everything_and_names_no_host(name: str) -> None:
    text = (REQUIREMENTS / name).read_text()
    names = [wanted for wanted, _, _ in sbom.pins(text)]
    assert len(names) == len({*names}) > 40
    assert not re.search(r"://|--(index|find|trusted|extra)|@|\.(com|org|net|io)\b", text)
    project = tomllib.loads((wheel.ROOT / "pyproject.toml").read_text())
    wanted = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
    assert {re.split("[<>=]", line)[0] for line in wanted} <= {*names}


@pytest.mark.parametrize("line", ["evil", "evil>=1", "evil==1", "evil @ https://evil.example/a.whl",
                                  "--extra-index-url https://evil.example/", "-e ."])  # fmt: skip
def test_a_line_that_pins_nothing_is_found(line: str) -> None:
    with pytest.raises(ValueError, match="not a pinned and hashed"):
        sbom.pins((REQUIREMENTS / LOCKS[0]).read_text() + line + "\n")


def document() -> dict[str, Any]:
    return sbom.bom((REQUIREMENTS / "all.lock").read_text(), "1.0", 1.7e9)


def test_the_bill_of_materials_names_every_package_with_its_hashes() -> None:
    made, lock = document(), (REQUIREMENTS / "all.lock").read_text()
    assert made == document()
    for name, version, hashes in sbom.pins(lock):
        found = next(c for c in made["components"] if c["name"] == name)
        assert found["version"] == version and [h["content"] for h in found["hashes"]] == hashes
    reached, ahead = set[str](), ["fairlead"]
    needs = {d["ref"]: d["dependsOn"] for d in made["dependencies"]}
    while ahead:
        reached.add(name := ahead.pop())
        ahead += [n for n in needs[name] if n not in reached]
    assert reached - {"fairlead"} == {c["bom-ref"] for c in made["components"]}, "nobody needs it"


def test_the_bill_of_materials_is_valid_cyclonedx() -> None:
    validation = pytest.importorskip("cyclonedx.validation.json")
    schema = pytest.importorskip("cyclonedx.schema")
    checked = validation.JsonStrictValidator(schema.SchemaVersion.V1_6)
    assert checked.validate_str(msgspec.json.encode(document()).decode()) is None
