"""Parcels: a package with all that speaks for it, signed in one environment and received in another."""

import io
import os
import re
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

import msgspec
from msgspec import Struct

from fairlead.core.artifact import Artifact, ModelSpec, PackageSpec, ancestors, name_of
from fairlead.core.decision import Decision
from fairlead.core.ref import Ref, canonical
from fairlead.core.release import Phase, Release
from fairlead.core.run import Run
from fairlead.core.statement import Statement, Subject, Verify, opened, sealed
from fairlead.errors import Corrupt, Invalid, Missing
from fairlead.flow.approval import makers
from fairlead.flow.job import workspace
from fairlead.ports import Blobs, Change, Clock, Records, Signer

__all__ = ["Spoken", "check_origin", "pack", "promoted", "receive"]

KIND = "urn:fairlead:parcel:v1"
STATEMENT, RECORDS = "statement.json", "records.json"
NAME = re.compile(r"(?:statement\.json|records\.json|blobs/[0-9a-f]{64})")
MOST_FILES, MOST_STATEMENT, MOST_RECORDS = 10_000, 1 << 20, 64 << 20
MOST_BLOB = 16 << 30
CHUNK = 1 << 20


class Known(Struct, frozen=True, kw_only=True):
    """What the sender recorded: the package and its ancestors, their runs, and the decisions."""

    artifacts: tuple[Artifact, ...]
    runs: tuple[Run, ...] = ()
    decisions: tuple[Decision, ...] = ()


class Spoken(Struct, frozen=True, kw_only=True):
    """What the sender's signature says. `records`: SHA-256 of them. `released`: the release that
    promoted the package there, "" when none did; `promoted_at`: UTC seconds. `event`, `seal`: how
    far the sender's audit log went. `makers`: who trained, built or brought the package there."""

    environment: str
    package: Ref
    records: str
    released: str = ""
    promoted_at: float = 0.0
    by: str
    at: float
    event: int
    seal: str
    makers: tuple[str, ...] = ()


def pack(
    package: Artifact, target: Path, *, environment: str, records: Records, blobs: Blobs,
    signer: Signer, clock: Clock, jobs: Path, actor: str,
) -> Spoken:  # fmt: skip
    """Write a parcel (a tar file, the same bytes for the same state) and record that it went out
    ("package.sent"). Raises Invalid for another kind of artifact, Missing or Corrupt for blobs."""
    if not isinstance(package.spec, PackageSpec):
        raise Invalid(f"{package.ref.short} is not a package", hint="`fairlead package` makes one")
    known = _known(package, records)
    body, (event, seal) = canonical(known), records.head()
    release = promoted(package.ref, records)
    spoken = Spoken(environment=environment, package=package.ref, records=sha256(body).hexdigest(),
                    released=release.id if release else "", by=actor, at=clock.now(),
                    promoted_at=release.ended_at if release else 0.0, event=event, seal=seal,
                    makers=tuple(makers(records, [package.ref])))  # fmt: skip
    subject = Subject(name=str(package.ref), digest={"sha256": package.ref.digest})
    statement = Statement(subject=(subject,), kind=KIND, predicate=msgspec.to_builtins(spoken))
    draft = target.with_name(f".{target.name}.draft")
    with tarfile.open(draft, "w", format=tarfile.PAX_FORMAT) as tar, workspace(jobs) as folder:
        _add(tar, STATEMENT, io.BytesIO(canonical(sealed(statement, signer.key, signer.sign))))
        _add(tar, RECORDS, io.BytesIO(body))
        for digest in sorted(_blobs(known)):
            blobs.fetch(digest, folder / "blob")
            with (folder / "blob").open("rb") as file:
                _add(tar, f"blobs/{digest}", file)
    draft.replace(target)
    records.commit(Change(at=spoken.at, actor=actor, verb="package.sent", subject=str(package.ref),
                          body={"to": target.name, "records": spoken.records}))  # fmt: skip
    return spoken


def receive(
    source: Path, *, trusted: Mapping[str, str], promoted: bool, verify: Verify, records: Records,
    blobs: Blobs, clock: Clock, jobs: Path, actor: str,
    on_progress: Callable[[str], None] = lambda text: None,
) -> tuple[Artifact, Spoken]:  # fmt: skip
    """Take a parcel in: its package, lineage, runs and decisions ("package.received").

    `trusted`: public keys by environment. `promoted`: refuse what was not promoted there. Every
    byte is verified against the signature before it is decoded or stored as a blob of the package.
    Raises Corrupt (changed on the way), Invalid (not from here, not promoted, no parcel).
    """
    with _parcel(), source.open("rb") as file, workspace(jobs) as folder:
        members = _members(file)
        _, data = _next(members, STATEMENT, MOST_STATEMENT)
        name, statement = opened(data.read(), trusted, verify)
        spoken = _spoken(statement, name)
        if promoted and not spoken.released:
            raise Invalid(f"{spoken.package.short} was never promoted in {name}",
                          hint="release it there first, or set environment.promoted to false")  # fmt: skip
        body = _next(members, RECORDS, MOST_RECORDS)[1].read()
        if sha256(body).hexdigest() != spoken.records:
            raise Corrupt("the records of the parcel are not those that were signed", hint="ask for it again")
        known = _checked(msgspec.json.decode(body, type=Known), spoken)
        wanted = _blobs(known)
        for path, data in members:
            digest = path.rpartition("/")[2]
            if digest not in wanted:
                raise Corrupt(f"the parcel holds {path}, which nothing asks for", hint="ask for it again")
            on_progress(f"taking in {digest[:12]}")
            _store(data, digest, folder / "blob", blobs)
            wanted.discard(digest)
    if wanted:
        raise Missing(f"the parcel lacks {min(wanted)[:12]}", hint="ask for it again")
    package = next(a for a in known.artifacts if a.ref == spoken.package)
    records.commit(Change(
        at=clock.now(), actor=actor, verb="package.received", subject=str(package.ref),
        artifacts=known.artifacts, runs=known.runs, decisions=known.decisions,
        body={"environment": name, "key": trusted[name], "spoken": msgspec.to_builtins(spoken)}))  # fmt: skip
    return package, spoken


