"""Commands of those who answer for it: people, tokens, the policy, approvals, and the same over HTTP."""

from typing import TYPE_CHECKING, Annotated

import typer

from fairlead.api.cli.shape import GOVERN, Json, PlanName, Project, app, later

if TYPE_CHECKING:
    from fairlead.api.commands import approval, people
    from fairlead.api.http import command
else:
    approval, people = later("approval", "people")
    (command,) = later("command", room="fairlead.api.http")


def _group(name: str, text: str, *, alone: bool = False) -> typer.Typer:
    group = typer.Typer(help=text, no_args_is_help=not alone, rich_markup_mode=None)
    app.add_typer(group, name=name, rich_help_panel=GOVERN)
    return group


people_group = _group("people", "Who may do what here.", alone=True)
token_group = _group("token", "What speaks for somebody: issue, take, list, revoke.")
policy_group = _group("policy", "The gate, release, governance and environment sections that hold.", alone=True)
approval_group = _group("approval", "Let a release through that somebody else made and asked for.")

Name = Annotated[str, typer.Argument(show_default=False, help="Letters, digits, '-' and '.'.")]
Roles = Annotated[list[str], typer.Option("--role", metavar="ROLE", help="trainer, approver, operator, auditor, viewer, admin or service (repeatable).")]  # fmt: skip
Lasts = Annotated[str, typer.Option("--expires", metavar="TIME", help="After which it is good for nothing.")]
Reason = Annotated[str, typer.Option(metavar="TEXT", help="Why; it stands in the audit log.")]
Number = Annotated[int, typer.Argument(metavar="APPROVAL", show_default=False, help="Its number in `fairlead approval list`.")]  # fmt: skip


@people_group.callback(invoke_without_command=True)
def _people(context: typer.Context, project: Project = None, as_json: Json = False) -> None:
    """Who may do what here. Nobody is recorded at first: then whoever is logged in may do everything."""
    if context.invoked_subcommand is None:
        people.show(project, as_json=as_json)


@people_group.command("add")
def _add(
    name: Name, role: Roles, expires: Lasts = "90d", project: Project = None, as_json: Json = False
) -> None:
    """Record somebody and print their token, once. The first one is an admin."""
    people.add(project, name, tuple(role), expires, as_json=as_json)


@people_group.command("invite")
def _invite(
    name: Name,
    role: Annotated[list[str] | None, typer.Option(metavar="ROLE", show_default=False, help="Of somebody who is not known yet (repeatable).")] = None,
    expires: Annotated[str, typer.Option(metavar="TIME", help="After which the invitation is good for nothing.")] = "2d",
    token_expires: Annotated[str, typer.Option(metavar="TIME", help="How long the token lasts that they take.")] = "90d",
    project: Project = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Print an invitation: with it somebody takes, once, a token that nobody else ever saw."""
    people.invite(project, name, tuple(role or ()), expires, token_expires, as_json=as_json)


@people_group.command("recover")
def _recover(
    name: Name, reason: Reason = "", expires: Lasts = "1d", project: Project = None, as_json: Json = False
) -> None:
    """A new token for an admin who lost theirs, by whoever may write .fairlead. Everybody hears of it."""
    people.recover(project, name, reason, expires, as_json=as_json)


@people_group.command("roles")
def _roles(name: Name, role: Roles, project: Project = None) -> None:
    """Give somebody other roles instead of theirs; nobody changes their own."""
    people.change(project, name, tuple(role))


@people_group.command("remove")
def _remove(name: Name, project: Project = None) -> None:
    """Somebody leaves; their tokens end."""
    people.remove(project, name)


@token_group.command("issue")
def _issue(
    name: Name,
    expires: Lasts = "90d",
    power: Annotated[list[str] | None, typer.Option(metavar="POWER", show_default=False, help="Only this: look, make, approve, release, audit, administer or call (repeatable).")] = None,
    environment: Annotated[str, typer.Option(metavar="NAME", help="Only in this environment.")] = "",
    project: Project = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Print one more token for somebody, once."""
    people.issue(project, name, expires, tuple(power or ()), environment, as_json=as_json)


@token_group.command("take")
def _take(project: Project = None, as_json: Json = False) -> None:
    """Take your own token: FAIRLEAD_TOKEN, or --token-file, is your invitation. It works once."""
    people.take(project, as_json=as_json)


@token_group.command("list")
def _tokens(project: Project = None, as_json: Json = False) -> None:
    """Whose tokens there are, what for, and until when; never the tokens."""
    people.tokens(project, as_json=as_json)


@token_group.command("revoke")
def _revoke(
    token: Annotated[str, typer.Argument(metavar="ID", show_default=False, help="Its id in `fairlead token list`.")],
    reason: Reason = "",
    project: Project = None,
) -> None:  # fmt: skip
    """End a token now: yours, or as an admin anybody's."""
    people.revoke(project, token, reason)


@policy_group.callback(invoke_without_command=True)
def _policy(context: typer.Context, project: Project = None, as_json: Json = False) -> None:
    """Whether the policy in fairlead.yaml is the one in force, and who set it."""
    if context.invoked_subcommand is None:
        approval.policy(project, as_json=as_json)


@policy_group.command("adopt")
def _adopt(reason: Reason = "", project: Project = None) -> None:
    """Make the policy in fairlead.yaml the one in force (an admin)."""
    approval.adopt(project, reason)


@approval_group.command("request")
def _request(
    packages: Annotated[list[str] | None, typer.Argument(metavar="PACKAGE", show_default=False, help="Digest prefix (default: the newest package).")] = None,
    plan: PlanName = "",
    reason: Reason = "",
    project: Project = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Ask that a release may start."""
    approval.request(project, tuple(packages or ()), plan, reason, as_json=as_json)


@approval_group.command("list")
def _approvals(project: Project = None, as_json: Json = False) -> None:
    """Approvals, newest last, and releases that were started without one."""
    approval.listed(project, as_json=as_json)


@approval_group.command("show")
def _show(approval_id: Number, project: Project = None, as_json: Json = False) -> None:
    """What exactly one approves, with the evidence for it."""
    approval.show(project, approval_id, as_json=as_json)


@approval_group.command("grant")
def _grant(
    approval_id: Number, reason: Reason = "", project: Project = None, as_json: Json = False
) -> None:
    """Let it through."""
    approval.grant(project, approval_id, reason, as_json=as_json)


@approval_group.command("deny")
def _deny(
    approval_id: Number, reason: Reason = "", project: Project = None, as_json: Json = False
) -> None:
    """Do not let it through, or withdraw what you asked for."""
    approval.deny(project, approval_id, reason, as_json=as_json)


@approval_group.command("review")
def _review(
    release: Annotated[str, typer.Argument(metavar="RELEASE", show_default=False, help="Its id.")],
    reason: Reason = "",
    project: Project = None,
) -> None:
    """Look at a release that somebody else started without approval; ends its alert."""
    approval.review(project, release, reason)


@app.command("control", rich_help_panel=GOVERN)
def _control(
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Where to listen; beyond this machine only where people are known.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one.")] = 8090,
    project: Project = None,
) -> None:  # fmt: skip
    """Answer the same verbs over HTTP, until stopped."""
    raise typer.Exit(command.serve(project, host, port))
