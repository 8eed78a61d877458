"""`fairlead init` on ugly tables: it writes a project that loads, or says exactly what to change."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from fairlead.adapters.manifest import load
from fairlead.api.cli import main

ROWS = 400


def loans() -> dict[str, Any]:
    draw = np.random.default_rng(0)
    income = np.round(draw.lognormal(10, 0.5, ROWS), 2)
    day = [f"{1 + i % 28:02}.{1 + i % 12:02}.2024" for i in range(ROWS)]
    return {
        "Kunde Nr": [f"K-{i:05}" for i in range(ROWS)],
        "bewilligt_on": sorted(day, key=lambda d: (d[3:5], d[:2])),
        "geschlecht": draw.choice(["männlich", "weiblich"], ROWS),
        "einkommen": [f"{v:.2f}".replace(".", ",") for v in income],
        "land": ["Österreich"] * ROWS,
        "status": np.where(income < 20000, "säumig", "bezahlt"),
        "klasse": draw.choice(["a", "b", "c"], ROWS),
        "betrag": draw.normal(1000, 100, ROWS),
    }


@pytest.fixture
def latin(tmp_path: Path) -> Path:
    path = tmp_path / "kredite.csv"
    path.write_bytes(pl.DataFrame(loans()).write_csv(separator=";").encode("latin-1"))
    return path


def init(table: Path, folder: Path, *more: str) -> int:
    return main(["init", "--from", str(table), "--into", str(folder), *more])


def test_semicolons_latin_1_decimal_commas_and_german_dates(latin: Path, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    assert init(latin, folder, "--target", "status", "--time", "bewilligt_on", "--sensitive", "geschlecht") == 0  # fmt: skip
    text = (folder / "fairlead.yaml").read_text()
    manifest = load(folder / "fairlead.yaml")
    assert (manifest.service, manifest.data.task, manifest.data.target) == ("kredite", "binary", "status")  # fmt: skip
    assert manifest.data.sensitive == ("geschlecht",)
    assert set(manifest.data.ignore) == {"Kunde Nr", "land"}
    assert manifest.data.source == "data/kredite.csv"
    assert (folder / "data" / "kredite.csv").read_bytes() == latin.read_bytes()
    assert len(text.splitlines()) <= 60
    assert "säumig" in text
    assert ".fairlead/" in (folder / ".gitignore").read_text()
    assert "HistGradientBoostingClassifier" in (folder / "train.py").read_text()


@pytest.mark.parametrize(("target", "task", "model"), [
    ("klasse", "multiclass", "Classifier"), ("betrag", "regression", "Regressor"),
    ("einkommen", "regression", "Regressor"),
])  # fmt: skip
def test_parquet_and_the_task_of_every_kind_of_target(
    tmp_path: Path, target: str, task: str, model: str
) -> None:
    frame = pl.DataFrame(loans()).with_columns(pl.col("einkommen").str.replace(",", ".").cast(float))
    frame.write_parquet(tmp_path / "loans.parquet")
    assert init(tmp_path / "loans.parquet", tmp_path, "--target", target) == 0
    manifest = load(tmp_path / "fairlead.yaml")
    assert (manifest.data.task, manifest.data.source) == (task, "loans.parquet")
    assert f"HistGradientBoosting{model}" in (tmp_path / "train.py").read_text()


def test_names_that_yaml_would_read_otherwise_survive(tmp_path: Path) -> None:
    odd = {"no": ["a", "b"] * 50, 'a: "b" #c': [1.5, 2] * 50, "2013": [True, False] * 50,
           "tab\there": ["x"] * 100, "\u2028": ["y"] * 100}  # fmt: skip
    pl.DataFrame(odd).write_parquet(tmp_path / "odd.parquet")
    assert init(tmp_path / "odd.parquet", tmp_path, "--target", "2013", "--name", "yes", "--sensitive", "no") == 0  # fmt: skip
    manifest = load(tmp_path / "fairlead.yaml")
    assert (manifest.service, manifest.data.target, manifest.data.sensitive) == ("yes", "2013", ("no",))
    assert set(manifest.data.ignore) == {"tab\there", "\u2028"}


@pytest.mark.parametrize(("arguments", "status", "expected"), [
    (("--target", "statsu"), 3, "did you mean status"),
    (("--target", "land"), 2, "is constant: Österreich"),
    (("--target", "Kunde Nr"), 2, "400 different values"),
    (("--target", "status", "--time", "klasse"), 2, "columns with times: bewilligt_on"),
    (("--target", "status", "--sensitive", "betrag"), 2, "groups are compared"),
    (("--target", "status", "--entity", "kunde"), 3, "did you mean Kunde Nr"),
    (("--target", "bewilligt_on"), 2, "is a datetime"),
])  # fmt: skip
def test_what_cannot_be_says_what_to_change(
    latin: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...], status: int, expected: str,
) -> None:  # fmt: skip
    assert init(latin, tmp_path / "project", *arguments) == status
    assert expected in capsys.readouterr().err
    assert not (tmp_path / "project").exists()


def test_a_target_that_is_mostly_missing_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pl.DataFrame({"x": range(100), "y": [1, 2, *[None] * 98]}).write_csv(tmp_path / "t.csv")
    assert init(tmp_path / "t.csv", tmp_path, "--target", "y") == 2
    assert "missing in 98% of the rows" in capsys.readouterr().err


def test_without_a_target_the_candidates_are_listed(
    latin: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert init(latin, tmp_path / "project", "--json") == 2
    names = [t["name"] for t in json.loads(capsys.readouterr().out)["targets"]]
    assert names[0] == "status"
    assert not {"land", "Kunde Nr", "bewilligt_on"} & set(names)
    assert init(latin, tmp_path / "project") == 2
    assert "fairlead init --from" in capsys.readouterr().out


def test_a_column_that_gives_the_target_away_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = pl.DataFrame(loans()).with_columns(code=pl.col("status") == "bezahlt")
    frame.write_parquet(tmp_path / "t.parquet")
    assert init(tmp_path / "t.parquet", tmp_path, "--target", "status") == 0
    assert "code: its value alone says what status is" in capsys.readouterr().out


def test_a_missing_file_names_its_neighbours(
    latin: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert init(tmp_path / "kredit.csv", tmp_path, "--target", "status") == 3
    assert "kredite.csv" in capsys.readouterr().err


def test_a_folder_that_is_a_project_stays_as_it_is(
    latin: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "train.py").write_text("mine")
    assert init(latin, tmp_path, "--target", "status") == 4
    assert (tmp_path / "train.py").read_text() == "mine"
    assert not (tmp_path / "fairlead.yaml").exists()
    (tmp_path / "train.py").rename(tmp_path / "fairlead.yaml")
    assert init(latin, tmp_path, "--target", "status") == 4
    assert "--into" in capsys.readouterr().err


def test_a_gitignore_that_exists_is_extended_once(latin: Path, tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("*.log\ndata/")
    assert init(latin, tmp_path, "--target", "status") == 0
    assert (tmp_path / ".gitignore").read_text() == "*.log\ndata/\n.fairlead/\n__pycache__/\n"
