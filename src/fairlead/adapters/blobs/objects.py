"""Blobs in any object store that obstore opens: bytes by digest, verified whenever they are read."""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from hashlib import file_digest, sha256
from io import BufferedReader
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, TypeVar

from fairlead.errors import Conflict, Corrupt, Invalid, Missing, Unavailable

__all__ = ["ObjectBlobs", "key_of"]

T = TypeVar("T")

CHUNK = 4 * 2**20
_DIGEST = re.compile(r"[0-9a-f]{64}").fullmatch


class ObjectBlobs:
    """Implements `ports.Blobs` on an obstore store; the key of a digest is ``ab/abcdef…``.

    Every method raises Unavailable when the store does not answer, Invalid for a digest that is
    not 64 hex digits. A blob is visible whole or not at all.
    """

    def __init__(self, store: Any) -> None:
        self._store = store

    def put(self, data: bytes | Path) -> str:
        """Store and return the digest; a Path is read twice (once to name it), never held whole.

        Raises Conflict when the file changed in between; nothing is stored then.
        """
        if isinstance(data, bytes):
            digest, size = sha256(data).hexdigest(), len(data)
        else:
            with _open(data) as file:
                digest, size = file_digest(file, "sha256").hexdigest(), os.fstat(file.fileno()).st_size
        if self._size(digest) != size:
            chunks = iter((data,)) if isinstance(data, bytes) else _chunks(data, digest)
            self._answer(digest, lambda: self._write(key_of(digest), chunks))
        return digest

    def get(self, digest: str) -> bytes:
        """All bytes, verified. Raises Missing or Corrupt."""
        import obstore

        data = bytes(self._answer(digest, lambda: obstore.get(self._store, key_of(digest)).bytes()))
        if sha256(data).hexdigest() != digest:
            raise _corrupt(digest)
        return data

    def fetch(self, digest: str, target: Path) -> None:
        """Write the verified bytes to `target` atomically, a few MB at a time."""
        import obstore

        found = sha256()
        with NamedTemporaryFile(dir=target.parent, prefix=".fetch-", delete=False) as file:
            part = Path(file.name)
            try:
                result = self._answer(digest, lambda: obstore.get(self._store, key_of(digest)))
                for chunk in result.stream(min_chunk_size=CHUNK):
                    found.update(chunk)
                    file.write(chunk)
                if found.hexdigest() != digest:
                    raise _corrupt(digest)
                file.flush()
                part.replace(target)
            finally:
                part.unlink(missing_ok=True)

    def has(self, digest: str) -> bool:
        """Whether it is stored; says nothing about its bytes."""
        return self._size(digest) is not None

    def delete(self, digest: str) -> None:
        """Take the bytes away; gone already is fine."""
        import obstore

        with suppress(Missing):
            self._answer(digest, lambda: obstore.delete(self._store, key_of(digest)))

    def _size(self, digest: str) -> int | None:
        import obstore

        try:
            return int(self._answer(digest, lambda: obstore.head(self._store, key_of(digest)))["size"])
        except Missing:
            return None

    def _write(self, key: str, chunks: Iterator[bytes]) -> None:
        """Make the bytes visible under `key`, all or nothing."""
        import obstore

        obstore.put(self._store, key, chunks)

    def _answer(self, digest: str, ask: Callable[[], T]) -> T:
        """What the store answers, its errors told in our words."""
        from obstore.exceptions import BaseError

        try:
            return ask()
        except FileNotFoundError:
            raise Missing(f"no blob {digest}", hint="restore it from a backup") from None
        except (BaseError, OSError) as error:
            first = str(error).partition("\n")[0]
            raise Unavailable(f"the blob store did not answer: {first}",
                              hint="check the disk or the network, then retry") from error  # fmt: skip


def key_of(digest: str) -> str:
    """Where a blob lies in a store. Raises Invalid."""
    if not _DIGEST(digest):
        raise Invalid(f"not a digest: {digest!r:.80}", hint="64 lower-case hex digits of SHA-256")
    return f"{digest[:2]}/{digest}"


def _open(path: Path) -> BufferedReader:
    try:
        return path.open("rb")
    except OSError as error:
        raise Missing(f"cannot read {path}: {error.strerror}", hint="check the path") from None


def _chunks(path: Path, digest: str) -> Iterator[bytes]:
    """The bytes of a file; raising at their end makes the store drop the upload."""
    found = sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            found.update(chunk)
            yield chunk
    if found.hexdigest() != digest:
        raise Conflict(f"{path} changed while it was being stored", hint="store it again")


def _corrupt(digest: str) -> Corrupt:
    return Corrupt(f"blob {digest} does not match its digest",
                   hint="the stored bytes changed: restore this blob from a backup")  # fmt: skip
