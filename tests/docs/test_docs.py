"""Every code block in README.md and docs/ is run: shell and Python in order, YAML as a manifest."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from fairlead.adapters.manifest import load

ROOT = Path(__file__).parents[2]
PAGES = [
    page
    for page in sorted(ROOT.glob("docs/**/*.md"))
    if "adr" not in page.parts and re.search(r"^```(bash|python|yaml)", page.read_text(), re.M)
]
BLOCK = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```", re.M | re.S)
BASE = {"service": "loans", "data": {"source": "loans.csv", "target": "status"}, "train": {}}
PRELUDE = """set -euo pipefail
trap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT
"""


def blocks(page: Path, *languages: str) -> list[tuple[str, str]]:
    return [(m[1], m[2]) for m in BLOCK.finditer(page.read_text()) if m[1] in languages]


def script(page: Path) -> str:
    """One shell script of the page's shell and Python blocks, in order."""
    parts = [PRELUDE]
    for language, text in blocks(page, "bash", "python"):
        parts.append(text if language == "bash" else f"python - <<'PAGE'\n{text}PAGE\n")
    return "\n".join(parts)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_commands_of_a_page_run(page: Path, tmp_path: Path) -> None:
    if not blocks(page, "bash", "python"):
        pytest.skip("the page has no commands")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script(page)], cwd=tmp_path, capture_output=True, text=True, timeout=110,
        env=os.environ | {"PATH": path, "NO_COLOR": "1", "FAIRLEAD_REPO": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_manifests_of_a_page_load(page: Path, tmp_path: Path) -> None:
    found = blocks(page, "yaml")
    if not found:
        pytest.skip("the page shows no manifest")
    for _, text in found:
        shown = yaml.safe_load(text)
        assert isinstance(shown, dict), text
        path = tmp_path / "fairlead.yaml"
        path.write_text(yaml.safe_dump(shown if "chat" in shown else BASE | shown))
        load(path)
