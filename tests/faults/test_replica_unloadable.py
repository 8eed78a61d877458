import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fairlead.core.ref import Ref
from fairlead.core.traffic import Arm
from tests.faults.bar import Bar, twin
from tests.faults.caller import Calls, percentile
from tests.faults.conftest import Ground
from tests.serve.conftest import model

pytestmark = pytest.mark.faults
BUGS = "tests.faults.bugs_replica"
LOADING, EACH = 3.0, 4.2
"""Seconds a package may take to load, and seconds of traffic for each bad one."""


def spoil(change: Callable[[bytes], bytes], name: str = "model.onnx") -> Callable[[Ground, int], Ref]:
    """A candidate one of whose files is not what it was when it was packaged."""

    def made(zoo: Ground, i: int) -> Ref:
        ref = zoo.package(threshold=0.1 + i / 100)
        path = zoo.state / "packages" / ref.digest / name
        path.write_bytes(change(path.read_bytes()))
        return ref

    return made


def lacking(zoo: Ground, i: int) -> Ref:
    ref = zoo.package(threshold=0.1 + i / 100)
    Path(zoo.state / "packages" / ref.digest / "model.onnx").unlink()
    return ref


def wide(zoo: Ground, i: int) -> Ref:
    """The digests are right, but the model gives two numbers less than the package says."""
    return zoo.package(task="multiclass", classes=("a", "b", "c"), threshold=0.1 + i / 100)


ARTEFACTS: dict[str, tuple[Callable[[Ground, int], Ref], str]] = {
    "swapped": (spoil(lambda _: model("nan")), "does not match its digest"),
    "cut": (spoil(lambda data: data[: len(data) // 2]), "does not match its digest"),
    "another spec": (spoil(lambda data: data.replace(b"sum", b"mus") + b" ", "package.json"), "does not match its digest"),
    "lacks its model": (lacking, "lacks model.onnx"),
    "wrong width": (wide, "the model answers (1, 1)"),
    "dies while it loads": (lambda zoo, i: zoo.package(name="stillborn"), "not loaded within 3 s"),
    "takes a minute": (lambda zoo, i: zoo.package(name="dawdler"), "not loaded within 3 s"),
}


def said(zoo: Ground, ref: Ref, end: float) -> str:
    """Why the gateway does not ask a package, as soon as it says so."""

    def found() -> str:
        late = "nothing" if time.monotonic() > end else ""
        return zoo.status()["packages"].get(str(ref), {}).get("reason") or late

    return str(zoo.wait(found))


@pytest.mark.parametrize("bug", ["", twin(f"{BUGS}.unverified"), twin(f"{BUGS}.hopeful")])
def test_r6_candidates_that_cannot_load(zoo: Ground, bar: Bar) -> None:
    base = zoo.package()
    zoo.publish(base)
    zoo.start(load_seconds=LOADING, deadline_ms=2000)
    control = Calls(zoo.port, (200, 4.0), connections=64).answers()
    calls = Calls(zoo.port, (200, EACH * len(ARTEFACTS)), connections=64)
    slowest, bad, strange = 0.0, dict[str, str](), []
    for i, (name, (make, reason)) in enumerate(ARTEFACTS.items()):
        bad[name] = str(ref := make(zoo, i))
        zoo.publish(Arm(base, 0.5), Arm(ref, 0.5))
        begun = time.monotonic()
        word = said(zoo, ref, begun + EACH)
        slowest = max(slowest, time.monotonic() - begun)
        if reason not in word:
            strange.append((name, word))
        zoo.until(begun + EACH)
    answers = calls.answers()
    bar(f"failed requests of {len(answers):,}", sum(a.status != 200 for a in answers), "= 0")
    routed = sum(any(f'"package":"{ref}"'.encode() in a.body for ref in bad.values()) for a in answers)
    bar("answers by a package that cannot load", routed, "= 0")
    p99 = [1000 * percentile([a.seconds for a in calls], 0.99) for calls in (control, answers)]
    bar(f"p99 of all answers (without candidates {p99[0]:.1f} ms)", p99[1], "<= 100 ms")
    bar("slowest verdict, from the route on", slowest, f"<= {LOADING + 1} s")
    assert not strange
    evidence = {r["package"] for r in zoo.rows() if r["error"]}
    bar(f"of {len(bad)} packages without a failure in the journal", len({*bad.values()} - evidence), "= 0")
