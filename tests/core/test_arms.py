"""Arms: what is counted makes the tests of `core.sequential` right: false alarms rare, harm found soon."""

import numpy as np
import pytest

from fairlead.core.answers import Answers, matrix
from fairlead.core.arms import Arms
from fairlead.core.check import Check, Harm, Outcome, judge
from fairlead.core.evidence import EvidenceSet
from fairlead.core.ledger import Ledger
from fairlead.core.ref import Ref
from fairlead.core.release import Release
from fairlead.core.traffic import canary

OLD, NEW = Ref("package", "p", "1" * 64), Ref("package", "p", "2" * 64)
RELEASE = Release(id="r1", service="s", candidates=(NEW,), baseline=OLD, plan=canary(()),
                  started_at=0.0, entered_at=0.0)  # fmt: skip
ERRORS = Check(name="errors", measure="errors", rule=Harm())


class Traffic:
    """Feeds both arms turn by turn and judges after each, as the loop does."""

    def __init__(self) -> None:
        self.ledger, self.arms, self.n = Ledger(), Arms(RELEASE, 0.1, 0), 0

    def turn(self, share: float, units: list[str], new: np.ndarray, bad: np.ndarray) -> Outcome:
        for package, mine in ((OLD, ~new), (NEW, new)):
            n = int(mine.sum())
            ids = [f"{self.n + i}" for i in range(n)]
            self.n += n
            chosen = [u for u, m in zip(units, mine, strict=True) if m] if units else ids
            self.ledger.append(Answers(
                service="s", package=str(package), ids=ids, units=chosen, at=np.full(n, self.n * 1.0),
                epoch=np.ones(n, np.int64), live=np.ones(n, np.bool_),
                propensity=np.full(n, share if package == NEW else 1 - share),
                errors=["bad" if b else "" for b in bad[mine]], fallback=np.zeros(n, np.bool_),
                latency=np.zeros(n), scores=matrix([[0.5]] * n), values=lambda names, places: [],
            ))  # fmt: skip
        self.arms.update(self.ledger, 1)
        seen = EvidenceSet(self.arms.facts(self.ledger, 1))
        return judge(ERRORS, seen, NEW, OLD).outcome


def false_rollbacks(sticky: bool, runs: int) -> int:
    """Equal packages; 2 % of users hit a bad path, and users differ in how often they ask."""
    found = 0
    for seed in range(runs):
        dice = np.random.default_rng(seed)
        arm = dice.random(400) < 0.2
        unlucky = dice.random(400) < 0.02
        busy = dice.pareto(1.2, 400) + 0.2
        traffic = Traffic()
        for _ in range(25):
            who = dice.choice(400, 120, p=busy / busy.sum())
            bad = dice.random(120) < np.where(unlucky[who], 0.7, 0.002)
            units = [f"u{w}" for w in who] if sticky else []
            if traffic.turn(0.2, units, arm[who], bad) is Outcome.FAIL:
                found += 1
                break
    return found


def test_sticky_units_do_not_roll_back_the_harmless() -> None:
    assert false_rollbacks(sticky=True, runs=40) <= 4
    assert false_rollbacks(sticky=False, runs=40) > 6, "counting requests would not do"


@pytest.mark.parametrize("seed", range(10))
def test_a_broken_canary_harms_few(seed: int) -> None:
    """5 % of 200 requests a second, judged every 0.2 s: at most 30 bad answers (R24)."""
    dice = np.random.default_rng(seed)
    traffic, harmed = Traffic(), 0
    for _ in range(100):
        new = dice.random(40) < 0.05
        harmed += int(new.sum())
        if traffic.turn(0.05, [], new, new | (dice.random(40) < 0.001)) is Outcome.FAIL:
            break
    assert harmed <= 30


def test_a_shared_incident_is_no_evidence() -> None:
    dice = np.random.default_rng(1)
    traffic = Traffic()
    outcomes = set()
    for turn in range(120):
        new = dice.random(100) < 0.1
        rate = 0.5 if 40 <= turn < 60 else 0.01
        outcomes.add(traffic.turn(0.1, [], new, dice.random(100) < rate))
    assert Outcome.FAIL not in outcomes


def test_few_units_that_ask_again_still_make_evidence() -> None:
    """Ten customers in the canary can never be twenty exposures, but they can fail again and again
    in other windows: each window counts who was still at risk."""
    dice = np.random.default_rng(1)
    traffic = Traffic()
    units = [f"u{i % 100}" for i in range(400)]
    new = np.array([i % 100 < 10 for i in range(400)])
    for _ in range(40):
        traffic.turn(0.1, units, new, dice.random(400) < 0.0005)
    seen = EvidenceSet(traffic.arms.facts(traffic.ledger, 1)).tallies(NEW, "errors")
    assert len(seen) > 5
    assert max(t.n for t in seen.values()) <= 10
    assert sum(t.n for t in seen.values()) > 50
