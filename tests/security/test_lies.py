"""S2: files that are not what they are called are refused, and what they would run does not run."""

import io
import os
import pickle
import zipfile
from pathlib import Path

import msgspec
import pytest

from fairlead.errors import Corrupt
from fairlead.flavors.sklearn import SKOPS_FILE, TYPES_FILE, scorer
from tests.serve.conftest import model

RAN = "ran"


class Bomb:
    """Makes a folder when it is unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (RAN,)


def archive(*members: tuple[str, bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as file:
        for name, data in members:
            file.writestr(name, data)
    return made.getvalue()


BOMB = pickle.dumps(Bomb())
SOUND = model()
SCHEMA = {"__class__": "mkdir", "__module__": "os", "__loader__": "FunctionNode", "content": [RAN],
          "protocol": 2, "_skops_version": "0.16"}  # fmt: skip
LIES = {
    "a pickle": BOMB,
    "a pickle in front of a model": BOMB + SOUND,
    "a model behind an archive": archive(("a", b"b")) + SOUND,
    "an archive": archive(("model.onnx", SOUND)),
    "an archive in an archive": archive(("model.onnx", archive(("model.onnx", BOMB)))),
    "nothing": b"",
    "half a model": SOUND[: len(SOUND) // 2],
    "a model without its end": SOUND[:-1],
    "zeros": bytes(1000),
    "a program": b"\x7fELF" + bytes(200),
    "a script": b"#!/bin/sh\nmkdir ran\n",
    "HDF5": b"\x89HDF\r\n\x1a\n" + bytes(200),
    "NumPy with objects": b"\x93NUMPY\x01\x00" + BOMB,
    "JSON": b'{"__reduce__": ["os.mkdir", ["ran"]]}',
    "YAML": b"!!python/object/apply:os.mkdir [ran]\n",
}


@pytest.fixture(autouse=True)
def nothing_ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.chdir(tmp_path)
    yield
    assert not (tmp_path / RAN).exists()


@pytest.mark.parametrize("data", LIES.values(), ids=list(LIES))
@pytest.mark.parametrize("flavor", ["onnx", "sklearn"])
def test_a_file_that_lies_is_refused(flavor: str, data: bytes) -> None:
    files = {"model.onnx": data, SKOPS_FILE: data, TYPES_FILE: b"[]"}
    with pytest.raises(Corrupt):
        scorer(files, "onnx" if flavor == "onnx" else "skops", "binary", 2)


@pytest.mark.parametrize("types", [[], ["os.mkdir"], ["builtins.eval", "posix.mkdir"]])
def test_a_skops_file_calls_nothing_that_is_not_pinned(types: list[str]) -> None:
    data = archive(("schema.json", msgspec.json.encode(SCHEMA)), ("data.pkl", BOMB))
    with pytest.raises(Corrupt):
        scorer({SKOPS_FILE: data, TYPES_FILE: msgspec.json.encode(types)}, "skops", "binary", 2)


def test_the_bomb_is_real(tmp_path: Path) -> None:
    """The twin: whoever unpickles it finds a folder."""
    pickle.loads(BOMB)  # noqa: S301
    (tmp_path / RAN).rmdir()
