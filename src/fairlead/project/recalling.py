"""What a project can tell of its past: why, and the audit trail."""


from fairlead.core.event import verify
from fairlead.flow import govern
from fairlead.project.house import House

__all__ = ["Recalling"]


class Recalling(House):
    """Verbs that explain and prove."""

    def why(self, prediction_id: str) -> govern.Why:
        """Everything that led to one prediction, back to the rows. Raises Missing."""
        return govern.why(prediction_id, self.log, self.records, self.blobs,
                          known_at=self.manifest.data.known_at)  # fmt: skip

    def verify_audit(self) -> int:
        """Number of audit events of an unbroken chain. Raises Corrupt."""
        _, head = self.records.head()
        return verify(self.records.events(), head)
