"""The manifest: what is read, and how everything that is wrong is told at once."""

import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.adapters.manifest import json_schema, load
from fairlead.adapters.manifest.fields import FIELDS
from fairlead.core.manifest import Manifest
from fairlead.errors import FairleadError, Invalid, Missing

ROOT = Path(__file__).parents[2]
SMALL = "service: loans\ndata: {source: loans.csv, target: status}\ntrain: {}\n"

WHOLE = """
service: flights
data:
  source: data/flights.parquet
  target: late
  task: binary
  time: asked_at
  known_at: landed_at
  sensitive: [carrier]
  slices: [origin]
train: {code: train.py, params: {learning_rate: 1e-2, depth: 4, robust: true, loss: "1e-2"}, test: 0.25}
features:
  airport_delay:
    source: data/landings.parquet
    entity: origin
    time: landed_at
    aggregate: {late_rate: {mean: late}, flights: {count: true}}
    window: 3h
  plane: {source: data/planes.csv, entity: tailnum, columns: [seats, year]}
gate:
  checks:
    - {measure: auc, min: 0.6}
    - {measure: positive_rate, parity: 0.8, by: carrier, min_n: 100}
release:
  steps:
    - {mirror: 1, hold: 10m}
    - {share: 0.25, hold: 1h, patience: 1d12h}
monitors:
  auc: {measure: auc, min: 0.6, window: 2d, then: [alert, retrain]}
"""


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "fairlead.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def refusal(folder: Path, text: str | bytes) -> str:
    with pytest.raises(Invalid) as caught:
        load(write(folder, text))
    assert caught.value.hint
    return str(caught.value)


def test_every_section_but_data_and_train_is_optional(tmp_path: Path) -> None:
    manifest = load(write(tmp_path, SMALL))
    assert (manifest.service, manifest.data.target, manifest.release.plan) == ("loans", "status", "canary")  # fmt: skip


def test_a_whole_manifest_is_read(tmp_path: Path) -> None:
    manifest = load(write(tmp_path, "\ufeff" + WHOLE))
    assert manifest.train.params == {"learning_rate": 0.01, "depth": 4, "robust": True, "loss": "1e-2"}  # fmt: skip
    assert type(manifest.train.params["depth"]) is int
    assert manifest.features["airport_delay"].aggregate["flights"].count
    assert manifest.release.steps[0].mirror == 1.0
    assert manifest.monitors["auc"].then == ("alert", "retrain")


