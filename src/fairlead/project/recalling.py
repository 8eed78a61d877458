"""What a project can tell of its past: why, and the audit trail."""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

from fairlead.adapters.anchors.folder import FolderAnchor
from fairlead.adapters.anchors.git import GitAnchor
from fairlead.adapters.anchors.objects import ObjectAnchor
from fairlead.core.artifact import Artifact
from fairlead.core.checkpoint import SignedCheckpoint
from fairlead.core.duration import seconds
from fairlead.core.event import verify
from fairlead.core.prediction import Refused
from fairlead.core.ref import Ref
from fairlead.flow import audit, govern
from fairlead.flow.impact import Impact, impact
from fairlead.flow.reproduce import Reproduction, reproduce
from fairlead.ports import Anchor
from fairlead.project.exchanging import Exchanging
from fairlead.project.house import Progress, quiet
from fairlead.standalone import verify as verifier

__all__ = ["Recalling"]


class Recalling(Exchanging):
    """Verbs that explain and prove."""

    def why(self, prediction_id: str) -> govern.Why:
        """Everything that led to one prediction, back to the rows. Raises Missing."""
        return govern.why(prediction_id, self.log, self.records, self.blobs,
                          known_at=self.manifest.data.known_at, tables=self._tables)  # fmt: skip

    def refused(self, request_id: str) -> Refused | None:
        """The request that was refused under this id, if one was."""
        return next(self.log.refused(request_id), None)

    @cached_property
    def _tables(self) -> govern.Tables:
        return {}

    def impact(self, subject: Artifact, **narrowed: Any) -> Impact:
        """What descends from an artifact, down to the predictions (see `flow.impact.impact`)."""
        return impact(subject, self.log, self.records, self.blobs,
                      known_at=self.manifest.data.known_at, **narrowed)  # fmt: skip

    def reproduce(self, model: Ref, on_progress: Progress = quiet) -> Reproduction:
        """Train a model again from its recorded inputs and hold the two against each other."""
        return reproduce(
            self.records.artifact(model), records=self.records, blobs=self.blobs,
            compute=self.compute, clock=self.clock, jobs=self.state / "jobs", actor=self.by("make", "audit"),
            on_progress=on_progress,
        )  # fmt: skip

    def verify_audit(self) -> int:
        """Number of audit events of an unbroken chain. Raises Corrupt."""
        _, head = self.records.head()
        return verify(self.records.events(), head)

    @cached_property
    def notary(self) -> audit.Notary:
        """Signs checkpoints of the audit log and hands them to the places the manifest names."""
        places = [(where, self._anchor(where)) for where in self.manifest.audit.checkpoints]
        return audit.Notary(self.records, self.signer, self.clock,
                            self.state / "checkpoints", places)  # fmt: skip

    def witness(self) -> list[str]:
        """Sign and publish a checkpoint if one is due; what did not work, in words."""
        section = self.manifest.audit
        if not section.checkpoints or not self.notary.due(seconds(section.every), section.entries):
            return []
        self.notary.checkpoint()
        return self.notary.publish()

    def export_audit(self, target: Path, progress: Callable[[int], None]) -> SignedCheckpoint:
        """Write what a stranger needs to verify the audit trail; the checkpoint it ends with."""
        self.caller("audit")
        return self.notary.export(target, Path(verifier.__file__), progress)

    def _anchor(self, where: str) -> Anchor:
        if where.startswith("git+"):
            return GitAnchor(self.root / where.removeprefix("git+"))
        return ObjectAnchor(where) if "://" in where else FolderAnchor(self.root / where)
