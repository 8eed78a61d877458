"""What is shown to people: the nets of docs/frameworks.md and of examples/digits, as they stand there."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fairlead.errors import Missing
from fairlead.flavors import frameworks

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "digits"
SHOWN = re.findall(r"^```py\n(.*?)^```", (ROOT / "docs" / "frameworks.md").read_text(), re.M | re.S)
NEEDS = ("torch", "keras")
pytestmark = [pytest.mark.frameworks, pytest.mark.timeout(400)]  # training, twice, on whatever machine


def fairlead(*arguments: str, cwd: Path) -> Any:
    done = subprocess.run([sys.executable, "-m", "fairlead", *arguments, "--json"], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return json.loads(done.stdout)


@pytest.mark.parametrize("needs", NEEDS)
def test_the_page_shows_nets_that_learn_and_are_exported(needs: str, tmp_path: Path) -> None:
    pytest.importorskip(needs)
    text = next(block for block in SHOWN if block.startswith(f"import {needs}\n"))
    frameworks.seed(0, text)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3_000, 4)).astype(np.float32)
    y = (x[:, 0] + x[:, 1] > 0).astype(np.int64)
    x[rng.random(x.shape) < 0.02] = np.nan
    shown: dict[str, Any] = {}
    exec(text, shown)
    model = shown["train"](SimpleNamespace(X=x, y=y), {})
    flavor, proof, _ = frameworks.export(model, x, "binary", 2, tmp_path)
    assert (flavor, proof.exact) == ("onnx", True)
    right = (frameworks.scorer(tmp_path, "onnx", "binary", 2)(x)[:, 0] > 0.5) == y
    assert right.mean() > 0.85


@pytest.mark.parametrize(("framework", "converter", "extra"), [("torch", "onnxscript", "torch"), ("keras", "tf2onnx", "tensorflow")])
def test_a_missing_converter_is_named_with_its_extra(
    framework: str, converter: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = pytest.importorskip(framework)
    model = library.nn.Linear(3, 1) if framework == "torch" else library.Sequential([library.Input((3,)), library.layers.Dense(1)])
    monkeypatch.setitem(sys.modules, converter, None)
    with pytest.raises(Missing) as caught:
        frameworks.export(model, np.ones((4, 3), np.float32), "regression", 0, tmp_path)
    assert caught.value.hint == f'pip install "fairlead[{extra}]"'


@pytest.mark.parametrize(("code", "needs"), [*zip(("with_pytorch.py", "with_keras.py"), NEEDS, strict=True)])
def test_it_learns_digits_and_is_made_again_bit_for_bit(code: str, needs: str, tmp_path: Path) -> None:
    pytest.importorskip(needs)
    shutil.copytree(EXAMPLE, tmp_path, dirs_exist_ok=True)
    manifest = tmp_path / "fairlead.yaml"
    manifest.write_text(manifest.read_text().replace("with_pytorch.py", code, 1))
    made = fairlead("run", cwd=tmp_path)
    print(json.dumps(made)[:600])  # noqa: T201
    again = fairlead("reproduce", cwd=tmp_path)
    assert again["same"], again
