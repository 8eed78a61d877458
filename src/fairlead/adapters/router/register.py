"""Whom the gateway serves, as a signed file beside the route."""

import hmac
from pathlib import Path

import msgspec

from fairlead.adapters.router.signed import put, signature
from fairlead.core.identity import Passes
from fairlead.core.ref import canonical
from fairlead.errors import Corrupt

__all__ = ["LocalRegister"]

PURPOSE = b"fairlead callers v1\n"


class Signed(msgspec.Struct, frozen=True):
    """`signature`: over the canonical JSON of `passes`."""

    passes: Passes
    signature: str


class LocalRegister:
    """The Register port over ``callers.json`` in `folder`, signed with ``key`` beside it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder, self._path = folder, folder / "callers.json"
        self._seen: tuple[int, int, int] | None = None
        self._passes: Passes | None = None

    def publish(self, passes: Passes) -> None:
        """Replace the register, unless it says that already."""
        try:
            if self.published() == passes:
                return
        except Corrupt:
            pass  # other hands broke it: it is written anew
        put(self._path, canonical(Signed(passes, signature(self._folder, passes, PURPOSE))))

    def published(self) -> Passes | None:
        """The register; the very same object while the file is unchanged; None when nobody was ever
        registered. Raises Corrupt."""
        try:
            stat = self._path.stat()
            seen = (stat.st_mtime_ns, stat.st_ino, stat.st_size)
            if seen == self._seen:
                return self._passes
            signed = msgspec.json.decode(self._path.read_bytes(), type=Signed)
        except FileNotFoundError:
            return None
        except msgspec.DecodeError as error:
            raise Corrupt(f"callers.json cannot be read: {error}", hint="the controller writes it anew") from error
        if not hmac.compare_digest(signed.signature, signature(self._folder, signed.passes, PURPOSE)):
            raise Corrupt("the signature of callers.json does not match", hint="only the controller may write it; it does so anew")  # fmt: skip
        self._seen, self._passes = seen, signed.passes
        return self._passes
