"""The route as a signed file: what the control plane publishes and the data plane obeys."""

from pathlib import Path

from fairlead.adapters.router.signed import SignedFile
from fairlead.core.traffic import Route
from fairlead.disk import alone
from fairlead.errors import Conflict

__all__ = ["LocalRouter"]


class LocalRouter:
    """The Router port over ``route.json`` in `folder` (mode 0700), signed with ``key`` beside it."""

    def __init__(self, folder: Path) -> None:
        self._file = SignedFile(folder / "route.json", Route, "route")

    def publish(self, route: Route) -> None:
        """Replace the route, durably. Raises Conflict when a newer epoch was published."""
        # One publisher at a time, so that an epoch is compared with the one it replaces.
        with alone(self._file.path.with_name("route.lock")):
            old = self._file.readable()
            if old == route:
                return
            if old is not None and old.epoch > route.epoch:
                raise Conflict(f"epoch {route.epoch} is older than the published {old.epoch}",
                               hint="read the service again: somebody moved it on")  # fmt: skip
            self._file.write(route)

    def published(self) -> Route | None:
        """The route; the very same object while the file is unchanged.

        Raises Corrupt when the signature does not match: the file was changed by other hands.
        """
        return self._file.read()
