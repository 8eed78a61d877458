"""`fairlead release plan`: what lies ahead of a release, before anything was trained."""

import json
from pathlib import Path

import pytest

from fairlead.api.cli import main

MANIFEST = """
service: loans
data: {source: loans.csv, target: status}
train: {}
release: {plan: shadow_canary, shares: [0.1, 0.5], hold: 1m, goal: sale}
"""


@pytest.fixture
def here(tmp_path: Path) -> tuple[str, str]:
    (tmp_path / "fairlead.yaml").write_text(MANIFEST)
    return "-C", str(tmp_path)


def test_a_plan_is_shown_with_its_traffic(
    here: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["release", "plan", *here]) == 0
    out, err = capsys.readouterr()
    for words in ("shadow_canary", "100 requests/min", "assumed", "100 % mirrored", "10 % live", "50 % live"):
        assert words in out
    assert "half" not in out and "--simulate" in err


def test_simulation_says_what_each_step_and_each_harm_needs(
    here: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["release", "plan", "--plan", "canary", "--rate", "3000", "--errors", "0.005", "--simulate", *here]
    assert main([*asked, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["rate"], told["errors"], told["seen"]) == (3000, 0.005, False)
    assert [o["ratio"] for o in told["outlooks"]] == [1, 1.5, 2, 5, 10]
    assert told["outlooks"][0]["found"]["median"] is None
    assert 300 < told["outlooks"][-1]["found"]["median"] < 3000
    assert len(told["outlooks"][0]["steps"]) == 2
    assert main(asked) == 0
    out = capsys.readouterr().out
    for words in ("as often (harmless)", "10 times as often", "90 % within", "simulated releases"):
        assert words in out


def test_what_cannot_be_simulated_is_told(
    here: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["release", "plan", "--simulate", *here]) == 0
    assert "waits for 500 labels" in capsys.readouterr().out
    assert main(["release", "plan", "--plan", "bandit", *here]) == 0
    assert "5 % to 95 % live" in capsys.readouterr().out
    assert main(["release", "plan", "--plan", "canari", *here]) == 2
    assert main(["release", "plan", "--simulate", "--rate", "0", *here]) == 2
