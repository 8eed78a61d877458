"""Models of other tools, from a tracker of this test's own: what is opened, and what is not."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from fairlead.errors import Invalid
from fairlead.project import Project
from fairlead.settings import Settings

MANIFEST = "service: loans\ndata: {source: loans.csv, target: status}\ntrain: {}\n"


class Shelf:
    """A tracker with one model: an MLmodel file and what lies beside it."""

    def __init__(self, said: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
        self.said, self.files = said, files

    def fetch(self, uri: str, target: Path) -> tuple[Path, Mapping[str, Any]]:
        for name, data in self.files.items():
            (target / name).write_bytes(data)
        return target, self.said

    def publish(self, *_: Any, **__: Any) -> tuple[str, str]:
        raise NotImplementedError


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    root = tmp_path_factory.mktemp("loans")
    (root / "fairlead.yaml").write_text(MANIFEST)
    size = [float(i) for i in range(400)]
    pl.DataFrame({"size": size, "status": [i % 2 for i in range(400)]}).write_csv(root / "loans.csv")
    with Project.open(root, Settings(actor="ann")) as opened:
        yield opened


def test_code_that_lies_beside_a_model_or_is_called_one_is_not_run(project: Project, tmp_path: Path) -> None:
    """The opener imports onnx: a file of that name is not what it finds."""
    trace = tmp_path / "ran"
    code = f"open({str(trace)!r}, 'w')\n".encode()
    project.tracker = Shelf({"flavors": {"onnx": {"data": "onnx.py"}}}, {"onnx.py": code, "numpy.py": code})
    with pytest.raises(Invalid, match="the model is no ONNX model"):
        project.bring("models:/loans/1")
    assert not trace.exists()
    assert not list((project.state / "jobs").glob("*"))


@pytest.mark.parametrize("file", ["gone.onnx", ""])
def test_a_file_that_is_not_there_is_told(project: Project, file: str) -> None:
    project.tracker = Shelf({"flavors": {"onnx": {"data": file}}}, {})
    with pytest.raises(Invalid, match="MLmodel file names"):
        project.bring("models:/loans/1")
