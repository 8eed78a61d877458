"""Images of packages: built without a daemon, the same bytes every time, copied between places, unpacked when trusted."""

import io
import shutil
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

import msgspec
from msgspec import Struct

from fairlead.core.artifact import Artifact, PackageSpec
from fairlead.core.oci import (
    CONFIG,
    INDEX,
    LAYER,
    MANIFEST,
    MODELPACK,
    Config,
    Descriptor,
    Document,
    Layer,
    image,
    modelpack,
    named,
    read,
)
from fairlead.core.ref import UNREADABLE, Ref, canonical
from fairlead.core.weights import check_form
from fairlead.errors import Corrupt, Invalid, Missing
from fairlead.ports import Entry, Images, Workbench

__all__ = ["Built", "Runtime", "base_of", "build", "copy", "recipe", "root", "unpack", "weights_of"]

LIBRARIES, MODELS, SPEC = "opt/fairlead", "models", "package.json"
PORT = 8080
NOBODY = "65534:65534"
ENTRYPOINT = ("python3", "-m", "fairlead", "alone", f"/{MODELS}", "0.0.0.0", str(PORT))
MOST_FILES, MOST_SPEC = 64, 8 << 20
CHUNK = 1 << 20
UNKNOWN = {"architecture": "unknown", "os": "unknown"}


class Runtime(Struct, frozen=True, kw_only=True):
    """What runs a package. `base`: the image below, by the digest of its manifest, with the Python
    `python` (X.Y); `lock`: wheels (name -> SHA-256) and `libraries` their files; `app`: those of
    Fairlead itself; `compiled` adds bytecode to files."""

    base: tuple[Descriptor, Document, Config]
    python: str
    lock: dict[str, str]
    rules: str
    libraries: Callable[[], Iterator[Entry]]
    app: Sequence[Entry]
    compiled: Callable[[Iterable[Entry], str], AbstractContextManager[Iterable[Entry]]]


class Built(Struct, frozen=True, kw_only=True):
    """An image as it was written: `index` names `image` (it runs, or is mounted) and `artifact` (ModelPack),
    which share the layer `weights`. `base`: digest of what it stands on, "" for nothing."""

    tag: str
    package: Ref
    index: Descriptor
    image: Descriptor
    artifact: Descriptor
    weights: Descriptor
    base: str = ""
    lock: dict[str, str] = {}
    compressed: int


def build(
    package: Artifact, folder: Path, bench: Workbench, runtime: Runtime | None, *, architecture: str
) -> Built:  # fmt: skip
    """Write the image of the package that lies in `folder`; without a `runtime` it only holds /models.

    Raises Invalid for another kind of artifact.
    """
    spec = package.spec
    if not isinstance(spec, PackageSpec):
        raise Invalid(f"{package.ref.short} is not a package", hint="`fairlead package` makes one")
    files = [(f"{MODELS}/{name}", folder / name) for name in (SPEC, *spec.files)]
    weights = bench.layer(files, packed=False, key=f"package {package.ref.digest}")
    layers, notes = [weights], {"org.opencontainers.image.title": package.ref.name,
                                "org.opencontainers.image.version": package.ref.digest}  # fmt: skip
    runs: dict[str, object] = {"WorkingDir": "/", "User": NOBODY}
    if runtime is not None:
        layers = [*_libraries(bench, runtime), weights]
        notes["org.opencontainers.image.base.digest"] = runtime.base[0].digest
        runs |= {
            "Env": [f"PYTHONPATH=/{LIBRARIES}", "PYTHONDONTWRITEBYTECODE=1"], "Cmd": [],
            "Entrypoint": list(ENTRYPOINT),
            "ExposedPorts": {f"{PORT}/tcp": {}}, "StopSignal": "SIGTERM",
        }  # fmt: skip
    below = runtime.base[1:] if runtime else None
    here = image(below, layers, runs, architecture=architecture, annotations=notes)
    there = modelpack(weights, name=package.ref.name, version=package.ref.digest, form=spec.flavor)
    running = _publish(bench, here, CONFIG, platform={"architecture": architecture, "os": "linux"})
    bare = _publish(bench, there, "", artifact_type=MODELPACK, platform=UNKNOWN)
    listed = canonical(Document(2, INDEX, manifests=(running, bare), annotations=notes))
    index = named(listed, INDEX)
    tag = f"{package.ref.name}-{package.ref.digest[:12]}"
    bench.publish(index, listed, tag)
    return Built(tag=tag, package=package.ref, index=index, image=running, artifact=bare, weights=weights.stored,
                 base=runtime.base[0].digest if runtime else "", lock=runtime.lock if runtime else {},
                 compressed=sum(b.size for b in read(here[1]).blobs))  # fmt: skip


