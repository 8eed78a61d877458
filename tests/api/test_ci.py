"""`fairlead ci` on pull requests of a real git repository: what changed, the verdict, and what others read."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import msgspec
import numpy as np
import polars as pl
import pytest
import yaml
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from fairlead.adapters.manifest import load
from fairlead.api.cli import main
from fairlead.api.present.review import markdown, review_junit, sarif
from fairlead.core.check import Outcome
from fairlead.core.review import Changed, Finding, Review
from fairlead.errors import Invalid
from fairlead.project import Project
from fairlead.settings import Settings
from tests.flow.conftest import Here

ROOT = Path(__file__).parents[2]
MANIFEST = """\
service: trips
data: {source: trips.csv, target: late, time: at}
features:
  roads: {source: roads.csv, entity: road, columns: [lanes]}
train: {params: {depth: 6}}
gate:
  margin: 0.02
"""
TRAIN = """\
from sklearn.tree import DecisionTreeClassifier
import shape

def train(data, params):
    return DecisionTreeClassifier(max_depth=params["depth"], min_samples_leaf=shape.LEAF, random_state=0).fit(data.X, data.y)
"""


class Counting(Here):
    """Counts the trainings."""

    def __init__(self) -> None:
        self.trained = 0

    def run(self, job: Sequence[str], workdir: Path, env: Mapping[str, str]) -> None:
        self.trained += b'"type":"train"' in (workdir / "job.json").read_bytes()
        sys.modules.pop("shape", None)
        super().run(job, workdir, env)


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", "-C", str(folder), "-c", "user.name=ann", "-c", "user.email=ann@example.org", *arguments],
                   check=True, capture_output=True)  # fmt: skip


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project in a folder of a repository, its base committed on main."""
    top = tmp_path_factory.mktemp("repository")
    root = top / "models" / "trips"
    root.mkdir(parents=True)
    draw = np.random.default_rng(1)
    at = pl.Series(1_700_000_000 + np.arange(4000) * 3600) * 1_000_000
    distance = draw.gamma(3, 300, 4000).round(1)
    late = distance / 900 + draw.normal(0, 1, 4000) > 1
    pl.DataFrame({"at": at.cast(pl.Datetime("us", "UTC")), "distance": distance, "late": late,
                  "road": draw.choice(["a", "b"], 4000)}).write_csv(root / "trips.csv")  # fmt: skip
    pl.DataFrame({"road": ["a", "b"], "lanes": [2, 4]}).write_csv(root / "roads.csv")
    texts = {"fairlead.yaml": MANIFEST, "train.py": TRAIN, "shape.py": "LEAF = 20\n", ".gitignore": ".fairlead/\nroads.csv\n"}
    for name, text in texts.items():
        (root / name).write_text(text)
    git(top, "init", "-q", "-b", "main")
    git(top, "add", "-A")
    git(top, "commit", "-qm", "base")
    git(top, "checkout", "-qb", "change")
    before, bytecode = list(sys.path), sys.dont_write_bytecode
    with threadpool_limits(1), Project.open(root, Settings(actor="ann")) as opened:
        opened.compute = Counting()
        yield opened
    sys.path, sys.dont_write_bytecode = before, bytecode
    for name in ("train", "shape"):
        sys.modules.pop(name, None)


@pytest.fixture(autouse=True)
def restored(request: pytest.FixtureRequest) -> Iterator[None]:
    """Each change starts from the base."""
    yield
    if "project" in request.fixturenames:
        project = request.getfixturevalue("project")
        git(project.root, "checkout", "-q", "main", "--", ".")
        project.manifest = load(project.root / "fairlead.yaml")


def edit(project: Project, name: str, old: str, new: str) -> None:
    path = project.root / name
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    with suppress(Invalid):
        project.manifest = load(project.root / "fairlead.yaml")


def trained(project: Project) -> int:
    assert isinstance(project.compute, Counting)
    return project.compute.trained


def of(review: Review, name: str) -> Finding:
    return next(f for f in review.findings if f.name.startswith(name))


