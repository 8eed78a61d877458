"""Who trusts a package that brings its own code, and whether one may run here."""

from pathlib import Path

from fairlead.adapters.keys.local import verify
from fairlead.core.artifact import Artifact
from fairlead.core.duration import seconds
from fairlead.core.ref import Ref
from fairlead.core.trust import Trust
from fairlead.errors import Invalid
from fairlead.flavors import environment, python
from fairlead.flow import package, trust
from fairlead.project.exchanging import Exchanging
from fairlead.project.governing import Governing

__all__ = ["Trusting"]


class Trusting(Governing, Exchanging):
    """Verbs of trust. The code of a package is read here, and never run."""

    def trust(self, made: Artifact, reason: str, lasts: str) -> Trust:
        """Let a package's own code run. Raises what `flow.trust.give` does."""
        return trust.give(
            made, self._trusts, reason, seconds(lasts), caller=self.caller("approve"),
            governed=self.identity.governed, environment=self.manifest.environment.name,
            records=self.records, clock=self.clock, signer=self.signer,
        )  # fmt: skip

    def distrust(self, made: Artifact, reason: str) -> None:
        """Trust a package no longer. Raises Missing, Invalid."""
        trust.withdraw(made, self._trusts, reason, caller=self.caller("approve"), records=self.records,
                       clock=self.clock)  # fmt: skip

    def code_of(self, made: Artifact) -> python.Bundle:
        """What a package brings, to be read. Raises Invalid."""
        folder = package.restore(made, self.state / "packages", self.blobs)
        if not (folder / python.FILE).exists():
            raise Invalid(f"{made.ref.short} brings no code of its own", hint="only such packages need trust")
        return python.bundle(folder)

    def vouch(self, ref: Ref) -> None:
        """Whether a package may run here: its libraries are installed in the versions it was made
        with, and somebody trusts the code it brings. Raises Invalid, Forbidden, Corrupt."""
        made = self.records.artifact(ref)
        environment.demand(self.state / "packages" / ref.digest)
        keys = {self.manifest.environment.name: self.signer.key} if trust.asks(made) else {}
        trust.check(made, self._trusts, keys, verify, records=self.records, clock=self.clock)

    def environment_of(self, made: Artifact) -> str:
        """What was installed where a package's model was trained: ``name==version`` a line."""
        kept = getattr(made.spec, "environment", "")
        if not kept:
            raise Invalid(f"{made.ref.short} names no environment", hint="only models and packages do")
        return self.blobs.get(kept).decode()

    @property
    def _trusts(self) -> Path:
        return self.state / "trust"
