"""Images: the same bytes every time, copied whole, believed only when signed, unpacked only when right."""

import hashlib
import io
import re
import sys
import tarfile
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fairlead.adapters.images.bytecode import compiled, standard
from fairlead.adapters.images.layout import Layout
from fairlead.adapters.images.wheels import _place as place_in_image
from fairlead.adapters.keys.local import LocalSigner, verify
from fairlead.adapters.registry.client import Registry
from fairlead.core.artifact import Artifact, PackageSpec, name_of
from fairlead.core.encoding import Encoding
from fairlead.core.oci import LAYER, Config, Descriptor, Place, key_of, named, pem, read
from fairlead.core.ref import Ref, canonical
from fairlead.core.schema import Schema
from fairlead.errors import Corrupt, FairleadError, Forbidden, Invalid, Missing
from fairlead.flow import image, origin
from fairlead.ports import Entry, Images
from fairlead.serve import package as served

ONNX = b"\x08\x09" + bytes(range(256)) * 800


def packaged(folder: Path, weights: bytes = ONNX) -> tuple[Artifact, Path]:
    """A package as it lies on disk."""
    folder.mkdir(parents=True)
    files = {"model.onnx": weights, "samples.json": b'{"rows":[],"scores":[]}'}
    for name, data in files.items():
        (folder / name).write_bytes(data)
    spec = PackageSpec(
        model=Ref("model", "late", "0" * 64), flavor="onnx", task="binary", classes=("no", "yes"),
        contract=Schema(columns=()), encoding=Encoding(()),
        files={n: hashlib.sha256(d).hexdigest() for n, d in files.items()},
    )  # fmt: skip
    (folder / "package.json").write_bytes(canonical(spec))
    return Artifact(ref=name_of("late", spec), spec=spec, created_at=0.0), folder


