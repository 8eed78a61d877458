"""What a project does to live traffic: releases, by plan or by hand."""

from collections.abc import Sequence
from contextlib import suppress

import msgspec

from fairlead.core.artifact import Task
from fairlead.core.catalogue import plan_of, release_checks
from fairlead.core.identity import LOOP
from fairlead.core.manifest import ReleaseSection
from fairlead.core.ref import Ref
from fairlead.core.release import Phase, Release
from fairlead.core.traffic import TrafficPlan
from fairlead.errors import Conflict, Forbidden, Invalid
from fairlead.flow import chat, loop, parcel, release
from fairlead.flow.package import restore
from fairlead.project.trusting import Trusting

__all__ = ["Acting"]


class Acting(Trusting):
    """Verbs that change what answers."""

    def plan(self, name: str = "") -> TrafficPlan:
        """The traffic plan of the manifest, or another one by name with the same numbers."""
        section = self.manifest.release
        if name:
            text = {**msgspec.structs.asdict(section), "plan": name, "steps": ()}
            try:
                section = msgspec.convert(text, ReleaseSection)
            except msgspec.ValidationError as error:
                raise Invalid(f"no plan {name!r}: {error}", hint="see `fairlead release start --help`") from None  # fmt: skip
        task = self.manifest.data.task
        sliced = bool(self.manifest.data.slices or self.manifest.data.sensitive)
        kind: Task = "chat" if self.manifest.chat else "binary" if task == "auto" else task
        checks = release_checks(section, kind, sliced=sliced,
                                featured=bool(self.manifest.features))  # fmt: skip
        return plan_of(section, checks)

    def start_release(
        self, package: Ref | Sequence[Ref], plan: TrafficPlan | None = None, *, force: str = "",
        glass: str = "",
    ) -> Release:  # fmt: skip
        """Begin to release a package, or several beside each other (A/B/n, bandit).

        `glass`: why it starts without the approval it needs. Raises Forbidden without one (the loop
        then asks for it), Conflict when a release is under way, Corrupt or Missing for a package that
        is not what its digest says and cannot be laid anew, and what `flow.release.start` raises.
        """
        packages = (package,) if isinstance(package, Ref) else tuple(package)
        caller, plan = self.caller("release"), plan or self.plan()
        for ref in packages:
            parcel.check_origin(ref, self.manifest.environment.accepts, self.records)
            chat.admit(ref, self.manifest.chat, self.records, self.blobs)
            self.vouch(ref)
            restore(self.records.artifact(ref), self.state / "packages", self.blobs)
        desk = self.desk(caller)
        try:
            begun = release.start(self.records, self.clock, self.name, packages, plan, actor=caller.name, force=force,
                                  consent=lambda: desk.consent(packages, plan, glass))  # fmt: skip
        except Forbidden as error:
            if caller.name == LOOP:
                with suppress(Conflict):
                    error.hint = f"`fairlead approval show {desk.request(packages, plan).approval.id}`"
            raise
        return self._published(begun)

    def pause(self, release_id: str) -> Release:
        """Stop walking the plan; the traffic stays as it is."""
        return self._published(release.pause(self.records, self.clock, release_id, actor=self.by("release")))

    def hold(self, reason: str) -> None:
        """Pause the running release, if there is one; `reason` stands in the alert."""
        here = self.records.service(self.name)
        running = here is not None and here.release and self.records.release(here.release)
        if running and running.phase is Phase.RUNNING:
            self.pause(running.id)

    def resume(self, release_id: str) -> Release:
        """Walk the plan again."""
        return self._published(release.resume(self.records, self.clock, release_id, actor=self.by("release")))

    def abort(self, release_id: str, reason: str) -> Release:
        """End a release by hand; the baseline answers everything."""
        ended = release.abort(self.records, self.clock, release_id, reason, actor=self.by("release"))
        return self._published(ended)

    def rollback(self, reason: str) -> Release:
        """Return to the package that served before. Raises Missing when there is none."""
        back = release.rollback(self.records, self.clock, self.name, reason, actor=self.by("release"))
        return self._published(back)

    def _published(self, here: Release) -> Release:
        loop.publish(self.records, self.router, self.name)
        return here
