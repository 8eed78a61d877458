"""A bank's model from data to production: two people who check each other, an operator and an auditor,
on the command line in development and over HTTP in production."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from fairlead.api.cli import main
from fairlead.core.journal import HEADER, Batch, frame
from fairlead.errors import Forbidden
from fairlead.project import Project
from fairlead.serve.ids import Ids
from tests.api.test_control import Served

MANIFEST = """
service: loans
data: {{source: loans.csv, target: defaulted}}
train: {{}}
release: {{plan: replace}}
governance: {{approvals: 1}}
environment: {environment}
"""
TRAIN = """
from sklearn.linear_model import LogisticRegression

def train(data, params):
    return LogisticRegression().fit(data.X, data.y)
"""
STAFF = {"tom": "trainer", "ada": "approver", "olga": "operator", "vera": "auditor"}


class House:
    """One environment, and everybody's tokens for it."""

    def __init__(self, root: Path, environment: str, capsys: pytest.CaptureFixture[str],
                 monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
        self.root, self.tokens = root, {"ann": ""}
        self._capsys, self._patch = capsys, monkeypatch
        root.mkdir()
        (root / "fairlead.yaml").write_text(MANIFEST.format(environment=environment))
        self.tokens["ann"] = self.run("ann", "people", "add", "ann", "--role", "admin").strip()
        for name, role in STAFF.items():
            self.tokens[name] = self.run("ann", "people", "add", name, "--role", role).strip()
        self.run("ann", "policy", "adopt", "--reason", "the risk committee said so")

    def run(self, who: str, *words: str, fails: int = 0) -> str:
        """What somebody reads who enters these words."""
        self._patch.setenv("FAIRLEAD_TOKEN", self.tokens[who])
        self._capsys.readouterr()
        status = main([*words, "-C", str(self.root)])
        out, err = self._capsys.readouterr()
        assert status == fails, err
        assert self.tokens[who] not in err if self.tokens[who] else True
        return str(out + err if fails else out)

    def asked(self, package: str) -> str:
        """The id of an answer of a package, as a gateway would have logged it."""
        ids = Ids("0000")
        ids.at(time.time())
        number = ids.next()
        folder = self.root / ".fairlead" / "predictions" / "journal"
        folder.mkdir(parents=True, exist_ok=True)
        batch = Batch(service="loans", package=package, at=time.time(), epoch=1, live=True, ids=[number], units=[""],
                      bodies=[b'{"income": 3.0}'], features=[None], outputs=[[0.5]], errors=[""], fallback=[False],
                      propensity=1.0, latencies=[0.001])  # fmt: skip
        (folder / "0000-00000001.log").write_bytes(HEADER + frame(batch))
        return number

    def turn(self) -> None:
        """What the controller does, as nobody."""
        with Project.open(self.root, unattended=True) as project:
            project.tick()


def test_from_data_to_production(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    dev = House(tmp_path / "dev", "{name: dev}", capsys, monkeypatch)
    parcel = develop(dev, tmp_path / "loans.parcel")
    key = dev.run("olga", "audit", "key").strip()
    prod = House(tmp_path / "prod", f"{{name: prod, accepts: {{dev: {key}}}}}", capsys, monkeypatch)
    # Whoever trained it somewhere else may approve here, but not that.
    prod.run("ann", "people", "roles", "tom", "--role", "trainer", "--role", "approver")
    assert "may not release" in prod.run("tom", "import", str(parcel), fails=7)
    prod.run("olga", "import", str(parcel))
    produce(prod)
    audited(prod, tmp_path / "bundle")


def develop(dev: House, parcel: Path) -> Path:
    """From the table to a promoted package."""
    chance = np.random.default_rng(0)
    income = chance.normal(3, 1, 400)
    late = chance.random(400) < 1 / (1 + np.exp(2 * income - 5))
    table = pl.DataFrame({"income": income, "defaulted": np.where(late, "yes", "no")})
    table.write_csv(dev.root / "loans.csv")
    (dev.root / "train.py").write_text(TRAIN)
    assert "trainer may" in dev.run("olga", "data", "commit", fails=7)
    for words in (["data", "commit"], ["train"], ["gate"], ["package"]):
        dev.run("tom", *words)
    assert "`fairlead approval request" in dev.run("olga", "release", "start", fails=7)
    # The loop retrains unattended; where somebody has to agree it asks, and does not start.
    with Project.open(dev.root, unattended=True) as project, pytest.raises(Forbidden, match="needs 1 approval"):
        project.start_release(project.records.artifacts("package")[-1].ref)
    asked = json.loads(dev.run("ada", "approval", "list", "--json"))["approvals"][0]["approval"]
    assert asked["asked"]["by"] == "fairlead"
    dev.run("ada", "approval", "deny", str(asked["id"]), "--reason", "a person has to ask for the first one")
    dev.run("tom", "approval", "request", "--reason", "the first one")
    number = str(json.loads(dev.run("ada", "approval", "list", "--json"))["approvals"][1]["approval"]["id"])
    for said in ("waiting", "dataset/loans@", "accepted", "tom", "nothing: the first one"):
        assert said in dev.run("ada", "approval", "show", number)
    assert f"{number} waiting" in (told := dev.run("olga", "status")) and "asked by tom" in told and "needs 1 more" in told
    assert "approver may" in dev.run("tom", "approval", "grant", number, "--reason", "mine", fails=7)
    dev.run("ada", "approval", "grant", number, "--reason", "read the evidence")
    assert f"{number} granted" in dev.run("olga", "status")
    dev.run("olga", "release", "start")
    dev.turn()
    assert "approvals" not in dev.run("olga", "status"), "it was used"
    assert "promoted" in dev.run("olga", "release", "status")
    dev.run("olga", "export", str(parcel))
    return parcel


def produce(prod: House) -> None:
    """From the parcel to production, over HTTP."""
    served = Served(prod.root)
    try:
        def post(who: str, path: str, **body: Any) -> tuple[int, Any]:
            return served.ask("POST", path, prod.tokens[who], body)

        status, refused = post("olga", "/v1/release/start")
        assert status == 403 and "approval request" in refused["error"]["hint"]
        status, card = post("olga", "/v1/approval/request", reason="it did well in dev")
        number = card["approval"]["id"]
        assert status == 200 and set(card["approval"]["makers"]) == {"tom", "olga"}
        status, refused = post("tom", "/v1/approval/grant", id=number, reason="it is good")
        assert status == 403 and "tom made what is to be approved" in refused["error"]["message"]
        assert post("vera", "/v1/approval/grant", id=number, reason="x")[0] == 403
        assert post("ada", "/v1/approval/grant", id=number, reason="read the evidence")[1]["state"] == "granted"
        assert post("ada", "/v1/release/start")[0] == 403
        status, begun = post("olga", "/v1/release/start")
        assert status == 200 and begun["phase"] == "running"
        asked_at = prod.asked(begun["candidates"][0])
        prod.turn()
        status, told = served.ask("GET", f"/v1/why?id={asked_at}", prod.tokens["vera"])
        assert status == 200 and [g["by"] for g in told["approval"]["grants"]] == ["ada"]
        status, seen = served.ask("GET", "/v1/status", prod.tokens["vera"])
        assert seen["release"]["release"]["phase"] == "promoted" and not seen["approvals"]
        status, events = served.ask("GET", "/v1/audit/events?subject=approval", prod.tokens["vera"])
        assert [(e["actor"], e["verb"]) for e in events] == [("olga", "approval.requested"), ("ada", "approval.granted")]
        assert events[1]["body"]["token"] == prod.tokens["ada"].split("_")[1]
        assert served.ask("GET", "/v1/audit/verify", prod.tokens["vera"])[1]["intact"]
        package = begun["candidates"][0].rpartition("@")[2]
        assert served.ask("GET", f"/v1/impact?id={package}", prod.tokens["vera"])[0] == 200
        # Nobody weakens the policy by editing a file, and a token ends at once.
        text = (prod.root / "fairlead.yaml").read_text()
        (prod.root / "fairlead.yaml").write_text(text.replace("approvals: 1", "approvals: 0"))
        status, refused = post("olga", "/v1/approval/request", packages=[package])
        assert status == 422
        (prod.root / "fairlead.yaml").write_text(text.replace("plan: replace", "plan: replace, slow_ms: 900"))
        status, refused = post("olga", "/v1/approval/request", packages=[package])
        assert status == 409 and "not the one in force" in refused["error"]["message"]
        (prod.root / "fairlead.yaml").write_text(text)
        prod.run("ann", "token", "revoke", prod.tokens["olga"].split("_")[1], "--reason", "lost")
        assert post("olga", "/v1/release/rollback", reason="x")[0] == 401
    finally:
        assert served.end() == 0


def audited(prod: House, bundle: Path) -> None:
    """The trail in the hands of a stranger with nothing but Python."""
    assert "auditor may" in prod.run("ada", "audit", "export", str(bundle), fails=7)
    prod.run("vera", "audit", "export", str(bundle))
    key = prod.run("vera", "audit", "key").strip()
    verify = [sys.executable, "-I", "-S", str(bundle / "verify.py"), str(bundle), "--key", key]
    done = subprocess.run(verify, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    log = next(p for p in sorted(bundle.iterdir()) if b"approval.granted" in p.read_bytes() and p.suffix != ".py")
    told = log.read_bytes()
    log.write_bytes(told.replace(b'"read the evidence"', b'"did not look at it"'))
    assert subprocess.run(verify, capture_output=True).returncode != 0
    assert not any(token.encode() in told for token in prod.tokens.values()), "secrets are not evidence"
    blind = [p for p in prod.root.rglob("*") if p.is_file() and any(t.encode() in p.read_bytes() for t in prod.tokens.values())]
    assert not blind, "a token is shown once and kept nowhere"
