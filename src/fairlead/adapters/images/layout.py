"""Images in a folder: an OCI image layout, whose layers are written so that the same content is the same bytes."""

import gzip
import io
import os
import tarfile
from collections.abc import Callable, Iterable, Iterator
from hashlib import file_digest, sha256
from pathlib import Path, PurePosixPath
from shutil import copyfileobj
from tempfile import mkstemp
from typing import IO, cast

import msgspec

from fairlead.core.oci import (
    INDEX,
    LAYER,
    LAYER_GZIP,
    Descriptor,
    Document,
    Layer,
    entry_of,
    fallback,
    listing,
    named,
    read,
)
from fairlead.core.ref import canonical
from fairlead.errors import Corrupt, Missing
from fairlead.ports import Entry

__all__ = ["Layout"]

CHUNK = 1 << 20
MEMO = "layers.json"
"""Which layers were made of what."""
TAG = "org.opencontainers.image.ref.name"


class Layout:
    """The Images port over an OCI image layout (1.0.0) in `path`, made when it is first written to."""

    def __init__(self, path: Path) -> None:
        self._path, self._blobs = path, path / "blobs" / "sha256"

    def has(self, digest: str) -> bool:
        return self._blob(digest).is_file()

    def open(self, blob: Descriptor) -> Iterator[bytes]:
        """Raises Missing, or Corrupt at the end when the bytes are not those."""
        try:
            file = self._blob(blob.digest).open("rb")
        except FileNotFoundError:
            raise Missing(f"no blob {blob.hex[:12]} in {self._path.name}", hint="build or pull the image again") from None
        found = sha256()
        with file:
            while chunk := file.read(CHUNK):
                found.update(chunk)
                yield chunk
        if found.hexdigest() != blob.hex:
            raise Corrupt(f"blob {blob.hex[:12]} does not match its digest", hint="build or pull the image again")

    def put(self, blob: Descriptor, content: Callable[[int], Iterator[bytes]]) -> None:
        with _Draft(self._blobs) as draft:
            for chunk in content(0):
                draft.write(chunk)
            if (draft.digest, draft.size) != (blob.digest, blob.size):
                raise Corrupt(f"blob {blob.hex[:12]} was changed on the way", hint="pull the image again")
            draft.keep()

    def manifest(self, reference: str) -> tuple[Descriptor, bytes]:
        """By digest or tag; where only one has a tag, it is "latest". Raises Missing, Corrupt."""
        known = self._index().manifests or ()
        named_so = [d for d in known if reference in (d.digest, (d.annotations or {}).get(TAG))]
        if reference == "latest" and len(self.tags()) == 1:
            named_so = [d for d in known if (d.annotations or {}).get(TAG) == self.tags()[0]]
        if not named_so and reference.startswith("sha256:") and self.has(reference):
            data = self._blob(reference).read_bytes()
            named_so = [named(data, str(read(data).media_type))]
        if not named_so:
            raise Missing(f"no image {reference} in {self._path.name}", hint="build or pull it first")
        found = named_so[-1]
        data = b"".join(self.open(found))
        return Descriptor(found.media_type, found.digest, found.size), data

    def publish(self, manifest: Descriptor, data: bytes, tag: str = "") -> None:
        self.put(manifest, lambda start: iter([data[start:]]))
        if not tag:
            return
        entry = Descriptor(manifest.media_type, manifest.digest, manifest.size, annotations={TAG: tag})
        others = [d for d in self._index().manifests or () if (d.annotations or {}).get(TAG) != tag]
        self._write("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        self._write("index.json", canonical(Document(2, INDEX, manifests=(*others, entry))))

    def refer(self, data: bytes) -> Descriptor:
        subject, entry = entry_of(data)
        self.publish(entry, data)
        tag = fallback(subject.digest)
        try:
            before = self.manifest(tag)[1]
        except Missing:
            before = b""
        list_ = listing(before, entry)
        self.publish(named(list_, INDEX), list_, tag)
        return entry

    def referrers(self, digest: str) -> tuple[Descriptor, ...]:
        try:
            return read(self.manifest(fallback(digest))[1]).manifests or ()
        except Missing:
            return ()

    def tags(self) -> list[str]:
        """In order of their publication, without the listings of referrers."""
        found = [(d.annotations or {}).get(TAG, "") for d in self._index().manifests or ()]
        return [t for t in found if t and not t.startswith("sha256-")]

    def kept(self, key: str) -> Layer | None:
        found = self._memo().get(key) if key else None
        return found if found and self.has(found.stored.digest) else None

    def layer(self, entries: Iterable[Entry], *, packed: bool, key: str = "") -> Layer:
        return self.kept(key) or self._made(lambda out: _tar(entries, out), packed, key)

    def pack(self, tar: Path) -> Layer:
        with tar.open("rb") as file:
            key = f"tar {file_digest(file, 'sha256').hexdigest()}"
            file.seek(0)
            return self.kept(key) or self._made(lambda out: copyfileobj(file, out, CHUNK), True, key)

    def _made(self, write: Callable[[IO[bytes]], object], packed: bool, key: str) -> Layer:
        with _Draft(self._blobs) as draft:
            pack = gzip.GzipFile("", "wb", 6, cast(IO[bytes], draft), 0) if packed else None
            inner = _Counted(pack) if pack else draft
            write(cast(IO[bytes], inner))
            if pack:
                pack.close()
            draft.keep()
        layer = Layer(Descriptor(LAYER_GZIP if packed else LAYER, draft.digest, draft.size), inner.digest)
        if key:
            self._write(MEMO, canonical({**self._memo(), key: layer}))
        return layer

    def _memo(self) -> dict[str, Layer]:
        try:
            return msgspec.json.decode((self._path / MEMO).read_bytes(), type=dict[str, Layer])
        except (FileNotFoundError, msgspec.DecodeError):
            return {}

    def _index(self) -> Document:
        try:
            return read((self._path / "index.json").read_bytes())
        except FileNotFoundError:
            return Document(2, INDEX)

    def _blob(self, digest: str) -> Path:
        return self._blobs / digest.removeprefix("sha256:")

    def _write(self, name: str, data: bytes) -> None:
        fresh = self._path / f".{name}.{os.getpid()}"
        fresh.write_bytes(data)
        fresh.replace(self._path / name)


class _Counted:
    """Passes bytes on, and knows their digest and how many there were."""

    def __init__(self, target: "IO[bytes] | gzip.GzipFile") -> None:
        self._target, self._hash, self.size = target, sha256(), 0

    def write(self, data: bytes) -> int:
        self._hash.update(data)
        self.size += len(data)
        self._target.write(data)
        return len(data)

    def flush(self) -> None:
        self._target.flush()

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"


class _Draft(_Counted):
    """A blob being written: it gets its name when it is whole, or goes."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = mkstemp(prefix=".", dir=folder)
        self._file, self._path, self._folder = os.fdopen(handle, "wb"), Path(name), folder
        super().__init__(self._file)

    def __enter__(self) -> "_Draft":
        return self

    def keep(self) -> None:
        self._file.close()
        self._path.chmod(0o644)
        self._path.replace(self._folder / self.digest.removeprefix("sha256:"))

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)


def _tar(entries: Iterable[Entry], target: IO[bytes]) -> None:
    """Sorted, of nobody, at no time, each folder before what lies in it."""
    found = {name: source for name, source in entries}
    folders = {str(p) for name in found for p in PurePosixPath(name).parents} - {"."}
    with tarfile.open(fileobj=target, mode="w|", format=tarfile.PAX_FORMAT, bufsize=CHUNK) as tar:
        for name in sorted({*found, *folders}):
            info, source = tarfile.TarInfo(name), found.get(name)
            info.mode = 0o755 if source is None else 0o644
            if source is None:
                info.type = tarfile.DIRTYPE
                tar.addfile(info)
            elif isinstance(source, bytes):
                info.size = len(source)
                tar.addfile(info, io.BytesIO(source))
            else:
                with source.open("rb") as file:
                    info.size = os.fstat(file.fileno()).st_size
                    tar.addfile(info, file)
