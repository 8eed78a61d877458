import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fairlead.errors import Missing
from fairlead.serve import package, replica
from tests.faults.bar import Bar, twin
from tests.faults.bugs_replica import unverified_files
from tests.serve.conftest import Plant

MANY = 1000
BOUNDS = replica.Bounds(hang=1.0, load=60.0, memory=0)
Change = Callable[[random.Random, Path], None]


def flip(chosen: random.Random, path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[chosen.randrange(len(data))] ^= 1 << chosen.randrange(8)
    path.write_bytes(data)


def cut(chosen: random.Random, path: Path) -> None:
    path.write_bytes(path.read_bytes()[: chosen.randrange(path.stat().st_size)])


def swap(chosen: random.Random, path: Path) -> None:
    """With another file that is sound in itself."""
    others = [p for p in path.parents[1].glob(f"*/{path.name}") if p.parent != path.parent]
    path.write_bytes(chosen.choice(others).read_bytes())


class Tracer:
    """Notes what reads a file as more than bytes: the decoder of the spec, the opener of the model."""

    def __init__(self) -> None:
        self.reached: list[str] = []
        self._decode = msgspec.json.decode

    def decode(self, data: bytes, **options: Any) -> Any:
        self.reached.append("spec")
        return self._decode(data, **options)

    def open(self, *_: object) -> replica.Scorer:
        self.reached.append("model")
        raise Missing("it was opened")


@pytest.mark.faults
@pytest.mark.parametrize("bug", ["", twin("tests.faults.bugs_replica.unverified")])
def test_r16_a_thousand_spoiled_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bar: Bar, bug: str
) -> None:
    if bug:
        monkeypatch.setattr(package, "files", unverified_files)
    plant, tracer, chosen, refused = Plant(tmp_path), Tracer(), random.Random(16), 0
    folders = [plant.state / "packages" / ref.digest
               for ref in (plant.package(), plant.package("nan"), plant.package(threshold=0.3))]  # fmt: skip
    monkeypatch.setattr(msgspec.json, "decode", tracer.decode)
    for i in range(MANY):
        path = chosen.choice(folders) / chosen.choice(["package.json", "model.onnx"])
        sound = path.read_bytes()
        while path.read_bytes() == sound:
            (flip, cut, swap)[i % 3](chosen, path)
        tracer.reached.clear()
        status = replica.run(path.parent, tmp_path / "s", tracer.open, BOUNDS)
        # The spec may be read where it is sound, but nothing that was spoiled.
        read = ["spec"] if path.name == "model.onnx" else []
        reason = (tmp_path / "s.failed").read_text()
        refused += status == 3 and tracer.reached == read and "does not match its digest" in reason
        path.write_bytes(sound)
    bar(f"refused before anything reads them, of {MANY:,} spoiled files", refused, f"= {MANY}")
