"""Backtests: what a policy would have done to releases of the past and to candidates planted into it."""

from pathlib import Path

import numpy as np
import pytest

from fairlead.adapters.predictions.files import PredictionFiles
from fairlead.adapters.records.memory import MemoryRecords
from fairlead.core.artifact import Artifact, PackageSpec, name_of
from fairlead.core.backtest import Backtest, Policy, Run, summary
from fairlead.core.catalogue import plan_of, release_checks
from fairlead.core.encoding import Encoding, Number
from fairlead.core.journal import HEADER, Batch, frame
from fairlead.core.manifest import ReleaseSection
from fairlead.core.ref import Ref
from fairlead.core.release import Phase, Service
from fairlead.core.schema import Column, Schema
from fairlead.errors import Missing
from fairlead.flow import release
from fairlead.flow.backtest import backtest
from fairlead.flow.tape import Pool, load, pool, stream
from fairlead.ports import Change

DAY = 86_400.0
START = 1_700_006_400.0
DAYS, HOURLY, RUNS = 8, 300, 3


def package(digit: str) -> Artifact:
    spec = PackageSpec(model=Ref("model", "m", digit * 64), flavor="onnx", task="binary",
                       classes=("no", "yes"), files={}, encoding=Encoding((Number("x"),)),
                       contract=Schema(columns=(Column(name="x", dtype="float"),)))  # fmt: skip
    return Artifact(ref=name_of("late", spec), spec=spec, created_at=0.0)


OLD, NEW = package("a"), package("b")


class Clock:
    at = START

    def now(self) -> float:
        return self.at


class Past:
    """Eight days of traffic. On the fourth a candidate that fails 6 % of its requests got a
    tenth of it, until somebody noticed after six hours."""

    def __init__(self, root: Path) -> None:
        self.records, clock = MemoryRecords(), Clock()
        self.records.commit(Change(at=START, actor="t", verb="x", subject="x", artifacts=(OLD, NEW),
                                   services=((None, Service(name="late", package=OLD.ref, epoch=1)),)))  # fmt: skip
        clock.at = START + 3 * DAY
        begun = release.start(self.records, clock, "late", [NEW.ref], policy().plan, actor="t", force="x")
        clock.at += 6 * 3600
        release.abort(self.records, clock, begun.id, "seen by hand", actor="t")
        (root / "journal").mkdir(parents=True)
        (root / "journal" / "gw01-000000.log").write_bytes(HEADER + self.traffic(begun.started_at, clock.at))
        self.log = PredictionFiles(root, lambda _: OLD.spec)  # type: ignore[arg-type, return-value]

    def traffic(self, began: float, ended: float) -> bytes:
        rng, frames = np.random.default_rng(5), []
        for hour in range(24 * DAYS):
            at = START + 3600.0 * hour
            tried = began <= at < ended
            parts = [(OLD, HOURLY - 30 * tried, 0.9 if tried else 1.0)] + [(NEW, 30, 0.1)] * tried
            for arm, n, chance in parts:
                failed = rng.random(n) < (0.06 if arm is NEW else 0.0005)
                ids = [f"01{hour:05d}{arm.ref.digest[:4]}{i:04d}" for i in range(n)]
                frames.append(frame(Batch(
                    service="late", package=str(arm.ref), at=at, epoch=2 if tried else 1, live=True,
                    propensity=chance, ids=ids, units=ids, bodies=[b'{"x":1.0}'] * n,
                    features=[None] * n, outputs=[None if f else [0.5] for f in failed],
                    errors=["broken" if f else "" for f in failed], fallback=[False] * n,
                    latencies=rng.gamma(2.0, 0.001, n).tolist())))  # fmt: skip
        return b"".join(frames)

    def backtest(self, *policies: Policy, seed: int = 0, runs: int = RUNS) -> Backtest:
        return backtest(policies, "late", runs=runs, seed=seed, records=self.records, log=self.log,
                        fresh=MemoryRecords)  # fmt: skip


def policy(name: str = "p", **more: object) -> Policy:
    section = ReleaseSection(plan="canary", shares=(0.5,), hold="1h", patience="6d", **more)  # type: ignore[arg-type]
    return Policy(name=name, plan=plan_of(section, release_checks(section, "binary")), slow=0.1)


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Past:
    return Past(tmp_path_factory.mktemp("past"))


@pytest.fixture(scope="module")
def made(past: Past) -> Backtest:
    return past.backtest(policy(), policy("bold", alpha=1e-6))


