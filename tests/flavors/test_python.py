"""A model of any Python: its source and what it saved travel together, and answer as what was trained."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fairlead.errors import Corrupt, FairleadError, Invalid, Missing
from fairlead.flavors import environment, frameworks, python
from fairlead.flavors.python import FILE, Folder

ROWS = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
HELPER = "def chance(x, w):\n    return 1 / (1 + np.exp(-x @ w))\n"
SOURCE = """
import json
import numpy as np
from parts.link import chance

def load(folder):
    w = np.array(json.loads((folder / "sub" / "w.json").read_text()))
    return lambda X: chance(X, w)
"""


class Line:
    """What train() returned."""

    def __init__(self, *weights: float) -> None:
        self.weights = weights

    def __call__(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.asarray(1 / (1 + np.exp(-rows @ np.array(self.weights))))

    def save(self, folder: Path) -> None:
        (folder / "sub").mkdir()
        (folder / "sub" / "w.json").write_text(str(list(self.weights)))


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    paths, modules = list(sys.meta_path), set(sys.modules)
    yield
    sys.meta_path[:] = paths
    for name in set(sys.modules) - modules:
        del sys.modules[name]


@pytest.fixture
def entry(tmp_path: Path) -> Path:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "__init__.py").write_text("")
    (tmp_path / "parts" / "link.py").write_text("import numpy as np\n" + HELPER)
    (tmp_path / "unrelated.py").write_text("raise AssertionError")
    (tmp_path / "model.py").write_text(SOURCE)
    return tmp_path / "model.py"


def made(estimator: Any, entry: Path) -> Path:
    folder = entry.with_name("job")
    folder.mkdir()
    declared, _ = frameworks.declared(estimator, entry)
    flavor, proof, why = frameworks.export(declared, ROWS, "binary", 2, folder)
    assert (flavor, why) == ("python", "train.serve names model.py") and proof.exact
    return folder


def test_it_answers_as_what_was_trained_with_nothing_left_on_disk(entry: Path) -> None:
    folder = made(Line(1, 2, 3), entry)
    files = {p.name: p.read_bytes() for p in folder.iterdir()}
    assert files.keys() == {FILE, environment.FILE}
    for path in [*entry.parent.rglob("*.py"), folder / FILE]:
        path.unlink()
    frameworks.demand(files)
    scorer = frameworks.scorer(files, "python", "binary", 2)
    np.testing.assert_allclose(scorer(ROWS)[:, 0], Line(1, 2, 3)(ROWS), rtol=1e-6)
    assert scorer(ROWS).dtype == np.float32


def test_the_same_model_is_the_same_bytes_of_just_what_it_needs(entry: Path) -> None:
    folder = made(Line(1, 2, 3), entry)
    kept = python.bundle(folder)
    assert kept.sources.keys() == {"model.py", "parts/__init__.py", "parts/link.py"}
    assert kept.state == {"sub/w.json": b"[1, 2, 3]"} and kept.entry == "model.py"
    before = (folder / FILE).read_bytes()
    (folder / FILE).unlink()
    (folder / environment.FILE).unlink()
    folder.rmdir()
    assert (made(Line(1, 2, 3), entry) / FILE).read_bytes() == before


def test_two_models_with_sources_of_the_same_name_do_not_meet(entry: Path) -> None:
    first = made(Line(1, 2, 3), entry).rename(entry.with_name("first"))
    one = frameworks.scorer(first, "python", "binary", 2)(ROWS)
    (entry.parent / "parts" / "link.py").write_text("import numpy as np\ndef chance(x, w):\n    return x[:, 0] * 0 + 0.25\n")
    other = frameworks.scorer(made(Quarter(1), entry), "python", "binary", 2)(ROWS)
    assert (other == 0.25).all() and not (one == 0.25).all()


class Quarter(Line):
    def __call__(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.full(len(rows), 0.25)


class Forgetful(Line):
    def save(self, folder: Path) -> None:
        Line(1, 1, 1).save(folder)


class Unsaved:
    def __call__(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        return rows[:, 0] * 0


class Loud(Line):
    def save(self, folder: Path) -> None:
        raise OSError("disk on fire")


class Linked(Line):
    def save(self, folder: Path) -> None:
        (folder / "w").symlink_to("/etc/passwd")


class Wide(Line):
    def __call__(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.zeros((len(rows), 5))


class Odds(Line):
    def __call__(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.full(len(rows), 2.0)


@pytest.mark.parametrize(("estimator", "said"), [
    (Forgetful(1, 2, 3), "does not answer as what train"), (Unsaved(), r"no save\(folder\)"),
    (Loud(1, 2, 3), "OSError: disk on fire"), (Linked(1, 2, 3), "something that is no file"),
    (Wide(1, 2, 3), "an array of"), (Odds(1, 2, 3), "no probabilities"), (object(), "cannot be asked"),
])  # fmt: skip
def test_what_cannot_be_kept_is_refused_in_words(estimator: Any, said: str, entry: Path) -> None:
    with pytest.raises(Invalid, match=said):
        made(estimator, entry)


@pytest.mark.parametrize(("source", "said"), [
    ("def load(folder):\n    1 / 0\n", "model.py fails: ZeroDivisionError"), ("x = 1", "defines no function `load`"),
    ("import os; raise SystemExit", "model.py fails: SystemExit"), ("def load(:", "is not Python"),
])  # fmt: skip
def test_a_source_that_cannot_load_is_refused_in_words(source: str, said: str, entry: Path) -> None:
    entry.write_text(source)
    with pytest.raises(Invalid, match=said):
        made(Line(1, 2, 3), entry)


def test_a_source_that_is_not_there(entry: Path) -> None:
    with pytest.raises(Missing, match=r"there is no file other\.py"):
        frameworks.declared(Line(1), entry.with_name("other.py"))


@pytest.mark.parametrize("data", [b"", b"\x80\x04.", b"FLPY1\n", b"FLPY1\n\x81", b"PK\x03\x04"])
def test_what_is_no_bundle_is_refused(data: bytes) -> None:
    with pytest.raises(FairleadError) as error:
        frameworks.scorer({FILE: data}, "python", "binary", 2)
    assert error.type is Corrupt


def test_a_folder_in_memory_is_read_as_one_on_disk(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b.txt").write_text("hé")
    (tmp_path / "c.bin").write_bytes(b"\x00")
    folder = Folder({"a/b.txt": "hé".encode(), "c.bin": b"\x00"})
    for here in (tmp_path, folder):
        root: Any = here
        assert sorted(p.name for p in root.iterdir()) == ["a", "c.bin"]
        assert (root / "a").is_dir() and (root / "a" / "b.txt").is_file() and not (root / "z").exists()
        with (root / "a" / "b.txt").open(encoding="utf-8") as file:
            assert (root / "a" / "b.txt").read_text() == file.read() == "hé"
        with (root / "c.bin").open("rb") as data:
            assert data.read() == b"\x00"
        with pytest.raises(FileNotFoundError):
            (root / "z").read_bytes()
    with pytest.raises(PermissionError):
        (folder / "c.bin").open("w")
