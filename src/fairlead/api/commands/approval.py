"""The commands of four eyes: ask, show, grant, deny, review, and the policy they are judged by."""

from pathlib import Path

from rich.text import Text

from fairlead.api.commands.lab import newest
from fairlead.api.console import console, emit, next_commands
from fairlead.api.present.approval import approvals_view, card_view
from fairlead.api.present.figures import stamp
from fairlead.api.session import opened
from fairlead.core.ref import digest
from fairlead.flow.approval import Card, policy_of

__all__ = ["adopt", "deny", "grant", "listed", "policy", "request", "review", "show"]


def policy(given: Path | None, *, as_json: bool) -> None:
    """The policy in force beside the one in the manifest."""
    with opened(given) as project:
        here, known = policy_of(project.manifest), project.approvals().policies
    if not known:
        said = Text("no policy was adopted: whatever fairlead.yaml says holds")
    else:
        same = known[-1].digest == here
        said = Text.assemble(("in force", "bold green") if same else ("not in force", "bold red"), f"  policy {here[:12]}\n",
                             ("adopted ", "dim"), f"{known[-1].digest[:12]} by {known[-1].told.by} at {stamp(known[-1].told.at)}: {known[-1].told.reason}")  # fmt: skip
    emit({"here": here, "adopted": known}, said, as_json=as_json)
    if not as_json and (not known or known[-1].digest != here):
        next_commands('fairlead policy adopt --reason "..."')


def adopt(given: Path | None, reason: str) -> None:
    """Put the manifest's policy in force."""
    with opened(given) as project:
        made = project.adopt_policy(reason)
    console().print(f"policy {made.body['digest'][:12]} is in force; whoever set it approves nothing under it")


def request(given: Path | None, packages: tuple[str, ...], plan: str, reason: str, *, as_json: bool) -> None:
    """Ask for an approval."""
    with opened(given) as project:
        chosen = [newest(project, "package", text).ref for text in packages or ("",)]
        card = project.request_approval(chosen, project.plan(plan), reason)
    _shown(card, as_json)
    if not as_json:
        next_commands(f"fairlead approval show {card.approval.id}", f'fairlead approval grant {card.approval.id} --reason "..."   (somebody else)')  # fmt: skip


def listed(given: Path | None, *, as_json: bool) -> None:
    """All approvals."""
    with opened(given) as project:
        known = project.approvals()
        cards = [project.approval(number) for number in known.all]
    broken = list(known.broken.values())
    emit({"approvals": cards, "broken": broken}, approvals_view(cards, broken), as_json=as_json)


def show(given: Path | None, number: int, *, as_json: bool) -> None:
    """One approval with its evidence."""
    with opened(given) as project:
        card = project.approval(number)
    _shown(card, as_json)


def grant(given: Path | None, number: int, reason: str, *, as_json: bool) -> None:
    """Let it through."""
    with opened(given) as project:
        card = project.grant(number, reason)
        usual = digest(project.plan()) == card.approval.bound.plan
    _shown(card, as_json)
    if not as_json and card.state == "granted":
        plan = "" if usual else f" --plan {card.approval.plan}"
        next_commands(f"fairlead release start {' '.join(p.digest[:12] for p in card.approval.bound.packages)}{plan}")


def deny(given: Path | None, number: int, reason: str, *, as_json: bool) -> None:
    """Do not let it through."""
    with opened(given) as project:
        card = project.deny(number, reason)
    _shown(card, as_json)


def review(given: Path | None, release: str, reason: str) -> None:
    """Close what somebody else broke open."""
    with opened(given) as project:
        made = project.review(release, reason)
    console().print(f"{release} was reviewed by {made.actor}")


def _shown(card: Card, as_json: bool) -> None:
    emit(card, card_view(card), as_json=as_json)
