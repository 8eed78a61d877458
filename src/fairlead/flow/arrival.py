"""Arrivals: the package in an image that somebody trusted signed becomes a package of this project."""

from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from fairlead.core.artifact import OWN_CODE, Artifact, PackageSpec, name_of
from fairlead.core.decision import Decision
from fairlead.core.ref import canonical
from fairlead.core.statement import Verify
from fairlead.errors import Corrupt, Invalid
from fairlead.flow import image
from fairlead.flow.job import submit, workspace
from fairlead.flow.origin import GATE, PROMOTED, Origin, demand
from fairlead.flow.package import SPEC, Proven
from fairlead.ports import Blobs, Change, Clock, Compute, Images, Records

__all__ = ["arrive", "image_of"]


def arrive(
    place: Images, reference: str, *, trusted: Mapping[str, str], promoted: bool, verify: Verify,
    records: Records, blobs: Blobs, compute: Compute, clock: Clock, jobs: Path, actor: str,
    on_progress: Callable[[str], None] = lambda text: None,
) -> tuple[Artifact, Origin, str]:  # fmt: skip
    """Take the package of an image in ("package.received"), with the decisions its signer took and
    without its model, which stayed where it was trained. The proof is the third of what is returned.

    Nothing of the image is read before its signature and provenance hold. `promoted`: refuse what was
    not promoted there. A process apart answers its samples; code that a package brings is not run
    before somebody trusts it. Raises Invalid or Corrupt; then nothing of it is kept.
    """
    found = demand(place, reference, trusted, verify)
    if promoted and PROMOTED not in found.said:
        raise Invalid(f"{found.package.short} was not promoted when its image was built",
                      hint="release it there and build the image again, or set environment.promoted to false")  # fmt: skip
    with workspace(jobs) as folder:
        laid = folder / "package"
        on_progress(f"verifying {found.image.digest[:19]}")
        image.unpack(place, image.weights_of(place, found.image.digest), found.package, laid)
        spec = msgspec.json.decode((laid / SPEC).read_bytes(), type=PackageSpec)
        on_progress("proving it apart")
        proof = _proven(spec, laid, compute, jobs)
        for name in spec.files:
            blobs.put(laid / name)
    now = clock.now()
    made = Artifact(ref=name_of(found.package.name, spec), spec=spec, created_at=now)
    records.commit(Change(
        at=now, actor=actor, verb="package.received", subject=str(made.ref), artifacts=(made,),
        decisions=_decisions(found, spec),
        body={"environment": found.signer, "key": trusted[found.signer], "image": found.image.digest,
              "said": blobs.put(canonical(found.said)), "proof": proof}))  # fmt: skip
    return made, found, proof


def image_of(package: Artifact, records: Records) -> tuple[str, str]:
    """(digest of the image that a package came in, environment that signed it); "" for none."""
    for event in records.events(subject=str(package.ref)):
        if event.verb == "package.received" and "image" in event.body:
            return event.body["image"], event.body["environment"]
    return "", ""


def _proven(spec: PackageSpec, laid: Path, compute: Compute, jobs: Path) -> str:
    if spec.flavor in OWN_CODE:
        return "not yet: it brings code of its own"
    with workspace(jobs) as work:
        proven = submit("prove", None, work, compute, Proven, [str(laid), "apart"])
    if not proven.proof.exact:
        raise Corrupt(f"the package does not answer here as it did there: {proven.proof}",
                      hint="are the libraries the same versions?")  # fmt: skip
    return str(proven.proof)


def _decisions(found: Origin, spec: PackageSpec) -> tuple[Decision, ...]:
    """What the gate of the signer decided of the model in the package."""
    try:
        said = msgspec.convert(found.said.get(GATE, {}).get("decisions", []), tuple[Decision, ...])
    except (msgspec.ValidationError, ValueError) as error:
        raise Invalid(f"the verdict of the gate cannot be read: {error}", hint="build the image again") from None
    return tuple(d for d in said if d.subject == spec.model)
