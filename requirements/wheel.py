"""Build the wheel of what is committed, twice, and refuse one that holds anything else: python requirements/wheel.py [WHEEL]."""

import os
import subprocess
import sys
import tarfile
from hashlib import sha1, sha256
from io import BytesIO
from pathlib import Path
from shutil import copy
from tempfile import TemporaryDirectory
from zipfile import ZipFile

ROOT = Path(__file__).parents[1]
PLACES = {"src/fairlead/": "fairlead/"} | {
    f"examples/{shipped}/": f"fairlead/examples/{shipped}/" for shipped in ("flights", "ci")}
"""Folders of the repository, and where the wheel holds them."""


def build(root: Path, into: Path, at: str = "HEAD") -> Path:
    """The wheel of a commit, built from a folder that holds nothing else."""
    epoch = _git(root, "log", "-1", "--format=%ct", at).decode().strip()
    with TemporaryDirectory() as name:
        with tarfile.open(fileobj=BytesIO(_git(root, "archive", at))) as archive:
            archive.extractall(name, filter="data")
        subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(into)], cwd=name,
                       env={**os.environ, "SOURCE_DATE_EPOCH": epoch}, check=True, capture_output=True)  # fmt: skip
    return next(into.glob("*.whl"))


def differences(wheel: Path, again: Path, root: Path, at: str = "HEAD") -> list[str]:
    """How a wheel is not the one built `again`, and how that one is not the commit; none: it is."""
    found, built = _members(wheel), _members(again)
    told = [f"{name}: not in the commit" for name in sorted({*found} - {*built})]
    told += [f"{name}: missing" for name in sorted({*built} - {*found})]
    told += [f"{name}: other bytes" for name in sorted({*built} & {*found}) if found[name] != built[name]]
    if not told and sha256(wheel.read_bytes()).digest() != sha256(again.read_bytes()).digest():
        told = ["the archive: other bytes around the same files"]
    files = {name: _blob(data) for name, data in built.items() if ".dist-info/" not in name}
    committed = _committed(root, at)
    return told + [f"{name}: the build made it other than the commit"
                   for name in sorted({*files} | {*committed}) if files.get(name) != committed.get(name)]  # fmt: skip


def main(argv: list[str]) -> int:
    """Put the wheel into dist/, or say what is wrong with the one named."""
    with TemporaryDirectory() as first, TemporaryDirectory() as second:
        wheel, again = build(ROOT, Path(first)), build(ROOT, Path(second))
        named = Path(argv[0]) if argv else wheel
        if told := differences(named, again, ROOT):
            print(f"{named.name} is not the wheel of this commit:", *told, sep="\n  ", file=sys.stderr)
            return 1
        if not argv:
            (ROOT / "dist").mkdir(exist_ok=True)
            named = Path(copy(wheel, ROOT / "dist"))
    print(f"{named.name}  sha256 {sha256(named.read_bytes()).hexdigest()}  built twice, the same bytes")
    return 0


def _members(wheel: Path) -> dict[str, bytes]:
    with ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _committed(root: Path, at: str) -> dict[str, str]:
    """Names in the wheel -> git's names of the bytes."""
    listed = _git(root, "ls-tree", "-rz", at, "--", *PLACES).decode().split("\0")[:-1]
    files = {name: facts.split()[2] for facts, name in (line.split("\t") for line in listed)}
    return {inside + name.removeprefix(folder): blob for name, blob in files.items()
            for folder, inside in PLACES.items() if name.startswith(folder)}  # fmt: skip


def _blob(data: bytes) -> str:
    return sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def _git(root: Path, *arguments: str) -> bytes:
    return subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True).stdout


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
