"""Alerts on the command line, and the secrets of receivers, which stay where they are kept."""

import json
import time
from pathlib import Path

import pytest

from fairlead.adapters.manifest import load
from fairlead.api.cli import main
from fairlead.controller import Controller
from fairlead.errors import Invalid
from fairlead.ports import Change
from fairlead.project import Project

MANIFEST = """
service: loans
data: {source: loans.csv, target: status}
train: {}
monitors: {quality: {measure: accuracy, min: 0.8}}
"""
RECEIVERS = """
alerts:
  to:
    - name: ops
      webhook: {url_file: address, secret_file: key, allow_private: true}
    - slack: {url_env: SLACK_FOR_TESTS}
    - email: {host: 127.0.0.1, port: 1, sender: a@b.example, to: [c@d.example], user: u, password_file: key, allow_private: true}
    - alertmanager: {url: "https://10.0.0.1:1", token_file: key}
    - command: {run: [cat]}
"""
CANARY = "XCANARYX"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "fairlead.yaml").write_text(MANIFEST)
    with Project.open(tmp_path) as project:
        for cause in ("accuracy: 0.61 below 0.8", "accuracy: 0.6 below 0.8"):
            project.records.commit(Change(
                at=time.time() - 60, actor="fairlead", verb="alert.raised", subject="service/loans",
                body={"service": "loans", "monitor": "quality", "package": "package/loans@" + "a" * 64,
                      "cause": cause, "actions": ["alert"], "next": "look at the slices",
                      "slices": [{"measure": "accuracy", "value": 0.5, "n": 90, "slice": "region=south"}]},
            ))  # fmt: skip
    return tmp_path


def test_a_person_looks_after_an_alert(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    at = ("-C", str(root))
    assert main(["alerts", *at]) == 0
    out, err = capsys.readouterr()
    for words in ("1  open  quality", "2 times", "accuracy: 0.6 below 0.8", "region=south 0.5 of 90",
                  "look at the slices", "package/loans@aaaaaaaaaaaa", "log  0 delivered"):  # fmt: skip
        assert words in out
    assert "alerts ack 1" in err
    assert main(["alerts", "ack", "1", "--note", "on it", *at]) == 0
    assert main(["alerts", "silence", "quality", "--for", "2h", "--reason", "upgrade", *at]) == 0
    capsys.readouterr()
    assert main(["alerts", "--json", *at]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [(a["id"], a["state"], a["count"], a["why"]) for a in told["alerts"]] == [(1, "acknowledged", 2, "on it")]
    assert told["silences"][0]["reason"] == "upgrade" and told["receivers"][0]["to"] == "log"
    assert main(["alerts", *at]) == 0
    assert "silent    quality for 2h more" in capsys.readouterr().out
    assert main(["alerts", "resolve", "1", "--reason", "fixed upstream", *at]) == 0
    assert main(["alerts", *at]) == 0
    assert "no open alerts" in capsys.readouterr().out
    assert main(["alerts", "--all", *at]) == 0
    assert "fixed upstream" in capsys.readouterr().out
    with Project.open(root) as project:
        assert project.verify_audit() == 5


@pytest.mark.parametrize(("words", "said"), [
    (["ack", "9"], "no alert 9"), (["resolve", "1"], "no reason"), (["silence", "qualty", "--reason", "x"], "quality"),
    (["silence", "quality"], "no reason"), (["silence", "quality", "--for", "soon", "--reason", "x"], "soon"),
])  # fmt: skip
def test_what_cannot_be_done_says_why(
    root: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert main(["alerts", *words, "-C", str(root)]) > 1
    assert said in capsys.readouterr().err


def test_the_controller_brings_word(root: Path) -> None:
    heard = root / ".fairlead" / "alerts.log"
    with Project.open(root) as project:
        controller = Controller(project)
        controller.turn()
        project.records.commit(Change(at=1.0, actor="t", verb="alert.raised", subject="service/loans",
                                      body={"service": "loans", "monitor": "m", "package": "p", "cause": "c"}))  # fmt: skip
        deadline = time.monotonic() + 10
        while not project.alerts().posts["log"].delivered:
            assert time.monotonic() < deadline
            controller.turn()
    (line,) = heard.read_text().splitlines()
    assert json.loads(line)["alert"]["monitor"] == "m", "what was raised before anybody listened is not told"


def test_status_shows_open_alerts(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "-C", str(root)]) == 0
    out = capsys.readouterr().out
    assert "1 open  quality" in out and "2 times" in out
    assert main(["status", "--json", "-C", str(root)]) == 0
    assert json.loads(capsys.readouterr().out)["alerts"][0]["monitor"] == "quality"


def test_a_secret_is_found_nowhere(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Receivers that fail in every way, a courier that writes down why, and every file searched."""
    (root / "fairlead.yaml").write_text(MANIFEST + RECEIVERS)
    (root / "address").write_text(f"http://127.0.0.1:1/{CANARY}?token={CANARY}\n")
    (root / "key").write_text(f"{CANARY}\n")
    monkeypatch.setenv("SLACK_FOR_TESTS", f"https://127.0.0.1:1/{CANARY}")
    assert main(["alerts", "test", "-C", str(root)]) == 1
    out, err = capsys.readouterr()
    assert "✓ command" in out and "✓ log" in out and "✗ ops" in out and "✗ slack" in out
    with Project.open(root) as project:
        project.courier.turn()
        project.records.commit(Change(at=1.0, actor="t", verb="alert.raised", subject="service/loans",
                                      body={"service": "loans", "monitor": "m", "package": "p", "cause": "c"}))  # fmt: skip
        deadline = time.monotonic() + 10
        while not all(p.trouble or p.delivered for p in project.alerts().posts.values()):
            assert time.monotonic() < deadline
            project.courier.turn()
        posts = project.alerts().posts
    assert {to for to, p in posts.items() if p.trouble} == {"ops", "slack", "email", "alertmanager"}
    assert main(["alerts", "--all", "-C", str(root)]) == 0
    assert main(["audit", "log", "-C", str(root)]) == 0
    said = out + err + "".join(capsys.readouterr())
    kept = {root / "address", root / "key"}
    files = [p for p in root.rglob("*") if p.is_file() and p not in kept]
    assert CANARY not in said and files
    assert [p for p in files if CANARY.encode() in p.read_bytes()] == []


@pytest.mark.parametrize(("to", "said"), [
    ("{}", "exactly one of webhook, slack"), ("{slack: {}}", "url_env or url_file"),
    ("{webhook: {url: 'https://u:p@h/'}}", "without a password"), ("{webhook: {url: 'https://h/?k=1'}}", "secrets go into"),
    ("{slack: {url: 'https://h/x'}}", "unknown key"), ("{slack: {url_env: A, url_file: b}}", "exactly one of url_env"),
    ("{name: log, command: {run: [cat]}}", "'log' is listed twice"), ("{command: {run: []}}", "is empty"),
    ("{slack: {url_env: 'https://hooks'}}", "environment variable"),
    ("{email: {host: h, sender: a, to: [b], tls: none, password_env: P}}", "never sent in the clear"),
])  # fmt: skip
def test_a_receiver_that_cannot_work_is_refused_when_read(tmp_path: Path, to: str, said: str) -> None:
    path = tmp_path / "fairlead.yaml"
    path.write_text(f"{MANIFEST}alerts: {{to: [{to}]}}\n")
    with pytest.raises(Invalid) as found:
        load(path)
    assert said in str(found.value)
