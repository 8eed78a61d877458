"""Scrubbing: packages that answer or stand by are read again now and then, a little at a time, and mended."""

import os
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path

from fairlead.core.artifact import Artifact, PackageSpec
from fairlead.core.event import Event
from fairlead.core.ref import canonical
from fairlead.disk import content, opened
from fairlead.errors import Corrupt, FairleadError
from fairlead.flow.package import SPEC, restore
from fairlead.ports import Blobs, Change, Clock, Records

__all__ = ["MONITOR", "Scrubber"]

MONITOR = "damage"
"""What its alerts are about."""
STRIDE = 4 * 2**20
EVERY = 3600.0
ACTOR = "fairlead"


class Scrubber:
    """Reads every file of the packages that `wanted` names, `stride` bytes a turn, once in `every` seconds."""

    def __init__(
        self, wanted: Callable[[], Sequence[Artifact]], packages: Path, records: Records, blobs: Blobs, clock: Clock,
        service: str, *, stride: int = STRIDE, every: float = EVERY,
    ) -> None:  # fmt: skip
        self._wanted, self._packages, self._records, self._blobs = wanted, packages, records, blobs
        self._clock, self._service, self._stride, self._every = clock, service, stride, every
        self._round: Iterator[Event | None] | None = None
        self._next = 0.0

    def turn(self, now: float) -> Event | None:
        """One step at `now` (monotonic seconds); the alert, when a package turned out to be damaged."""
        if self._round is None:
            if now < self._next:
                return None
            self._next, self._round = now + self._every, self._look(self._wanted())
        for event in self._round:
            return event
        self._round = None
        return None

    def _look(self, packages: Sequence[Artifact]) -> Iterator[Event | None]:
        for package in packages:
            assert isinstance(package.spec, PackageSpec), "routes name packages"
            try:
                yield from self._read(self._packages / package.ref.digest, package.spec)
            except (OSError, Corrupt) as error:
                yield self._mend(package, str(error))

    def _read(self, folder: Path, spec: PackageSpec) -> Iterator[None]:
        """Raises Corrupt or OSError where a byte is not what it was."""
        if content(folder, SPEC) != canonical(spec):
            raise Corrupt(f"{SPEC} does not match its digest", hint="it is laid anew")
        for name, digest in spec.files.items():
            found = sha256()
            with os.fdopen(opened(folder, name), "rb", buffering=0) as file:
                while chunk := file.read(self._stride):
                    found.update(chunk)
                    yield None
            if found.hexdigest() != digest:
                raise Corrupt(f"{name} does not match its digest", hint="it is laid anew")

    def _mend(self, package: Artifact, what: str) -> Event:
        """Lay the package anew from its blobs, and say so: a disk that loses bits once does it again."""
        try:
            restore(package, self._packages, self._blobs)
            cause, after = f"{what}; it was laid anew", "look after the disk, then: fairlead alert resolve"
        except (OSError, FairleadError) as error:
            cause = f"{what}, and cannot be laid anew: {error}"
            after = "restore the blobs from a backup: replicas that run hold what they verified, none starts from this"
        body = {"service": self._service, "package": str(package.ref), "monitor": MONITOR, "cause": cause, "next": after}
        return self._records.commit(Change(at=self._clock.now(), actor=ACTOR, verb="alert.raised",
                                           subject=f"service/{self._service}", body=body))  # fmt: skip
