"""What is taken out of a record is what names the person, and nothing that looks alike."""

from fairlead.core.artifact import ModelSpec
from fairlead.core.encoding import Codes, Encoding
from fairlead.core.event import Event
from fairlead.core.schema import Column, Schema
from fairlead.core.tombs import ERASED, ERASURE, MARK, cleaned, tombs, without


def test_values_go_from_lists_of_values_and_from_groups_only() -> None:
    spec = ModelSpec(flavor="onnx", task="binary", classes=("0", "1"), files={}, params={"C": 1, "kind": "1"},
                     inputs=Schema(columns=(Column(name="client", dtype="category", categories=("1", "2", "binary")),)),
                     encoding=Encoding((Codes(column="client", vocabulary=("1", "2")),)))  # fmt: skip
    clean = without(spec, {"1", "binary"})
    assert clean.inputs.columns[0].categories == (MARK, "2", MARK)
    assert clean.encoding.columns == (Codes(column="client", vocabulary=(MARK, "2")),)
    assert (clean.task, clean.classes, clean.params) == (spec.task, spec.classes, spec.params)
    assert without(spec, {"3"}) == spec


def test_groups_in_words_go_whole_or_not_at_all() -> None:
    said = {"slice": "client=1", "reason": "auc [client=1] beside client=12", "n": 1}
    assert cleaned(said, {"1"}) == {"slice": f"client={MARK}", "reason": f"auc [client={MARK}] beside client=12", "n": 1}


def test_a_tomb_counts_what_every_erasure_took() -> None:
    events = [Event(seq=i, at=i, actor="a", verb=ERASED, subject=ERASURE,
                    body={"erased": {"dataset/x@1": i}, "successors": {"dataset/x@1": f"v{i}"}}) for i in (1, 2)]  # fmt: skip
    tomb = tombs(events)["dataset/x@1"]
    assert (tomb.rows, tomb.event, tomb.successor) == (3, 2, "v2") and "erased: 3 rows" in str(tomb)