def test_without_a_base_the_last_model_that_passed_is_the_baseline(project: Project) -> None:
    good = project.examine()
    assert (good.outcome, good.changed, good.baseline) == (Outcome.PASS, (), None)
    edit(project, "fairlead.yaml", "depth: 6", "depth: 1")
    review = project.examine()
    assert (review.changed, review.baseline) == ((Changed("manifest", "train"),), good.model)


def test_a_change_of_nothing_a_model_depends_on_is_no_work(project: Project) -> None:
    (project.root / "README.md").write_text("trips")
    (project.root / "junit.xml").write_text("a report")
    edit(project, "fairlead.yaml", "gate:", "serve: {port: 9000}\ngate:")
    before = trained(project)
    review = project.examine("main")
    assert (review.outcome, review.changed, review.findings) == (Outcome.PASS, (), ())
    assert trained(project) == before


def test_code_that_makes_the_model_worse_is_refused_at_its_line(project: Project) -> None:
    edit(project, "shape.py", "20", "1800")
    review = project.examine("main")
    assert review.outcome is Outcome.FAIL
    assert review.changed == (Changed("code", "shape.py"),)
    finding = of(review, "no worse than the baseline")
    assert (finding.outcome, finding.file, finding.line) == (Outcome.FAIL, "train.py", 4)
    again = trained(project)
    assert project.examine("main").model == review.model
    assert trained(project) == again, "both models are known by now"


def test_a_comment_makes_the_same_model(project: Project) -> None:
    edit(project, "train.py", "import shape", "import shape  # how many rows a leaf has")
    review = project.examine("main")
    assert (review.outcome, review.changed) == (Outcome.PASS, (Changed("code", "train.py"),))
    assert review.model == review.baseline


def test_a_column_in_another_unit_is_refused_at_the_file(project: Project) -> None:
    table = pl.read_csv(project.root / "trips.csv")
    table.with_columns((pl.col("distance") * 1.609344).round(2)).write_csv(project.root / "trips.csv")
    review = project.examine("main")
    assert (review.outcome, review.changed) == (Outcome.FAIL, (Changed("data", "trips.csv"),))
    finding = of(review, "distance: other values for the same period")
    assert "kilometres for miles" in finding.name
    assert (finding.file, finding.line) == ("trips.csv", 1)


def test_a_table_that_breaks_its_contract_is_refused_at_the_row(project: Project) -> None:
    path = project.root / "trips.csv"
    lines = path.read_text().splitlines()
    lines[100] = lines[100].replace(lines[100].split(",")[1], "far")
    path.write_text("\n".join(lines) + "\n")
    before = trained(project)
    (finding,) = project.examine("main").findings
    assert (finding.rule, finding.outcome, finding.file, finding.line) == ("data", Outcome.FAIL, "trips.csv", 101)
    assert trained(project) == before


def test_code_that_fails_is_refused_at_the_innermost_line_of_the_project(project: Project) -> None:
    edit(project, "shape.py", "LEAF = 20\n", "LEAF = 20\n\n1 / 0\n")
    (finding,) = project.examine("main").findings
    assert (finding.rule, finding.file, finding.line) == ("training", "shape.py", 3)
    edit(project, "train.py", "return", "retrun")
    (finding,) = project.examine("main").findings
    assert (finding.file, finding.line) == ("train.py", 5)
    assert "importlib" not in finding.text


def test_a_new_bound_is_asked_of_the_same_model_at_the_line_that_asks(project: Project) -> None:
    edit(project, "fairlead.yaml", "  margin: 0.02", "  margin: 0.02\n  checks:\n    - {measure: auc, min: 0.99}")
    before = trained(project)
    review = project.examine("main")
    assert review.changed == (Changed("manifest", "gate"),)
    finding = of(review, "bound of auc")
    assert (finding.outcome, finding.file, finding.line, finding.rule_line) == (Outcome.FAIL, "fairlead.yaml", 9, 9)
    assert re.search(r"95% interval \[0\.\d+, 0\.\d+\] on 800 rows", finding.text)
    assert trained(project) == before


