"""The bill of materials: complete, the same every time, and valid by the official schema."""

from typing import Any

import msgspec
import pytest

from fairlead.core.artifact import Artifact, DatasetSpec, ModelSpec, Part, name_of
from fairlead.core.bom import bom
from fairlead.core.encoding import Encoding, Number
from fairlead.core.evidence import Evidence
from fairlead.core.manifest import CardSection
from fairlead.core.schema import Column, Schema
from fairlead.errors import Invalid

ENVIRONMENT = "python==3.11.7\nplatform==Linux-6\nMsg_Spec==0.20\nmsg-spec==0.20\ntorch==2.9.0+cpu\n"
SCHEMA = Schema(columns=(Column(name="amount", dtype="float"), Column(name="sex", dtype="category")))
SAID = CardSection(purpose="who is late", users="clerks", limits="not for firms", affected="borrowers", risks="exclusion", oversight="a clerk decides", provider="Bank")


def made(said: CardSection = SAID) -> dict[str, Any]:
    data = DatasetSpec(parts=(Part("a" * 64, 7, 100),), contract=SCHEMA)
    table = Artifact(ref=name_of("loans", data), spec=data, created_at=1.0)
    spec = ModelSpec(flavor="onnx", task="binary", classes=("0", "1"), inputs=SCHEMA, params={"c": 1},
                     encoding=Encoding((Number("amount"),)), files={"model.onnx": "b" * 64})  # fmt: skip
    model = Artifact(ref=name_of("loans", spec), spec=spec, parents=(table.ref,), created_at=1.7e9)
    facts = [Evidence(subject=model.ref, measure="auc", value=0.8, low=0.7, high=0.9, n=10),
             Evidence(subject=model.ref, measure="auc", value=0.7, n=5, slice="sex=f")]  # fmt: skip
    return bom(model, [table], facts, ENVIRONMENT, said, ["sex"])


@pytest.mark.parametrize("said", [SAID, CardSection()])
def test_it_is_valid_cyclonedx(said: CardSection) -> None:
    validation = pytest.importorskip("cyclonedx.validation.json")
    schema = pytest.importorskip("cyclonedx.schema")
    checked = validation.JsonStrictValidator(schema.SchemaVersion.V1_6)
    assert checked.validate_str(msgspec.json.encode(made(said)).decode()) is None


def test_it_names_the_model_its_data_and_every_package_once() -> None:
    found = made()
    model, card = found["metadata"]["component"], found["metadata"]["component"]["modelCard"]
    assert (found["specVersion"], model["type"], model["components"][0]["hashes"][0]["content"]) == ("1.6", "machine-learning-model", "b" * 64)
    (data,) = (c for c in found["components"] if c["type"] == "data")
    assert data["data"][0]["sensitiveData"] == ["sex"] and card["modelParameters"]["datasets"] == [{"ref": data["bom-ref"]}]
    assert [c["purl"] for c in found["components"] if c["type"] == "library"] == ["pkg:pypi/msg-spec@0.20", "pkg:pypi/torch@2.9.0%2Bcpu"]
    whole, part = card["quantitativeAnalysis"]["performanceMetrics"]
    assert whole["confidenceInterval"] == {"lowerBound": "0.7", "upperBound": "0.9"} and "confidenceInterval" not in part
    refs = [model["bom-ref"], *(c["bom-ref"] for c in found["components"])]
    assert len(set(refs)) == len(refs)
    assert {r for d in found["dependencies"] for r in (d["ref"], *d["dependsOn"])} <= set(refs)


def test_the_same_records_give_the_same_document_and_silence_stays_silent() -> None:
    assert made() == made()
    assert made(CardSection())["metadata"]["component"]["modelCard"]["considerations"] == {}


def test_only_a_model_has_one() -> None:
    spec = DatasetSpec(parts=(), contract=SCHEMA)
    with pytest.raises(Invalid, match="not a model"):
        bom(Artifact(ref=name_of("x", spec), spec=spec, created_at=0.0), [], [], "", CardSection())
