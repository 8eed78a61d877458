"""Files in ``run/`` that the control plane writes and the data plane obeys: signed, and read when they changed."""

import hmac
import os
import secrets
from pathlib import Path
from typing import Any

from fairlead.core.ref import canonical
from fairlead.disk import sync

__all__ = ["put", "signature"]


def signature(folder: Path, value: Any, purpose: bytes = b"") -> str:
    """HMAC-SHA-256 (hex) over `purpose` and the canonical JSON of `value`, by the key of `folder`.
    What was signed for one purpose is good for no other."""
    return hmac.new(_key(folder), purpose + canonical(value), "sha256").hexdigest()


def put(path: Path, data: bytes) -> None:
    """Replace a file (0600), durably."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    with fresh.open("wb") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    sync(path.parent)


def _key(folder: Path) -> bytes:
    """32 random bytes that only this user may read; made by whoever needs them first."""
    path = folder / "key"
    if not path.exists():
        fresh = folder / f".key.{os.getpid()}"
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.write(fd, secrets.token_bytes(32))
            os.fsync(fd)
        finally:
            os.close(fd)
        # A link, not a rename: the key of whoever came first stays.
        _link(fresh, path)
    return path.read_bytes()


def _link(fresh: Path, path: Path) -> None:
    """Give `fresh` the name `path` unless that exists already."""
    try:
        os.link(fresh, path)
    except FileExistsError:
        return
    finally:
        fresh.unlink()
