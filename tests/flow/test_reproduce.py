"""Reproducing through its public door: what was recorded is enough, and what differs is said."""

from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from msgspec.structs import replace

from fairlead.adapters.compute.local import LocalCompute
from fairlead.core.artifact import Artifact
from fairlead.errors import Invalid, Missing
from fairlead.flow.reproduce import Reproduction, reproduce
from fairlead.ports import Change
from fairlead.settings import child_environment

if TYPE_CHECKING:
    from tests.flow.conftest import Lab

UNSTEADY = """
    import os
    from sklearn.ensemble import RandomForestClassifier

    def train(data, params):
        seed = int.from_bytes(os.urandom(4), "little")
        return RandomForestClassifier(n_estimators=5, max_depth=4, random_state=seed).fit(
            __import__("numpy").nan_to_num(data.X), data.y)
"""
RECIPE = """
    from sklearn.ensemble import HistGradientBoostingClassifier

    def boosting(seed):
        return HistGradientBoostingClassifier(random_state=seed, max_iter=10)
"""
IMPORTS = """
    from recipe import boosting

    def train(data, params):
        return boosting(data.seed).fit(data.X, data.y)
"""


def again(lab: "Lab", model: Artifact, **doors: Any) -> Reproduction:
    return reproduce(model, **{**lab.doors, **doors})


def test_a_model_is_made_again_bit_for_bit_after_its_project_went_on(
    lab: "Lab", flights: pl.DataFrame
) -> None:
    table = lab.commit(flights)
    model = lab.train(table, params={"max_iter": 12})
    lab.commit(flights.head(2_500), previous=None)
    lab.code("raise SystemExit('another file by now')")
    done = again(lab, model)
    assert done.same
    assert set(done.files) == set(model.spec.files), "every file of the model"  # type: ignore[union-attr]
    assert (done.rows, done.difference) == (64, 0.0)
    assert done.environment == ((), ())
    assert list(lab.records.events())[-1].body == {"same": True, "rows": 64, "difference": 0.0}


def test_an_unsteady_training_is_measured(lab: "Lab", flights: pl.DataFrame) -> None:
    table = lab.commit(flights)
    lab.code(UNSTEADY.replace("os.urandom(4)", "b'same'"))
    assert again(lab, lab.train(table)).same, "a forest, in its native format"
    lab.code(UNSTEADY)
    done = again(lab, lab.train(table))
    assert not done.same
    assert [n for n, (then, now) in done.files.items() if then != now and n.startswith("model.")]
    assert done.files["profile.msgpack"][0] == done.files["profile.msgpack"][1]
    assert done.rows == 64 and done.difference is not None and 0 < done.difference < 1


def test_what_the_code_imports_from_beside_it_is_recorded(
    lab: "Lab", flights: pl.DataFrame
) -> None:
    from textwrap import dedent

    (lab.root / "recipe.py").write_text(dedent(RECIPE))
    lab.code(IMPORTS)
    lab.doors["compute"] = LocalCompute(child_environment({}))
    model = lab.train(lab.commit(flights))
    assert set(lab.records.run(model.run).sources) == {"recipe.py"}
    (lab.root / "recipe.py").unlink()
    assert again(lab, model).same


def test_what_is_gone_is_named(lab: "Lab", flights: pl.DataFrame) -> None:
    table = lab.commit(flights)
    model = lab.train(table)
    part = table.spec.parts[0].digest  # type: ignore[union-attr]
    (lab.root / "blobs" / part[:2] / part).unlink()
    with pytest.raises(Missing, match=part[:12]):
        again(lab, model)


def test_a_run_that_recorded_too_little_is_refused(lab: "Lab", flights: pl.DataFrame) -> None:
    model = lab.train(lab.commit(flights))
    run = replace(lab.records.run(model.run), id="old", job="")
    old = replace(model, run="old")
    lab.records.store(Change(at=0.0, actor="", verb="", subject="", runs=(run,)))
    with pytest.raises(Invalid, match="did not record what its job was told"):
        again(lab, old)
