"""The commands together, as a newcomer types them: from a table to a served, explained prediction."""

import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import polars as pl
import pytest

from fairlead.api.cli import main
from fairlead.api.client import Client, found
from fairlead.errors import Invalid, Unavailable

ROWS = 1500


def write_table(path: Path, rows: int) -> None:
    draw = np.random.default_rng(1)
    income, region = draw.lognormal(10, 0.6, rows), draw.choice(["north", "south", "west"], rows)
    risk = 1 / (1 + np.exp((income - 22000) / 5000 + (region == "south")))
    start = np.datetime64("2024-01-01T00:00:00", "ms")
    pl.DataFrame({
        "approved_on": start + np.arange(rows) * np.timedelta64(3600_000, "ms"),
        "income": income.round(2), "region": region,
        "status": np.where(draw.random(rows) < risk, "default", "paid"),
    }).write_csv(path)  # fmt: skip


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("loans")
    write_table(folder / "loans.csv", ROWS)
    assert main(["init", "--from", str(folder / "loans.csv"), "--target", "status",
                 "--time", "approved_on", "--into", str(folder)]) == 0  # fmt: skip
    manifest = folder / "fairlead.yaml"
    manifest.write_text(manifest.read_text().replace("max_iter: 200", "max_iter: 15"))
    assert main(["run", "-C", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def served(project: Path) -> Iterator[Client]:
    process = subprocess.Popen([sys.executable, "-m", "fairlead", "serve", "--port", "0"],
                               cwd=project, stdout=subprocess.PIPE, text=True)  # fmt: skip
    end = time.monotonic() + 30
    try:
        while time.monotonic() < end:
            try:
                client = found(project)
                client.get("/v2/health/ready")
                break
            except Unavailable:
                time.sleep(0.05)
        yield client
    finally:
        process.terminate()
        said, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert f"answers on {client.url}" in said
    curl = next(line for line in said.splitlines() if line.startswith("curl"))
    sent = json.loads(curl.split(" -d ")[1].strip("'"))
    assert {"income", "region"} <= set(sent)


def said(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> Any:
    capsys.readouterr()
    assert main([*arguments, "--json"]) == status
    return json.loads(capsys.readouterr().out)


def test_predict_feedback_why_and_status(
    project: Path, served: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    here = ("-C", str(project))
    row = '{"approved_on": "2024-03-01T00:00:00Z", "income": 9000, "region": "south"}'
    answer = said(capsys, "predict", row, *here)
    assert answer["label"] in ("default", "paid")
    assert len(said(capsys, "predict", f"[{row}, {row}]", *here)["predictions"]) == 2
    assert said(capsys, "feedback", answer["id"], "default", *here) == {"accepted": 1}
    table = project / "feedback.csv"
    table.write_text(f"prediction,value\n{answer['id']},default\n")
    assert said(capsys, "feedback", str(table), *here) == {"accepted": 1}

    why = said(capsys, "why", answer["id"], *here)
    assert why["answer"]["inputs"]["income"] == 9000
    assert why["package"]["ref"] == answer["package"]
    assert why["datasets"][0]["spec"]["parts"][0]["rows"] == ROWS
    assert why["learnt"]["rows"] + why["learnt"]["held_out"] == ROWS
    assert {f["value"] for f in why["feedback"]} == {"default"}
    assert main(["why", answer["id"], *here]) == 0
    tree = capsys.readouterr().out
    for word in (answer["id"], "request", "routed", "package/loans@", "gate passed", "learning_rate=0.1",
                 "dataset/loans@", "most alike"):  # fmt: skip
        assert word in tree

    status = said(capsys, "status", *here)
    assert status["url"] == served.url
    assert {e["measure"]: e["value"] for e in status["health"]}["volume"] == 3
    assert main(["status", *here]) == 0
    assert "3 requests" in capsys.readouterr().out


def test_bench_loads_the_service(
    project: Path, served: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["bench", "-C", str(project), "--seconds", "0.5", "--connections", "3"]
    assert main([*asked, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["requests"] == sum(n for _, n in told["histogram"]) > 50 and told["errors"] == {}
    assert told["rate"] == pytest.approx(told["requests"] / told["seconds"]) and told["seconds"] < 3
    latency = told["latency_ms"]
    assert 0 < latency["p50"] <= latency["p90"] <= latency["p99"] <= latency["max"] < 3000
    metrics = served.get("/status")["journal"]
    assert metrics["durability"] == "os" and metrics["unlogged"] == 0
    assert main(asked) == 0
    shown = capsys.readouterr().out
    assert "requests/s" in shown and "█" in shown and "p99" in shown and "0 errors" in shown
    assert main([*asked[:-1], "0"]) == 2
    assert main([*asked, "--rate", "200", "--rows", "5", "--json"]) == 0
    paced = json.loads(capsys.readouterr().out)
    assert paced["requests"] == 100 and paced["rows"] == 5 and paced["wanted"] == 200
    assert main([*asked[:3], "--seconds", "0.02", "--rate", "100000"]) == 0
    assert "more than it takes" in capsys.readouterr().out


def test_those_who_keep_watch_see_processes_monitors_and_a_page(
    project: Path, served: Client, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = ("-C", str(project))
    row = '{"approved_on": "2024-03-01T00:00:00Z", "income": 9000, "region": "south"}'
    said(capsys, "predict", row, *here)
    status = said(capsys, "status", *here)
    assert {p["process"] for p in status["processes"]} >= {"gateway", "replica", "supervisor", "controller"}
    assert all(p["resident"] > 1e6 for p in status["processes"])
    (cost,) = status["costs"]
    assert cost["package"].startswith("package/loans@") and 0 < cost["per_thousand"] < 1000
    standings = {s["monitor"]["name"]: s for s in said(capsys, "monitors", *here)}
    assert standings["errors"]["values"][-1] == 0.0 and standings["errors"]["alert"] == 0
    assert sum(s["allowed"] for s in standings.values()) == pytest.approx(1.0)
    page = tmp_path / "page.html"
    assert main(["report", "--week", "--html", str(page), *here]) == 0
    html = page.read_text()
    assert html.startswith("<!doctype html>") and "Requests per hour" in html and "loans@" in html
    assert said(capsys, "report", "--last", "1d", *here)["service"] == "loans"
    assert main(["report", "--week", "--last", "1d", *here]) == 2


def test_a_bad_row_is_refused_with_what_to_send(
    project: Path, served: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    row = '{"approved_on": "2024-03-01T00:00:00Z", "income": "much", "region": "south"}'
    assert main(["predict", row, "-C", str(project)]) == 2
    error = capsys.readouterr().err
    assert "/income" in error
    assert "send a JSON number" in error
    with pytest.raises(Invalid, match="income"):
        served.post("/predict", row.encode())
    status, body = served._send("POST", "/predict", row.encode(), {})
    refused = json.loads(body)["error"]["id"]
    assert said(capsys, "why", refused, "-C", str(project))["refused"]["inputs"]["income"] == "much"
    assert main(["why", refused, "-C", str(project)]) == 0
    tree = " ".join(capsys.readouterr().out.split())
    assert f"refused with {status} type at /income: column 'income' must be a number, not 'much'" in tree
    assert "nobody was asked; package/loans@" in tree and "south" in tree
    assert main(["why", "01nobody", "-C", str(project)]) == 3


def test_an_answer_is_explained_later_when_its_caller_asks(
    project: Path, served: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    row = b'{"approved_on": "2024-03-01T00:00:00Z", "income": 9000, "region": "south"}'
    plain, answer = (served.post(path, row) for path in ("/predict", "/predict?explain=true"))
    assert plain.keys() == answer.keys() and plain["score"] == answer["score"]
    end, found = time.monotonic() + 60, None
    while found is None and time.monotonic() < end:
        time.sleep(0.2)
        found = said(capsys, "why", answer["id"], "-C", str(project))["explanation"]
    assert found and {c["column"] for c in found["contributions"]} >= {"income", "region"}
    assert said(capsys, "why", plain["id"], "-C", str(project))["explanation"] is None
    assert main(["why", answer["id"], "-C", str(project)]) == 0
    assert "what moved the answer" in capsys.readouterr().out


def test_the_log_tells_what_happened_and_is_intact(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = ("-C", str(project))
    verbs = [e["verb"] for e in said(capsys, "audit", "log", *here)]
    wanted = ["data.committed", "model.trained", "gate.passed", "package.built", "release.started"]
    assert [v for v in verbs if v in wanted][:5] == wanted
    assert said(capsys, "audit", "verify", *here)["events"] >= 5
    assert said(capsys, "release", "status", *here)["release"]["phase"] == "promoted"


def test_versions_diff_and_checkout(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    here = ("-C", str(project))
    write_table(project / "more.csv", ROWS + 100)
    assert said(capsys, "data", "commit", str(project / "more.csv"), *here)["rows"] == ROWS + 100
    versions = said(capsys, "data", "log", *here)
    assert [v["rows"] for v in versions][:2] == [ROWS + 100, ROWS]
    assert main(["data", "log", *here]) == 0
    assert "+100" in capsys.readouterr().out
    assert said(capsys, "data", "diff", *here)["schema"]["size"] in ("same", "wider")
    target = project / "out.parquet"
    assert main(["data", "checkout", versions[1]["ref"], str(target), *here]) == 0
    assert pl.read_parquet(target).height == ROWS
    assert main(["data", "checkout", "dataset/nothing", str(target), *here]) == 3


def test_a_refused_model_is_exit_status_1_with_a_junit_file(
    project: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    here = ("-C", str(project))
    manifest = project / "fairlead.yaml"
    before = manifest.read_text()
    manifest.write_text(before.replace("  # checks:", "  checks: [{measure: auc, min: 0.999}]  #"))
    try:
        report = tmp_path / "gate.xml"
        decision = said(capsys, "gate", "--junit", str(report), *here, status=1)
    finally:
        manifest.write_text(before)
    failed = [v["check"]["measure"] for v in decision["because"] if v["outcome"] == "fail"]
    assert failed == ["auc"]
    suite = ElementTree.parse(report).getroot()
    assert suite.get("failures") == "1"
    assert suite.get("tests") == str(len(decision["because"]))


def test_a_release_is_started_paused_resumed_aborted_and_watched(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = ("-C", str(project))
    said(capsys, "train", "--param", "max_iter=5", *here)
    said(capsys, "package", *here)
    assert main(["release", "start", *here]) == 2
    assert "never judged" in capsys.readouterr().err
    begun = said(capsys, "release", "start", "--plan", "canary", "--force", "a test", *here)
    assert begun["phase"] == "running"
    view = said(capsys, "release", "status", *here)
    assert view["decision"]["because"][0]["outcome"] == "unknown"
    assert view["route"]["arms"][1]["weight"] == 0.05
    assert main(["release", "start", "--force", "again", *here]) == 4
    for verb, phase in (("pause", "paused"), ("resume", "running"), ("abort", "aborted")):
        assert main(["release", verb, *here]) == 0
        assert phase in capsys.readouterr().out
    assert main(["release", "watch", begun["id"], *here]) == 1
    assert f"{begun['id']}  aborted  step 1/3 5 % live" in capsys.readouterr().out
    assert main(["release", "status", "nothing", *here]) == 3


def test_a_parameter_is_one_value(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--param", "max_iter", "-C", str(project)]) == 2
    assert main(["train", "--param", "max_iter=[1]", "-C", str(project)]) == 2
    assert "is not a text, a number or a boolean" in capsys.readouterr().err


def test_a_forged_audit_log_is_exit_status_6(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with sqlite3.connect(project / ".fairlead" / "records.db") as records:
        records.execute("UPDATE event SET actor = 'somebody else' WHERE seq = 3")
    records.close()
    assert main(["audit", "verify", "-C", str(project)]) == 6
    assert "audit log is broken at event 4" in capsys.readouterr().err
