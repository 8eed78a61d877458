"""Training through its public door: real tables, real files, the user's own function."""

import sys
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import polars as pl
import pytest
from msgspec.structs import replace

from fairlead.core.artifact import Artifact, FeaturesSpec, ModelSpec, name_of
from fairlead.core.encoding import compile_row
from fairlead.core.feature import FeatureView
from fairlead.core.manifest import DataSection
from fairlead.errors import Invalid, Missing
from fairlead.flavors.onnx import Scorer
from fairlead.flow.conform import infer_contract
from fairlead.flow.parts import store

if TYPE_CHECKING:
    from tests.flow.conftest import Lab


def spec_of(model: Artifact) -> ModelSpec:
    assert isinstance(model.spec, ModelSpec)
    return model.spec


def test_a_model_is_stored_with_its_run_and_its_proof(lab: "Lab", flights: pl.DataFrame) -> None:
    table = lab.commit(flights)
    model = lab.train(table, params={"max_iter": 20})
    spec, run = spec_of(model), lab.records.run(model.run)
    assert (spec.flavor, spec.task, spec.classes) == ("onnx", "binary", ("false", "true"))
    assert spec.params == {"max_iter": 20} == run.params
    assert model.parents == (table.ref,) == run.inputs
    assert run.outputs == (model.ref,)
    assert lab.blobs.get(run.code) == (lab.root / "train.py").read_bytes()
    assert b"scikit-learn==" in lab.blobs.get(spec.environment)
    event = list(lab.records.events())[-1]
    assert event.verb == "model.trained"
    assert "rows agree" in event.body["proof"]
    assert (event.body["rows"], event.body["held_out"]) == (2400, 600)
    assert not list((lab.root / "jobs").iterdir())


def test_the_held_out_rows_are_the_newest_and_judge_it(lab: "Lab", flights: pl.DataFrame) -> None:
    model = lab.train(lab.commit(flights.sample(fraction=1.0, shuffle=True, seed=1)))
    run = lab.records.run(model.run)
    auc = next(e for e in run.evidence if e.measure == "auc")
    assert auc.subject == model.ref
    assert auc.n == 600
    assert auc.low is not None and 0.7 < auc.low < auc.value < 0.95
    samples = msgspec.json.decode(lab.blobs.get(spec_of(model).files["samples.json"]))
    newest = set(flights.tail(600).get_column("distance"))
    assert len(samples["rows"]) == 64
    assert all(row["distance"] in newest for row in samples["rows"])
    assert "at" not in spec_of(model).inputs.names, "a moment never comes again"


def test_same_data_code_and_seed_make_the_same_model(lab: "Lab", flights: pl.DataFrame) -> None:
    table = lab.commit(flights)
    assert lab.train(table).ref == lab.train(table).ref
    lab.manifest = replace(lab.manifest, train=replace(lab.manifest.train, params={"max_depth": 2}))
    assert lab.train(table).ref != lab.train(table, params={"max_depth": 3}).ref


def test_samples_hold_what_the_estimator_says_of_rows_as_callers_send_them(
    lab: "Lab", flights: pl.DataFrame
) -> None:
    spec = spec_of(lab.train(lab.commit(flights)))
    samples = msgspec.json.decode(lab.blobs.get(spec.files["samples.json"]))
    encode = compile_row(spec.encoding)
    rows = np.array([encode(row) for row in samples["rows"]], dtype=np.float32)
    scores = Scorer(lab.blobs.get(spec.files["model.onnx"]))(rows)
    np.testing.assert_allclose(scores, np.array(samples["scores"]), atol=1e-6)


def test_truth_that_was_not_known_yet_is_not_learnt_from(
    lab: "Lab", flights: pl.DataFrame
) -> None:
    known = flights.with_columns(landed=pl.col("at") + pl.duration(days=10))
    section = replace(lab.manifest.data, known_at="landed", ignore=("sex",))
    lab.manifest = replace(lab.manifest, data=section)
    model = lab.train(lab.commit(known))
    assert {"landed", "sex", "late"}.isdisjoint(spec_of(model).inputs.names)
    body = list(lab.records.events())[-1].body
    per_day = 86_400 / 2_880
    assert body["held_out"] == 600
    assert body["rows"] == pytest.approx(2_400 - 10 * per_day, abs=1)


def test_a_window_bounds_the_rows_and_stands_in_the_model(
    lab: "Lab", flights: pl.DataFrame
) -> None:
    start = 1_600_000_000.0
    model = lab.train(lab.commit(flights), since=start + 20 * 86_400, until=start + 70 * 86_400)
    body = list(lab.records.events())[-1].body
    assert body["rows"] + body["held_out"] == 50 * 30
    assert spec_of(model).split.since == start + 20 * 86_400


