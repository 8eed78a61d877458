"""The commands around people and their tokens."""

import sys
from pathlib import Path
from typing import Any

from rich.text import Text

from fairlead.api.console import console, emit, next_commands
from fairlead.api.present.figures import stamp
from fairlead.api.present.script import dump
from fairlead.api.present.table import grid
from fairlead.api.session import opened
from fairlead.core.identity import POWERS, Identity, Token

__all__ = ["add", "change", "invite", "issue", "known", "recover", "remove", "revoke", "show", "take", "tokens"]


def show(given: Path | None, *, as_json: bool) -> None:
    """Everybody, and what they may."""
    with opened(given) as project:
        identity = project.identity
    table = grid("name", "roles", "may")
    for person in identity.people.values():
        table.add_row(person.name, ", ".join(person.roles), Text(", ".join(sorted(person.powers)), "dim"))
    nobody = Text("nobody is recorded: whoever is logged in may do everything")
    emit(list(identity.people.values()), table if identity.people else nobody, as_json=as_json)
    if not as_json and not identity.people:
        next_commands("fairlead people add NAME --role admin")


def add(given: Path | None, name: str, roles: tuple[str, ...], lasts: str, *, as_json: bool) -> None:
    """Record somebody and print their token."""
    with opened(given) as project:
        token = project.add_person(name, roles, lasts)
    _once(name, token, lasts, as_json)


def change(given: Path | None, name: str, roles: tuple[str, ...]) -> None:
    """Other roles."""
    with opened(given) as project:
        project.change_roles(name, roles)
    console().print(f"{name} is {', '.join(roles)} now")


def remove(given: Path | None, name: str) -> None:
    """Somebody leaves."""
    with opened(given) as project:
        project.remove_person(name)
    console().print(f"{name} is gone, with every token")


def issue(given: Path | None, name: str, lasts: str, powers: tuple[str, ...], environment: str, *,
          as_json: bool) -> None:  # fmt: skip
    """One more token."""
    with opened(given) as project:
        token = project.issue_token(name, lasts, powers, environment)
    _once(name, token, lasts, as_json)


def invite(given: Path | None, name: str, roles: tuple[str, ...], lasts: str, grants: str, *,
           as_json: bool) -> None:  # fmt: skip
    """An invitation instead of a token."""
    with opened(given) as project:
        invitation = project.invite_person(name, roles, lasts, grants)
    sys.stdout.write(dump({"name": name, "invitation": invitation}) + "\n" if as_json else invitation + "\n")
    if not as_json:
        console(sys.stderr).print(f"good once, for {lasts}: with it {name} takes a token that nobody else sees", style="dim")
        next_commands("FAIRLEAD_TOKEN=INVITATION fairlead token take > my.token")


def take(given: Path | None, *, as_json: bool) -> None:
    """One's own token, for an invitation."""
    with opened(given) as project:
        name = project.caller("join").name
        token = project.take_token()
    _once(name, token, "as long as the invitation said", as_json)


def recover(given: Path | None, name: str, reason: str, lasts: str, *, as_json: bool) -> None:
    """An admin's token made anew by whoever holds the project's folder."""
    with opened(given) as project:
        token = project.recover(name, reason, lasts)
    _once(name, token, lasts, as_json)
    if not as_json:
        console(sys.stderr).print(f"every other token of {name} ended; it is in the audit log, and an alert", style="yellow")


def tokens(given: Path | None, *, as_json: bool) -> None:
    """Every token, without what makes it one."""
    with opened(given) as project:
        seen, now, here = known(project.identity), project.clock.now(), project.manifest.environment.name
        listed = list(project.identity.tokens.values())
    table = grid("id", "of", "for", "where", "until", "issued by", "")
    for token in listed:
        scope = "an invitation" if token.grants else "all" if token.powers == POWERS else ", ".join(sorted(token.powers))
        table.add_row(Text(token.id, "cyan"), token.owner, scope, token.environment or "anywhere",
                      stamp(token.expires_at), token.issued_by, Text(token.trouble(now, here), "red"))  # fmt: skip
    emit(seen, table if listed else Text("no token was issued"), as_json=as_json)


def revoke(given: Path | None, number: str, reason: str) -> None:
    """End a token."""
    with opened(given) as project:
        project.revoke_token(number, reason)
    console().print(f"token {number} is good for nothing now")


def known(identity: Identity) -> list[dict[str, Any]]:
    """Tokens as others may see them."""
    return [{k: getattr(t, k) for k in Token.__struct_fields__ if k != "digest"} for t in identity.tokens.values()]


def _once(name: str, token: str, lasts: str, as_json: bool) -> None:
    """The token alone on stdout, so that it can go into a file; what to do with it on stderr."""
    sys.stdout.write(dump({"name": name, "token": token}) + "\n" if as_json else token + "\n")
    if not as_json:
        console(sys.stderr).print(f"the token of {name}, for {lasts}; it is shown once and kept nowhere", style="dim")
        next_commands("FAIRLEAD_TOKEN=... fairlead ...", "fairlead --token-file FILE ...")
