"""A signing key in a file that only its owner may read."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from fairlead.disk import sync
from fairlead.errors import Corrupt, Missing

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

__all__ = ["LocalSigner", "verify"]


def verify(key: str, data: bytes, signature: bytes) -> bool:
    """Whether `signature` over `data` was made with the key whose public half is `key` (hex).

    Raises Missing when the extra `sign` is not installed.
    """
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError as error:
        raise _missing() from error
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(key)).verify(signature, data)
    except (InvalidSignature, ValueError):
        return False
    return True


class LocalSigner:
    """The Signer port: Ed25519 with the 32-byte secret in `path` (0600), made when first needed.

    Raises Missing when the extra `sign` is not installed, Corrupt when the file is no key.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._loaded: Ed25519PrivateKey | None = None

    @property
    def key(self) -> str:
        return self._private().public_key().public_bytes_raw().hex()

    def sign(self, data: bytes) -> bytes:
        return self._private().sign(data)

    def _private(self) -> "Ed25519PrivateKey":
        if self._loaded is None:
            try:
                from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
            except ImportError as error:
                raise _missing() from error
            if not self._path.exists():
                self._make(Ed25519PrivateKey.generate().private_bytes_raw())
            secret = self._path.read_bytes()
            if len(secret) != 32:
                raise Corrupt(f"{self._path.name} is not a signing key",
                              hint="restore it from a backup; a new key cannot continue the old checkpoints")  # fmt: skip
            self._loaded = Ed25519PrivateKey.from_private_bytes(secret)
        return self._loaded

    def _make(self, secret: bytes) -> None:
        """Whole or not at all; whoever comes first stays."""
        folder = self._path.parent
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = folder / f".{self._path.name}.{os.getpid()}"
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(secret)
        sync(fresh)
        try:
            os.link(fresh, self._path)
        except FileExistsError:
            return
        finally:
            fresh.unlink()
        sync(folder)


def _missing() -> Missing:
    return Missing("signing needs a library that is not installed", hint='pip install "fairlead[sign]"')
