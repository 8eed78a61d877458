"""The help desk of examples/helpdesk: a prompt is proven, released, replaced by a worse one, and comes back."""

import json
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fairlead.core.artifact import Artifact
from fairlead.core.release import Phase
from fairlead.errors import Conflict, Forbidden, Invalid
from fairlead.project import Project
from fairlead.settings import Settings

EXAMPLE = Path(__file__).parents[2] / "examples" / "helpdesk"
RELEASE = "release: {plan: canary, shares: [0.5], hold: 1s, feedback: {cost: {kind: amount, better: less, cap: 1}}}\n"


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Path]:
    """The example, with a provider of its own."""
    shutil.copytree(EXAMPLE, tmp_path, dirs_exist_ok=True)
    provider = subprocess.Popen([sys.executable, "upstream.py", "0"], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert provider.stdout is not None
    url = re.search(r"http\S+", provider.stdout.readline())
    text = (tmp_path / "fairlead.yaml").read_text().partition("release:")[0] + RELEASE
    (tmp_path / "fairlead.yaml").write_text(text.replace("http://127.0.0.1:9000/v1", url[0] if url else ""))
    yield tmp_path
    provider.terminate()
    provider.wait()
    provider.stdout.close()


def opened(root: Path) -> Project:
    return Project.open(root, Settings(actor="ann"))


def change(root: Path, old: str, new: str) -> None:
    text = (root / "fairlead.yaml").read_text()
    assert old in text
    (root / "fairlead.yaml").write_text(text.replace(old, new))


def made(project: Project) -> tuple[Artifact, bool]:
    model = project.train()
    passed = project.gate(model.ref).proceed
    return project.package(model.ref), passed


def ask(url: str, user: str, stream: bool = False) -> Any:
    body = {"user": user, "stream": stream, "messages": [{"role": "user", "content": "How long can I return my shoes?"}]}
    made = urllib.request.Request(f"{url}/v1/chat/completions", json.dumps(body).encode())
    with urllib.request.urlopen(made, timeout=10) as answer:
        data = answer.read().decode()
    return json.loads(data.partition("\n\n")[0].removeprefix("data: ")) if stream else json.loads(data)


def test_the_gate_asks_and_says_what_is_wrong(desk: Path) -> None:
    with opened(desk) as project:
        model = project.train()
        assert model.ref == project.train().ref, "the same words are the same model"
        with pytest.raises(Conflict, match="not asked"):
            project.package(model.ref)
        good, passed = made(project)
        assert passed and project.records.decisions(model.ref)[-1].because
        (desk / "prompt.txt").write_text("Answer kindly about returned shoes.\n")
        worse, passed = made(project)
        assert not passed and worse.ref != good.ref
        reasons = [v.check.name for v in project.records.decisions(project.train().ref)[-1].because]
        assert "returns: does not contain '30 days'" in reasons
        with pytest.raises(Invalid, match="gate does not let this through"):
            project.start_release(worse.ref)
        run = project.records.runs()[-1]
        assert {"cost", "tokens", "first_token_ms", "latency_max_ms"} <= {e.measure for e in run.evidence}
    change(desk, "http://127.0.0.1", "http://localhost")
    with opened(desk) as project, pytest.raises(Forbidden, match=r"asks 127\.0\.0\.1"):
        project.start_release(good.ref)
    change(desk, "allow_private: true", 'allow_private: true\n  key_env: HOME\n  hosts: {127.0.0.1: ""}')
    with opened(desk) as project:
        assert project.start_release(good.ref).phase is Phase.RUNNING
        nosy = project.train()
    change(desk, "key_env: HOME", "key_env: OTHER")
    with opened(desk) as project:
        project.gate(nosy.ref)
        with pytest.raises(Forbidden, match="shows localhost the key HOME"):
            project.start_release(project.package(nosy.ref).ref)


def test_a_worse_provider_is_rolled_back_and_nobody_waits_in_vain(desk: Path) -> None:
    with opened(desk) as project:
        good, _ = made(project)
        project.start_release(good.ref)
        project.tick()
    service = subprocess.Popen([sys.executable, "-m", "fairlead", "serve", "--port", "0"], cwd=desk,
                               stdout=subprocess.DEVNULL)  # fmt: skip
    try:
        facts = desk / ".fairlead" / "run" / "serve.json"
        until(lambda: facts.exists() and json.loads(facts.read_text())["ready"])
        url = f"http://127.0.0.1:{json.loads(facts.read_text())['port']}"
        liked = ask(url, "ann")["id"]
        told = {"prediction": liked, "name": "thumbs", "value": True}
        urllib.request.urlopen(urllib.request.Request(f"{url}/feedback", json.dumps(told).encode())).close()
        change(desk, "model: stand-in", "model: stand-in-broken")
        with opened(desk) as project:
            bad, passed = made(project)
            assert not passed
            release = project.start_release(bad.ref, force="to see it fail")
        answers = [ask(url, f"user {i}", stream=i % 2 == 0) for i in range(60)]
        assert {a["package"] for a in answers} == {str(good.ref)} and any(a.get("fallback") for a in answers)
        with opened(desk) as project:
            until(lambda: project.records.release(release.id).phase.final)
            assert project.records.release(release.id).phase is Phase.ROLLED_BACK
            why = project.why(liked)
            assert why.answer.output["answer"].startswith("Returns:") and why.feedback[0].name == "thumbs"
            assert why.answer.inputs["user"] == "ann" and why.gate[-1].proceed
            seen = project.observer().watch(project.clock.now(), 3600.0)
            assert {"cost_per_thousand", "tokens", "first_token_p99_ms"} <= {e.measure for e in seen}
            costs = project.observer().observe(release, project.clock.now()).get(good.ref, "cost")
            assert costs is not None and costs.n > 5 and costs.value == pytest.approx(why.answer.output["cost"])
    finally:
        service.terminate()
        assert service.wait(30) == 0


def until(happened: Any, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, f"did not happen within {seconds} s"
        time.sleep(0.02)