@pytest.mark.parametrize(
    ("make", "task", "classes"),
    [
        (pl.when(pl.col("late")).then(pl.lit("yes")).otherwise(pl.lit("no")), "binary", ("no", "yes")),
        (pl.when(pl.col("late")).then(pl.lit("n")).otherwise(pl.lit("y")), "binary", ("n", "y")),
        (pl.col("late").cast(pl.Int64) + 1, "binary", ("1", "2")),
        (pl.col("carrier"), "multiclass", ("AA", "B6", "DL", "UA")),
        (pl.col("seats") // 100, "multiclass", ("0", "1", "2")),
        (pl.col("seats") * 1.5, "regression", ()),
    ],
)  # fmt: skip
def test_targets_of_every_kind(
    lab: "Lab", flights: pl.DataFrame, make: pl.Expr, task: str, classes: tuple[str, ...]
) -> None:
    lab.code("""
        from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

        def train(data, params):
            kind = HistGradientBoostingRegressor if data.task == "regression" else HistGradientBoostingClassifier
            return kind(max_iter=5).fit(data.X, data.y)
    """)
    table = flights.head(1_000).with_columns(late=make)
    model = lab.train(lab.commit(table))
    assert (spec_of(model).task, spec_of(model).classes) == (task, classes)
    assert spec_of(model).flavor == "onnx"


def test_what_the_function_receives(lab: "Lab", flights: pl.DataFrame) -> None:
    lab.code("""
        import numpy as np
        from sklearn.ensemble import HistGradientBoostingClassifier

        def train(data, params):
            assert data.X.shape == (2400, len(data.names)) and data.X.dtype == np.float32
            assert set(data.y) == {0, 1} and data.classes == ("false", "true")
            assert data.frame["carrier"][0] in ("AA", "B6", "DL", "UA")
            assert [data.names[i] for i in data.categorical] == ["carrier", "sex"]
            assert np.isnan(data.X[:, data.names.index("wind")]).any()
            assert (np.diff(data.time) > 0).all() and data.seed == 0
            return HistGradientBoostingClassifier(
                max_iter=3, categorical_features=list(data.categorical)).fit(data.X, data.y)
    """)
    assert spec_of(lab.train(lab.commit(flights))).flavor == "onnx"


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("def train(data, params):\n    return undefined_name\n", "NameError: name 'undefined_name'"),
        ("import sys\ndef train(data, params):\n    sys.exit('no')\n", "SystemExit: no"),
        ("def train(data, params)\n    return 1\n", "SyntaxError"),
        ("def train(data):\n    return 1\n", "does not take (data, params)"),
        ("def fit(data, params):\n    return 1\n", "defines no function `train`"),
        ("def train(data, params):\n    pass\n", "returned nothing"),
        ("def train(data, params):\n    return 'a model'\n", "gives no probabilities"),
        ("from sklearn.linear_model import RidgeClassifier\ndef train(data, params):\n"
         "    return RidgeClassifier().fit(data.X[:, :1], data.y)\n", "gives no probabilities"),
        ("from sklearn.linear_model import LogisticRegression\ndef train(data, params):\n"
         "    return LogisticRegression().fit(data.X, data.y)\n", "ValueError: Input X contains NaN"),
        ("from sklearn.ensemble import HistGradientBoostingClassifier as H\ndef train(data, params):\n"
         "    return H(max_iter=2).fit(data.X[:, :2], data.y)\n", "reads 2 columns, data.X has"),
        ("from sklearn.ensemble import HistGradientBoostingClassifier as H\ndef train(data, params):\n"
         "    return H(max_iter=2).fit(data.X, data.y * 7)\n", "learned the classes [0, 7]"),
    ],
)  # fmt: skip
def test_a_failing_function_is_told_clearly_and_recorded(
    lab: "Lab", flights: pl.DataFrame, code: str, says: str
) -> None:
    (lab.root / "train.py").write_text(code)
    with pytest.raises(Invalid) as caught:
        lab.train(lab.commit(flights.head(200)))
    assert says in str(caught.value)
    assert caught.value.hint
    run = lab.records.runs()[-1]
    assert run.state == "failed"
    assert says in run.error
    assert list(lab.records.events())[-1].verb == "model.failed"
    assert not lab.records.artifacts("model")


def test_a_traceback_shows_the_users_own_lines(lab: "Lab", flights: pl.DataFrame) -> None:
    lab.code("""
        def prepare(x):
            return x.nothing_here

        def train(data, params):
            return prepare(data.X)
    """)
    with pytest.raises(Invalid) as caught:
        lab.train(lab.commit(flights.head(200)))
    shown = str(caught.value)
    assert "return x.nothing_here" in shown
    assert "importlib" not in shown
    assert 'train.py", line 3' in shown


