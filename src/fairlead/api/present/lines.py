"""One line each: how a step of `fairlead run` ended."""

from fairlead.api.present.figures import count, measure
from fairlead.api.present.rollout import step_words
from fairlead.core.artifact import Artifact, DatasetSpec, ModelSpec
from fairlead.core.catalogue import PRIMARY
from fairlead.core.check import Outcome
from fairlead.core.decision import Decision
from fairlead.core.release import Phase, Release
from fairlead.core.run import Run

__all__ = ["gate_line", "model_line", "release_line", "rows_line"]


def rows_line(version: Artifact) -> str:
    """``dataset/loans@3f2a9c0b1d2e  100,000 rows, 30 columns``."""
    spec = version.spec
    assert isinstance(spec, DatasetSpec)
    return f"{version.ref.short}  {count(spec.rows)} rows, {len(spec.contract.columns)} columns"


def model_line(model: Artifact, run: Run) -> str:
    """The model and its first measure with its interval."""
    spec = model.spec
    assert isinstance(spec, ModelSpec)
    seen = next((e for e in run.evidence if e.measure == PRIMARY.get(spec.task) and not e.slice), None)
    if seen is None:
        return f"{model.ref.short}  {spec.flavor}"
    between = f" [{measure(seen.low)}, {measure(seen.high)}]" if seen.low is not None and seen.high is not None else ""  # fmt: skip
    return f"{model.ref.short}  {spec.flavor}, {seen.measure} {measure(seen.value)}{between} on {count(seen.n)} held-out rows"  # fmt: skip


def gate_line(decision: Decision) -> tuple[bool, str]:
    """How many checks passed, and whether the model did."""
    outcomes = [v.outcome for v in decision.because]
    passed = f"{outcomes.count(Outcome.PASS)} of {len(outcomes)} checks pass"
    unknown = outcomes.count(Outcome.UNKNOWN)
    open_ = f", {unknown} without enough data" if unknown else ""
    return decision.proceed, f"{'accepted' if decision.proceed else 'refused'}: {passed}{open_}"


def release_line(release: Release) -> tuple[bool, str]:
    """Where the release stands."""
    if release.phase is Phase.PROMOTED:
        return True, f"{release.id}  live: all traffic"
    if release.phase.final:
        return False, f"{release.id}  {release.phase.value.replace('_', ' ')}: {release.reason}"
    step = f"step {release.step + 1} of {len(release.plan.steps)}, {step_words(release.here)}"
    return True, f"{release.id}  {release.plan.name}, {step}"
