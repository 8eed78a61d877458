"""The commands that rehearse with what was recorded: a model on old requests, a policy on old releases."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fairlead.api.border import REFUSED
from fairlead.api.commands.lab import newest
from fairlead.api.console import emit, next_commands, progress
from fairlead.api.present.backtest import backtest_view
from fairlead.api.present.replay import replay_page, replay_view
from fairlead.api.session import opened
from fairlead.core.decision import decide
from fairlead.core.duration import seconds
from fairlead.errors import Invalid

__all__ = ["backtest", "replay"]


def replay(
    given: Path | None, model: str, last: int, since: str, page: Path | None, *, as_json: bool
) -> int:
    """Replay recorded requests; 1 when a check fails."""
    with opened(given) as project:
        candidate = newest(project, "model", model)
        start = _moment(since, project.clock.now()) if since else 0.0
        with progress("replaying recorded requests", quiet=as_json) as say:
            made, verdicts = project.replay(candidate.ref, last=last, since=start, on_progress=say)
    emit({"replay": made, "verdicts": verdicts}, replay_view(made, verdicts), as_json=as_json)
    if page is not None:
        page.write_text(replay_page(made, verdicts), encoding="utf-8")
    if not as_json and page is None:
        next_commands("fairlead replay --page replay.html", "fairlead gate")
    return 0 if decide(made.candidate, verdicts, made.until).proceed else REFUSED


def backtest(given: Path | None, changes: dict[str, Any], policy: Path | None, runs: int, seed: int,
             since: str, *, as_json: bool) -> None:  # fmt: skip
    """Try a policy on the past."""
    with opened(given) as project:
        start = _moment(since, project.clock.now()) if since else 0.0
        with progress("backtesting", quiet=as_json) as say:
            made = project.backtest(changes, policy, runs=runs, seed=seed, since=start,
                                    on_progress=say)  # fmt: skip
    emit(made, backtest_view(made), as_json=as_json)


def _moment(text: str, now: float) -> float:
    """UTC seconds of a date, a date with time, or a stretch back from `now`."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        try:
            return now - seconds(text)
        except Invalid:
            raise Invalid(f"--since {text!r} is no time",
                          hint="write 2026-05-01, 2026-05-01T12:00 (UTC), or 3d") from None  # fmt: skip
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
