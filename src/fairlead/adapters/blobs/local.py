"""Blobs in a folder of this machine; an acknowledged write survives a power cut."""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

from fairlead.adapters.blobs.objects import ObjectBlobs, key_of
from fairlead.disk import opened, sync
from fairlead.errors import Missing

__all__ = ["LocalBlobs"]

T = TypeVar("T")


class LocalBlobs(ObjectBlobs):
    """Implements `ports.Blobs` in the folder `root`, which is made when it is not there.

    Raises Missing when obstore is not installed.
    """

    def __init__(self, root: Path) -> None:
        try:
            from obstore.store import LocalStore
        except ImportError:
            raise Missing("obstore is not installed",
                          hint='pip install "fairlead[lab]"') from None  # fmt: skip
        root.mkdir(parents=True, exist_ok=True)
        self._root = root
        super().__init__(LocalStore(prefix=root))

    def _answer(self, digest: str, ask: Callable[[], T]) -> T:
        """Ask, unless a link lies where the blob is or will be; then Corrupt is raised."""
        with suppress(OSError):  # the store says better what is missing
            os.close(opened(self._root, *key_of(digest).split("/")))
        return super()._answer(digest, ask)

    def _write(self, key: str, chunks: Iterator[bytes]) -> None:
        """Bytes reach the disk before the name does, so no crash leaves a named, empty blob."""
        import obstore

        draft = f"drafts/{uuid4().hex}"
        obstore.put(self._store, draft, chunks)
        sync(self._root / draft)
        obstore.rename(self._store, draft, key)
        sync((self._root / key).parent)
        sync(self._root)
