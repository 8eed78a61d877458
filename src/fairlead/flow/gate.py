"""The gate: a trained model is measured, judged, and passed or refused, with every reason on record."""

from collections.abc import Callable
from pathlib import Path

from msgspec.structs import replace

from fairlead.core.artifact import Artifact, ModelSpec, PackageSpec
from fairlead.core.catalogue import BREAKS, gate_checks
from fairlead.core.check import Verdict, judge_all
from fairlead.core.decision import Decision, decide
from fairlead.core.evidence import Evidence, EvidenceSet
from fairlead.core.manifest import Manifest
from fairlead.core.ref import Ref, digest
from fairlead.core.run import Run
from fairlead.core.schema import Schema, SchemaDiff, diff
from fairlead.errors import Invalid
from fairlead.flow.evaluate import evaluate, model_of
from fairlead.ports import Blobs, Change, Clock, Compute, Records

__all__ = ["baseline_of", "gate", "request"]


def gate(
    model: Artifact, baseline: Artifact | None, manifest: Manifest, *, records: Records,
    blobs: Blobs, compute: Compute, clock: Clock, jobs: Path, actor: str,
    on_progress: Callable[[str], None] = lambda text: None,
) -> Decision:  # fmt: skip
    """Measure `model` beside `baseline`, judge it by the manifest, and record the decision
    ("gate.passed" or "gate.refused") with the run that measured.

    A decision is a value: a refusal raises nothing. Raises Invalid when the model cannot be
    measured at all, or the manifest asks for what makes no sense.
    """
    spec, started, data = model_of(model), clock.now(), manifest.data
    slices = tuple(dict.fromkeys((*data.slices, *data.sensitive,
                                  *(c.by for c in manifest.gate.checks if c.by))))  # fmt: skip
    on_progress("measuring on held-out rows")
    evidence = evaluate(model, baseline, slices=slices, entity=data.entity, known_at=data.known_at,
                        level=manifest.gate.confidence, records=records, blobs=blobs,
                        compute=compute, jobs=jobs)  # fmt: skip
    changes = SchemaDiff(size="same")
    if baseline is not None:
        changes = _asked(request(model_of(baseline)), request(spec))
        evidence = (*evidence, *_broken(model.ref, baseline.ref, changes))
    checks = gate_checks(manifest.gate, spec.task, evidence, changes.changes,
                         compared=baseline is not None, sensitive=data.sensitive)  # fmt: skip
    against = None if baseline is None else baseline.ref
    verdicts = judge_all(checks, EvidenceSet(evidence), model.ref, against)
    decision = decide(model.ref, verdicts, clock.now())
    run = Run(id=digest(("evaluate", model.ref, against, started))[:16], verb="evaluate", state="done",
              inputs=(model.ref,) if against is None else (model.ref, against),
              evidence=evidence, started_at=started, ended_at=decision.at)  # fmt: skip
    records.commit(Change(
        at=decision.at, actor=actor, subject=str(model.ref), runs=(run,), decisions=(decision,),
        verb="gate.passed" if decision.proceed else "gate.refused",
        body={"run": run.id, "baseline": None if against is None else str(against),
              "checks": {v.check.name: v.outcome.name for v in verdicts},
              "reasons": _reasons(verdicts)},
    ))  # fmt: skip
    return decision


def baseline_of(records: Records, service: str, model: Ref) -> Artifact | None:
    """The model that `service` answers with now; None when there is none, or it is `model` itself."""
    here = records.service(service)
    if here is None or here.package is None:
        return None
    spec = records.artifact(here.package).spec
    if not isinstance(spec, PackageSpec):
        raise Invalid(f"{service} serves {here.package.short}, which is no package",
                      hint="release a package")  # fmt: skip
    return None if spec.model == model else records.artifact(spec.model)


def request(spec: ModelSpec) -> Schema:
    """The columns that callers send: the inputs without those of feature views."""
    made = {o for v in spec.views for o in v.outputs}
    columns = tuple(c for c in spec.inputs.columns if c.name not in made)
    present = {c.name for c in columns}
    time, entity = (r if r in present else "" for r in (spec.inputs.time, spec.inputs.entity))
    return Schema(columns=columns, time=time, entity=entity)


def _asked(old: Schema, new: Schema) -> SchemaDiff:
    """What changes for callers: a column that is no longer read breaks nobody."""
    kept = tuple(c for c in old.columns if c.name in new.names)
    return diff(replace(old, columns=kept, time=new.time, entity=new.entity), new)


def _broken(subject: Ref, against: Ref, changes: SchemaDiff) -> list[Evidence]:
    """How many columns of the request contract break callers, and one piece for each of them."""
    columns = dict.fromkeys(c.column for c in changes.changes if c.size == "breaking")
    whole = Evidence(subject=subject, measure="breaking_changes", value=len(columns),
                     n=len(changes.changes) or 1, against=against)  # fmt: skip
    return [whole, *(Evidence(subject=subject, measure=BREAKS + c, value=1, n=1, against=against)
                     for c in columns)]  # fmt: skip


def _reasons(verdicts: tuple[Verdict, ...]) -> list[str]:
    """What stood in the way, in words."""
    return [f"{v.check.name}: {v.reason}" for v in verdicts if v.outcome.value]
