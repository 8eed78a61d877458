"""Packages on disk: read back only when every byte is what its digest says."""

from hashlib import sha256
from pathlib import Path

import msgspec

from fairlead.core.artifact import PackageSpec
from fairlead.core.ref import UNREADABLE
from fairlead.core.weights import check_form
from fairlead.disk import content
from fairlead.errors import Corrupt, Missing

__all__ = ["files", "identify", "read", "width_out"]

SPEC = "package.json"


def identify(directory: Path) -> str:
    """The digest of the package in a folder of any name; `read` and `files` hold it to that.

    Raises Missing.
    """
    try:
        return sha256((directory / SPEC).read_bytes()).hexdigest()
    except OSError as error:
        raise Missing(f"no package in {directory}: {error.strerror}",
                      hint="a package's folder holds package.json; `fairlead image pull` writes one") from error  # fmt: skip


def read(directory: Path) -> PackageSpec:
    """The spec of ``packages/<digest>``: the folder's name is the digest of package.json.

    Raises Missing or Corrupt.
    """
    try:
        data = content(directory, SPEC)
    except OSError as error:
        raise Missing(f"no package at {directory.name}: {error.strerror}",
                      hint="package the model again, or restore the packages folder") from error  # fmt: skip
    if sha256(data).hexdigest() != directory.name:
        raise Corrupt(f"{SPEC} of package {directory.name[:12]} does not match its digest",
                      hint="restore the package from the blobs: nothing of it was loaded")  # fmt: skip
    try:
        return msgspec.json.decode(data, type=PackageSpec)
    except UNREADABLE as error:
        raise Corrupt(f"{SPEC} of package {directory.name[:12]} is of another version: {error}",
                      hint="package the model again with this version") from error  # fmt: skip


def files(directory: Path, spec: PackageSpec) -> dict[str, bytes]:
    """The files of the package by name, read once: what is opened is what was verified.

    Raises Missing, or Corrupt when one does not have its digest.
    """
    found = {}
    for name, digest in spec.files.items():
        if Path(name).name != name:
            raise Corrupt(f"package {directory.name[:12]} names the file {name!r}",
                          hint="a package's files lie in its own folder")  # fmt: skip
        try:
            data = found[name] = content(directory, name)
        except OSError as error:
            raise Missing(f"package {directory.name[:12]} lacks {name}: {error.strerror}",
                          hint="restore the package from the blobs") from error  # fmt: skip
        if sha256(data).hexdigest() != digest:
            raise Corrupt(f"{name} of package {directory.name[:12]} does not match its digest",
                          hint="restore the package from the blobs: nothing of it was loaded")  # fmt: skip
        check_form(name, data[:16])
    return found


def width_out(spec: PackageSpec) -> int:
    """Scores per row: one for each class of a multiclass task, else one."""
    return len(spec.classes) if spec.task == "multiclass" else 1
