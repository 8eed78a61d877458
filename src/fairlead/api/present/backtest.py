"""A backtest on a screen: policies beside each other, on past releases and on planted candidates."""

from math import isfinite

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fairlead.api.present.figures import count, percent, span, stamp
from fairlead.api.present.rollout import COLOURS, step_words
from fairlead.api.present.table import grid
from fairlead.core.backtest import Backtest, Policy, Run, Summary
from fairlead.core.release import Phase

__all__ = ["backtest_view"]


def backtest_view(made: Backtest) -> RenderableType:
    """The policies, the releases of the past under each, and what was planted."""
    blocks = "day" if made.until - made.since > 86_400 * made.blocks / 2 else "hour"
    lead = (f"{count(made.requests)} recorded requests from {stamp(made.since)} to {stamp(made.until)} UTC, "
            f"drawn by the {blocks} ({made.blocks}), seed {made.seed}")  # fmt: skip
    parts: list[RenderableType] = [Text(lead, "dim"), Text(""), _policies(made)]
    if made.past:
        parts += [Text(""), _past(made)]
    parts += [Text(""), _trials(made), *(Text(f"note  {text}", "dim") for text in made.notes)]
    return Group(*parts)


def _policies(made: Backtest) -> Table:
    table = grid("policy", "plan", "α", "β", "checks", fold=("plan", "checks"))
    for policy in made.policies:
        table.add_row(Text(policy.name, "bold"), _steps(policy), percent(policy.plan.odds.alpha),
                      percent(policy.plan.odds.beta), ", ".join(_checks(policy)))  # fmt: skip
    return table


def _steps(policy: Policy) -> str:
    return f"{policy.plan.name}: {'; '.join(step_words(s) for s in policy.plan.steps)}"


def _checks(policy: Policy) -> list[str]:
    return list(dict.fromkeys(c.name for s in policy.plan.steps for c in s.checks))


def _past(made: Backtest) -> Table:
    table = grid("release", "policy", "end", "after", "requests", "because", right=("requests",),
                 fold=("because",))  # fmt: skip
    for one in made.past:
        table.add_row(Text(one.release, "bold"), Text("what happened", "dim"), *_end(one.ended))
        for policy, run in zip(made.policies, one.under, strict=True):
            table.add_row("", policy.name, *_end(run))
    return table


def _end(run: Run) -> tuple[Text, str, str, Text]:
    colour = COLOURS[run.phase]
    said = "undecided" if run.phase is Phase.RUNNING else run.phase.value.replace("_", " ")
    said = "out of patience" if run.late else said
    return Text(said, colour), span(run.seconds), count(run.requests), Text(run.reason, "dim")


def _trials(made: Backtest) -> Table:
    titles = ("rolled back", "out of patience", "promoted", "half within", "time for half")
    table = grid("planted", "policy", *titles, right=titles)
    for trial in made.trials:
        for place, (policy, one) in enumerate(zip(made.policies, trial.under, strict=True)):
            table.add_row(Text("" if place else trial.planted, "bold"), policy.name,
                          *_shares(one, trial.harmful), _requests(one), _time(one))  # fmt: skip
    return table


def _shares(one: Summary, harmful: bool) -> tuple[Text, ...]:
    """What is wrong stands out: a false alarm, a harmful candidate promoted."""
    wrong = one.promoted if harmful else one.rolled_back
    return (Text(_share(one.rolled_back), "red" if wrong is one.rolled_back and wrong[0] else "default"),
            Text(_share(one.late)), Text(_share(one.promoted), "red" if wrong is one.promoted and wrong[0] else "default"))  # fmt: skip


def _share(found: tuple[float, float, float]) -> str:
    value, low, high = found
    return f"{percent(value)} ({100 * low:.2g} to {100 * high:.3g})"


def _requests(one: Summary) -> str:
    return count(one.requests) if isfinite(one.requests) else "-"


def _time(one: Summary) -> str:
    return span(one.seconds) if isfinite(one.seconds) else "-"
