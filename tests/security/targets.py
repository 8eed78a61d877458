"""What decodes bytes of strangers, each with bytes it takes: the targets of the fuzzers."""

import io
import json
import shutil
import struct
import tarfile
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zlib import crc32

import msgspec

from fairlead.adapters import manifest
from fairlead.adapters.blobs.local import LocalBlobs
from fairlead.adapters.clock import SystemClock
from fairlead.adapters.keys.local import LocalSigner, verify
from fairlead.adapters.records.memory import MemoryRecords
from fairlead.core import journal, oci, statement
from fairlead.core.contract import Contract
from fairlead.core.event import Event
from fairlead.core.identity import Identity
from fairlead.core.ref import canonical
from fairlead.core.schema import Schema
from fairlead.flow import image, parcel
from fairlead.serve import frames, oip, package, service, tensors
from fairlead.serve.endpoint import Callers, Endpoint, Table
from fairlead.serve.http import Connection, Exchange, Limits, Site
from fairlead.standalone import verify as stranger
from tests.api.test_control import Line
from tests.flow.test_image import packaged
from tests.serve.conftest import COLUMNS, ROW
from tests.standalone.test_verify import log_of

__all__ = ["TARGETS", "Decoder"]

Decoder = Callable[[bytes], object]
Ready = Callable[[Path], tuple[Decoder, bytes]]
"""Lays what a target needs into a folder; what decodes, and bytes that it takes."""

SAID = statement.Statement(subject=(), kind="k", predicate={"a": 1})
ENVELOPE = canonical(statement.sealed(SAID, "k", lambda data: b"s"))
INFER = b'{"inputs":[{"name":"X","datatype":"FP32","shape":[1,2],"data":[0.5,1]}],"outputs":[{"name":"y"}]}'
BINARY = INFER.replace(b'"data":[0.5,1]', b'"parameters":{"binary_data_size":8}')
YAML = b"service: m\ndata: {source: a.csv, target: y, time: at}\ntrain: {code: t.py, params: {a: 1}}\nserve: {port: 80}\n"
NOTE = journal.frame(journal.Note(prediction="p", name="label", value=1.0, at=1.0))
CALL = (b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer secret\r\nX-Unit: u\r\nContent-Type: application/json\r\n"
        b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\nContent-Length: 2\r\n\r\n{}"
        b"GET /live?x=%20 HTTP/1.1\r\nHost: localhost:80\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n")  # fmt: skip
CHECKPOINT = "checkpoints.jsonl"
TRUSTED = {"staging": "k"}


def plain(decode: Decoder, sound: bytes) -> Ready:
    return lambda folder: (decode, sound)


def checked(data: bytes) -> bytes:
    """A frame whose checksum is right whatever it holds."""
    return struct.pack("<II", len(data), crc32(data)) + data


def split(data: bytes) -> list[bytes]:
    with suppress(ValueError):  # what it says of a length that cannot be
        return list(frames.split(bytearray(data)))
    return []


def configured(folder: Path) -> tuple[Decoder, bytes]:
    def decode(data: bytes) -> object:
        (folder / "fairlead.yaml").write_bytes(data)
        return manifest.load(folder / "fairlead.yaml")

    return decode, YAML


def called(folder: Path) -> tuple[Decoder, bytes]:
    """Whatever comes over a connection, there are whole answers or none, and never a 500."""
    def door(method: str, path: str, access: str) -> Endpoint[Exchange]:
        return Endpoint(method=method, path=path, access=access, max_body=100, deadline=1.0, handler=lambda e: e.ok(b"{}"))

    site = Site(Table([door("POST", "/predict", "caller"), door("GET", "/live", "anyone")]),
                Callers("127.0.0.1", "secret"), Limits(), lambda: "id", lambda exchange, refusal: None)  # fmt: skip

    def decode(data: bytes) -> object:
        line, connection = Line(), Connection(site)
        connection.connection_made(line)
        middle = len(data) // 2
        for part in (data[:middle], data[middle:]):
            connection.data_received(part)
        connection.connection_lost(None)
        statuses = [answer[:3] for answer in line.heard.split(b"HTTP/1.1 ")[1:]]
        assert line.heard.startswith(b"HTTP/1.1 ") or not line.heard
        assert all(status[:1] in b"1245" and status != b"500" for status in statuses), statuses
        return statuses

    return decode, CALL


