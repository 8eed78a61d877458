"""The proofs themselves: they can be drawn again, and what they simulate is what the product does."""

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest

from fairlead.core.answers import answers_of
from fairlead.core.arms import Arms
from fairlead.core.evidence import Fact, Tally
from fairlead.core.journal import Batch
from fairlead.core.ledger import Ledger
from fairlead.core.release import Release
from fairlead.core.sequential import log_e_harm, log_e_safe
from fairlead.core.traffic import canary
from prove import errors, gateway, ours, traps
from prove.ours import NEW, OLD, audit, tallies
from prove.row import counted, percent, requests
from prove.traffic import Traffic, draw, first, median

ROOT = Path(__file__).parents[2]
BARS = 16


def test_two_drawings_of_a_situation_are_the_same() -> None:
    assert errors.incident(40) == errors.incident(40)
    assert errors.incident(40) != errors.incident(41)


def test_evidence_of_all_runs_at_once_is_the_product_s() -> None:
    traffic = draw(5, 3, 50, ratio=1.5, rows=900)
    harm, safe = ours.harm(traffic), ours.safe(traffic)
    for run in range(3):
        for looks in (1, 7, 50):
            facts = [f for f in tallies(traffic, run, looks, "m") if isinstance(f, Tally)]
            arms = ([f for f in facts if f.subject == subject] for subject in (NEW, OLD))
            windows = [(a.events, a.n, b.events, b.n) for a, b in zip(*arms, strict=True)]
            assert log_e_harm(windows) == pytest.approx(float(harm[run, looks - 1]), abs=1e-9)
            assert log_e_safe(windows, 2.0) == pytest.approx(float(safe[run, looks - 1]), abs=1e-9)


def test_windows_are_those_in_which_the_observer_counts() -> None:
    """The same traffic, row by row, through the product's own ledger and counters."""
    traffic = draw(6, 1, 60, base=0.02, rows=200, share=0.3)
    release = Release(id="r", service="m", candidates=(NEW,), baseline=OLD, plan=canary(()),
                      started_at=0.0, entered_at=0.0)  # fmt: skip
    ledger, arms = Ledger(), Arms(release, 9.0, 0)
    for look in range(60):
        for package, x, n in ((NEW, traffic.xc, traffic.nc), (OLD, traffic.xt, traffic.nt)):
            ask(ledger, str(package), look, int(x[0, look]), int(n[0, look]))
        arms.update(ledger, 1)
        facts = [f for f in arms.facts(ledger, 1) if isinstance(f, Tally) and f.measure == "errors"]
        assert counts(facts) == counts(tallies(traffic, 0, look + 1, "errors"))
    assert 10 < len(facts) / 2 < 60


def ask(ledger: Ledger, package: str, look: int, events: int, n: int) -> None:
    ids = [f"{package}-{look}-{i}" for i in range(n)]
    batch = Batch(
        service="m", package=package, at=float(look), epoch=1, live=True, propensity=0.5, ids=ids,
        units=ids, bodies=[b"{}"] * n, features=[None] * n, outputs=[[0.5]] * n, fallback=[False] * n,
        errors=["bad"] * events + [""] * (n - events), latencies=[0.01] * n,
    )  # fmt: skip
    for answers in answers_of([batch]):
        ledger.append(answers)


def counts(facts: Sequence[Fact]) -> list[list[tuple[int, int]]]:
    return [[(f.events, f.n) for f in facts if isinstance(f, Tally) and f.subject == subject]
            for subject in (NEW, OLD)]  # fmt: skip


def test_the_audit_notices_a_figure_that_is_not_the_product_s() -> None:
    traffic = draw(7, 20, 40, ratio=3.0)
    path = ours.harm(traffic)
    assert audit((errors.CHECK,), lambda r, k: tallies(traffic, r, k, "errors"), path) > 0
    with pytest.raises(AssertionError):
        audit((errors.CHECK,), lambda r, k: tallies(traffic, r, k, "errors"), path + 1.0)


def test_the_traps_are_real_in_a_few_runs() -> None:
    """The naive way is wrong far more often than 5 %, so the rows mean something."""
    leak, cohorts = traps.leaking(200), traps.delayed(40)[0]
    assert leak.met and float(leak.others.split()[-2]) > 20
    assert float(cohorts.others.split()[-2]) > 90


def test_figures_read_well() -> None:
    assert percent(0.024) == "2.4 %" and percent(1.0) == "100 %"
    assert counted(0.025, 400) == "2.5 % (10 of 400)"
    assert [requests(n) for n in (812.5, 24_049.0, float("inf"))] == ["810", "24,000", "never"]
    acted = first(np.array([[False, True], [False, False], [True, True]]))
    assert median(acted, 100) == 200


def test_traffic_is_what_it_says() -> None:
    traffic = draw(8, 200, 50, base=0.02, ratio=2.0, rows=1000, share=0.3)
    assert isinstance(traffic, Traffic) and (traffic.nc + traffic.nt == 1000).all()
    assert traffic.nc.mean() == pytest.approx(300, rel=0.01)
    assert traffic.xc.sum() / traffic.nc.sum() == pytest.approx(0.04, rel=0.03)
    assert traffic.xt.sum() / traffic.nt.sum() == pytest.approx(0.02, rel=0.03)


def test_the_page_shows_every_bar_with_its_figure() -> None:
    lines = (ROOT / "docs" / "proofs.md").read_text().splitlines()
    rows = [line.split("|")[1:-1] for line in lines if line.startswith("| ")][1:]
    barred = [[cell.strip() for cell in row] for row in rows if row[1].strip()]
    assert len(barred) == BARS
    assert all(figure and kept in ("yes", "**no**") for _, _, figure, _, kept in barred)


def test_what_was_measured_is_on_the_page_and_kept_its_bars() -> None:
    assert gateway.section() in (ROOT / "docs" / "proofs.md").read_text()
    told = msgspec.json.decode(gateway.MEASURED.read_bytes(), type=gateway.Measured)
    assert len(told.runs) == 20 and all(run.kept for run in told.runs)


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_bad_candidate_is_measured_behind_a_real_gateway() -> None:
    (run,) = gateway.measure(1).runs
    assert 0 < run.bad <= 30 and run.failed == 0 and run.stable < 10


def test_figures_that_the_explanation_quotes_are_in_the_table() -> None:
    page = (ROOT / "docs" / "how-fairlead-decides.md").read_text()
    quoted = re.findall(r"rolled back (\d+\.\d %)", page.replace("\n", " "))
    assert len(quoted) == 2
    assert all(figure in (ROOT / "docs" / "proofs.md").read_text() for figure in quoted)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_everything_is_drawn_from_a_part_of_the_runs(tmp_path: Path) -> None:
    """From nothing to all pages; the same bytes the second time."""
    made = []
    for name in ("one", "two"):
        folder = tmp_path / name
        command = [sys.executable, "-m", "prove", "--part", "20", "--to", str(folder)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode in (0, 1), done.stderr[-2000:]
        made.append({p.name: p.read_bytes() for p in folder.rglob("*") if p.is_file()})
    assert made[0] == made[1] and len(made[0]) == 5
