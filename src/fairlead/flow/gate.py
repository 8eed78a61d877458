"""The gate: a trained model is measured, judged, and passed or refused, with every reason on record."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from msgspec.structs import replace

from fairlead.core.artifact import Artifact, PackageSpec
from fairlead.core.catalogue import BREAKS, gate_checks
from fairlead.core.check import Check, Verdict, judge_all
from fairlead.core.decision import Decision, decide
from fairlead.core.evidence import Evidence, EvidenceSet
from fairlead.core.fairness import crossings
from fairlead.core.manifest import Manifest
from fairlead.core.ref import Ref, digest
from fairlead.core.replay import replay_checks
from fairlead.core.run import Run
from fairlead.core.schema import Schema, SchemaDiff, diff
from fairlead.core.shapley import ATTRIBUTION, RANK
from fairlead.errors import Invalid, Missing
from fairlead.flow.evaluate import evaluate, model_of
from fairlead.flow.recorded import request
from fairlead.flow.replay import replay
from fairlead.ports import Blobs, Change, Clock, Compute, PredictionLog, Records

__all__ = ["baseline_of", "gate", "judged", "unseen"]


def gate(
    model: Artifact, baseline: Artifact | None, manifest: Manifest, *, records: Records,
    blobs: Blobs, compute: Compute, clock: Clock, jobs: Path, actor: str,
    log: PredictionLog | None = None, on_progress: Callable[[str], None] = lambda text: None,
) -> Decision:  # fmt: skip
    """Measure `model` beside `baseline`, judge it by the manifest, and record the decision
    ("gate.passed" or "gate.refused") with the run that measured. With a `log` of the service,
    `gate.replay` recorded requests go through both as well.

    A decision is a value: a refusal raises nothing. Raises Invalid when the model cannot be
    measured at all, or the manifest asks for what makes no sense.
    """
    spec, started, data = model_of(model), clock.now(), manifest.data
    slices = tuple(dict.fromkeys((*data.slices, *data.sensitive, *crossings(data.sensitive, data.crossed),
                                  *(c.by for c in manifest.gate.checks if c.by))))  # fmt: skip
    on_progress("measuring on held-out rows")
    evidence = evaluate(model, baseline, slices=slices, entity=data.entity, known_at=data.known_at,
                        level=manifest.gate.confidence, attributed=_attributed(manifest),
                        records=records, blobs=blobs, compute=compute, clock=clock, jobs=jobs)  # fmt: skip
    changes, made = SchemaDiff(size="same"), None
    if baseline is not None:
        changes = _asked(request(model_of(baseline)), request(spec))
        evidence = (*evidence, *_broken(model.ref, baseline.ref, changes))
    if baseline is not None and log is not None and manifest.gate.replay:
        on_progress("replaying recorded requests")
        made = replay(model, baseline, manifest.service, last=manifest.gate.replay, slices=slices,
                      level=manifest.gate.confidence,
                      unseen=max(unseen(records, model, evidence), unseen(records, baseline)),
                      records=records, blobs=blobs, log=log, compute=compute, clock=clock, jobs=jobs)  # fmt: skip
        evidence = (*evidence, *(made.evidence if made is not None else ()))
    checks = gate_checks(manifest.gate, spec.task, evidence, changes.changes,
                         compared=baseline is not None, sensitive=data.sensitive, crossed=data.crossed)  # fmt: skip
    if made is not None:
        checks += replay_checks(manifest.gate, made, manifest.release.max_errors, checks)
    return judged(model.ref, None if baseline is None else baseline.ref, checks, evidence,
                  started, records, clock, actor)  # fmt: skip


def _attributed(manifest: Manifest) -> bool:
    """Whether somebody asks what columns contribute: a check does, or there are groups to protect."""
    asked = any(c.measure.startswith((ATTRIBUTION, RANK)) for c in manifest.gate.checks)
    return asked or bool(manifest.data.sensitive)


def judged(model: Ref, against: Ref | None, checks: tuple[Check, ...], evidence: tuple[Evidence, ...],
           started: float, records: Records, clock: Clock, actor: str) -> Decision:  # fmt: skip
    """Judge the evidence and write down what was decided."""
    verdicts = judge_all(checks, EvidenceSet(evidence), model, against)
    decision = decide(model, verdicts, clock.now())
    run = Run(id=digest(("evaluate", model, against, started))[:16], verb="evaluate", state="done",
              inputs=(model,) if against is None else (model, against),
              evidence=evidence, started_at=started, ended_at=decision.at)  # fmt: skip
    records.commit(Change(
        at=decision.at, actor=actor, subject=str(model), runs=(run,), decisions=(decision,),
        verb="gate.passed" if decision.proceed else "gate.refused",
        body={"run": run.id, "baseline": None if against is None else str(against),
              "checks": {v.check.name: v.outcome.name for v in verdicts},
              "reasons": _reasons(verdicts)},
    ))  # fmt: skip
    return decision


def baseline_of(records: Records, service: str, model: Ref | None = None) -> Artifact | None:
    """The model that `service` answers with now; None when there is none, it is `model` itself, or
    it stayed where it was trained."""
    here = records.service(service)
    if here is None or here.package is None:
        return None
    spec = records.artifact(here.package).spec
    if not isinstance(spec, PackageSpec):
        raise Invalid(f"{service} serves {here.package.short}, which is no package",
                      hint="release a package")  # fmt: skip
    if spec.model != model:
        with suppress(Missing):  # it came in an image, without its model
            return records.artifact(spec.model)
    return None


def unseen(records: Records, model: Artifact, measured: Iterable[Evidence] = ()) -> float:
    """UTC seconds from which on requests are none that `model` learnt from: the first row held out
    when it was `measured` (now, or by a gate before); without a time, when it was made."""
    facts = list(measured) or [e for run in records.runs() if run.inputs[:1] == (model.ref,)
                               for e in run.evidence]  # fmt: skip
    held = (e.since for e in facts if (e.subject, e.measure) == (model.ref, "gain_trivial"))
    return max(held, default=0.0) or model.created_at


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
