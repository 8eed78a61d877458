"""Files in ``run/`` that the control plane writes and the data plane obeys: signed, and read when they changed."""

import hmac
import os
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import Struct

from fairlead.core.ref import UNREADABLE, canonical
from fairlead.disk import content, secret, sync
from fairlead.errors import Corrupt

__all__ = ["SignedFile"]

T = TypeVar("T", bound=Struct)


class SignedFile(Generic[T]):
    """One value as JSON, with its HMAC-SHA-256 (hex) by ``key`` beside it under ``signature``.

    `field`: the value's name in the file. `purpose`: what was signed for one is good for no other.
    """

    def __init__(self, path: Path, kind: type[T], field: str, purpose: bytes = b"") -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path, self._field, self._purpose = path, field, purpose
        self._form: Any = msgspec.defstruct("Signed", [(field, kind), ("signature", str)], frozen=True)
        self._seen: tuple[int, int, int] | None = None
        self._value: T | None = None

    def write(self, value: T) -> None:
        """Replace the file (0600), durably."""
        signed = canonical(self._form(value, self._signature(value)))
        fresh = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        with fresh.open("wb") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(msgspec.json.format(signed, indent=2))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self.path)
        sync(self.path.parent)

    def read(self) -> T | None:
        """The value; the very same object while the file is unchanged; None where there is no file.

        Raises Corrupt when the signature does not match: the file was changed by other hands.
        """
        try:
            stat = self.path.lstat()
            seen = (stat.st_mtime_ns, stat.st_ino, stat.st_size)
            if seen == self._seen:
                return self._value
            signed = msgspec.json.decode(content(self.path.parent, self.path.name), type=self._form)
        except FileNotFoundError:
            return None
        except UNREADABLE as error:
            raise Corrupt(f"{self.path.name} cannot be read: {error}",
                          hint="the controller writes it anew at its next turn") from error  # fmt: skip
        value: T = getattr(signed, self._field)
        if not hmac.compare_digest(signed.signature, self._signature(value)):
            raise Corrupt(f"the signature of {self.path.name} does not match",
                          hint="only the controller may write it; it does so anew")  # fmt: skip
        self._seen, self._value = seen, value
        return value

    def readable(self) -> T | None:
        """What `read` gives; None, too, of a file that other hands broke: the next replaces it."""
        try:
            return self.read()
        except Corrupt:
            return None

    def _signature(self, value: T) -> str:
        return hmac.new(secret(self.path.with_name("key")), self._purpose + canonical(value), "sha256").hexdigest()
