"""Files: those of a model, read by name from its folder or from the bytes a replica verified."""

from collections.abc import Mapping
from pathlib import Path

from fairlead.errors import Missing

__all__ = ["Files", "read"]

Files = Path | Mapping[str, bytes]
"""The files of a model: a folder, or their bytes by name."""


def read(files: Files, name: str) -> bytes:
    """Raises Missing."""
    try:
        return (files / name).read_bytes() if isinstance(files, Path) else files[name]
    except (FileNotFoundError, KeyError):
        raise Missing(f"no model file {name}", hint="package the model again") from None