def based(bench: Layout, tmp_path: Path) -> image.Runtime:
    with tarfile.open(tmp_path / "base.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("etc"), None)
    below = image.base_of(bench, image.root(bench, tmp_path / "base.tar", "amd64"), "amd64")
    return image.Runtime(
        base=below, python="3.11", rules="", lock={"a-1-py3-none-any.whl": "0" * 64},
        libraries=lambda: iter([("opt/fairlead/b.py", b"b"), ("opt/fairlead/a.py", b"a")]),
        app=[("opt/fairlead/fairlead/__init__.py", b"")],
        compiled=lambda files, version: nullcontext(files),
    )  # fmt: skip


def built(tmp_path: Path, name: str = "bench", weights: bytes = ONNX) -> tuple[Layout, image.Built]:
    bench = Layout(tmp_path / name)
    artifact, folder = packaged(tmp_path / f"{name}-package", weights)
    return bench, image.build(artifact, folder, bench, based(bench, tmp_path), architecture="amd64")


def signed(tmp_path: Path, signer: LocalSigner, environment: str = "prod", weights: bytes = ONNX,
           ) -> tuple[Layout, image.Built]:  # fmt: skip
    bench, made = built(tmp_path, weights=weights)
    said = {origin.SIGNED: {}, origin.PROVENANCE: origin.provenance(made, environment, None, ())}
    origin.vouch(bench, made, said, signer)
    return bench, made


def take(place: Images, tag: str, key: str, target: Path, name: str = "prod") -> origin.Origin:
    """What `fairlead image pull` does."""
    found = origin.demand(place, tag, {name: key}, verify)
    image.unpack(place, image.weights_of(place, found.image.digest), found.package, target)
    return found


def test_two_builds_are_the_same_bytes_and_what_runs_is_nobody(tmp_path: Path) -> None:
    one, first = built(tmp_path, "one")
    _, second = built(tmp_path, "two")
    assert first == second
    manifest = read(one.manifest(first.image.digest)[1])
    assert manifest.config and manifest.layers
    config = msgspec.json.decode(b"".join(one.open(manifest.config)), type=Config)
    assert config.config["User"] == "65534:65534"
    assert config.config["Entrypoint"][-3:] == ["/models", "0.0.0.0", "8080"]
    assert len(config.rootfs.diff_ids) == len(manifest.layers) == 4
    shared = read(one.manifest(first.artifact.digest)[1]).layers
    assert shared and shared[0].digest == manifest.layers[-1].digest == first.weights.digest
    with tarfile.open(tmp_path / "one" / "blobs" / "sha256" / first.weights.hex) as tar:
        members = [(m.name, m.mtime, m.uid, m.mode & 0o7777) for m in tar]
    assert members == [("models", 0, 0, 0o755), *(
        (f"models/{n}", 0, 0, 0o644) for n in ("model.onnx", "package.json", "samples.json"))]  # fmt: skip


def test_a_new_model_makes_one_new_layer(tmp_path: Path) -> None:
    bench, first = built(tmp_path)
    before = {p.name for p in (tmp_path / "bench" / "blobs" / "sha256").iterdir()}
    artifact, folder = packaged(tmp_path / "other", ONNX + b"more")
    runtime = based(bench, tmp_path)
    broken = msgspec.structs.replace(runtime, libraries=lambda: pytest.fail("made again"))
    second = image.build(artifact, folder, bench, broken, architecture="amd64")
    fresh = {p.name for p in (tmp_path / "bench" / "blobs" / "sha256").iterdir()} - before
    assert second.weights != first.weights
    assert len(fresh) == 6, "weights, two configs, two manifests, the index"


def test_a_dockerfile_holds_the_same(tmp_path: Path) -> None:
    artifact, folder = packaged(tmp_path / "package")
    runtime = based(Layout(tmp_path / "bench"), tmp_path)
    image.recipe(folder, runtime.lock, runtime.app, "3.11", tmp_path / "out")
    assert (tmp_path / "out" / "requirements.txt").read_text() == f"a==1 --hash=sha256:{'0' * 64}\n"
    text = (tmp_path / "out" / "Dockerfile").read_text()
    assert "USER 65534:65534" in text and '"alone", "/models"' in text
    assert served.identify(tmp_path / "out" / "models") == artifact.ref.digest
    for copied in re.findall(r"^COPY (\S+)", text, re.M):
        assert (tmp_path / "out" / copied).exists()


class Server(BaseHTTPRequestHandler):
    """The part of the OCI distribution specification that images need; no referrers API."""

    protocol_version = "HTTP/1.1"
    blobs: dict[str, bytes]
    manifests: dict[str, tuple[str, bytes]]
    uploads: dict[str, bytearray]
    breaks: int
    asks: str
    seen: list[str]

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def say(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def answer(self) -> None:
        self.seen.append(f"{self.command} {self.path}")
        size = int(self.headers.get("content-length") or 0)
        shown = self.headers.get("authorization", "")
        if self.path.startswith("/token"):
            right = shown == "Basic " + b64encode(b"ann:secret").decode() and "late%3Apull%2Cpush" in self.path
            return self.say(200, b'{"token":"t"}') if right else self.say(401)
        if self.asks and shown != self.asks:
            self.rfile.read(size)
            realm = f"http://{self.headers['host']}/token"
            kind = f'Bearer realm="{realm}",service="r"' if self.asks.startswith("Bearer") else "Basic"
            return self.say(401, WWW_Authenticate=kind)
        kind, _, name = self.path.removeprefix("/v2/team/late/").partition("/")
        if kind == "manifests":
            return self.manifest(name, size)
        if name.startswith("uploads/"):
            return self.upload(name.removeprefix("uploads/"), size)
        if name not in self.blobs:
            return self.say(404)
        start = int((self.headers.get("range") or "bytes=0-")[6:-1])
        return self.say(206 if start else 200, self.blobs[name][start:])

    do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = answer

    def manifest(self, name: str, size: int) -> None:
        if self.command == "PUT":
            data = self.rfile.read(size)
            kept = (self.headers["content-type"], data)
            self.manifests[name] = self.manifests[f"sha256:{hashlib.sha256(data).hexdigest()}"] = kept
            return self.say(201)
        if name not in self.manifests:
            return self.say(404)
        return self.say(200, self.manifests[name][1], Content_Type=self.manifests[name][0])

    def upload(self, rest: str, size: int) -> None:
        number, _, query = rest.partition("?")
        where: dict[str, Any] = {"Location": f"/v2/team/late/blobs/uploads/{number or len(self.uploads)}"}
        if self.command == "POST":
            self.uploads[str(len(self.uploads))] = bytearray()
            return self.say(202, **where)
        held = self.uploads[number]
        if self.command == "PATCH":
            if self.breaks:
                type(self).breaks -= 1
                held += self.rfile.read(size // 2)
                self.close_connection = True
                return None
            held += self.rfile.read(size)
            return self.say(202, **where)
        if self.command == "GET":
            return self.say(204, Range=f"0-{max(0, len(held) - 1)}", **where)
        digest = query.removeprefix("digest=")
        if digest != f"sha256:{hashlib.sha256(held).hexdigest()}":
            return self.say(400)
        self.blobs[digest] = bytes(held)
        return self.say(201)


@pytest.fixture
def server() -> Iterator[tuple[type[Server], str]]:
    kind = type("Fresh", (Server,), {"blobs": {}, "manifests": {}, "uploads": {}, "breaks": 0,
                                     "asks": "", "seen": []})  # fmt: skip
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True).start()
    yield kind, f"127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    httpd.server_close()


def test_what_is_pushed_and_pulled_is_the_same_and_goes_on_where_it_broke_off(
    tmp_path: Path, server: tuple[type[Server], str]
) -> None:
    kind, host = server
    signer = LocalSigner(tmp_path / "key")
    bench, made = signed(tmp_path, signer)
    kind.breaks = 2
    there = Registry(Place.parse(f"oci://{host}/team/late:v1"))
    assert image.copy(bench, there, made.tag, "v1") == made.index
    assert kind.breaks == 0
    back = Layout(tmp_path / "back")
    assert image.copy(there, back, "v1") == made.index
    for blob in (tmp_path / "back" / "blobs" / "sha256").iterdir():
        assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name
    for place in (there, back):
        found = take(place, made.index.digest, signer.key, tmp_path / f"laid-{type(place).__name__}")
        assert (found.signer, found.package) == ("prod", made.package)
    kind.seen.clear()
    image.copy(bench, there, made.tag, "v2")
    assert not [line for line in kind.seen if line.startswith(("POST", "PATCH"))], "blobs go once"


@pytest.mark.parametrize("asks", ["Bearer t", "Basic " + b64encode(b"ann:secret").decode()])
def test_a_registry_is_shown_the_login_it_asks_for(
    tmp_path: Path, server: tuple[type[Server], str], asks: str
) -> None:
    kind, host = server
    kind.asks = asks
    bench, made = built(tmp_path)
    place = Place.parse(f"oci://{host}/team/late:v1")
    with pytest.raises(Forbidden):
        image.copy(bench, Registry(place), made.tag, "v1")
    logins = tmp_path / "config.json"
    logins.write_bytes(canonical({"auths": {host: {"auth": b64encode(b"ann:secret").decode()}}}))
    assert image.copy(bench, Registry(place, (logins,)), made.tag, "v1") == made.index


def test_a_registry_that_answers_other_bytes_is_found_out(
    tmp_path: Path, server: tuple[type[Server], str]
) -> None:
    kind, host = server
    bench, made = built(tmp_path)
    there = Registry(Place.parse(f"oci://{host}/team/late:v1"))
    image.copy(bench, there, made.tag, "v1")
    held = kind.blobs[made.weights.digest]
    for wrong in (held[:-1] + b"x", held + b"x"):
        kind.blobs[made.weights.digest] = wrong
        with pytest.raises(Corrupt):
            image.copy(there, Layout(tmp_path / "back"), "v1")
    kind.manifests[made.index.digest] = ("application/json", b"{}")
    with pytest.raises(Corrupt):
        there.manifest(made.index.digest)


def test_only_who_is_trusted_for_that_environment_is_believed(tmp_path: Path) -> None:
    signer, stranger = LocalSigner(tmp_path / "key"), LocalSigner(tmp_path / "stranger")
    bench, made = built(tmp_path, "unsigned")
    with pytest.raises(Invalid, match="not signed"):
        take(bench, made.tag, signer.key, tmp_path / "x")
    bench, made = signed(tmp_path, signer)
    with pytest.raises(Invalid, match="whom nobody here trusts"):
        take(bench, made.tag, stranger.key, tmp_path / "x")
    with pytest.raises(Invalid, match="built in 'prod', signed by staging"):
        take(bench, made.tag, signer.key, tmp_path / "x", "staging")
    assert take(bench, made.tag, signer.key, tmp_path / "x", "").package == made.package
    assert key_of(pem(signer.key)) == signer.key


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_every_changed_blob_is_refused(tmp_path: Path) -> None:
    signer = LocalSigner(tmp_path / "key")
    bench, made = signed(tmp_path, signer)
    target, refused = tmp_path / "laid", 0
    for blob in sorted((tmp_path / "bench" / "blobs" / "sha256").iterdir()):
        whole = blob.read_bytes()
        _flip(blob)
        try:
            take(bench, made.tag, signer.key, target)
        except FairleadError:
            refused += 1
            assert not target.exists()
        else:  # base, wheels, application and configs are no part of the package
            for path in target.iterdir():
                path.unlink()
            target.rmdir()
        blob.write_bytes(whole)
    assert refused >= 6, "index, artifact, weights, listing, two statements"


def other(name: str, data: bytes = b"x", **more: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    for key, value in more.items():
        setattr(info, key, value)
    return info, data


HOSTILE = [
    other("../escape"), other("/etc/escape"), other("models/../escape"), other("models/a/b"), other("models/.."),
    other("models/x\\y"), other("models/.hidden"), other("models/layer"), other("models/package.json"),
    other("models/l", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
    other("models/l", type=tarfile.LNKTYPE, linkname="models/package.json"),
    other("models/d", type=tarfile.CHRTYPE), other("models/f", type=tarfile.FIFOTYPE), other("elsewhere", type=tarfile.DIRTYPE),
    other("models/s", pax_headers={"GNU.sparse.major": "1", "GNU.sparse.minor": "0",
                                   "GNU.sparse.name": "models/s", "GNU.sparse.realsize": str(1 << 40)}),
    other("models/unasked"),
]  # fmt: skip


@pytest.mark.parametrize("member", HOSTILE, ids=lambda m: m[0].name)
def test_a_hostile_weight_layer_writes_nothing(tmp_path: Path, member: tuple[tarfile.TarInfo, bytes]) -> None:
    artifact, folder = packaged(tmp_path / "package")
    tape = io.BytesIO()
    with tarfile.open(fileobj=tape, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path in sorted(folder.iterdir()):
            tar.add(path, f"models/{path.name}")
        info, data = member
        info.size = len(data) if info.isreg() else 0
        tar.addfile(info, io.BytesIO(data))
    bench, layer = Layout(tmp_path / "bench"), named(tape.getvalue(), LAYER)
    bench.put(layer, lambda start: iter([tape.getvalue()[start:]]))
    with pytest.raises((Invalid, Corrupt)):
        image.unpack(bench, layer, artifact.ref, tmp_path / "in" / "laid")
    assert not list((tmp_path / "in").iterdir())
    assert not (tmp_path / "escape").exists()


@pytest.mark.parametrize("weights", [b"\x80\x04\x95pickle", b"PK\x03\x04zip", b"cos\nsystem\n", b""])
def test_a_pickle_that_is_called_onnx_reaches_no_reader(tmp_path: Path, weights: bytes) -> None:
    """Signed by somebody trusted, and with every digest right."""
    signer = LocalSigner(tmp_path / "key")
    bench, made = signed(tmp_path, signer, weights=weights)
    with pytest.raises(Corrupt, match=r"model\.onnx does not begin"):
        take(bench, made.tag, signer.key, tmp_path / "laid")
    folder = tmp_path / "bench-package"
    named_so = folder.rename(tmp_path / made.package.digest)
    spec = served.read(named_so)
    with pytest.raises(Corrupt, match=r"model\.onnx does not begin"):
        served.files(named_so, spec)


def test_compressed_weights_are_not_inflated(tmp_path: Path) -> None:
    bench, made = built(tmp_path)
    document = read(bench.manifest(made.artifact.digest)[1])
    assert document.layers
    kind = document.layers[0].media_type + "+gzip"
    bomb = Descriptor(kind, made.weights.digest, made.weights.size)
    pack = canonical(msgspec.structs.replace(document, layers=(bomb,)))
    entry = named(pack, "application/vnd.oci.image.manifest.v1+json", artifact_type=document.artifact_type)
    bench.publish(entry, pack)
    index = canonical(msgspec.structs.replace(read(bench.manifest(made.tag)[1]), manifests=(entry,)))
    bench.publish(named(index, "application/vnd.oci.image.index.v1+json"), index, "bomb")
    with pytest.raises(Invalid, match="not one uncompressed layer"):
        image.weights_of(bench, "bomb")


@pytest.mark.parametrize("text", ["127.0.0.1/late", "oci://host", "oci://host/Late", "oci://host/a//b", "oci://h/../a"])
def test_what_is_no_image_is_said_so(text: str) -> None:
    with pytest.raises(Invalid, match="not an image"):
        Place.parse(text)


def test_bytecode_is_the_same_in_every_process_and_of_the_base(tmp_path: Path) -> None:
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    files: list[Entry] = [("opt/a.py", b"X = {'b', 'c', 'd'} | frozenset({1, 'e'})"), ("opt/broken.py", b"def")]
    twice = []
    for _ in range(2):
        with compiled(files, tmp_path / "scratch", python) as found:
            twice.append(Layout(tmp_path / "bench").layer(found, packed=False))
            names = {name for name, _ in found}
    assert twice[0] == twice[1]
    assert f"opt/__pycache__/a.cpython-{python.replace('.', '')}.pyc" in names
    with compiled(files, tmp_path / "scratch", "2.7") as found:
        assert {name for name, _ in found} == {"opt/a.py", "opt/broken.py"}
    tape = io.BytesIO()
    with tarfile.open(fileobj=tape, mode="w:gz") as tar:
        for name in ("asyncio/base_events.py", "idlelib/idle.py", "../../../etc/asyncio.py"):
            tar.addfile(tarfile.TarInfo(f"usr/lib/python{python}/{name}"))
    kept = standard([iter([tape.getvalue()])], python)
    assert [name for name, _ in kept] == [f"usr/lib/python{python}/asyncio/base_events.py"]


def test_wheels_stay_inside(tmp_path: Path) -> None:
    cases: list[tuple[str, str]] = [
        ("a/b.py", "a/b.py"), ("a-1.data/purelib/c.py", "c.py"), ("a-1.data/scripts/run", ""),
        ("numpy/tests/t.py", ""), ("a/b.pyi", ""),
    ]  # fmt: skip
    for name, expected in cases:
        assert place_in_image(name) == expected
    for name in ("../a.py", "/a.py", "a/../../b.py", "a\\b.py"):
        with pytest.raises(Invalid):
            place_in_image(name)
    with pytest.raises(Missing):
        Layout(tmp_path / "none").manifest("latest")
    assert re.fullmatch("sha256:[0-9a-f]{64}", named(b"", LAYER).digest)
