"""The command line: quick to start, plain in its refusals, with an exit status a script can read."""

import ast
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from fairlead.adapters.manifest import json_schema
from fairlead.api import border
from fairlead.api.cli import ROOMS, main, shape
from fairlead.errors import Conflict, Corrupt, FairleadError, Invalid, Missing, Unavailable

HEAVY = ("polars", "sklearn", "sqlalchemy", "onnxruntime", "onnx", "obstore", "numpy", "scipy")


def fairlead(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "fairlead", *arguments], text=True,
                          capture_output=True, timeout=60, check=False)  # fmt: skip


@pytest.mark.parametrize("arguments", [("--help",), ("release", "--help"), ("init", "-h"), ("--version",)])  # fmt: skip
def test_help_loads_nothing_heavy(arguments: tuple[str, ...]) -> None:
    code = (
        "import sys\nfrom fairlead.api.cli import main\n"
        f"status = main({list(arguments)!r})\n"
        f"print('LOADED', [m for m in {HEAVY!r} if m in sys.modules], status, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=True)
    assert "LOADED [] 0" in done.stderr
    assert done.stdout


def test_help_names_every_command() -> None:
    said = fairlead("--help").stdout
    for command in shape.ORDER:
        assert f"│ {command} " in said


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.__name__.rpartition(".")[2])
def test_every_declared_command_finds_its_function(room: ModuleType) -> None:
    """The seam hides a misspelt name from mypy's run-time twin: look every one up."""
    for node in ast.walk(ast.parse(Path(room.__file__ or "").read_text())):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            owner = getattr(room, node.value.id, None)
            if type(owner).__name__ == "_Later":
                assert callable(getattr(owner, node.attr)), f"{node.value.id}.{node.attr}"


def test_a_misspelt_command_is_usage_with_a_guess() -> None:
    done = fairlead("stats")
    assert done.returncode == 2
    assert "status" in done.stderr


@pytest.mark.parametrize(("error", "status"), [
    (Invalid("a"), 2), (Missing("a"), 3), (Conflict("a"), 4), (Unavailable("a"), 5),
    (Corrupt("a"), 6), (ValueError("a"), 70), (KeyboardInterrupt(), 130), (SystemExit(1), 1),
])  # fmt: skip
def test_every_error_has_its_exit_status(
    error: BaseException, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with border.Border() as here:
        raise error
    assert here.status == status
    said = capsys.readouterr()
    assert said.out == ""
    assert "Traceback" not in said.err
    assert isinstance(error, FairleadError) == said.err.startswith("error: a")


def test_debug_shows_the_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["predict"]) == main(["predict", "--debug"]) == 3
    plain, _, debug = capsys.readouterr().err.partition("Traceback")
    assert "hint:" in plain
    assert "folder.py" in debug


def test_the_project_is_the_nearest_one_upwards(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fairlead.yaml").write_text("service: here\ndata: {sorce: a}\n")
    (tmp_path / "deep" / "er").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "deep" / "er")
    assert main(["data", "log"]) == 2
    assert 'line 2  data.sorce   unknown key; did you mean "source"?' in capsys.readouterr().err


def test_predict_without_a_service_is_unavailable(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "fairlead.yaml").write_text("service: a\ndata: {source: a, target: b}\ntrain: {}\n")
    assert main(["predict", "{}", "--project", str(tmp_path)]) == 5
    assert "`fairlead serve`" in capsys.readouterr().err


def test_schema_prints_the_published_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out) == json_schema()
