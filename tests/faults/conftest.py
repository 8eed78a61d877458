"""The fault suite's ground: real processes, with or without a planted bug, and the table at the end."""

import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.bar import Bar, Figure
from tests.faults.models import MISBEHAVE
from tests.faults.planted import SOUND
from tests.serve.conftest import Plant

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "faults.md"
BEGIN, END = "<!-- figures -->\n", "<!-- end of figures -->\n"
FIGURES = pytest.StashKey[list[Figure]]()


class Ground(Plant):
    """A plant whose processes may carry a planted bug (see planted.py)."""

    def __init__(self, root: Path, bug: str = "") -> None:
        super().__init__(root)
        self.entry = [sys.executable, "-m", "tests.faults.planted", bug or SOUND, "serve"]

    def start(self, *controller: str, env: dict[str, str] | None = None, **changes: Any) -> None:
        paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        super().start(*controller, env={"PYTHONPATH": paths, **(env or {})}, **changes)

    def until(self, moment: float) -> None:
        """Wait for a moment (monotonic seconds)."""
        self.wait(lambda: time.monotonic() >= moment, 60.0)

    def known(self, package: object, what: str) -> Any:
        """Wait until the status says `what` ("reason", "replicas", ...) of a package."""
        return self.wait(lambda: self.status()["packages"].get(str(package), {}).get(what))


@pytest.fixture
def bug() -> str:
    """None; a test with twins names them with parametrize."""
    return ""


@pytest.fixture
def plant(tmp_path: Path, bug: str) -> Iterator[Ground]:
    made = Ground(tmp_path, bug)
    yield made
    made.stop()


@pytest.fixture
def zoo(tmp_path: Path, bug: str) -> Iterator[Ground]:
    """A plant whose models may misbehave (see models.py)."""
    made = Ground(tmp_path, bug or MISBEHAVE)
    yield made
    made.stop()


@pytest.fixture
def bar(request: pytest.FixtureRequest, bug: str) -> Bar:
    """The bar of the promise that the test is named after: test_r13_..."""
    found = re.match(r"test_(r\d+)_", request.node.name)
    assert found, "a fault test is named after its promise"
    planted = bug if request.node.get_closest_marker("xfail") else ""
    return Bar(found[1].upper(), planted, request.config.stash[FIGURES])


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--figures", action="store_true", help="write what was measured into docs/faults.md")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[FIGURES] = []


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    kept: list[Figure] = config.stash[FIGURES]
    figures = sorted(kept, key=lambda f: int(f.promise[1:]))
    if not figures:
        return
    lines = _table(figures)
    terminalreporter.section("promises")
    terminalreporter.write("".join(lines))
    if config.getoption("--figures", False):
        head, _, rest = PAGE.read_text().partition(BEGIN)
        PAGE.write_text(head + BEGIN + "".join(lines) + END + rest.partition(END)[2])


def _table(figures: list[Figure]) -> list[str]:
    """Markdown: the worst of what was measured under one name, and which planted bugs were caught."""
    lines = ["| promise | measured | figure | goal | |\n", "|---|---|---|---|---|\n"]
    worst = {(f.promise, f.what): f for f in sorted(figures, key=lambda f: f.worse) if not f.bug}
    for f in (worst[p] for p in dict.fromkeys((f.promise, f.what) for f in figures if not f.bug)):
        lines.append(f"| {f.promise} | {f.what} | {f.shown} | {f.goal} | {'' if f.kept else 'NOT KEPT'} |\n")
    for f in (f for f in figures if f.bug and not f.kept):
        name = f.bug.rpartition(".")[2].replace("_", " ")
        lines.append(f"| {f.promise} | *planted: {name}*: {f.what} | {f.shown} | {f.goal} | caught |\n")
    return lines