def test_a_base_that_cannot_be_trained_is_nothing_to_compare_with(project: Project) -> None:
    edit(project, "shape.py", "20", "'many'")
    git(project.root, "commit", "-qam", "broken")
    git(project.root, "branch", "-qf", "broken")
    edit(project, "shape.py", "'many'", "20")
    review = project.examine("broken")
    git(project.root, "reset", "-q", "--hard", "main")
    note = of(review, "a model of the base")
    assert (review.outcome, note.blocks, review.baseline) == (Outcome.PASS, False, None)


def test_commands_say_what_the_verdict_is_by_their_status(
    project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    monkeypatch.setenv("GITHUB_OUTPUT", str(tmp_path / "output"))
    files = ["--junit", str(tmp_path / "a" / "j.xml"), "--sarif", str(tmp_path / "s.json"), "--markdown", str(tmp_path / "c.md")]
    assert main(["ci", "-C", str(project.root), "--base", "main", *files]) == 0
    assert "nothing the model depends on changed" in capsys.readouterr().out
    assert ElementTree.parse(tmp_path / "a" / "j.xml").getroot().get("tests") == "1"
    assert main(["ci", "-C", str(project.root), "--base", "nowhere"]) == 2
    assert "fetch-depth: 0" in capsys.readouterr().out
    assert main(["ci", "-C", str(project.root), "--base", "main", "--junit", str(tmp_path)]) == 2
    assert "no report in" in capsys.readouterr().err
    edit(project, "fairlead.yaml", "time: at", "tiem: at")
    assert main(["ci", "-C", str(project.root), *files, "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["verdict"] == "undecided"
    (result,) = json.loads((tmp_path / "s.json").read_text())["runs"][0]["results"]
    assert (result["level"], *where(result)) == ("warning", "models/trips/fairlead.yaml", 2)
    assert (tmp_path / "summary.md").read_text().count("### ") == 3
    assert (tmp_path / "output").read_text().splitlines()[::3] == ["verdict=passed", "verdict=undecided", "verdict=undecided"]


def where(result: dict[str, Any]) -> tuple[str, int]:
    place = result["locations"][0]["physicalLocation"]
    return place["artifactLocation"]["uri"], place["region"]["startLine"]


ODD = Review(service="a & <b>", base="main", findings=(
    Finding(rule="gate/auc", name='auc "x" | [a](http://b) <img> @all', outcome=Outcome.FAIL, text="0.5\nlow\x1b", file="my_own data.csv", rule_line=7),
    Finding(rule="gate/brier", name="brier", outcome=Outcome.UNKNOWN, text="too few"),
    Finding(rule="gate/skill", name="skill", outcome=Outcome.FAIL, text="told only", blocks=False),
    Finding(rule="gate/latency", name="latency", outcome=Outcome.PASS, text="fast"),
))  # fmt: skip


def test_junit_has_a_case_for_each_check() -> None:
    suites = ElementTree.fromstring(review_junit(ODD, "models/").encode())
    (suite,) = suites
    assert [suite.get(k) for k in ("tests", "failures", "errors", "skipped")] == ["4", "1", "1", "1"]
    assert [case[0].tag for case in suite] == ["failure", "error", "skipped", "system-out"]
    assert (suite[0].get("file"), suite[0][0].text) == ("models/my_own data.csv", "0.5\nlow\ufffd")


def test_sarif_is_of_its_version_and_points_into_the_repository() -> None:
    log = json.loads(sarif(ODD, "models/a b/"))
    (run,) = log["runs"]
    assert log["version"] == "2.1.0"
    ids = [r["id"] for r in run["tool"]["driver"]["rules"]]
    assert [(ids[r["ruleIndex"]], r["level"]) for r in run["results"]] == [
        ("gate/auc", "error"), ("gate/brier", "warning"), ("gate/skill", "note")]  # fmt: skip
    assert where(run["results"][0]) == ("models/a%20b/my_own%20data.csv", 1)
    assert "](" not in run["results"][0]["message"]["text"], "a name is no link"
    assert run["results"][0]["relatedLocations"][0]["physicalLocation"]["region"]["startLine"] == 7


def test_a_comment_begins_with_the_verdict_and_names_become_no_markup() -> None:
    text = markdown(ODD)
    assert text.startswith("### ❌ Fairlead: refused\n")
    assert text.index("auc") < text.index("<details>") < text.index("latency")
    assert "| `my_own data.csv:1` |" in text
    outside = re.sub(r"</?(details|summary|sub|br)>", "", text)
    assert "<" not in outside
    assert "@" not in outside
    assert "](" not in outside.replace("\\]", "")
    assert all(row.replace("\\|", "").count("|") == 5 for row in text.splitlines() if row.startswith("|"))


def test_a_comment_is_never_too_long_to_be_posted() -> None:
    assert len(markdown(msgspec.structs.replace(ODD, findings=ODD.findings * 500))) < 65_536


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository after a newcomer's first commands, with the project in a folder of it."""
    top = tmp_path_factory.mktemp("clone")
    inner = top / "my models"
    inner.mkdir()
    git(top, "init", "-q", "-b", "main")
    table = {"size": [float(i) for i in range(400)], "late": [i % 3 == 0 for i in range(400)]}
    pl.DataFrame(table).write_csv(inner / "trips.csv")
    assert main(["init", "--from", str(inner / "trips.csv"), "--target", "late", "--into", str(inner)]) == 0
    git(top, "add", "-A")
    git(top, "commit", "-qm", "base")
    git(top, "update-ref", "refs/remotes/origin/main", "HEAD")
    return top


@pytest.mark.parametrize("system", ["github", "gitlab"])
def test_ready_workflows_run_from_a_fresh_clone(
    clone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], system: str
) -> None:
    """Every step that is a command is run as the runner would."""
    inner = str(clone / "my models")
    assert main(["init", "--ci", system, "--into", inner, "--json"]) == 0
    assert not capsys.readouterr().out, "a script reads JSON or nothing"
    assert main(["init", "--ci", system, "--into", inner]) == 4, "nothing is written over"
    steps, environment = commands(clone, system)
    (tmp_path / "bin").mkdir()
    for tool in ("gh", "pip"):
        (tmp_path / "bin" / tool).write_text(f'#!/bin/sh\necho {tool} "$@" >> "{tmp_path}/told"\n')
        (tmp_path / "bin" / tool).chmod(0o755)
    path = f"{tmp_path / 'bin'}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", "\n".join(steps)], cwd=clone, capture_output=True, text=True,
                          env=os.environ | environment | {"PATH": path})  # fmt: skip
    assert done.returncode == 0, done.stderr
    (clone / "reports" / "fairlead.xml").unlink()
    told = (tmp_path / "told").read_text()
    assert 'pip install fairlead[all]' in told
    assert system != "github" or "gh pr comment 7 --body-file reports/fairlead.md" in told


def commands(top: Path, system: str) -> tuple[list[str], dict[str, str]]:
    """The commands of the job, and the variables they are given."""
    if system == "gitlab":
        job = yaml.safe_load((top / ".gitlab-ci.yml").read_text())["fairlead"]
        assert job["cache"]["paths"] == ["my models/.fairlead"]
        assert job["artifacts"]["reports"]["junit"] in job["script"][0]
        return [*job["before_script"], *job["script"]], {"CI_MERGE_REQUEST_DIFF_BASE_SHA": "main"}
    flow = yaml.safe_load((top / ".github" / "workflows" / "fairlead.yml").read_text())
    steps = flow["jobs"]["gate"]["steps"]
    uses = [s["uses"] for s in steps if "uses" in s]
    assert all(re.fullmatch(r"[\w-]+/[\w/-]+@[0-9a-f]{40}", u) for u in uses), "actions are pinned by digest"
    assert next(s for s in steps if "checkout" in s.get("uses", ""))["with"] == {"fetch-depth": 0, "persist-credentials": False}
    assert not any("${{" in s.get("run", "") for s in steps), "what a stranger names is no part of a script"
    return [s["run"] for s in steps if "run" in s], {"BASE": "origin/main", "NUMBER": "7"}
