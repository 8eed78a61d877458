"""Whom the gateway serves, as a signed file beside the route."""

from pathlib import Path

from fairlead.adapters.router.signed import SignedFile
from fairlead.core.identity import Passes

__all__ = ["LocalRegister"]


class LocalRegister:
    """The Register port over ``callers.json`` in `folder`, signed with ``key`` beside it."""

    def __init__(self, folder: Path) -> None:
        self._file = SignedFile(folder / "callers.json", Passes, "passes", b"fairlead callers v1\n")

    def publish(self, passes: Passes) -> None:
        """Replace the register, unless it says that already."""
        if self._file.readable() != passes:
            self._file.write(passes)

    def published(self) -> Passes | None:
        """The register; the very same object while the file is unchanged; None when nobody was ever
        registered. Raises Corrupt."""
        return self._file.read()
