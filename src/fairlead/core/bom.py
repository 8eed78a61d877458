"""The bill of materials of a model: CycloneDX 1.6, with the model card, the data and the packages it ran with."""

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from fairlead.core.artifact import Artifact, DatasetSpec, FeaturesSpec, ModelSpec
from fairlead.core.evidence import Evidence
from fairlead.core.manifest import CardSection
from fairlead.errors import Invalid

__all__ = ["bom", "library"]

Json = dict[str, Any]

WHOLE = "all held-out rows"
CAUSES = {"binary": "classification", "multiclass": "classification", "regression": "regression"}


def bom(
    model: Artifact, tables: Sequence[Artifact], evidence: Iterable[Evidence], environment: str,
    said: CardSection, sensitive: Sequence[str] = (),
) -> Json:  # fmt: skip
    """A CycloneDX 1.6 document about `model` (https://cyclonedx.org/docs/1.6/json).

    `tables`: the datasets and features behind it. `evidence`: what was measured of it.
    `environment`: lines ``name==version`` of the training process, Python and platform among them.
    `said`: what people write of it. The same arguments give the same document. Raises Invalid for
    something that is no model.
    """
    spec = model.spec
    if not isinstance(spec, ModelSpec):
        raise Invalid(f"{model.ref.short} is not a model", hint="name a model, or a package of one")
    data = [_data(t, sensitive) for t in tables]
    lines = [line.partition("==") for line in environment.split("\n") if "==" in line]
    around = {name: version for name, _, version in lines if name in ("python", "platform")}
    libraries = list({made["purl"]: made for made in
                      (library(n, v) for n, _, v in lines if n not in around)}.values())  # fmt: skip
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1,
        "serialNumber": f"urn:uuid:{uuid5(NAMESPACE_URL, str(model.ref))}",
        "metadata": {
            "timestamp": datetime.fromtimestamp(int(model.created_at), UTC).isoformat().replace("+00:00", "Z"),
            "tools": {"components": [{"type": "application", "name": "fairlead"}]},
            "component": _model(model, spec, tables, evidence, said) | _provider(said),
            "properties": [{"name": f"fairlead:{n}", "value": v} for n, v in sorted(around.items())],
        },
        "components": [*data, *libraries],
        "dependencies": [
            {"ref": str(model.ref), "dependsOn": [c["bom-ref"] for c in (*data, *libraries)]},
            *({"ref": str(t.ref), "dependsOn": [str(p) for p in t.parents if p in {o.ref for o in tables}]}
              for t in tables),
        ],
    }  # fmt: skip


def _model(
    model: Artifact, spec: ModelSpec, tables: Sequence[Artifact], evidence: Iterable[Evidence],
    said: CardSection,
) -> Json:  # fmt: skip
    """The component, its files, and its card."""
    files = [{"type": "file", "name": name, "bom-ref": f"{model.ref}#{name}",
              "hashes": [{"alg": "SHA-256", "content": digest}]}
             for name, digest in sorted(spec.files.items())]  # fmt: skip
    outputs = "float32[rows, 1]" if len(spec.classes) < 3 else f"float32[rows, {len(spec.classes)}]"
    parameters = {
        "approach": {"type": "supervised"}, "task": CAUSES[spec.task],
        "modelArchitecture": spec.flavor, "datasets": [{"ref": str(t.ref)} for t in tables],
        "inputs": [{"format": f"{c.name}: {c.dtype}"} for c in spec.inputs.columns],
        "outputs": [{"format": outputs}],
    }  # fmt: skip
    card = {"modelParameters": parameters, "considerations": _considerations(said),
            "quantitativeAnalysis": {"performanceMetrics": [_metric(e) for e in evidence]}}  # fmt: skip
    return {
        "type": "machine-learning-model", "bom-ref": str(model.ref), "name": model.ref.name,
        "version": model.ref.digest, "description": said.purpose, "components": files,
        "properties": [{"name": f"fairlead:param:{n}", "value": str(v)}
                       for n, v in sorted(spec.params.items())],
        "modelCard": card,
    }  # fmt: skip


def _provider(said: CardSection) -> Json:
    return {"manufacturer": {"name": said.provider}} if said.provider else {}


def _considerations(said: CardSection) -> Json:
    """Only what somebody wrote: an empty statement would read as none needed."""
    wrote: Json = {
        "users": [said.users], "useCases": [said.purpose],
        "technicalLimitations": [text for text in (said.limits, said.out_of_scope) if text],
        "ethicalConsiderations": [{"name": said.risks, "mitigationStrategy": said.oversight}],
        "fairnessAssessments": [{"groupAtRisk": said.affected}],
    }  # fmt: skip
    kept = {"users": said.users, "useCases": said.purpose, "ethicalConsiderations": said.risks,
            "technicalLimitations": said.limits or said.out_of_scope,
            "fairnessAssessments": said.affected}  # fmt: skip
    return {name: value for name, value in wrote.items() if kept[name]}


def _metric(e: Evidence) -> Json:
    """One measure with its interval, whole or of a slice."""
    made: Json = {"type": e.measure, "value": f"{e.value:.6g}", "slice": e.slice or WHOLE}
    if e.low is not None and e.high is not None:
        made["confidenceInterval"] = {"lowerBound": f"{e.low:.6g}", "upperBound": f"{e.high:.6g}"}
    return made


def _data(table: Artifact, sensitive: Sequence[str]) -> Json:
    spec = table.spec
    assert isinstance(spec, DatasetSpec | FeaturesSpec)
    schema = spec.contract if isinstance(spec, DatasetSpec) else spec.schema
    about: Json = {
        "type": "dataset", "name": table.ref.name,
        "contents": {"properties": [
            {"name": "fairlead:rows", "value": str(sum(p.rows for p in spec.parts))},
            {"name": "fairlead:columns", "value": ", ".join(schema.names)}]},
    }  # fmt: skip
    if held := [c for c in sensitive if c in schema.names]:
        about["sensitiveData"] = held
    return {
        "type": "data", "bom-ref": str(table.ref), "name": f"{table.ref.kind}/{table.ref.name}",
        "version": table.ref.digest, "data": [about],
        "components": [{"type": "file", "name": f"part {i + 1}", "bom-ref": f"{table.ref}#{i + 1}",
                        "hashes": [{"alg": "SHA-256", "content": p.digest}]}
                       for i, p in enumerate(spec.parts)],
    }  # fmt: skip


def library(name: str, version: str) -> Json:
    """A component: a package of the Python index, named as PEP 503 and the purl specification do."""
    purl = f"pkg:pypi/{re.sub(r'[-_.]+', '-', name).lower()}@{version.replace('+', '%2B')}"
    return {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}
