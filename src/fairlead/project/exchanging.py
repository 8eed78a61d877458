"""What a project sends to other environments, and takes in from them."""

from functools import cached_property
from pathlib import Path

from fairlead.adapters.keys.local import LocalSigner, verify
from fairlead.core.artifact import Artifact
from fairlead.flow import package, parcel
from fairlead.project.house import House, Progress, quiet

__all__ = ["Exchanging"]


class Exchanging(House):
    """Verbs between environments: a package travels with all that speaks for it, signed."""

    @cached_property
    def signer(self) -> LocalSigner:
        """The key of this environment."""
        return LocalSigner(self.state / "keys" / "audit")

    def send(self, made: Artifact, target: Path) -> parcel.Spoken:
        """Write a package as a parcel for another environment."""
        return parcel.pack(
            made, target, environment=self.manifest.environment.name, records=self.records,
            blobs=self.blobs, signer=self.signer, clock=self.clock, jobs=self.state / "jobs", actor=self.by("make", "release"),
        )  # fmt: skip

    def receive(self, source: Path, on_progress: Progress = quiet) -> tuple[Artifact, parcel.Spoken]:
        """Take a parcel in, verified, and lay its package out to be served."""
        section = self.manifest.environment
        made, spoken = parcel.receive(
            source, trusted=section.accepts, promoted=section.promoted, verify=verify,
            records=self.records, blobs=self.blobs, clock=self.clock, jobs=self.state / "jobs",
            actor=self.by("release"), on_progress=on_progress,
        )  # fmt: skip
        package.restore(made, self.state / "packages", self.blobs)
        return made, spoken
