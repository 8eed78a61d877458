"""The route as a signed file: what the control plane publishes and the data plane obeys."""

import fcntl
import hmac
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from fairlead.adapters.router.signed import put, signature
from fairlead.core.ref import canonical
from fairlead.core.traffic import Route
from fairlead.errors import Conflict, Corrupt

__all__ = ["LocalRouter"]


class Signed(msgspec.Struct, frozen=True):
    """`signature`: HMAC-SHA-256 (hex) over the canonical JSON of `route`."""

    route: Route
    signature: str


class LocalRouter:
    """The Router port over ``route.json`` in `folder` (mode 0700), signed with ``key`` beside it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder, self._path = folder, folder / "route.json"
        self._seen: tuple[int, int, int] | None = None
        self._route: Route | None = None

    def publish(self, route: Route) -> None:
        """Replace the route, durably. Raises Conflict when a newer epoch was published."""
        with self._alone():
            old = self._readable()
            if old == route:
                return
            if old is not None and old.epoch > route.epoch:
                raise Conflict(f"epoch {route.epoch} is older than the published {old.epoch}",
                               hint="read the service again: somebody moved it on")  # fmt: skip
            signed = Signed(route, signature(self._folder, route))
            put(self._path, msgspec.json.format(canonical(signed), indent=2))

    def published(self) -> Route | None:
        """The route; the very same object while the file is unchanged.

        Raises Corrupt when the signature does not match: the file was changed by other hands.
        """
        try:
            stat = self._path.stat()
            seen = (stat.st_mtime_ns, stat.st_ino, stat.st_size)
            if seen == self._seen:
                return self._route
            data = self._path.read_bytes()
        except FileNotFoundError:
            return None
        try:
            signed = msgspec.json.decode(data, type=Signed)
        except msgspec.DecodeError as error:
            raise Corrupt(f"route.json cannot be read: {error}",
                          hint="the controller publishes it anew at its next turn") from error  # fmt: skip
        if not hmac.compare_digest(signed.signature, signature(self._folder, signed.route)):
            raise Corrupt("the signature of route.json does not match",
                          hint="only the controller may write it; it publishes it anew")  # fmt: skip
        self._seen, self._route = seen, signed.route
        return self._route

    def _readable(self) -> Route | None:
        """A route that other hands have broken does not stand in the way of the next."""
        try:
            return self.published()
        except Corrupt:
            return None

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One publisher at a time, so that an epoch is compared with the one it replaces."""
        fd = os.open(self._folder / "route.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)
