"""What a project does to live traffic: releases, by plan or by hand."""

from collections.abc import Sequence

import msgspec

from fairlead.core.catalogue import plan_of, release_checks
from fairlead.core.manifest import ReleaseSection
from fairlead.core.ref import Ref
from fairlead.core.release import Release
from fairlead.core.traffic import TrafficPlan
from fairlead.errors import Invalid
from fairlead.flow import loop, release
from fairlead.project.house import House

__all__ = ["Acting"]


class Acting(House):
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
        return plan_of(section, release_checks(section, "binary" if task == "auto" else task))

    def start_release(
        self, package: Ref | Sequence[Ref], plan: TrafficPlan | None = None, *, force: str = ""
    ) -> Release:
        """Begin to release a package, or several beside each other (A/B/n, bandit).

        Raises Conflict when a release is under way, and what `flow.release.start` raises.
        """
        packages = (package,) if isinstance(package, Ref) else tuple(package)
        begun = release.start(self.records, self.clock, self.name, packages, plan or self.plan(),
                              actor=self.actor, force=force)  # fmt: skip
        return self._published(begun)

    def pause(self, release_id: str) -> Release:
        """Stop walking the plan; the traffic stays as it is."""
        return self._published(release.pause(self.records, self.clock, release_id, actor=self.actor))

    def resume(self, release_id: str) -> Release:
        """Walk the plan again."""
        return self._published(release.resume(self.records, self.clock, release_id, actor=self.actor))

    def abort(self, release_id: str, reason: str) -> Release:
        """End a release by hand; the baseline answers everything."""
        ended = release.abort(self.records, self.clock, release_id, reason, actor=self.actor)
        return self._published(ended)

    def rollback(self, reason: str) -> Release:
        """Return to the package that served before. Raises Missing when there is none."""
        back = release.rollback(self.records, self.clock, self.name, reason, actor=self.actor)
        return self._published(back)

    def _published(self, here: Release) -> Release:
        loop.publish(self.records, self.router, self.name)
        return here