def check_origin(package: Ref, accepts: Mapping[str, str], records: Records) -> None:
    """Raises Invalid unless the package came from an environment that is accepted (none named:
    packages made here will do)."""
    if not accepts:
        return
    keys = {e.body.get("key") for e in records.events(subject=str(package))
            if e.verb == "package.received"}  # fmt: skip
    if not keys & set(accepts.values()):
        raise Invalid(f"{package.short} did not come from {' or '.join(accepts)}",
                      hint="`fairlead export` it there and `fairlead import` it here")  # fmt: skip


def promoted(package: Ref, records: Records) -> Release | None:
    """The newest release that promoted a package here."""
    return next((r for r in reversed(records.releases()) if r.winner == package and r.phase is Phase.PROMOTED), None)


def _known(package: Artifact, records: Records) -> Known:
    lineage = tuple(ancestors(package.ref, records.artifact))
    models = [a for a in lineage if isinstance(a.spec, ModelSpec)]
    runs = {a.run: records.run(a.run) for a in lineage if a.run}
    return Known(artifacts=lineage, runs=tuple(runs.values()),
                 decisions=tuple(d for m in models for d in records.decisions(m.ref)))  # fmt: skip


def _blobs(known: Known) -> set[str]:
    """What the receiver needs to serve the package and to read how it was made: no rows."""
    wanted = {r.code for r in known.runs} | {s for r in known.runs for s in r.sources.values()}
    for artifact in known.artifacts:
        if isinstance(artifact.spec, PackageSpec | ModelSpec):
            wanted |= {*artifact.spec.files.values(), artifact.spec.environment}
    return wanted - {""}


def _checked(known: Known, spoken: Spoken) -> Known:
    """Every artifact is what its reference says, and the package is among them."""
    for artifact in known.artifacts:
        if name_of(artifact.ref.name, artifact.spec) != artifact.ref:
            raise Corrupt(f"{artifact.ref.short} is not what its digest says", hint="ask for it again")
    if spoken.package not in {a.ref for a in known.artifacts}:
        raise Corrupt(f"the parcel lacks {spoken.package.short}", hint="ask for it again")
    return known


def _spoken(statement: Statement, signer: str) -> Spoken:
    try:
        spoken = msgspec.convert(statement.predicate, Spoken)
    except msgspec.ValidationError as error:
        raise Invalid(f"the statement does not speak of a parcel: {error}",
                      hint="`fairlead export` writes parcels") from None  # fmt: skip
    about = [s.digest.get("sha256") for s in statement.subject]
    if statement.kind != KIND or about != [spoken.package.digest] or spoken.environment != signer:
        raise Invalid(f"the statement of {signer} speaks of something else",
                      hint="environment.accepts names each key by its own environment")  # fmt: skip
    return spoken


def _add(tar: tarfile.TarFile, name: str, content: BinaryIO) -> None:
    info = tarfile.TarInfo(name)  # no time, no owner
    info.size, info.mode = content.seek(0, os.SEEK_END), 0o644
    content.seek(0)
    tar.addfile(info, content)


def _members(file: BinaryIO) -> Iterator[tuple[str, BinaryIO]]:
    """Name and content of each file in order; nothing is ever written by the name it bears.

    Raises Invalid for links, devices, other names, too many files; TarError for no tar file.
    """
    seen: set[str] = set()
    with tarfile.open(fileobj=file, mode="r|") as tar:
        for info in tar:
            if info.type != tarfile.REGTYPE or not NAME.fullmatch(info.name) or info.name in seen:
                raise Invalid(f"a parcel holds no {info.name[:80]!r}", hint="`fairlead export` writes parcels")  # fmt: skip
            if len(seen) >= MOST_FILES or info.size > MOST_BLOB:
                raise Invalid("the parcel is too large", hint=f"at most {MOST_FILES} files of {MOST_BLOB >> 30} GiB")  # fmt: skip
            seen.add(info.name)
            content = tar.extractfile(info)
            assert content is not None, "a regular file has content"
            yield info.name, content  # type: ignore[misc]


@contextmanager
def _parcel() -> Iterator[None]:
    """What tarfile says of a file that is no parcel, or only a part of one."""
    try:
        yield
    except (tarfile.TarError, EOFError, ValueError, RecursionError) as error:  # ValueError: a broken sparse map
        raise Invalid(f"not a parcel: {error}", hint="`fairlead export` writes parcels") from None


def _next(members: Iterator[tuple[str, BinaryIO]], name: str, most: int) -> tuple[str, BinaryIO]:
    found, content = next(members, ("nothing", io.BytesIO()))
    if found != name:
        raise Invalid(f"a parcel holds {name}, here is {found}", hint="`fairlead export` writes parcels")
    data = content.read(most + 1)
    if len(data) > most:
        raise Invalid(f"{name} is larger than {most:,} bytes", hint="`fairlead export` writes parcels")
    return found, io.BytesIO(data)


def _store(content: BinaryIO, digest: str, draft: Path, blobs: Blobs) -> None:
    found = sha256()
    with draft.open("wb") as file:
        while chunk := content.read(CHUNK):
            found.update(chunk)
            file.write(chunk)
    if found.hexdigest() != digest:
        raise Corrupt(f"blob {digest[:12]} was changed on the way", hint="ask for the parcel again")
    blobs.put(draft)