def test_a_framework_that_is_not_installed_is_named_with_its_extra(
    lab: "Lab", flights: pl.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "keras", None)
    lab.code("from keras import layers\n\ndef train(data, params):\n    return None\n")
    with pytest.raises(Invalid, match="from keras import layers") as caught:
        lab.train(lab.commit(flights))
    assert caught.value.hint == 'pip install "fairlead[tensorflow]"'


def test_what_the_users_code_writes_is_no_part_of_the_model(lab: "Lab", flights: pl.DataFrame) -> None:
    """Under whatever name: a checkpoint, a log, a form of another flavor."""
    lab.code("""
        from pathlib import Path
        from sklearn.ensemble import HistGradientBoostingClassifier

        def train(data, params):
            here = next(Path(params["jobs"]).iterdir())
            (here / "model.keras").mkdir()
            for name in ("model.pt", "model.skops", "state.json", "environment.json", "profile.msgpack"):
                (here / name).write_bytes(b"mine")
            return HistGradientBoostingClassifier(max_iter=2, random_state=0).fit(data.X, data.y)
    """)
    made = lab.train(lab.commit(flights), params={"jobs": str(lab.root / "jobs")})
    assert isinstance(made.spec, ModelSpec)
    assert sorted(made.spec.files) == ["model.onnx", "profile.msgpack", "reference.msgpack", "samples.json"]
    assert b"mine" not in [lab.blobs.get(blob) for blob in made.spec.files.values()]


def test_code_has_to_lie_in_the_project(lab: "Lab", flights: pl.DataFrame) -> None:
    table = lab.commit(flights.head(100))
    for name, error in (("../train.py", Invalid), ("absent.py", Missing)):
        lab.manifest = replace(lab.manifest, train=replace(lab.manifest.train, code=name))
        with pytest.raises(error, match=r"train\.code"):
            lab.train(table)


def test_rows_without_a_truth_are_left_out_and_too_few_are_refused(
    lab: "Lab", flights: pl.DataFrame
) -> None:
    gaps = flights.with_columns(late=pl.when(pl.col("seats") > 100).then(pl.col("late")))
    lab.train(lab.commit(gaps))
    body = list(lab.records.events())[-1].body
    assert body["rows"] + body["held_out"] == int((flights["seats"] > 100).sum())
    with pytest.raises(Invalid, match="held out"):
        lab.train(lab.commit(flights.head(12)))


def test_a_target_that_poses_no_task_is_refused(lab: "Lab", flights: pl.DataFrame) -> None:
    constant = flights.head(200).with_columns(late=pl.lit(True))
    with pytest.raises(Invalid, match="1 different values"):
        lab.train(lab.commit(constant))
    lab.manifest = replace(lab.manifest, data=replace(lab.manifest.data, task="binary"))
    three = flights.head(200).with_columns(late=pl.col("seats") % 3)
    with pytest.raises(Invalid, match=r"3 classes \(0, 1, 2\), the task is binary"):
        lab.train(lab.commit(three))


def test_inputs_are_request_columns_then_features(lab: "Lab", flights: pl.DataFrame) -> None:
    view = FeatureView(name="plane", source="planes.csv", entity="tail", columns=("age",))
    unused = replace(view, name="crew", columns=("size",))
    rng = np.random.default_rng(0)
    wide = flights.with_columns(
        pl.Series("tail", [f"N{i}" for i in range(flights.height)]),
        pl.Series("plane.age", rng.integers(0, 30, flights.height)),
        pl.lit(None, pl.Float64).alias("crew.size"),
    )
    base = lab.commit(wide.drop("plane.age", "crew.size"))
    schema = infer_contract(wide, target="late", time="at")
    spec = FeaturesSpec(parts=store(wide, lab.blobs), schema=schema, views=(view, unused))
    features = Artifact(ref=name_of("late", spec), spec=spec, parents=(base.ref,), created_at=0.0)
    made = spec_of(lab.train(features))
    assert made.inputs.names[-1] == "plane.age"
    assert "tail" in made.inputs.names, "callers name the entity, though the model reads it not"
    assert "tail" not in {c.column for c in made.encoding.columns}
    assert made.views == (view,)


def test_without_a_time_rows_are_held_out_by_the_seed(lab: "Lab", flights: pl.DataFrame) -> None:
    section = DataSection(source="flights.csv", target="late")
    lab.manifest = replace(lab.manifest, data=section)
    lab.train(lab.commit(flights.drop("at")))
    body: dict[str, Any] = list(lab.records.events())[-1].body
    assert body["rows"] + body["held_out"] == 3_000
    assert 500 < body["held_out"] < 700