def known(folder: Path) -> tuple[Decoder, bytes]:
    token = "fl_abc_secret"
    issued: dict[str, Any] = {"id": "abc", "owner": "ann", "digest": sha256(token.encode()).hexdigest(), "powers": ["look"],
                              "environment": "", "expires_at": 9e9}  # fmt: skip
    told = [("person.added", {"name": "ann", "roles": ["viewer"]}), ("token.issued", issued)]
    people = Identity(Event(seq=i, at=1.0, actor="boss", verb=verb, subject="identity", body=body, prev="")
                      for i, (verb, body) in enumerate(told, 1))  # fmt: skip

    def decode(data: bytes) -> object:
        caller = people.caller(data.decode("latin-1"), 1.0, "")
        assert data == token.encode(), "another token than was issued"
        return caller

    return decode, token.encode()


def sent(folder: Path) -> tuple[parcel.Known, Callable[[bytes], bytes], Decoder]:
    """What a parcel knows, how one is signed whatever it knows, and who takes it in."""
    made, laid = packaged(folder / "package")
    spec: Any = made.spec
    blobs, records, signer = LocalBlobs(folder / "blobs"), MemoryRecords(), LocalSigner(folder / "key")
    for name in spec.files:
        blobs.put(laid / name)
    (folder / "jobs").mkdir()

    def signed(body: bytes) -> bytes:
        spoken = parcel.Spoken(environment="staging", package=made.ref, records=sha256(body).hexdigest(), by="ann", at=1.0,
                               event=1, seal="")  # fmt: skip
        about = statement.Subject(name=str(made.ref), digest={"sha256": made.ref.digest})
        said = statement.Statement(subject=(about,), kind=parcel.KIND, predicate=msgspec.to_builtins(spoken))
        tar = io.BytesIO()
        with tarfile.open(fileobj=tar, mode="w", format=tarfile.PAX_FORMAT) as archive:
            parcel._add(archive, parcel.STATEMENT, io.BytesIO(canonical(statement.sealed(said, signer.key, signer.sign))))
            parcel._add(archive, parcel.RECORDS, io.BytesIO(body))
            for name in sorted(spec.files):
                parcel._add(archive, f"blobs/{spec.files[name]}", io.BytesIO((laid / name).read_bytes()))
        return tar.getvalue()

    def decode(data: bytes) -> object:
        (folder / "parcel").write_bytes(data)
        return parcel.receive(folder / "parcel", trusted={"staging": signer.key}, promoted=False, verify=verify, records=records,
                              blobs=blobs, clock=SystemClock(), jobs=folder / "jobs", actor="olga")  # fmt: skip

    return parcel.Known(artifacts=(made,)), signed, decode


def parcels(folder: Path) -> tuple[Decoder, bytes]:
    what, signed, decode = sent(folder)
    return decode, signed(canonical(what))


def told(folder: Path) -> tuple[Decoder, bytes]:
    """Records that somebody trusted has signed."""
    what, signed, decode = sent(folder)
    return lambda data: decode(signed(data)), canonical(what)


def layers(folder: Path) -> tuple[Decoder, bytes]:
    made, laid = packaged(folder / "package", b"\x08\x09" * 100)
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        for name in ("package.json", "model.onnx", "samples.json"):
            archive.add(laid / name, f"models/{name}")

    def decode(data: bytes) -> object:
        with TemporaryDirectory(dir=folder) as name:
            (folder / "layer").write_bytes(data)
            image._lay(folder / "layer", Path(name), made.ref)
        return {p.name for p in folder.iterdir()} - {"package", "layer"}

    return lambda data: _same(decode(data)), tar.getvalue()


