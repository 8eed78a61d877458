"""What a project must keep, and what it must forget: legal holds, retention, the erasure of a person."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from msgspec.structs import replace

from fairlead.core.artifact import Artifact, ancestors
from fairlead.core.duration import seconds
from fairlead.core.ref import Ref
from fairlead.core.retention import ADDED, HOLD, LOG, REMOVED, Hold, cutoff, holds
from fairlead.core.tombs import ERASURE, Tomb, tombs
from fairlead.core.traffic import DAY
from fairlead.core.veil import marked
from fairlead.errors import Conflict, Invalid, Missing
from fairlead.flow.erase import Eraser, Erasure, Log
from fairlead.flow.explain import orphans
from fairlead.flow.govern import Why
from fairlead.flow.parcel import Spoken
from fairlead.flow.reproduce import Reproduction
from fairlead.ports import Change
from fairlead.project.accounting import Accounting
from fairlead.project.house import Progress, quiet

__all__ = ["Erasing"]

KEY = "redaction.key"


class Erasing(Accounting):
    """Verbs that end things for good, and those that forbid it."""

    def holds(self) -> dict[str, Hold]:
        """Legal holds that stand, by what they hold."""
        return holds(self.records.events(subject=HOLD))

    def hold_evidence(self, of: str, reason: str, *, add: bool) -> str:
        """Forbid, or allow again, that an artifact (or "log") is deleted; what exactly is meant.

        Raises Missing, Conflict (it is so already), Invalid (no reason).
        """
        if not reason.strip():
            raise Invalid("a hold needs a reason", hint="--reason TEXT: it stays in the audit log")
        actor = self.by("audit", "administer")
        exact = of if of == LOG else str(self.records.find(of).ref)
        if add == (exact in self.holds()):
            raise Conflict(f"{exact} is {'held already' if add else 'not held'}", hint="`fairlead data hold list`")
        self.records.commit(Change(at=self.clock.now(), actor=actor, verb=ADDED if add else REMOVED,
                                   subject=HOLD, body={"of": exact, "reason": reason}))  # fmt: skip
        return exact

    def expire(self) -> int:
        """Delete predictions and labels older than log.retention; how many files went.

        Time counts as the audit log saw it pass (`core.retention.cutoff`), with an event a day to show
        it. Nothing goes while a hold stands.
        """
        span = self.manifest.log.retention
        if not span:
            return 0
        now, moments = self.clock.now(), [e.at for e in self.records.events()]
        if not moments or abs(now - moments[-1]) >= DAY:
            self._tell("log.aged", {"retention": span})
            moments.append(now)
        before = cutoff(moments, seconds(span), now)
        if not before or self.holds():
            return 0
        gone = self.log.expire(before)
        if gone:
            for digest in list(orphans(self.log, self.records, self.blobs, before)):
                self.blobs.delete(digest)
            self._tell("log.expired", {"before": before, "files": gone, "retention": span})
        return gone

    def erase(self, where: Mapping[str, str], reason: str, *, dry_run: bool = False) -> Erasure:
        """Erase one person from everything, or say what that would touch. With no `where`: what
        earlier erasures left because it answered then."""
        actor = self.by("administer")
        eraser = Eraser(self.records, self.blobs, self.log, self.clock, self.root, self.state,
                        self.manifest.data.known_at)  # fmt: skip
        if dry_run:
            return eraser.find(where, self._named(where))[0]
        if not reason.strip():
            raise Invalid("an erasure needs a reason", hint="--reason TEXT: it stays in the audit log, the person does not")
        if not where:
            return eraser.finish(reason, actor)
        online = self.online if (self.state / "online.db").exists() else None
        return eraser.erase(where, self._named(where), online, reason, actor)

    def tombs(self) -> dict[str, Tomb]:
        """What was erased, by artifact."""
        return tombs(self.records.events(subject=ERASURE))

    def checkout(self, ref: Ref, target: Path) -> int:
        """Write the rows of a dataset to a file. Raises Missing when rows of it were erased."""
        self._alive(ref)
        return super().checkout(ref, target)

    def reproduce(self, model: Ref, on_progress: Progress = quiet) -> Reproduction:
        """Train a model again. Raises Missing when rows it learnt from were erased."""
        self._alive(model, *self.records.artifact(model).parents)
        return super().reproduce(model, on_progress)

    def send(self, made: Artifact, target: Path) -> Spoken:
        """Write a package as a parcel. Raises Missing when its record lost values: nobody could
        verify it elsewhere."""
        self._alive(*(a.ref for a in ancestors(made.ref, self.records.artifact)))
        return super().send(made, target)

    def why(self, prediction_id: str) -> Why:
        """Everything that led to one prediction; what was erased is among the gaps."""
        found, dead = super().why(prediction_id), self.tombs()
        said = tuple(f"{a.ref.short}: {dead[str(a.ref)]}" for a in found.lineage if str(a.ref) in dead)
        return replace(found, gaps=(*said, *found.gaps))

    def _alive(self, *refs: Ref) -> None:
        dead = self.tombs()
        for ref in refs:
            if tomb := dead.get(str(ref)):
                raise Missing(f"{ref.short}: {tomb}", hint="its spec, digests and lineage are still recorded")

    def _named(self, where: Mapping[str, str]) -> Log:
        """How the log names the person: plainly, and by the hash of redacted columns."""
        key = b""
        with suppress(FileNotFoundError):
            key = (self.state / "predictions" / KEY).read_bytes()
        spelled = {c: (v, *([marked(key, v)] if key else [])) for c, v in where.items()}
        unit = self.manifest.release.sticky_by
        return Log(where=spelled, units=spelled.get(unit, ()) if len(where) == 1 else ())

    def _tell(self, verb: str, body: dict[str, object]) -> None:
        self.records.commit(Change(at=self.clock.now(), actor="fairlead", verb=verb, subject="log", body=body))
