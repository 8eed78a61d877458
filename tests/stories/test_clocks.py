"""R14: clocks that jump an hour ahead and back, and strobe, under the same disasters: nothing is promoted for it."""

from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from msgspec.structs import replace as changed

from fairlead.core import release as core
from fairlead.core.decision import Decision
from fairlead.core.evidence import EvidenceSet
from fairlead.core.release import Phase, Release, advance
from fairlead.flow import loop
from tests.stories.test_simulation import PATIENCE, Controller, Violated, World, must

SEEDS, HOUR = 400, 3600.0


class Jumping(Controller):
    """Its clock is an hour wrong for a while, for a moment, or at every reading."""

    def __init__(self, world: World, skew: float) -> None:
        super().__init__(world, skew)
        self.dice, self.off, self.kind = Random(str(skew)), 0.0, world.rng.choice(["jumps", "strobes", "blinks"])

    def now(self) -> float:
        if not self.world.stormy:
            return super().now()
        if self.kind == "strobes" or self.dice.random() < 0.1:
            self.off = self.dice.choice([-HOUR, 0.0, HOUR])
        elif self.kind == "blinks":
            self.off = 0.0
        return super().now() + self.off


class Clocks(World):
    """No candidate must win because of the time alone; that a good one is sent back for it is allowed."""

    def __init__(self, seed: int, controller: type[Controller] = Jumping) -> None:
        super().__init__(seed, controller=controller)

    def judge(self) -> None:
        self.lost = "sometimes" if self.lost == "never" else self.lost
        super().judge()
        sequence = [e.seq for e in self.records.events()]
        must(sequence == list(range(1, len(sequence) + 1)), "events are not in the order of their sequence")


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop.log, "disabled", True)


def test_jumping_clocks_promote_nothing_and_hold_nothing_up() -> None:
    ends: dict[Phase, int] = {}
    rewound = 0
    for seed in range(SEEDS):
        try:
            world = Clocks(seed).play()
        except BaseException as error:
            raise AssertionError(f"seed {seed}: {error!r}") from error
        last = world.records.releases()[-1].phase
        ends[last] = ends.get(last, 0) + 1
        rewound += any(e.verb == "release.rewound" for e in world.records.events())
    assert ends[Phase.PROMOTED] > 20 and ends[Phase.ROLLED_BACK] > 100 and rewound > 40, (ends, rewound)


def promotes_when_time_is_up(release: Release, evidence: EvidenceSet, now: float) -> Decision:
    """The planted bug: the end of patience taken for a pass."""
    decision = advance(release, evidence, now)
    late = now - release.entered_at >= PATIENCE
    return changed(decision, actions=frozenset(), drop=()) if late else decision


def never_starts_anew(release: Release, now: float) -> Release:
    return release


@pytest.mark.parametrize(("where", "name", "bug"), [(loop, "advance", promotes_when_time_is_up),
                                                    (core, "_rewound", never_starts_anew)])  # fmt: skip
def test_a_planted_bug_is_caught(
    where: Any, name: str, bug: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(where, name, bug)
    with pytest.raises((Violated, AssertionError)):
        for seed in range(SEEDS):
            Clocks(seed).play()
