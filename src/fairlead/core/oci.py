"""Images as values: what the documents of an OCI image, a ModelPack artifact and a referrer say."""

import re
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

from fairlead.core.ref import UNREADABLE, canonical
from fairlead.core.statement import Envelope
from fairlead.errors import Corrupt, Invalid

__all__ = ["BUNDLE", "CONFIG", "EMPTY", "INDEX", "LAYER", "LAYER_GZIP", "MANIFEST", "MODELPACK", "Config", "Descriptor",
           "Document", "Layer", "Place", "bundled", "entry_of", "fallback", "image", "key_of", "listing",
           "modelpack", "named", "pem", "read", "referrer", "unbundled"]  # fmt: skip

OCI = "application/vnd.oci.image."
MANIFEST, INDEX, CONFIG = f"{OCI}manifest.v1+json", f"{OCI}index.v1+json", f"{OCI}config.v1+json"
LAYER, LAYER_GZIP = f"{OCI}layer.v1.tar", f"{OCI}layer.v1.tar+gzip"
DOCKER = {"application/vnd.docker.distribution.manifest.v2+json": MANIFEST,
          "application/vnd.docker.distribution.manifest.list.v2+json": INDEX}  # fmt: skip
"""The older spelling of the same documents; layers under it are the same tars."""
CNCF = "application/vnd.cncf.model."
MODELPACK = f"{CNCF}manifest.v1+json"
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
EMPTY = b"{}"
EPOCH = "1970-01-01T00:00:00Z"
"""The moment every image was made at: the same content has the same digest on any day."""
MOST_DOCUMENT = 4 << 20
"""Bytes of a manifest that registries must take, and nobody needs more."""

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
PLACE = re.compile(
    r"oci://(?P<host>[A-Za-z0-9.\-]+(?::\d+)?|\[[0-9a-f:]+\](?::\d+)?)/"
    r"(?P<name>[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*)"
    r"(?::(?P<tag>\w[\w.\-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)
SPKI_ED25519 = bytes.fromhex("302a300506032b6570032100")
"""What stands before the 32 bytes of an Ed25519 key in its X.509 form (RFC 8410)."""


class Place(Struct, frozen=True):
    """``oci://host/name:tag@digest``: a repository of a registry, and what of it is meant."""

    host: str
    name: str
    reference: str

    @classmethod
    def parse(cls, text: str) -> "Place":
        """A digest wins over a tag; neither means ``latest``. Raises Invalid."""
        found = PLACE.fullmatch(text)
        if found is None:
            raise Invalid(f"not an image: {text!r}", hint="write oci://registry/name:tag, or @sha256:...")
        return cls(found["host"], found["name"], found["digest"] or found["tag"] or "latest")


class Descriptor(Struct, frozen=True, rename="camel", omit_defaults=True):
    """Names content by digest (``sha256:<hex>``) and size in bytes."""

    media_type: str
    digest: str
    size: int
    artifact_type: str | UnsetType = UNSET
    platform: dict[str, Any] | UnsetType = UNSET
    annotations: dict[str, str] | UnsetType = UNSET

    def __post_init__(self) -> None:
        if not DIGEST.fullmatch(self.digest) or self.size < 0:
            raise ValueError(f"no digest and size: {self.digest[:80]!r}, {self.size}")

    @property
    def hex(self) -> str:
        return self.digest.removeprefix("sha256:")


class Layer(Struct, frozen=True):
    """A layer as stored, and the digest of its tar before compression."""

    stored: Descriptor
    diff: str


class Document(Struct, frozen=True, rename="camel", omit_defaults=True):
    """An image manifest or an index; fields that neither knows are kept out of what we write."""

    schema_version: int
    media_type: str | UnsetType = UNSET
    artifact_type: str | UnsetType = UNSET
    config: Descriptor | UnsetType = UNSET
    layers: tuple[Descriptor, ...] | UnsetType = UNSET
    manifests: tuple[Descriptor, ...] | UnsetType = UNSET
    subject: Descriptor | UnsetType = UNSET
    annotations: dict[str, str] | UnsetType = UNSET

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        """Config and layers of a manifest; nothing of an index."""
        return (*(self.layers or ()), *([self.config] if self.config else []))


class Root(Struct, frozen=True):
    """The layers of an image before compression, lowest first."""

    type: str = "layers"
    diff_ids: tuple[str, ...] = ()


class Config(Struct, frozen=True, kw_only=True):
    """What a container of the image runs: the runtime's settings under `config`."""

    architecture: str
    os: str
    created: str = EPOCH
    config: dict[str, Any] = {}
    rootfs: Root = Root()
    history: tuple[dict[str, Any], ...] = ()


def named(data: bytes, media_type: str, **more: Any) -> Descriptor:
    """The descriptor of `data`."""
    return Descriptor(media_type, f"sha256:{sha256(data).hexdigest()}", len(data), **more)


def read(data: bytes, descriptor: Descriptor | None = None) -> Document:
    """A manifest or an index, its digest verified first. Raises Corrupt."""
    if descriptor is not None and (len(data), f"sha256:{sha256(data).hexdigest()}") != (
        descriptor.size, descriptor.digest):  # fmt: skip
        raise Corrupt(f"manifest {descriptor.hex[:12]} does not match its digest", hint="push the image again")
    try:
        return msgspec.json.decode(data, type=Document)
    except (*UNREADABLE, ValueError) as error:
        raise Corrupt(f"not an image manifest: {error}", hint="push the image again") from None


def image(
    base: tuple[Document, Config] | None, layers: Sequence[Layer], runs: Mapping[str, Any], *,
    architecture: str, annotations: Mapping[str, str],
) -> tuple[bytes, bytes]:  # fmt: skip
    """(config, manifest) of an image: `layers` upon those of `base`, whose environment `runs` extends."""
    below, under = (base[0].layers or (), base[1]) if base else ((), Config(architecture=architecture, os="linux"))
    settings = {**under.config, **runs, "Env": _environment(under.config.get("Env"), runs.get("Env"))}
    config = canonical(Config(
        architecture=under.architecture, os=under.os,
        config={k: v for k, v in settings.items() if v}, history=under.history,
        rootfs=Root(diff_ids=(*under.rootfs.diff_ids, *(layer.diff for layer in layers)))))  # fmt: skip
    document = Document(2, MANIFEST, config=named(config, CONFIG), annotations=dict(annotations),
                        layers=(*map(_plain, below), *(layer.stored for layer in layers)))  # fmt: skip
    return config, canonical(document)


def modelpack(weights: Layer, *, name: str, version: str, form: str) -> tuple[bytes, bytes]:
    """(config, manifest) of a CNCF ModelPack artifact (model-spec 0.0.7) over the weights of an image."""
    config = canonical({
        "descriptor": {"name": name, "version": version, "createdAt": EPOCH},
        "modelfs": {"type": "layers", "diffIds": [weights.diff]}, "config": {"format": form},
    })  # fmt: skip
    stored = Descriptor(f"{CNCF}weight.v1.tar", weights.stored.digest, weights.stored.size,
                        annotations={"org.cncf.model.filepath": "models"})  # fmt: skip
    return config, canonical(Document(2, MANIFEST, artifact_type=MODELPACK, layers=(stored,),
                                      config=named(config, f"{CNCF}config.v1+json")))  # fmt: skip


def referrer(kind: str, layers: Sequence[Descriptor], subject: Descriptor, annotations: Mapping[str, str]) -> bytes:
    """The manifest of something that speaks of `subject`."""
    about = Descriptor(subject.media_type, subject.digest, subject.size)
    return canonical(Document(2, MANIFEST, artifact_type=kind, layers=tuple(layers), subject=about, annotations=dict(annotations),
                              config=named(EMPTY, "application/vnd.oci.empty.v1+json")))  # fmt: skip


def fallback(digest: str) -> str:
    """The tag that lists the referrers of `digest` where a registry has no referrers API."""
    return digest.replace(":", "-")


def bundled(envelope: Envelope) -> bytes:
    """A sigstore bundle (v0.3) of a statement signed with an Ed25519 key that the verifier knows.

    The key is named by its hint alone: what verifies bundles passes over signatures of other key ids.
    """
    (signature,) = envelope.signatures
    return canonical({
        "mediaType": BUNDLE, "verificationMaterial": {"publicKey": {"hint": _hint(signature.keyid)}},
        "dsseEnvelope": {"payload": envelope.payload, "payloadType": envelope.payload_type,
                         "signatures": [{"sig": signature.sig}]},
    })  # fmt: skip


def unbundled(data: bytes, keys: Iterable[str]) -> bytes:
    """The DSSE envelope in a sigstore bundle, as JSON, its signature under the one of `keys` (hex)
    that the bundle hints at. Raises Corrupt for what is no bundle of one signature."""
    try:
        bundle = msgspec.json.decode(data)
        hint, envelope = bundle["verificationMaterial"]["publicKey"]["hint"], bundle["dsseEnvelope"]
        (signature,) = envelope["signatures"]
        key = next((k for k in keys if _hint(k) == hint), str(hint))
        return msgspec.json.encode({**envelope, "signatures": [{**signature, "keyid": key}]})
    except (*UNREADABLE, KeyError, TypeError, ValueError):
        raise Corrupt("not a sigstore bundle", hint="sign the image again") from None


def pem(key: str) -> str:
    """An Ed25519 public key (hex) as ``cosign verify --key`` reads it."""
    body = b64encode(SPKI_ED25519 + bytes.fromhex(key)).decode()
    return f"-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n"


def _hint(key: str) -> str:
    return b64encode(sha256(SPKI_ED25519 + bytes.fromhex(key)).digest()).decode()


def key_of(text: str) -> str:
    """The Ed25519 public key (hex) in a PEM text. Raises Invalid."""
    body = "".join(line for line in text.splitlines() if not line.startswith("-----"))
    try:
        key = b64decode(body, validate=True)
    except ValueError:
        key = b""
    if len(key) != len(SPKI_ED25519) + 32 or not key.startswith(SPKI_ED25519):
        raise Invalid("not the public half of an Ed25519 key", hint="`fairlead image key` prints one")
    return key.removeprefix(SPKI_ED25519).hex()


def _environment(before: Sequence[str] | None, after: Sequence[str] | None) -> list[str]:
    found = dict(e.partition("=")[::2] for e in (*(before or ()), *(after or ())))
    return [f"{name}={value}" for name, value in found.items()]


def _plain(layer: Descriptor) -> Descriptor:
    """A layer of a base under the media type of OCI."""
    kind = LAYER_GZIP if layer.media_type.startswith("application/vnd.docker") else layer.media_type
    return Descriptor(kind, layer.digest, layer.size)


def listing(before: bytes, entry: Descriptor) -> bytes:
    """The index of referrers `before` (b"" for none) with `entry` in it."""
    found = (read(before).manifests or ()) if before else ()
    kept = tuple(d for d in found if d.digest != entry.digest)
    return canonical(Document(2, INDEX, manifests=(*kept, entry)))


def entry_of(data: bytes) -> tuple[Descriptor, Descriptor]:
    """(subject, what a listing says) of a referrer. Raises Corrupt when it speaks of nothing."""
    document = read(data)
    if not document.subject:
        raise Corrupt("a referrer without a subject", hint="push the image again")
    return document.subject, named(data, MANIFEST, artifact_type=document.artifact_type,
                                   annotations=document.annotations)  # fmt: skip
