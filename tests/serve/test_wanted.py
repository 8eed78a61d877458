"""An explanation that a caller wants: the answer comes as always, and the journal says which rows it is for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fairlead.core.journal import Batch

if TYPE_CHECKING:
    from tests.serve.conftest import Plant

ROW = {"distance": 0.5, "carrier": "UA", "hour": 7, "late": False}
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_the_journal_says_whose_explanation_is_wanted(plant: Plant) -> None:
    plant.publish(plant.package())
    plant.start()
    tensors = {"inputs": [
        {"name": n, "shape": [1], "datatype": t, "data": [v]} for (n, v), t in
        zip(ROW.items(), ("FP64", "BYTES", "INT64", "BOOL"), strict=True)
    ]}  # fmt: skip
    infer = "/v2/models/m/infer"
    asked = [(ROW, "/predict?explain=true", [True]), (ROW, "/predict", []), (ROW, "/predict?explain=false", []),
             ({"rows": [ROW, ROW]}, "/predict?a=b&explain=True", [True, True]), (tensors, infer, []),
             (tensors, infer + "?explain=true", [True])]  # fmt: skip
    for body, path, _ in asked:
        status, answer = plant.ask(body, path)
        assert status == 200 and "explain" not in str(answer)
    assert plant.ask(ROW, "/predict", traceparent=TRACE)[0] == 200
    plant.wait(lambda: len(plant.rows()) == 8)
    batches = [e for e in plant.entries() if isinstance(e, Batch)]
    assert [b.wanted for b in batches] == [*(w for *_, w in asked), [False]]
    assert [bool(b.traces and b.traces[0]) for b in batches] == [False] * 6 + [True]