def _same(left: object) -> None:
    assert not left, f"written outside: {left}"


def specs(folder: Path) -> tuple[Decoder, bytes]:
    def decode(data: bytes) -> object:
        laid = folder / sha256(data).hexdigest()
        shutil.copytree(folder / "package", laid)
        try:
            (laid / "package.json").write_bytes(data)
            return package.files(laid, package.read(laid))
        finally:
            shutil.rmtree(laid)

    return decode, (packaged(folder / "package", b"\x08\x09")[1] / "package.json").read_bytes()


def kept(folder: Path) -> tuple[Decoder, bytes]:
    _, notary = log_of(folder)
    path = folder / "checkpoints" / CHECKPOINT

    def decode(data: bytes) -> object:
        path.write_bytes(data)
        return notary.kept()

    return decode, path.read_bytes()


def bundles(name: str) -> Ready:
    """The stand-alone verifier, and one file of what it reads: it holds, or it is broken, in words."""
    def ready(folder: Path) -> tuple[Decoder, bytes]:
        _, notary = log_of(folder, 9, 4)
        notary.export(folder / "bundle", Path(stranger.__file__), lambda n: None)
        sound = (folder / "bundle" / name).read_bytes() if name else (folder / "checkpoints" / CHECKPOINT).read_bytes()
        sound = sound.splitlines(keepends=True)[-1] if not name else sound

        def decode(data: bytes) -> object:
            with suppress(stranger.Broken):
                if name:
                    (folder / "bundle" / name).write_bytes(data)
                    return stranger.verify(str(folder / "bundle"), "", {})
                return stranger.verify(str(folder / "bundle"), "", stranger.parsed(data, "the published checkpoint"))
            return None

        return decode, sound

    return ready


TARGETS: dict[str, Ready] = {
    "journal": plain(lambda data: list(journal.frames(data)), NOTE * 3),
    "journal with sound checksums": plain(lambda data: list(journal.frames(checked(data))), NOTE[8:]),
    "replica": plain(split, frames.question(1, 2, bytes(32)) * 2),
    "statement": plain(lambda data: statement.opened(data, TRUSTED, lambda *_: True), ENVELOPE),
    "row": plain(lambda data: Contract(Schema(columns=COLUMNS), ["unit"]).read(data), json.dumps(ROW | {"unit": 3}).encode()),
    "feedback": plain(service._feedback, b'{"feedback":[{"prediction":"%s","value":1,"name":"label","at":2.5}]}' % (b"0" * 26)),
    "inference": plain(tensors.infer, INFER),
    "binary inference": plain(lambda data: tensors.infer(data, len(BINARY)), BINARY + bytes(8)),
    "call": called,
    "token": known,
    "manifest": configured,
    "package": specs,
    "parcel": parcels,
    "records of a parcel": told,
    "image manifest": plain(lambda data: (oci.read(data), oci.listing(data, oci.named(b"", "a"))), oci.listing(b"", oci.named(b"", "a"))),
    "referrer": plain(oci.entry_of, oci.referrer("a", [], oci.named(b"", "b"), {})),
    "sigstore bundle": plain(lambda data: oci.unbundled(data, ["00" * 32]), oci.bundled(
        statement.sealed(SAID, "00" * 32, lambda data: b"s"))),
    "public key": plain(lambda data: oci.key_of(data.decode("latin-1")), oci.pem("00" * 32).encode()),
    "layer": layers,
    "checkpoints": kept,
    **{f"verifier: {name or 'a published checkpoint'}": bundles(name)
       for name in ("events.jsonl", CHECKPOINT, "artifacts.jsonl", "")},
}  # fmt: skip

if find_spec("google"):  # the extra grpc
    TARGETS["gRPC"] = plain(
        lambda data: oip.question(oip.read("ModelInferRequest", data)),
        oip.message("ModelInferRequest")(model_name="m", raw_input_contents=[bytes(8)], inputs=[
            {"name": "X", "datatype": "FP32", "shape": [1, 2]}]).SerializeToString())  # fmt: skip
