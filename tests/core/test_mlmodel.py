"""Which models of MLflow may be opened: by what their MLmodel file says, before anything is."""

from typing import Any

import pytest

from fairlead.core.mlmodel import brought
from fairlead.errors import Invalid

PYFUNC = {"loader_module": "mlflow.sklearn", "model_path": "model.pkl"}
NAMES = '[{"type": "double", "name": "b"}, {"type": "long", "name": "a"}]'
SAFE: list[tuple[str, dict[str, Any], str, str]] = [
    ("onnx", {"data": "model.onnx"}, "onnx", "model.onnx"),
    ("sklearn", {"pickled_model": "model.skops", "serialization_format": "skops"}, "skops", "model.skops"),
    ("lightgbm", {"data": "model.lgb"}, "lightgbm", "model.lgb"),
    ("xgboost", {"data": "model.ubj"}, "xgboost", "model.ubj"),
]


@pytest.mark.parametrize(("flavor", "facts", "form", "file"), SAFE)
def test_a_form_without_code_is_taken_with_its_columns_in_order(
    flavor: str, facts: dict[str, Any], form: str, file: str
) -> None:
    found = brought({"flavors": {"python_function": PYFUNC, flavor: facts}, "run_id": "r",
                     "model_id": "m", "signature": {"inputs": NAMES}})  # fmt: skip
    assert (found.form, found.file, found.columns, found.run) == (form, file, ("b", "a"), "r")


@pytest.mark.parametrize("flavors", [
    {"python_function": PYFUNC},
    {"sklearn": {"pickled_model": "model.pkl", "serialization_format": "cloudpickle"}, "python_function": PYFUNC},
    {"sklearn": {"pickled_model": "model.skops", "serialization_format": "pickle"}},
    {"lightgbm": {"data": "model.pkl", "model_class": "lightgbm.sklearn.LGBMClassifier"}},
    {"xgboost": {"data": "model.pkl"}}, {"pytorch": {"model_data": "data"}},
    {"sklearn": None}, {"sklearn": {"serialization_format": 3}},
])  # fmt: skip
def test_what_runs_code_when_it_is_opened_is_refused_with_a_way_out(flavors: dict[str, Any]) -> None:
    with pytest.raises(Invalid, match="not opened here") as refusal:
        brought({"flavors": flavors})
    assert "load_model" in refusal.value.hint


@pytest.mark.parametrize("said", [{}, {"flavors": "onnx"}, {"flavors": {"onnx": {"data": "../model.onnx"}}},
                                  {"flavors": {"onnx": {"data": "..\\x"}}}, {"flavors": {"onnx": {"data": ".x"}}},
                                  {"flavors": {"onnx": {"data": ""}}}])  # fmt: skip
def test_a_file_that_lies_is_refused(said: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        brought(said)


@pytest.mark.parametrize("signature", [None, {"inputs": "{"}, {"inputs": '[{"type": "tensor", "tensor-spec": {}}]'},
                                       {"inputs": '[{"type": "double"}]'},
                                       {"inputs": "3"}, {"inputs": "[" * 100_000}])  # fmt: skip
def test_without_names_the_columns_are_those_of_the_table(signature: Any) -> None:
    assert brought({"flavors": {"onnx": {"data": "model.onnx"}}, "signature": signature}).columns == ()
