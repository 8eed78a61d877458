from hypothesis import given
from hypothesis import strategies as st

from fairlead.serve.blame import (
    CONVICTS,
    DEATHS,
    LONGEST_OUT,
    OUT,
    SENTENCE,
    SUSPICION,
    WINDOW,
    Blame,
    Crashes,
)

ROWS = [b"%d" % i for i in range(32)]


@given(st.integers(0, 31), st.lists(st.integers(0, 31), unique=True))
def test_two_deaths_convict_the_killer_and_nobody_else(killer: int, order: list[int]) -> None:
    blame = Blame()
    assert not blame.wary and not blame.died(ROWS, 0.0)
    assert blame.wary and all(map(blame.suspect, ROWS))
    for i in order:
        if i != killer:
            blame.answered([ROWS[i]], 1.0)
    assert blame.died([ROWS[killer]], 2.0)
    assert [r for r in ROWS if blame.convicted(r, 3.0)] == [ROWS[killer]]
    assert {r for r in ROWS if blame.suspect(r)} == {*ROWS} - {ROWS[i] for i in order} - {ROWS[killer]}


def test_one_death_convicts_nobody() -> None:
    blame = Blame()
    assert not blame.died([b"alone"], 0.0) and not blame.convicted(b"alone", 0.0)
    blame.answered([b"alone"], 1.0)
    assert not blame.wary
    # Somebody killed the replica between two calls: nothing was under way.
    assert not blame.died([], 2.0) and not blame.wary


def test_suspicion_and_sentence_end() -> None:
    blame = Blame()
    blame.died([b"x"], 0.0)
    assert not blame.died([b"x"], SUSPICION + 1)
    assert blame.died([b"x"], SUSPICION + 2)
    assert blame.convicted(b"x", SENTENCE) and not blame.convicted(b"x", SUSPICION + 3 + SENTENCE)
    blame.answered([], SUSPICION + 3 + SENTENCE)
    assert not blame.wary


def test_memory_is_bounded() -> None:
    blame = Blame()
    for i in range(CONVICTS + 10):
        for _ in range(2):
            blame.died([b"%d" % i], float(i) / 1000)
    assert not blame.convicted(b"0", 2.0) and blame.convicted(b"%d" % (CONVICTS + 9), 2.0)


def test_a_crash_loop_is_left_alone_ever_longer() -> None:
    crashes, now, pauses = Crashes(), 0.0, list[float]()
    for _ in range(DEATHS - 1):
        crashes.died(now)
        now += 2 * WINDOW
    assert not crashes.reason(now)
    for _ in range(DEATHS):
        assert not crashes.reason(now)
        crashes.died(now)
    while len(pauses) < 9:
        assert "died" in crashes.reason(now) and not crashes.reason(crashes.until)
        pauses.append(crashes.until - now)
        now = crashes.until + 1
        crashes.died(now)
    assert pauses[:3] == [OUT, 2 * OUT, 4 * OUT] and pauses[-1] == LONGEST_OUT
    # A long peace, and the next death is only one death.
    now = crashes.until + 2 * WINDOW
    crashes.died(now)
    assert not crashes.reason(now)