def root(bench: Workbench, tar: Path, architecture: str) -> str:
    """Take a root file system (a tar file) in as an image to build upon; its digest."""
    made = image(None, [bench.pack(tar)], {}, architecture=architecture, annotations={})
    return _publish(bench, made, CONFIG).digest


def recipe(folder: Path, lock: Mapping[str, str], app: Sequence[Entry], python: str, target: Path) -> None:
    """Write the same as a Dockerfile, with all it copies, into the new folder `target`: hashed
    requirements.txt, Fairlead, and the package that lies in `folder`. Raises Invalid when it exists."""
    if target.exists():
        raise Invalid(f"{target} exists already", hint="name a new folder")
    shutil.copytree(folder, target / MODELS)
    for name, source in app:
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_bytes(source))
    pins = (f"{'=='.join(wheel.split('-')[:2])} --hash=sha256:{digest}\n" for wheel, digest in sorted(lock.items()))
    (target / "requirements.txt").write_text("".join(pins))
    entry = ", ".join(f'"{word}"' for word in ENTRYPOINT)
    (target / "Dockerfile").write_text(
        f"FROM python:{python}-slim\nCOPY requirements.txt /\n"
        "RUN pip install --no-cache-dir --no-deps --require-hashes -r /requirements.txt\n"
        f"COPY {LIBRARIES} /{LIBRARIES}\nCOPY {MODELS} /{MODELS}\nENV PYTHONPATH=/{LIBRARIES}\n"
        f"USER {NOBODY}\nEXPOSE {PORT}\nENTRYPOINT [{entry}]\n")  # fmt: skip


def base_of(place: Images, reference: str, architecture: str) -> tuple[Descriptor, Document, Config]:
    """The image a reference means for Linux on `architecture`. Raises Missing, Corrupt."""
    found, data = place.manifest(reference)
    document = read(data, found)
    if document.manifests:
        fitting = [d for d in document.manifests if d.platform
                   and (d.platform.get("os"), d.platform.get("architecture")) == ("linux", architecture)]  # fmt: skip
        if not fitting:
            raise Missing(f"{reference} holds no image for linux/{architecture}", hint="name another base")
        return base_of(place, fitting[0].digest, architecture)
    if not document.config:
        raise Invalid(f"{reference} is no image that can run", hint="a base has a config and layers")
    try:
        config = msgspec.json.decode(b"".join(place.open(document.config)), type=Config)
    except UNREADABLE as error:
        raise Corrupt(f"the config of {reference} cannot be read: {error}", hint="name another base") from None
    return found, document, config


def copy(
    source: Images, target: Images, reference: str, tag: str = "",
    on_progress: Callable[[str], None] = lambda text: None,
) -> Descriptor:  # fmt: skip
    """Bring an image and all that speaks of it from one place to another, byte for byte.

    Raises Missing, and Corrupt when anything is not what its digest says.
    """
    found, data = source.manifest(reference)
    document = read(data, found)
    for inner in document.manifests or ():
        copy(source, target, inner.digest, on_progress=on_progress)
    copy_blobs(source, target, document.blobs, on_progress)
    target.publish(found, data, tag)
    for entry in source.referrers(found.digest):
        _, said = source.manifest(entry.digest)
        copy_blobs(source, target, read(said, entry).blobs, on_progress)
        target.refer(said)
    return found


def copy_blobs(
    source: Images, target: Images, blobs: Sequence[Descriptor],
    on_progress: Callable[[str], None] = lambda text: None,
) -> None:  # fmt: skip
    """Bring blobs from one place to another, those that are not there yet."""
    for blob in blobs:
        if not target.has(blob.digest):
            on_progress(f"{blob.hex[:12]}, {blob.size / 1e6:,.1f} MB")
            target.put(blob, lambda start, blob=blob: _from(source.open(blob), start))  # type: ignore[misc]


def weights_of(place: Images, reference: str) -> Descriptor:
    """The layer under /models: that of the ModelPack artifact in the index. Raises Missing, Invalid."""
    document = read(place.manifest(reference)[1])
    packs = [d for d in document.manifests or () if d.artifact_type == MODELPACK]
    if len(packs) != 1:
        raise Invalid(f"{reference} holds no package of Fairlead", hint="`fairlead image build` makes one")
    layers = read(place.manifest(packs[0].digest)[1], packs[0]).layers or ()
    if len(layers) != 1 or not layers[0].media_type.endswith(".tar"):
        raise Invalid("the weights are not one uncompressed layer", hint="`fairlead image build` makes one")
    return Descriptor(LAYER, layers[0].digest, layers[0].size)


