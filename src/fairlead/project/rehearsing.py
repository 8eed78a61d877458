"""What a project tries on its own past before anybody meets it: models, and release policies."""

from collections.abc import Mapping
from math import inf
from pathlib import Path
from typing import Any

import msgspec

from fairlead.adapters import manifest as manifests
from fairlead.adapters.records.memory import MemoryRecords
from fairlead.core.artifact import Artifact, PackageSpec
from fairlead.core.backtest import Backtest, Policy
from fairlead.core.catalogue import plan_of, release_checks
from fairlead.core.check import Verdict, judge_all
from fairlead.core.evidence import EvidenceSet
from fairlead.core.manifest import GateSection, ReleaseSection
from fairlead.core.ref import Ref
from fairlead.core.replay import Replay, replay_checks
from fairlead.errors import Invalid, Missing
from fairlead.flow import backtest, gate, replay
from fairlead.project.house import House, Progress, quiet

__all__ = ["Rehearsing"]


class Rehearsing(House):
    """Verbs that change nothing: they read the prediction log and say what would have happened."""

    def replay(
        self, model: Ref, *, last: int = 0, since: float = 0.0, on_progress: Progress = quiet
    ) -> tuple[Replay, tuple[Verdict, ...]]:
        """What a model answers to the newest recorded requests, beside what serves now (or served
        before, if it serves itself), and the verdicts of the gate on that alone. `last`: 0 means as
        many as `gate.replay` says.

        Raises Missing when nothing serves, or nothing was recorded.
        """
        here = self._rival(model)
        on_progress("reading the log")
        candidate, section = self.records.artifact(model), self.manifest.gate
        made = replay.replay(
            candidate, here, self.name, last=last or section.replay or GateSection().replay,
            since=since, slices=(*self.manifest.data.slices, *self.manifest.data.sensitive),
            level=section.confidence, unseen=max(gate.unseen(self.records, m) for m in (candidate, here)),
            records=self.records, blobs=self.blobs, log=self.log, compute=self.compute, clock=self.clock,
            jobs=self.state / "jobs",
        )  # fmt: skip
        if made is None:
            raise Missing(f"no request to {self.name} was recorded",
                          hint="serve some traffic, or reach farther back with --since")  # fmt: skip
        checks = replay_checks(section, made, self.manifest.release.max_errors)
        return made, judge_all(checks, EvidenceSet(made.evidence), model, here.ref)

    def backtest(
        self, changes: Mapping[str, Any], other: Path | None = None, *, runs: int, seed: int = 0,
        since: float = 0.0, until: float = inf, on_progress: Progress = quiet,
    ) -> Backtest:  # fmt: skip
        """Past releases, and candidates planted into past traffic, under the policy of the manifest
        and under a changed one: that of the manifest `other`, with `changes` of its release section.

        Raises Invalid for a change that makes no sense, Missing when nothing was served.
        """
        section = self.manifest.release
        policies = [self._policy("as it is", section)]
        if changes or other is not None:
            base = section if other is None else manifests.load(other).release
            text = {**msgspec.structs.asdict(base), **changes}
            if "plan" in changes:
                text["steps"] = ()
            try:
                made = msgspec.convert(text, ReleaseSection)
            except msgspec.ValidationError as error:
                raise Invalid(f"no such policy: {error}",
                              hint="see `fairlead release backtest --help`") from None  # fmt: skip
            policies.append(self._policy("changed", made))
        return backtest.backtest(policies, self.name, runs=runs, seed=seed, records=self.records,
                                 log=self.log, fresh=MemoryRecords, since=since, until=until,
                                 on_progress=on_progress)  # fmt: skip

    def _policy(self, name: str, section: ReleaseSection) -> Policy:
        task = self.manifest.data.task
        checks = release_checks(section, "binary" if task == "auto" else task)
        return Policy(name=name, plan=plan_of(section, checks), slow=section.slow_ms / 1000)

    def _rival(self, model: Ref) -> Artifact:
        here = gate.baseline_of(self.records, self.name, model)
        if here is not None:
            return here
        serves = self.records.service(self.name)
        for package_ref in serves.previous if serves else ():
            spec = self.records.artifact(package_ref).spec
            if isinstance(spec, PackageSpec) and spec.model != model:
                return self.records.artifact(spec.model)
        raise Missing(f"nothing but {model.short} ever served {self.name}",
                      hint="train another model: a replay compares it with the one that serves")  # fmt: skip
