"""Trust is given by a person who did not make the package, is written down, ends, and is asked for before code runs."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from msgspec.structs import replace

from fairlead.adapters.keys.local import LocalSigner, verify
from fairlead.core.artifact import Artifact
from fairlead.core.identity import POWERS, Caller
from fairlead.core.manifest import TrainSection
from fairlead.core.trust import Trust
from fairlead.errors import Forbidden, Invalid, Missing
from fairlead.flow import evaluate, trust
from tests.flow.conftest import Lab

ANN = Caller(name="ann", powers=POWERS)
TRAIN = """
    import numpy as np

    class Mean:
        def __init__(self, mean):
            self.mean = mean
        def __call__(self, X):
            return np.full(len(X), self.mean)
        def save(self, folder):
            np.save(folder / "mean.npy", self.mean)

    def train(data, params):
        return Mean(data.y.mean())
"""
SERVE = """
import numpy as np

def load(folder):
    with (folder / "mean.npy").open("rb") as file:
        mean = np.load(file)
    return lambda X: np.full(len(X), mean)
"""


TIMES = pl.datetime_range(pl.datetime(2026, 1, 1), pl.datetime(2026, 1, 9, 7), "1h", eager=True)[:200]
ROWS = pl.DataFrame({"x": [float(i) for i in range(200)], "late": [i % 3 == 0 for i in range(200)], "at": TIMES})


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    paths, modules = list(sys.meta_path), set(sys.modules)
    made = Lab(tmp_path_factory.mktemp("trust"))
    made.code(TRAIN)
    (made.root / "mean.py").write_text(SERVE)
    made.manifest = replace(made.manifest, train=TrainSection(serve="mean.py"))
    yield made
    sys.meta_path[:] = paths
    for name in set(sys.modules) - modules:
        del sys.modules[name]


@pytest.fixture(scope="module")
def package(lab: Lab) -> Artifact:
    return lab.package(lab.train(lab.commit(ROWS)))


class Office:
    """Where trust is given and asked for."""

    def __init__(self, lab: Lab, package: Artifact, folder: Path) -> None:
        self.lab, self.package, self.folder = lab, package, folder
        self.signer = LocalSigner(lab.root / "key")
        self.doors: dict[str, Any] = {"records": lab.records, "clock": lab.doors["clock"]}

    def give(self, by: Caller = ANN, reason: str = "read", lasts: float = 100.0, governed: bool = True) -> Trust:
        return trust.give(self.package, self.folder, reason, lasts, caller=by, governed=governed,
                          environment="here", signer=self.signer, **self.doors)  # fmt: skip

    def check(self) -> Trust | None:
        return trust.check(self.package, self.folder, {"here": self.signer.key}, verify, **self.doors)

    def verbs(self) -> list[str]:
        return [e.verb for e in self.lab.records.events(subject=str(self.package.ref))]


@pytest.fixture
def office(lab: Lab, package: Artifact, tmp_path: Path) -> Iterator[Office]:
    """Of one package for all tests; none of them finds words of another in the log."""
    known = list(lab.records._events)
    yield Office(lab, package, tmp_path / "trust")
    lab.records._events[:] = known


def test_it_is_given_written_down_and_withdrawn(office: Office) -> None:
    with pytest.raises(Forbidden, match="nobody has trusted it"):
        office.check()
    given = office.give()
    assert office.check() == given and given.by == "ann" and given.package == office.package.ref
    assert office.verbs()[-1] == "package.trusted"
    word = office.folder / f"{office.package.ref.digest}.json"
    data = word.read_bytes()
    trust.withdraw(office.package, office.folder, "a flaw", caller=ANN, **office.doors)
    assert office.verbs()[-1] == "package.distrusted"
    word.write_bytes(data)  # the old word, put back
    with pytest.raises(Forbidden, match="nobody has trusted it"):
        office.check()
    word.unlink()
    with pytest.raises(Missing):
        trust.withdraw(office.package, office.folder, "again", caller=ANN, **office.doors)


def test_it_ends(office: Office) -> None:
    office.give(lasts=30.0)
    clock: Any = office.doors["clock"]
    clock.time += 30.0
    with pytest.raises(Forbidden, match="has expired"):
        office.check()


def test_nobody_trusts_their_own(office: Office) -> None:
    tester = Caller(name="tester", powers=POWERS)
    with pytest.raises(Forbidden, match="nobody trusts their own"):
        office.give(by=tester)
    with pytest.raises(Forbidden):
        office.check()
    office.give(by=tester, governed=False)
    assert office.check()


@pytest.mark.parametrize(("reason", "lasts"), [("  ", 100.0), ("read", 0.0), ("read", 1e9)])
def test_trust_needs_a_reason_and_an_end(office: Office, reason: str, lasts: float) -> None:
    with pytest.raises(Invalid):
        office.give(reason=reason, lasts=lasts)


def test_code_from_elsewhere_is_not_run_in_a_job_before_somebody_trusts_it(office: Office) -> None:
    model = office.lab.records.artifact(office.package.parents[0])
    asked: dict[str, Any] = {k: office.lab.doors[k] for k in ("records", "blobs", "compute", "clock", "jobs")}
    assert evaluate.evaluate(model, None, **asked)
    office.lab.records._events[:] = [e for e in office.lab.records._events if e.verb != "model.trained"]
    for run in (lambda: evaluate.evaluate(model, None, **asked), lambda: office.lab.package(model)):
        with pytest.raises(Forbidden, match="was not trained here: it is not run"):
            run()
    office.give(lasts=100.0)
    assert evaluate.evaluate(model, None, **asked)
    asked["clock"].time += 100.0
    with pytest.raises(Forbidden, match="was not trained here: it is not run"):
        evaluate.evaluate(model, None, **asked)


def test_a_word_that_somebody_took_away_is_withdrawn_as_well(office: Office) -> None:
    """Else jobs, which go by the log, would count it until it ends."""
    office.give()
    shutil.rmtree(office.folder)
    trust.withdraw(office.package, office.folder, "a flaw", caller=ANN, **office.doors)
    assert office.verbs()[-1] == "package.distrusted"


def test_a_model_without_code_needs_none(tmp_path: Path) -> None:
    plain = Lab(tmp_path)
    plain.code("from sklearn.linear_model import LogisticRegression\ndef train(data, params):\n    return LogisticRegression().fit(data.X, data.y)\n")
    office = Office(plain, plain.package(plain.train(plain.commit(ROWS))), tmp_path / "trust")
    assert office.check() is None
    with pytest.raises(Invalid, match="brings no code"):
        office.give()
