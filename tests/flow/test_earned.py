"""Off-policy estimates from recorded requests: by the logged propensities, and only where dice fell."""

import numpy as np
import pytest

from fairlead.core.prediction import Feedback
from fairlead.core.ref import Ref
from fairlead.flow.earned import Policy, earned
from fairlead.flow.recorded import Request

NEW, OLD, ARM = (Ref("model", "m", d * 64) for d in "bac")


def world(n: int = 6_000) -> tuple[list[Request], list[Feedback], list[Policy]]:
    """The baseline and an arm share the traffic by dice. The arm still loads in the first epoch's
    first half: the baseline then answers everything, by no dice. Saying yes earns 1 where x > 0.5,
    else nothing; the candidate, nobody's arm, says yes just there."""
    rng = np.random.default_rng(0)
    x = rng.random(n)
    says = {OLD: np.full(n, 0.0), ARM: np.full(n, 1.0), NEW: (x > 0.5).astype(float)}
    requests, notes = [], []
    for i in range(n):
        loading = i < n // 4
        epoch, share = (1, 0.2) if i < n // 2 else (2, 0.5)
        arm = not loading and rng.random() < share
        chance = 1.0 if loading else share if arm else 1 - share
        requests.append(Request(id=f"r{i}", at=float(i), unit=f"r{i}", package="arm" if arm else "old",
                                epoch=epoch, propensity=chance))  # fmt: skip
        notes.append(Feedback(prediction=f"r{i}", name="won", value=bool(arm and x[i] > 0.5), at=1e6))
    policies = [Policy(ref=ref, package=name, scores=says[ref].reshape(-1, 1), threshold=0.5)
                for ref, name in ((NEW, ""), (OLD, "old"), (ARM, "arm"))]  # fmt: skip
    return requests, notes, policies


def test_a_candidate_is_valued_though_it_never_answered() -> None:
    requests, notes, policies = world()
    found, refused = earned(requests, notes, "binary", policies, 0.95)
    known = {(e.subject, e.measure): e for e in found}
    assert not refused
    for measure in ("value:won", "snips:won"):
        seen = known[NEW, measure]
        assert seen.low is not None and seen.high is not None and seen.low < 0.5 < seen.high
    assert known[OLD, "value:won"].value == pytest.approx(0, abs=1e-9), "it never says yes"
    gained = known[NEW, "gain:value:won"]
    assert gained.against == OLD and gained.low is not None and gained.low > 0.4


def test_what_was_never_decided_is_refused_in_words() -> None:
    requests, notes, policies = world()
    stranger = [Policy(ref=NEW, package="", scores=np.full((len(requests), 1), np.nan), threshold=0.5),
                *policies[1:]]  # fmt: skip
    found, refused = earned(requests, notes, "binary", stranger, 0.95)
    assert {e.subject for e in found} == {OLD}
    assert refused[0].startswith(f"value:won of {NEW.short}: ") and "no logged choice" in refused[0]


def test_without_dice_or_rewards_there_is_nothing_to_say() -> None:
    requests, notes, policies = world(200)
    labels = [Feedback(prediction=n.prediction, value=n.value, at=n.at) for n in notes]
    assert earned(requests, labels, "binary", policies, 0.95) == ([], [])
    certain = requests[: 200 // 4]
    assert earned(certain, notes, "binary", policies, 0.95) == ([], [])
