"""Origin: who built an image, of what and with which verdict, signed beside it and demanded before anything of it is read."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from fairlead.core.artifact import Artifact, DatasetSpec
from fairlead.core.decision import Decision
from fairlead.core.oci import (
    BUNDLE,
    EMPTY,
    MOST_DOCUMENT,
    Descriptor,
    bundled,
    named,
    read,
    referrer,
    unbundled,
)
from fairlead.core.ref import Ref
from fairlead.core.run import Run
from fairlead.core.statement import Statement, Subject, Verify, opened, sealed
from fairlead.errors import Corrupt, Invalid
from fairlead.flow.image import Built
from fairlead.ports import Images, Signer

__all__ = ["BOM", "GATE", "PROMOTED", "PROVENANCE", "SIGNED", "Origin", "demand", "gated", "provenance", "vouch"]

SIGNED = "https://sigstore.dev/cosign/sign/v1"
PROVENANCE = "https://slsa.dev/provenance/v1"
BOM = "https://cyclonedx.org/bom"
GATE = "urn:fairlead:gate:v1"
PROMOTED = "urn:fairlead:promotion:v1"
ENVIRONMENT = "urn:fairlead:environment:"
MOST_SAID = 64
"""Statements that are looked at; anybody who may push can add some."""


class Origin(Struct, frozen=True, kw_only=True):
    """What a trusted signer says of an image: predicates by their kind."""

    signer: str
    image: Descriptor
    package: Ref
    said: dict[str, dict[str, Any]]


def provenance(
    built: Built, environment: str, run: Run | None, lineage: Iterable[Artifact]
) -> dict[str, Any]:  # fmt: skip
    """SLSA provenance (v1, https://slsa.dev/spec/v1.1/provenance): data, code, base and wheels."""
    used = [{"uri": str(a.ref), "digest": {"sha256": a.ref.digest}} for a in lineage if isinstance(a.spec, DatasetSpec)]
    if run is not None and run.code:
        used += [{"uri": "urn:fairlead:code", "digest": {"sha256": run.code}}]
        used += [{"uri": f"urn:fairlead:code:{n}", "digest": {"sha256": d}} for n, d in sorted(run.sources.items())]
    if built.base:
        used += [{"uri": "urn:fairlead:base", "digest": {"sha256": built.base.removeprefix("sha256:")}}]
    used += [{"uri": f"urn:fairlead:wheel:{n}", "digest": {"sha256": d}} for n, d in sorted(built.lock.items())]
    return {
        "buildDefinition": {
            "buildType": "urn:fairlead:image:v1", "externalParameters": {"package": str(built.package)},
            "resolvedDependencies": used,
        },
        "runDetails": {"builder": {"id": ENVIRONMENT + environment},
                       "metadata": {"invocationId": run.id if run else ""}},
    }  # fmt: skip


def gated(decisions: Iterable[Decision]) -> dict[str, Any]:
    """What the gate decided of the model, with every check and its evidence."""
    return {"decisions": [msgspec.to_builtins(d) for d in decisions]}


def vouch(place: Images, built: Built, said: Mapping[str, dict[str, Any]], signer: Signer) -> None:
    """Sign each predicate (by its kind) as a statement about the image, and keep them beside it.

    Ed25519 needs no chance: the same statement of the same key is the same bytes.
    """
    subject = Subject(name=built.package.name, digest={"sha256": built.index.hex})
    empty = named(EMPTY, "application/vnd.oci.empty.v1+json")
    place.put(empty, lambda start: iter([EMPTY[start:]]))
    for kind, predicate in said.items():
        statement = Statement(subject=(subject,), kind=kind, predicate=predicate)
        data = bundled(sealed(statement, signer.key, signer.sign))
        blob = named(data, BUNDLE)
        place.put(blob, lambda start, data=data: iter([data[start:]]))  # type: ignore[misc]
        notes = {"dev.sigstore.bundle.content": "dsse-envelope", "dev.sigstore.bundle.predicateType": kind}
        place.refer(referrer(BUNDLE, [blob], built.index, notes))


def demand(place: Images, reference: str, trusted: Mapping[str, str], verify: Verify) -> Origin:
    """What somebody trusted says of the image; nothing of the image itself is read.

    `trusted`: public keys (hex) by environment; the name "" stands for any. Raises Invalid when it is
    unsigned, signed by strangers or built elsewhere, Corrupt when a signature does not hold.
    """
    found, _ = place.manifest(reference)
    strangers = 0
    by: dict[str, dict[str, dict[str, Any]]] = {}
    bundles = [e for e in place.referrers(found.digest) if e.artifact_type == BUNDLE]
    for entry in bundles[:MOST_SAID]:
        try:
            name, statement = opened(unbundled(_said(place, entry, found), trusted.values()), trusted, verify)
        except Invalid:
            strangers += 1
            continue
        if [s.digest.get("sha256") for s in statement.subject] == [found.hex]:
            by.setdefault(name, {})[statement.kind] = statement.predicate
    for name, said in by.items():
        if SIGNED in said and PROVENANCE in said:
            return Origin(signer=name, image=found, said=said, package=_built(said[PROVENANCE], name))
    who = f"signed by {strangers} whom nobody here trusts" if strangers else "not signed"
    raise Invalid(f"image {found.hex[:12]} is {who}",
                  hint="environment.accepts in fairlead.yaml names the keys that are trusted")  # fmt: skip


def _said(place: Images, entry: Descriptor, about: Descriptor) -> bytes:
    """The bundle in a referrer of `about`."""
    document = read(place.manifest(entry.digest)[1], entry)
    layers = document.layers or ()
    if not document.subject or document.subject.digest != about.digest or len(layers) != 1:
        raise Corrupt(f"statement {entry.hex[:12]} speaks of something else", hint="push the image again")
    if layers[0].size > MOST_DOCUMENT:
        raise Corrupt(f"statement {entry.hex[:12]} is too large", hint="push the image again")
    return b"".join(place.open(layers[0]))


def _built(predicate: dict[str, Any], signer: str) -> Ref:
    """The package a provenance speaks of. Raises Invalid when another environment built it."""
    try:
        builder = predicate["runDetails"]["builder"]["id"]
        package = Ref.parse(predicate["buildDefinition"]["externalParameters"]["package"])
    except (KeyError, TypeError, AttributeError):
        raise Invalid("the provenance does not say what was built", hint="build the image again") from None
    if signer and builder != ENVIRONMENT + signer:
        raise Invalid(f"built in {str(builder).removeprefix(ENVIRONMENT)!r}, signed by {signer}",
                      hint="environment.accepts names each key by its own environment")  # fmt: skip
    return package
