"""Served rows that are remembered: some of every minute, whatever clocks do."""

import numpy as np

from fairlead.core.answers import Answers, matrix
from fairlead.core.skew import AT, EACH, Served


def add(served: Served, at: float, n: int = 100) -> None:
    every = np.ones(n, np.bool_)
    served.add(Answers(
        service="s", package="p", ids=[""] * n, units=[""] * n, at=np.full(n, at), errors=[""] * n,
        epoch=np.ones(n, np.int64), live=every, propensity=np.ones(n), fallback=~every,
        latency=np.zeros(n), scores=matrix([[0.5]] * n),
        values=lambda names, places: [[0.0] * len(places) for _ in names],
    ), every, ["x"])  # fmt: skip


def kept(served: Served, at: float) -> int:
    return sum(row[AT] == at for row in served.rows)


def test_so_many_of_a_minute_are_kept_whatever_comes_late() -> None:
    served = Served()
    for at in (600.0, 630.0, 720.0, 610.0, 725.0):  # the journals of two gateways are read in turn
        add(served, at)
    add(served, 730.0, 0)
    assert [kept(served, at) for at in (600.0, 630.0, 720.0, 610.0, 725.0)] == [EACH, 0, EACH, 0, 0]


def test_a_clock_that_was_ahead_for_a_while_stops_nothing() -> None:
    served = Served()
    for at in (600.0, 1e9, 660.0, 720.0):
        add(served, at)
    assert [kept(served, at) for at in (660.0, 720.0)] == [EACH, EACH]
