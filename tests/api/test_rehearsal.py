"""What a replay and a backtest look like: nothing that matters is left out, nothing runs in the page."""

import re

import numpy as np
import pytest
from rich.console import Console, RenderableType

from fairlead.api.commands.rehearsal import _moment
from fairlead.api.present.backtest import backtest_view
from fairlead.api.present.replay import replay_page, replay_view
from fairlead.core.backtest import Again, Backtest, Policy, Run, Trial, summary
from fairlead.core.check import Verdict, judge_all
from fairlead.core.evidence import EvidenceSet
from fairlead.core.manifest import GateSection
from fairlead.core.ref import Ref
from fairlead.core.release import Phase
from fairlead.core.replay import Cause, Flip, Pair, Replay, compare, replay_checks, spreads
from fairlead.core.traffic import replace
from fairlead.errors import Invalid

NEW, OLD = Ref("model", "m", "b" * 64), Ref("model", "m", "a" * 64)


def made(*, turned: bool = False) -> tuple[Replay, tuple[Verdict, ...]]:
    rng = np.random.default_rng(0)
    theirs, group = rng.random((2_000, 1)), rng.integers(0, 4, 2_000)
    ours = np.where((group == 2)[:, None] & turned, 1 - theirs, theirs)
    pair = Pair(subject=NEW, against=OLD, task="binary", ours=ours, theirs=theirs)
    groups = [(f"town=<b>{i}</b>", group == i) for i in range(4)]
    edges, one, other, moved = spreads(pair)
    report = Replay(
        candidate=NEW, baseline=OLD, task="binary", requests=2_000, labelled=12, days=3, since=1e9,
        until=1e9 + 1e5, evidence=tuple(compare(pair, groups)), edges=edges, ours=one, theirs=other,
        moved=moved, flips=(Flip(before="no", after="yes", requests=7),), notes=("value: thin support",),
        causes=(Cause(column="dest", requests=3, message="column 'dest' cannot take 'ABQ'"),),
    )  # fmt: skip
    checks = replay_checks(GateSection(), report, 0.01)
    return report, judge_all(checks, EvidenceSet(report.evidence), NEW, OLD)


def shown(view: RenderableType) -> str:
    console = Console(width=200, record=True, file=None, quiet=False, no_color=True)
    with console.capture() as text:
        console.print(view)
    return text.get()


def test_a_report_says_what_flips_where_and_why() -> None:
    text = shown(replay_view(*made(turned=True)))
    assert text.startswith("refused")
    for part in ("2,000 recorded requests", "decisions that flip [town=<b>2</b>]", "ABQ", "thin support",
                 "decided before", "score, 50 % quantile"):  # fmt: skip
        assert part in text
    assert shown(replay_view(*made())).startswith("nothing stands against it")


def test_a_page_loads_nothing_and_escapes_what_it_shows() -> None:
    page = replay_page(*made(turned=True))
    assert "refused" in page and page.count("<svg") == 3
    assert "<b>" not in page and "&lt;b&gt;2" in page
    assert not re.search(r"<script|<link|<img|\ssrc=|url\(|https?://(?!www\.w3\.org)", page)


def test_nothing_to_replay_is_said() -> None:
    empty = Replay(candidate=NEW, baseline=OLD, task="binary", requests=0, notes=("no feature 'x'",))
    checks = replay_checks(GateSection(), empty, 0.01)
    verdicts = judge_all(checks, EvidenceSet(), NEW, OLD)
    for text in (shown(replay_view(empty, verdicts)), replay_page(empty, verdicts)):
        assert "no recorded request could be replayed" in text and "no feature" in text


def test_a_backtest_shows_policies_beside_each_other() -> None:
    back = Run(phase=Phase.ROLLED_BACK, requests=900, seconds=5400.0, reason="errors: 9 of 90")
    late = Run(phase=Phase.ROLLED_BACK, requests=9_000, seconds=9e5, late=True)
    found = Backtest(
        policies=tuple(Policy(name=n, plan=replace(), slow=0.1) for n in ("as it is", "changed")),
        past=(Again(release="late-1", plan="canary", ended=late, under=(back, late)),),
        trials=(Trial(planted="the baseline itself", harmful=False,
                      under=(summary([back] * 3, False), summary([late] * 3, False))),),
        requests=5_000, since=1e9, until=1e9 + 864_000, blocks=10, seed=4,
    )  # fmt: skip
    text = shown(backtest_view(found))
    for part in ("drawn by the day (10), seed 4", "late-1", "out of patience", "errors: 9 of 90", "1h 30m"):
        assert part in text
    trial = next(line for line in text.splitlines() if "the baseline itself" in line)
    assert "100 % (44 to 100)" in trial


@pytest.mark.parametrize(("text", "at"), [
    ("2001-09-09T01:46:40", 1e9), ("2001-09-09", 1e9 - 6400), ("90s", 2e9 - 90),
    ("2001-09-09T03:46:40+02:00", 1e9)])  # fmt: skip
def test_since_takes_moments_and_stretches(text: str, at: float) -> None:
    assert _moment(text, 2e9) == at


def test_since_refuses_the_rest() -> None:
    with pytest.raises(Invalid, match="'soon' is no time"):
        _moment("soon", 2e9)
