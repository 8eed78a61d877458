"""Bytecode: what Python would compile at every start of a container that cannot be written to."""

import io
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from fairlead.errors import Unavailable
from fairlead.ports import Entry

__all__ = ["compiled", "standard"]

STEADY = {"PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
"""Sets among the constants of a module come in an order of their hashes."""


SERVING = """
import sys, fairlead.dataplane, fairlead.serve.gateway, asyncio, uvloop, onnxruntime
print("\\n".join(m.__file__ for m in sys.modules.values() if getattr(m, "__file__", None)))
"""
"""Loads what the processes of a service load, and names the files."""


def standard(layers: Iterable[Iterator[bytes]], python: str) -> list[Entry]:
    """The files of the standard library in the layers of a base that serving loads: bases leave
    their bytecode out, and every process would compile them anew."""
    done = subprocess.run([sys.executable, "-c", SERVING], capture_output=True, text=True, check=False)
    root = Path(os.__file__).parent
    used = {Path(f).relative_to(root).as_posix() for f in done.stdout.splitlines() if Path(f).is_relative_to(root)}
    place = re.compile(rf"(?:\./)?(usr/(?:local/)?lib/python{re.escape(python)}/)(.+\.py)")
    found: dict[str, bytes] = {}
    for layer in layers:
        with tarfile.open(fileobj=io.BufferedReader(_Stream(layer)), mode="r|*") as tar:
            for info in tar:
                at = place.fullmatch(info.name)
                if at and at[2] in used and ".." not in at[2] and (file := tar.extractfile(info)):
                    found[at[1] + at[2]] = file.read()
    return list(found.items())


class _Stream(io.RawIOBase):
    """Chunks as a file."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks, self._rest = chunks, b""

    def readable(self) -> bool:
        return True

    def readinto(self, into: "memoryview") -> int:  # type: ignore[override]
        self._rest = self._rest or next(self._chunks, b"")
        size = min(len(into), len(self._rest))
        into[:size], self._rest = self._rest[:size], self._rest[size:]
        return size


@contextmanager
def compiled(entries: Iterable[Entry], scratch: Path, python: str) -> Iterator[list[Entry]]:
    """The entries with bytecode beside each Python file, where `python` ("3.11") is this very version.

    One fresh process compiles all in order, so that the same files are the same bytes; none checks
    its source again. What was written for it under `scratch` is there until the context ends.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".", dir=scratch) as name:
        root = Path(name)
        found: list[Entry] = [(path, _laid(root / path, source)) for path, source in entries]
        if python == f"{sys.version_info.major}.{sys.version_info.minor}":
            _compile(root)
            cached = sorted(p for p in root.rglob("*.pyc") if p.parent.name == "__pycache__")
            found += [(p.relative_to(root).as_posix(), p) for p in cached]
        yield found


def _laid(path: Path, source: bytes | Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(source if isinstance(source, bytes) else source.read_bytes())
    return path


def _compile(root: Path) -> None:
    command = [sys.executable, "-P", "-s", "-m", "compileall", "-q", "-f", "-j", "1", "--invalidation-mode",
               "unchecked-hash", "-s", str(root), "-p", "/", str(root)]  # fmt: skip
    done = subprocess.run(command, env=STEADY, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):  # 1: a file that is no Python, as wheels hold templates
        raise Unavailable(f"Python cannot compile: {done.stderr[-300:]}", hint="run the build again")
