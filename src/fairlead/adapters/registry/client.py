"""A repository of a registry (OCI distribution 1.1): blobs stream both ways, are verified, and go on where they broke off."""

from collections.abc import Callable, Iterator
from hashlib import sha256
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.parse import urlsplit

from fairlead.adapters.registry.access import answer, login
from fairlead.adapters.registry.wire import CHUNK, Wire
from fairlead.core.oci import (
    DOCKER,
    INDEX,
    MANIFEST,
    MOST_DOCUMENT,
    Descriptor,
    Place,
    entry_of,
    fallback,
    listing,
    named,
    read,
)
from fairlead.errors import Corrupt, Missing, Unavailable

__all__ = ["Registry"]

ACCEPT = {"Accept": ", ".join((INDEX, MANIFEST, *DOCKER))}
PIECE = 32 << 20
"""Bytes sent in one request, and lost at most when the connection breaks."""
ATTEMPTS = 4


class Registry:
    """The Images port. Plain HTTP is spoken on this machine only, unless certificates are given for it;
    elsewhere they are verified.

    `logins`: files of Docker or Podman. `near`: another repository of this registry whose blobs may
    be mounted. `authorities`: certificates (PEM) that vouch for it beside the usual. Raises Unavailable when the registry does not answer, Forbidden when it wants more.
    """

    def __init__(
        self, place: Place, logins: tuple[Path, ...] = (), near: str = "", authorities: tuple[Path, ...] = ()
    ) -> None:
        self._name, self._near = place.name, near
        self._known = login(place.host, logins)
        self._scopes = (f"repository:{place.name}:pull,push", *([f"repository:{near}:pull"] if near else []))
        self._wire = Wire(place.host, self._authenticate, authorities)

    def has(self, digest: str) -> bool:
        try:
            self._wire.ask("HEAD", self._path("blobs", digest), (200,)).read()
        except Missing:
            return False
        return True

    def open(self, blob: Descriptor) -> Iterator[bytes]:
        found, start, failures = sha256(), 0, 0
        while start < blob.size or not blob.size:
            headers = {"Range": f"bytes={start}-"} if start else {}
            begun = start
            try:
                got = self._wire.ask("GET", self._path("blobs", blob.digest), (206,) if start else (200,), headers)
                with got:
                    while chunk := got.read(CHUNK):
                        start += len(chunk)
                        if start > blob.size:
                            raise Corrupt(f"blob {blob.hex[:12]} is larger than it says", hint="push the image again")
                        found.update(chunk)
                        yield chunk
                if start < blob.size:
                    raise HTTPException("the connection ended early")
            except (OSError, HTTPException) as error:
                failures = 1 if start > begun else failures + 1
                if failures >= ATTEMPTS:
                    raise Unavailable(f"blob {blob.hex[:12]} breaks off: {error}", hint="try again") from None
            if not blob.size:
                break
        if found.hexdigest() != blob.hex:
            raise Corrupt(f"blob {blob.hex[:12]} does not match its digest", hint="push the image again")

    def put(self, blob: Descriptor, content: Callable[[int], Iterator[bytes]]) -> None:
        where = self._begin(blob)
        if not where:
            return
        start, failures, chunks = 0, 0, _Reader(content(0))
        while start < blob.size:
            size = min(PIECE, blob.size - start)
            try:
                got = self._wire.ask("PATCH", where, (202,), _range(start, size), chunks.take(size))
                got.read()
                where, start, failures = got.headers["location"], start + size, 0
            except Unavailable:
                failures += 1
                if failures >= ATTEMPTS:
                    raise
                where, start = self._resumed(where)
                chunks = _Reader(content(start))
        chunks.end()
        mark = "&" if urlsplit(where).query else "?"
        self._wire.ask("PUT", f"{where}{mark}digest={blob.digest}", (201, 204), {"Content-Length": "0"}).read()

    def manifest(self, reference: str) -> tuple[Descriptor, bytes]:
        got = self._wire.ask("GET", self._path("manifests", reference), (200,), ACCEPT)
        with got:
            data = got.read(MOST_DOCUMENT + 1)
        if len(data) > MOST_DOCUMENT:
            raise Corrupt(f"manifest {reference} is larger than {MOST_DOCUMENT:,} bytes", hint="it is no image")
        kind = got.headers.get_content_type()
        found = named(data, kind)
        if reference.startswith("sha256:") and reference != found.digest:
            raise Corrupt(f"manifest {reference[7:19]} does not match its digest", hint="push the image again")
        return found, data

    def publish(self, manifest: Descriptor, data: bytes, tag: str = "") -> None:
        self._publish(manifest, data, tag).read()

    def refer(self, data: bytes) -> Descriptor:
        subject, entry = entry_of(data)
        got = self._publish(entry, data)
        got.read()
        if "oci-subject" not in got.headers:
            tag = fallback(subject.digest)
            try:
                before = self.manifest(tag)[1]
            except Missing:
                before = b""
            listed = listing(before, entry)
            self.publish(named(listed, INDEX), listed, tag)
        return entry

    def referrers(self, digest: str) -> tuple[Descriptor, ...]:
        for path in (self._path("referrers", digest), self._path("manifests", fallback(digest))):
            try:
                data = self._wire.ask("GET", path, (200,), {"Accept": INDEX}).read(MOST_DOCUMENT)
            except Missing:
                continue
            return read(data).manifests or ()
        return ()

    def _publish(self, manifest: Descriptor, data: bytes, tag: str = "") -> HTTPResponse:
        path = self._path("manifests", tag or manifest.digest)
        return self._wire.ask("PUT", path, (201,), {"Content-Type": manifest.media_type}, data)

    def _begin(self, blob: Descriptor) -> str:
        """Where to send a blob; "" when it could be mounted."""
        path = self._path("blobs", "uploads/")
        if self._near:
            path += f"?mount={blob.digest}&from={self._near}"
        got = self._wire.ask("POST", path, (201, 202), {"Content-Length": "0"})
        got.read()
        return "" if got.status == 201 else str(got.headers["location"])

    def _resumed(self, where: str) -> tuple[str, int]:
        """Where an upload that broke off goes on, and from which byte."""
        got = self._wire.ask("GET", where, (204,))
        got.read()
        last = got.headers.get("range", "0-0").rpartition("-")[2]
        return got.headers.get("location", where), int(last) + 1 if last not in ("", "0") else 0

    def _path(self, kind: str, what: str) -> str:
        return f"/v2/{self._name}/{kind}/{what}"

    def _authenticate(self, challenge: str) -> str:
        def get(url: str, authorization: str) -> bytes:
            there = self._wire.elsewhere(urlsplit(url).netloc)
            headers = {"Authorization": authorization} if authorization else {}
            return there.ask("GET", url, (200,), headers).read(MOST_DOCUMENT)

        return answer(challenge, self._known, self._scopes, get, plain=self._wire.plain)


class _Reader:
    """Pieces of a stream, chunk by chunk."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks, self._rest = chunks, b""

    def take(self, size: int) -> Iterator[bytes]:
        """The next `size` bytes."""
        while size > 0:
            chunk = self._rest or next(self._chunks, b"")
            if not chunk:
                return
            yield chunk[:size]
            self._rest, size = chunk[size:], size - len(chunk[:size])

    def end(self) -> None:
        """Read to the end, where a source verifies itself."""
        for _ in self._chunks:
            raise Corrupt("a blob is longer than it says", hint="build the image again")


def _range(start: int, size: int) -> dict[str, str]:
    return {"Content-Length": str(size), "Content-Range": f"{start}-{start + size - 1}",
            "Content-Type": "application/octet-stream"}  # fmt: skip