def test_all_problems_are_told_at_once_with_line_and_nearest_key(tmp_path: Path) -> None:
    said = refusal(tmp_path, """service: loans
data:
  source: loans.csv
  traget: status
  task: binry
  sensitive: sex
train:
  test: 1.5
release:
  plan: canari
  hold: 10
reelase: {}
""").splitlines()  # fmt: skip
    assert said[0] == "fairlead.yaml has 7 problems"
    expected = [
        ("line  4", "data.traget", 'did you mean "target"?'),
        ("line  5", "data.task", 'did you mean "binary"?'),
        ("line  6", "data.sensitive", "expected a list, got 'sex': write [sex]"),
        ("line  8", "train.test", "1.5 is not between 0 and 1"),
        ("line 10", "release.plan", 'did you mean "canary"?'),
        ("line 11", "release.hold", "expected a duration such as 90s, 10m, 3h or 2d, got '10'"),
        ("line 12", "reelase", 'did you mean "release"?'),
    ]
    for line, parts in zip(said[1:], expected, strict=True):
        assert all(part in line for part in parts), line


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("data: {source: a, target: b}\ntrain: {}", "service  is missing: name of the service"),
        ("service: 7\n", "expected text, got '7': put it in quotes, \"7\""),
        ("service: a b\n", "'a b' is not 1 to 63 letters"),
        ("service: a\nservice: b\n", "line 2  service  is written twice, first on line 1"),
        (SMALL + "serve: {port: 70000}", "70000 is not between 0 and 65535"),
        (SMALL + "serve: {port: '80'}", "expected a whole number, got '80'"),
        (SMALL + "serve: {deadline_ms: .nan}", "expected a number, got '.nan'"),
        (SMALL + "serve: {fallback: [1]}", "expected a single value, got a list"),
        (SMALL + "gate: {margin: yes}", "expected a number, got 'yes'"),
        (SMALL + "gate: {checks: [{measure: auc}]}", "exactly one of `no_worse`, `min`/`max`, `parity` or `gap`"),
        (SMALL + "gate: {checks: [{measure: acc, min: 1}]}", '"acc" is not one of'),
        (SMALL + "gate: {checks: [{measure: auc, parity: 0.8}]}", "`parity` and `gap` need `by`"),
        (SMALL + "gate: {checks: [{measure: auc, parity: 0.8, by: sex}]}", "not listed in data.sensitive"),
        (SMALL + "gate: {checks: [{measure: auc, min: 2, max: 1}]}", "2 is above max 1"),
        (SMALL + "release: {hold: 2h, patience: 1h}", "2h is longer than the patience of 1h"),
        (SMALL + "release: {hold: ten minutes}", "not a duration: 'ten minutes'; write a number and a unit"),
        (SMALL + "release: {patience: 0s}", "'0s' is too short"),
        (SMALL + "release: {shares: [0.5, 0.25]}", "shares grow from step to step"),
        (SMALL + "release: {shares: [0.5, 2]}", "release.shares[1]  2 is not between 0 and 1"),
        (SMALL + "release: {plan: canary, steps: [{share: 0.1}]}", "a plan by hand stands alone: drop `plan`"),
        (SMALL + "release: {plan: bandit}", "a bandit needs `goal`"),
        (SMALL + "release: {plan: ab_test, goal: brier}", "brier is not the better for being higher"),
        (SMALL + "release: {plan: ab_test, days: 0}", "release.days  0 is not between 0 and 365"),
        (SMALL + "release: {steps: [{hold: 1m}]}", "gives the candidate no traffic"),
        (SMALL + "features: {v: {source: a, entity: b}}", "neither is written"),
        (SMALL + "features: {v: {source: a, entity: b, columns: [c], aggregate: {d: {count: true}}, window: 1h, time: t}}", "both are written"),
        (SMALL + "features: {v: {source: a, entity: b, time: t, aggregate: {d: {count: true}}}}", "`aggregate` needs a `window`"),
        (SMALL + "features: {v: {source: a, entity: b, time: t, window: 1h, aggregate: {d: {mean: x, count: true}}}}", "exactly one of {mean: column}"),
        (SMALL + "features: {a-b: {source: a, entity: b, columns: [c]}}", "features.a-b  a view is named with letters"),
        (SMALL + "monitors: {m: {measure: auc}}", "`min` or `max` says what passes"),
        (SMALL + "monitors: {m: {measure: auc, min: 1, then: [alert, page]}}", "'page' is not one of alert"),
        (SMALL + "monitors: {m: {measure: auc, min: 1, then: [retrain]}}", "needs data.time"),
        (SMALL + "gate:", "expected keys and values, got nothing"),
        (SMALL + "? [1, 2]\n: x", "a key is text, got a list"),
        (SMALL + "serve: {host: !!python/name:os.system x}", "expected text, got the tag"),
        ("service: a\ndata: {source: x, target: y, known_at: z}\ntrain: {}", "known_at  needs `time`"),
        ("service: a\ndata: {source: x, target: y, time: y}\ntrain: {}", "'y' is the target"),
        ("service: a\ndata: {source: x, target: y, ignore: [y]}\ntrain: {}", "'y' is ignored, yet it is the target"),
    ],
)  # fmt: skip
def test_a_problem_names_path_value_and_what_is_expected(
    tmp_path: Path, text: str, expected: str
) -> None:
    assert expected in refusal(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"service: caf\xe9\n", "line 1: byte 0xe9 is not UTF-8"),
        ("service: [1\nx: 2\n", "line 2, column 2"),
        ("a: &x [1]\nb: *x\n", "line 1: anchors and aliases"),
        ("a: " + "[" * 5000, "nested deeper than 32"),
        ("- 1\n", "holds no keys"),
        ("", "holds no keys"),
        ("a: 1\n---\nb: 2\n", "line 2"),
        ("a: \x07\n", "cannot be read"),
        (b"#" * 1_000_001, "larger than 1,000,000 bytes"),
    ],
    ids=["latin-1", "syntax", "anchor", "depth", "list", "empty", "two documents", "bell", "huge"],
)
def test_a_broken_or_hostile_document_is_one_error(
    tmp_path: Path, text: str | bytes, expected: str
) -> None:
    assert expected in refusal(tmp_path, text)


def test_a_missing_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(Missing, match=r"no file .*fairlead\.yaml"):
        load(tmp_path / "fairlead.yaml")


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=200) | st.binary(max_size=200))
def test_no_document_escapes_the_error_tree(tmp_path_factory: pytest.TempPathFactory, text: str | bytes) -> None:  # fmt: skip
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(text.encode(errors="surrogatepass") if isinstance(text, str) else text)
    with pytest.raises(FairleadError):
        load(path)


TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["service", "data", "train", "release", "source", "target", "steps", "hold",
                         "share", "plan", "gate", "checks", "min", "measure", "features", "x"]), inner),
    max_leaves=12)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(TREES)
def test_what_is_accepted_is_what_the_types_say(
    tmp_path_factory: pytest.TempPathFactory, tree: object
) -> None:
    path = tmp_path_factory.getbasetemp() / "tree.yaml"
    path.write_text(json.dumps(tree))
    try:
        manifest = load(path)
    except FairleadError:
        return
    assert msgspec.convert(msgspec.to_builtins(manifest), Manifest) == manifest


def test_the_published_schema_is_current_and_describes_every_key() -> None:
    published = json.loads((ROOT / "docs/reference/fairlead.schema.json").read_text())
    assert published == json_schema(), "run: fairlead schema > docs/reference/fairlead.schema.json"
    for cls, fields in FIELDS.items():
        assert set(fields) == set(cls.__struct_fields__)
        for name in fields:
            assert published["$defs"][cls.__name__]["properties"][name]["description"].endswith(".")


def test_the_schema_states_the_limits_the_loader_keeps() -> None:
    shares = json_schema()["$defs"]["ReleaseSection"]["properties"]["shares"]["items"]
    assert (shares["minimum"], shares["maximum"]) == (0, 1)
    assert json_schema()["$defs"]["TrainSection"]["properties"]["test"]["exclusiveMaximum"] == 1
    assert json_schema()["$defs"]["DataSection"]["additionalProperties"] is False
