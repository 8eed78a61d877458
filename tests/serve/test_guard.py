import threading
from time import perf_counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.core.feature import FeatureView
from fairlead.core.journal import HEADER, Note, frame, frames
from fairlead.errors import Corrupt, Unavailable
from fairlead.serve.guard import FIRST, Bucket, Pace, neighbourhood
from fairlead.serve.timely import Timely

VIEW = FeatureView(name="v", source="s", entity="e", time="t", columns=("c",))


def test_a_quick_package_is_asked_in_large_batches() -> None:
    pace = Pace(256, 0.25)
    for rows in (1, 32, 64, 128, 200):
        pace.took(rows, 0.01)
    assert pace.rows == 256 and not pace.slow and pace.takes(10_000, 500, 1)


def test_a_slow_one_in_batches_of_its_time_and_the_rest_is_not_let_in() -> None:
    pace = Pace(256, 0.25)
    pace.took(FIRST, 0.64)
    assert pace.slow and pace.rows == 12
    assert pace.takes(23, 1, 1) and not pace.takes(24, 1, 1) and pace.takes(24, 1, 2)
    assert pace.takes(0, 200, 1), "what waits for nobody is tried"
    pace.took(1, 9.0)
    assert pace.rows == 1
    for _ in range(8):
        pace.took(pace.rows, 0.01)
    assert pace.rows == 256 and not pace.slow


def test_a_log_that_met_a_power_cut_is_read_up_to_there() -> None:
    one = frame(Note(prediction="p", name="label", value=1.0, at=1.0))
    large = frame(Note(prediction="p" * 6000, name="label", value=1.0, at=1.0))
    holed = large[:600] + bytes(4096) + large[4696:]
    for tail in (bytes(8), bytes(5000), one[:9], one[:9] + bytes(len(one)), holed + one):
        assert len(list(frames(HEADER + one + tail, len(HEADER)))) == 1
    flipped = large[:600] + b"?" + large[601:]
    with pytest.raises(Corrupt):
        list(frames(HEADER + one + flipped + one, len(HEADER)))


def test_nobody_waits_for_a_store_that_hangs() -> None:
    free = threading.Event()

    class Store:
        def read(self, view: FeatureView, entity: str, at: float) -> dict[str, Any]:
            free.wait(10)
            return {"v.c": at}

        def push(self, *_: Any) -> int:
            raise AssertionError("a gateway writes no features")

        forget = push

    store = Timely(Store(), 0.02)
    for _ in range(3):
        with pytest.raises(Unavailable):
            store.read([(VIEW, "a")], 1.0)
    free.set()
    while store._told.empty():
        free.wait(0)
    assert store.read([(VIEW, "a")], 2.0) == {"v.c": 2.0}, "at once, and not to an older question"


def test_a_store_that_is_always_late_is_asked_ever_more_rarely() -> None:
    class Store:
        asked = 0

        def read(self, view: FeatureView, entity: str, at: float) -> dict[str, Any]:
            self.asked += 1
            threading.Event().wait(0.004)
            return {}

        def push(self, *_: Any) -> int:
            raise AssertionError("a gateway writes no features")

        forget = push

    slow = Store()
    store, until = Timely(slow, 0.002), perf_counter() + 0.7
    while perf_counter() < until:
        with pytest.raises(Unavailable):
            store.read([(VIEW, "a")], 1.0)
    assert 2 <= slow.asked <= 6, "after 0, 0.05, 0.1, 0.2, 0.4 s"


@given(rate=st.floats(0.1, 50), gaps=st.lists(st.floats(0, 2), max_size=80))
def test_a_token_is_never_taken_more_often_than_its_rate(rate: float, gaps: list[float]) -> None:
    bucket, now, taken = Bucket(rate), 100.0, list[float]()
    for gap in gaps:
        now += gap
        if (refusal := bucket.refuse(now)) is None:
            taken.append(now)
        else:
            assert refusal.status == 429 and 1 <= refusal.retry_after <= 1 / rate + 1
    for i, since in enumerate(taken):
        assert all(j - i + 1 <= max(1, rate) + rate * (at - since) + 1e-6 for j, at in enumerate(taken[i:], i))


def test_who_keeps_to_the_rate_or_waits_as_told_is_never_refused() -> None:
    for rate in (0.3, 1.0, 7.0):
        bucket = Bucket(rate)
        assert not any(bucket.refuse(100 + i * (1 + 1e-9) / rate) for i in range(100))
        now = 1e4
        while (refusal := bucket.refuse(now)) is None:
            continue
        assert bucket.refuse(now + refusal.retry_after) is None


@pytest.mark.parametrize(("one", "other", "same"), [
    ("10.0.0.1", "10.0.0.2", False), ("10.0.0.1", "::ffff:10.0.0.1", True), ("2001:db8::1", "2001:db8::ffff:1", True),
    ("2001:db8::1", "2001:db8:0:1::1", False), ("fe80::1%eth0", "fe80::2", True), ("", "", True)])  # fmt: skip
def test_whom_a_connection_counts_for(one: str, other: str, same: bool) -> None:
    assert (neighbourhood(one) == neighbourhood(other)) is same
