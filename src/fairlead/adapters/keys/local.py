"""A signing key in a file that only its owner may read."""

from pathlib import Path
from typing import TYPE_CHECKING

from fairlead.disk import secret
from fairlead.errors import Missing

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
            self._loaded = Ed25519PrivateKey.from_private_bytes(secret(self._path))
        return self._loaded


def _missing() -> Missing:
    return Missing("signing needs a library that is not installed", hint='pip install "fairlead[sign]"')
