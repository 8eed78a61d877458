"""Pairs of wrong answers: what a shadow needs to see a worse classifier soon."""

import numpy as np
import pytest

from fairlead.core.artifact import PackageSpec
from fairlead.core.check import Check, Outcome, PairedLoss, judge
from fairlead.core.encoding import Encoding, Number
from fairlead.core.evidence import EvidenceSet
from fairlead.core.join import Labels, keys_of
from fairlead.core.ledger import LIVE, Rows
from fairlead.core.prediction import Feedback
from fairlead.core.quality import Judged, judged, pairs
from fairlead.core.ref import Ref
from fairlead.core.schema import Column, Schema

NEW, OLD = Ref("package", "p", "2" * 64), Ref("package", "p", "1" * 64)
BINARY = PackageSpec(
    model=Ref("model", "m", "0" * 64), flavor="onnx", task="binary", classes=("no", "yes"),
    contract=Schema(columns=(Column(name="x", dtype="float"),)), encoding=Encoding((Number("x"),)),
    files={},
)  # fmt: skip


def answered(package: int, right: list[bool]) -> Judged:
    """Answers to questions of which every second is a yes; sure of themselves, right or wrong."""
    n = len(right)
    ids = [f"id{i}" for i in range(n)]
    truth = [i % 2 == 0 for i in range(n)]
    scores = np.array([[0.9 if t == r else 0.1] for t, r in zip(truth, right, strict=True)])
    rows = Rows(
        keys_of(ids), np.zeros(n, np.uint64), np.arange(n, dtype=np.float64),
        np.full(n, 0.01, np.float32), np.full(n, 4), np.full(n, package, np.int16),
        np.full(n, LIVE, np.uint8), np.ones(n, np.float32), scores,
        np.empty((n, 0), np.int8),
    )  # fmt: skip
    labels = Labels()
    labels.add([Feedback(prediction=i, value=t, at=1e4) for i, t in zip(ids, truth, strict=True)])
    return judged(rows, labels.truth(), BINARY)


def test_a_worse_classifier_is_told_by_the_pairs_that_differ() -> None:
    rng = np.random.default_rng(0)
    kind = rng.choice(3, 1500, p=[0.04, 0.01, 0.95]).tolist()
    old = answered(0, [k != 1 for k in kind])
    new = answered(1, [k != 0 for k in kind])
    facts = EvidenceSet(pairs((new, BINARY), (old, BINARY), NEW))
    wrong = facts.moments(NEW, "wrong_pair").values()
    assert sum(m.n for m in wrong) == 1500
    lost, won = kind.count(0), kind.count(1)
    assert sum(m.total for m in wrong) == pytest.approx((1500 + lost - won) / 2)
    assert sum(m.squares for m in wrong) == pytest.approx(lost + (1500 - lost - won) / 4)
    check = Check(name="accuracy", measure="wrong_pair", rule=PairedLoss(votes=True))
    verdict = judge(check, facts, NEW, OLD)
    assert verdict.outcome is Outcome.FAIL and "+0.0" in verdict.reason