def unpack(place: Images, weights: Descriptor, package: Ref, target: Path) -> None:
    """Lay `package`, which is what a weight layer holds, into the new folder `target`.

    Every byte is compared with the digest of the layer first, then every file with what the package
    says of it and with the form its name promises, before any of them gets its name. Raises
    Corrupt or Invalid; then nothing is left there.
    """
    if target.exists():
        raise Invalid(f"{target} exists already", hint="name a new folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}-{uuid4().hex}")
    draft.mkdir(mode=0o700)
    held = draft / "layer"
    try:
        with held.open("wb") as file:
            for chunk in _bounded(place.open(weights), weights.size):
                file.write(chunk)
        _lay(held, draft, package)
        held.unlink()
        draft.rename(target)
    finally:
        if draft.exists():
            for path in draft.iterdir():
                path.unlink()
            draft.rmdir()


def _lay(layer: Path, folder: Path, package: Ref) -> None:
    digests: dict[str, str] = {}
    with layer.open("rb") as file:
        try:
            for name, content in _members(file):
                digests[name] = _write(folder / name, name, content)
        except (tarfile.TarError, EOFError, OSError, ValueError) as error:
            raise Invalid(f"the weights are no tar file: {error}", hint="push the image again") from None
    if digests.get(SPEC) != package.digest or (folder / SPEC).stat().st_size > MOST_SPEC:
        raise Corrupt(f"the weights hold another {SPEC} than was signed", hint="push the image again")
    try:
        spec = msgspec.json.decode((folder / SPEC).read_bytes(), type=PackageSpec)
    except UNREADABLE as error:
        raise Corrupt(f"{SPEC} cannot be read: {error}", hint="push the image again") from None
    found = {name: digest for name, digest in digests.items() if name != SPEC}
    if found != spec.files:
        wrong = min(n for n in {*found, *spec.files} if found.get(n) != spec.files.get(n))
        raise Corrupt(f"{wrong} is not what the package says", hint="push the image again")

def _members(file: io.BufferedReader) -> Iterator[tuple[str, io.BufferedReader]]:
    """Name and content of each file under /models; nothing is written by a name with a path in it.

    Raises Invalid for anything but plain files in that one folder.
    """
    seen: set[str] = set()
    with tarfile.open(fileobj=file, mode="r:") as tar:
        for info in tar:
            folder, _, name = info.name.rpartition("/")
            if info.name == MODELS and info.type == tarfile.DIRTYPE:
                continue
            plain = name and name[0] not in "." and "\\" not in name and name.isprintable()
            whole = info.type == tarfile.REGTYPE and info.sparse is None
            if not (whole and plain and folder == MODELS) or name in seen or name == "layer":
                raise Invalid(f"a package holds no {info.name[:80]!r}", hint="`fairlead image build` makes images")
            if len(seen) >= MOST_FILES:
                raise Invalid(f"more than {MOST_FILES} files", hint="`fairlead image build` makes images")
            seen.add(name)
            content = tar.extractfile(info)
            assert content is not None, "a regular file has content"
            yield name, content  # type: ignore[misc]


def _write(path: Path, name: str, content: io.BufferedReader) -> str:
    found, chunk = sha256(), content.read(CHUNK)
    check_form(name, chunk)
    with path.open("xb") as file:
        while chunk:
            found.update(chunk)
            file.write(chunk)
            chunk = content.read(CHUNK)
    return found.hexdigest()


def _libraries(bench: Workbench, runtime: Runtime) -> list[Layer]:
    """Dependencies change seldom, Fairlead more often: a layer for each."""
    app = canonical({name: sha256(_bytes(source)).hexdigest() for name, source in runtime.app})

    def made(name: str, of: bytes, entries: Callable[[], Iterable[Entry]]) -> Layer:
        key = f"{name} {runtime.python} {sha256(of).hexdigest()}"
        if (kept := bench.kept(key)) is not None:
            return kept
        with runtime.compiled(entries(), runtime.python) as found:
            return bench.layer(found, packed=True, key=key)

    return [made("wheels", canonical([runtime.rules, runtime.lock]), runtime.libraries),
            made("fairlead", app, lambda: runtime.app)]  # fmt: skip


def _publish(bench: Workbench, made: tuple[bytes, bytes], kind: str, **more: object) -> Descriptor:
    config, manifest = made
    stored = named(config, kind or "application/octet-stream")
    bench.put(stored, lambda start: iter([config[start:]]))
    described = named(manifest, MANIFEST, **more)
    bench.publish(described, manifest)
    return described


def _bytes(source: bytes | Path) -> bytes:
    return source if isinstance(source, bytes) else source.read_bytes()


def _from(chunks: Iterator[bytes], start: int) -> Iterator[bytes]:
    """What follows the first `start` bytes."""
    for chunk in chunks:
        if start < len(chunk):
            yield chunk[start:]
        start = max(0, start - len(chunk))


def _bounded(chunks: Iterator[bytes], most: int) -> Iterator[bytes]:
    for chunk in chunks:
        most -= len(chunk)
        if most < 0:
            raise Corrupt("a layer is larger than it says", hint="push the image again")
        yield chunk