def test_a_release_of_the_past_would_have_ended_sooner(made: Backtest) -> None:
    one = made.past[0]
    assert (one.ended.phase, one.ended.requests) == (Phase.ABORTED, 1800)
    ours, bold = one.under
    assert ours.phase is Phase.ROLLED_BACK and ours.requests < one.ended.requests / 2
    assert "errors" in ours.reason
    assert bold.requests > ours.requests, "who accepts fewer false alarms waits for more evidence"


def test_the_baseline_under_another_name_goes_on_and_harm_is_found(made: Backtest) -> None:
    harmless, *harmful = made.trials
    assert harmless.planted == "the baseline itself"
    assert harmless.under[0].rolled_back[0] == 0 and harmless.under[0].promoted[0] == 1
    assert [t.planted for t in harmful] == ["errors in 0.4 % instead of 0.051 %", "errors in 1 % instead of 0.051 %"]
    assert harmful[1].under[0].rolled_back[0] == 1
    assert made.blocks == DAYS


def test_the_seed_decides_everything(past: Past, made: Backtest) -> None:
    again, other = past.backtest(policy()), past.backtest(policy(), seed=1, runs=1)
    for one, before in zip(again.trials, made.trials, strict=True):
        assert one.under[0] == before.under[0], "whatever else is tried beside it"
    assert again.past[0].under[0] == made.past[0].under[0]
    assert other.trials[2].under[0].requests != made.trials[2].under[0].requests


def test_a_candidate_that_was_rolled_back_is_planted_again(past: Past) -> None:
    records = MemoryRecords()
    for event in past.records.events():
        body = {**event.body, "epoch": event.body.get("epoch", 0)}
        last = past.records.release("late-1")
        lost = type(last)(**{f: getattr(last, f) for f in last.__struct_fields__} | {"phase": Phase.ROLLED_BACK})
        before = records.service("late")
        records.commit(Change(
            at=event.at, actor="t", verb=event.verb, subject=event.subject, body=body,
            artifacts=(OLD, NEW), releases=() if records.releases() else ((None, lost),),
            services=((before, Service(name="late", package=OLD.ref, epoch=3)),)))  # fmt: skip
    made = backtest([policy()], "late", runs=1, seed=0, records=records, log=past.log, fresh=MemoryRecords)
    assert made.trials[-1].planted == "the candidate of late-1"
    assert made.trials[-1].under[0].rolled_back[0] == 1


def test_days_are_drawn_whole_and_keep_their_order(past: Past) -> None:
    answers, _ = load(past.log, "late", 0.0, float("inf"))
    source = pool(answers, str(OLD.ref))
    assert isinstance(source, Pool) and source.blocks == DAYS
    rows, at = stream(source, np.random.default_rng(0), 10_000, 30 * DAY)
    assert (np.diff(at) >= 0).all() and len(rows) == 10_000
    days = source.block[rows]
    starts = np.flatnonzero(np.diff(days, prepend=days[0] - 1) | (np.diff(rows, prepend=-2) != 1))
    whole = [int((source.block == days[s]).sum()) for s in starts[:-1]]
    assert np.diff(starts).tolist() == whole
    short, _ = stream(source, np.random.default_rng(0), 10_000, 2 * DAY)
    assert len(short) <= 2 * 24 * HOURLY


def test_nothing_served_is_said(tmp_path: Path) -> None:
    records = MemoryRecords()
    with pytest.raises(Missing, match="serves nothing"):
        backtest([policy()], "late", runs=1, seed=0, records=records, fresh=MemoryRecords,
                 log=PredictionFiles(tmp_path, lambda _: OLD.spec))  # type: ignore[arg-type, return-value]


def test_a_summary_counts_only_the_right_end() -> None:
    ends = [Run(phase=Phase.PROMOTED, requests=100, seconds=10.0)] * 2 + [
        Run(phase=Phase.ROLLED_BACK, requests=5, seconds=1.0)]  # fmt: skip
    assert summary(ends, False).requests == 100
    assert summary(ends, True).requests == float("inf"), "two of three never were found"
    assert summary(ends, True).promoted[0] == pytest.approx(2 / 3)
    late = [Run(phase=Phase.ROLLED_BACK, requests=9, seconds=2.0, late=True)]
    assert summary(late, False).rolled_back[0] == 0, "out of patience is no alarm"
    assert summary(late, False).late[0] == 1
