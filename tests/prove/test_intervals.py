"""The proof of intervals: the exact chance that one holds the truth is the one that dice find."""

import numpy as np
import pytest

from fairlead.core.intervals import newcombe, wilson
from prove.intervals import KINDS, PAGE, agresti_coull, covered, table


@pytest.mark.parametrize(("n", "p", "q"), [(25, 0.3, 0.4), (50, 0.1, 0.6)])
def test_counting_all_outcomes_agrees_with_simulation(n: int, p: float, q: float) -> None:
    rng, runs = np.random.default_rng(4), 20_000
    ks, js = rng.binomial(n, p, runs).tolist(), rng.binomial(n, q, runs).tolist()
    found = [newcombe((k, n), (j, n)) for k, j in zip(ks, js, strict=True)]
    dice = np.mean([low <= p - q <= high for low, high in found])
    exact = covered(lambda k, j, n: newcombe((k, n), (j, n)), n, p, q, p - q)
    assert dice == pytest.approx(exact, abs=0.005)
    assert covered(wilson, n, p, None, p) < 1 and covered(lambda k, n: (0.0, 1.0), n, p, None, p) == pytest.approx(1)


def test_the_page_stands_as_counted() -> None:
    page = PAGE.read_text()
    for kind, name, mean, least in table():
        assert f"| {kind} | {name} | {mean:.1%} | {least:.1%} |" in page
    assert agresti_coull(0, 25)[0] == 0.0 and {len(k) for k in KINDS.values()} == {2, 3}
