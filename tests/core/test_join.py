"""Late, duplicate, conflicting and unknown labels in any order give the same numbers (R15)."""

import random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fairlead.core.artifact import PackageSpec
from fairlead.core.encoding import Encoding, Number
from fairlead.core.evidence import Fact
from fairlead.core.join import Labels, join, keys_of
from fairlead.core.ledger import LIVE, Rows
from fairlead.core.prediction import Feedback
from fairlead.core.quality import judged, numbers, pairs, wrong
from fairlead.core.ref import Ref
from fairlead.core.schema import Column, Schema
from fairlead.core.vitals import Frame

SPEC = PackageSpec(
    model=Ref("model", "m", "0" * 64), flavor="onnx", task="binary", classes=("no", "yes"),
    contract=Schema(columns=(Column(name="x", dtype="float"),)), encoding=Encoding((Number("x"),)),
    files={},
)  # fmt: skip
PACKAGE, OTHER = Ref("package", "p", "1" * 64), Ref("package", "p", "2" * 64)

values = st.one_of(st.sampled_from(["yes", "no", "perhaps"]), st.booleans(), st.floats(0, 2))
notes = st.lists(
    st.builds(
        Feedback,
        prediction=st.sampled_from([f"id{i}" for i in range(6)]),
        value=values,
        at=st.sampled_from([1.0, 2.0, 3.0]),
    ),
    max_size=25,
)


@given(notes, st.randoms())
def test_join_depends_on_the_set_of_labels_only(given_notes: list[Feedback], dice: random.Random) -> None:
    shuffled = given_notes * 3
    dice.shuffle(shuffled)
    once, again = join(given_notes, {"id1"}), join(shuffled, {"id1"})
    assert (once.labels, once.conflicts, once.unknown) == (again.labels, again.conflicts, again.unknown)
    for note in given_notes:
        assert once.labels[note.prediction, "label"].at >= note.at


@given(notes, st.randoms())
def test_labels_as_arrays_follow_the_same_rule(given_notes: list[Feedback], dice: random.Random) -> None:
    labels = Labels()
    dice.shuffle(given_notes)
    half = len(given_notes) // 2
    labels.add(given_notes[:half])
    labels.truth()
    labels.add(given_notes[half:])
    truth, joined = labels.truth(), join(given_notes)
    assert len(truth.key) == len(joined.labels)
    assert truth.conflicts == len(joined.conflicts)
    for (prediction, _), note in joined.labels.items():
        place = int(truth.place(keys_of([prediction]))[0])
        code = float(truth.code[place])
        value = truth.words[int(code)] if truth.kind[place] == 2 else code
        assert (value, truth.at[place]) == (note.value, note.at)
    assert truth.place(keys_of(["nobody"])).tolist() == [-1]


def rows(n: int, package: int, seed: int) -> Rows:
    dice = np.random.default_rng(seed)
    return Rows(
        keys_of([f"id{i}" for i in range(n)]), np.zeros(n, np.uint64), np.floor(np.arange(n) / 3),
        np.full(n, 0.01, np.float32), np.full(n, 4), np.full(n, package, np.int16),
        np.full(n, LIVE, np.uint8), np.ones(n, np.float32), dice.random((n, 1)),
        np.empty((n, 0), np.int8),
    )  # fmt: skip


def test_metrics_are_bit_equal_in_a_thousand_orders() -> None:
    ours, theirs = rows(60, 0, 1), rows(60, 1, 2)
    canonical = [
        Feedback(prediction=f"id{i}", value=("yes", "no")[i % 3 == 0], at=100.0 + i)
        for i in range(50)
    ]
    stale = [Feedback(prediction=n.prediction, value="no", at=n.at - 5) for n in canonical[::5]]
    unknown = [Feedback(prediction=f"x{i}", value="yes", at=1.0) for i in range(5)]
    messy = canonical * 10 + stale + unknown
    frame = Frame(subject=PACKAGE, since=0.0, until=200.0)

    def facts(order: list[Feedback]) -> list[Fact]:
        labels = Labels()
        labels.add(order[:200])
        labels.truth()
        labels.add(order[200:])
        a, b = (judged(r, labels.truth(), SPEC) for r in (ours, theirs))
        return [*numbers(a, frame, SPEC), *pairs((a, SPEC), (b, SPEC), PACKAGE),
                *wrong(b, SPEC, OTHER)]  # fmt: skip

    expected = facts(canonical + stale)
    assert len(expected) > 5
    for seed in range(1000):
        random.Random(seed).shuffle(messy)
        assert facts(messy) == expected, f"seed {seed}"


def test_forgotten_labels_are_the_old_ones() -> None:
    labels = Labels()
    labels.add([Feedback(prediction=f"id{i}", value=1.0, at=float(i)) for i in range(3000)])
    labels.forget(2000.0)
    truth = labels.truth()
    assert (len(truth.key), len(labels), truth.at.min()) == (1000, 1000, 2000.0)
