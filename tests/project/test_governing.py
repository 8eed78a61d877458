"""Invitations that work once, and the way back in when the last admin's token is lost."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fairlead.api.cli import main
from fairlead.core.identity import Identity, fingerprint
from fairlead.errors import Conflict, FairleadError, Forbidden, Invalid, Missing
from fairlead.flow import identity
from fairlead.project import Project

MANIFEST = "service: loans\ndata: {source: loans.csv, target: status}\ntrain: {}\n"


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    (tmp_path / "fairlead.yaml").write_text(MANIFEST)
    with Project.open(tmp_path) as opened:
        opened.show(opened.add_person("ann", ["admin"], "9d"))
        yield opened


def refused(project: Project, token: str, *acts: Any) -> None:
    for act in acts:
        project.show(token)
        with pytest.raises(FairleadError):
            act()


def test_an_invitation_gives_one_token_once_and_nothing_else(project: Project) -> None:
    invitation = project.invite_person("bob", ["operator"], "2d", "9d")
    refused(project, invitation, project.caller, lambda: project.by("look"), lambda: project.by("release"),
            lambda: project.issue_token("bob", "9d"), lambda: project.invite_person("eve", ["operator"], "2d", "9d"),
            lambda: project.revoke_token(invitation.split("_")[1], "")) # fmt: skip
    project.show(invitation)
    token = project.take_token()
    project.show(token)
    assert project.caller("release").name == "bob" and project.caller().powers == {"look", "release"}
    refused(project, token, project.take_token)
    refused(project, invitation, project.take_token)
    bob = [t for t in project.identity.tokens.values() if t.owner == "bob"]
    assert [(t.issued_by, bool(t.grants), bool(t.revoked_at)) for t in bob] == [("ann", True, True), ("bob", False, False)]
    assert bob[1].expires_at - bob[1].issued_at == pytest.approx(9 * 86_400, abs=1)
    whole = b"".join(p.read_bytes() for p in project.state.rglob("*") if p.is_file())
    assert token.encode() not in whole and invitation.encode() not in whole


@pytest.mark.parametrize("end", ["revoked", "expired", "gone"])
def test_an_invitation_that_ended_gives_nothing(end: str, project: Project) -> None:
    invitation = project.invite_person("bob", ["viewer"], "1ms" if end == "expired" else "2d", "9d")
    if end == "revoked":
        project.revoke_token(invitation.split("_")[1], "a mistake")
    elif end == "gone":
        project.remove_person("bob")
    project.show(invitation)
    with pytest.raises((Forbidden, Conflict)):
        project.take_token()


def test_of_two_who_take_at_the_same_moment_one_gets_a_token(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both looked before either wrote: the log decides, for every reader alike."""
    number = project.invite_person("bob", ["viewer"], "2d", "9d").split("_")[1]
    stale = Identity(project.records.events(subject="identity"))
    first = identity.take(project.records, project.clock, number)
    answers = iter([stale])
    fresh = identity.read
    monkeypatch.setattr(identity, "read", lambda records: next(answers, None) or fresh(records))
    with pytest.raises(Conflict, match="used up"):
        identity.take(project.records, project.clock, number)
    good = [t.digest for t in project.identity.tokens.values() if t.owner == "bob" and not t.revoked_at]
    assert good == [fingerprint(first.encode())]


def test_only_an_admin_invites_and_only_whom_there_is(project: Project) -> None:
    bob = project.add_person("bob", ["trainer"], "9d")
    with pytest.raises(Missing):
        project.invite_person("eve", [], "2d", "9d")
    with pytest.raises(Invalid, match="invitation"):
        project.invite_person("bob", [], "0s", "9d")
    for lasts, grants in (("soon", "9d"), ("2d", "0s")):
        with pytest.raises(Invalid):
            project.invite_person("eve", ["viewer"], lasts, grants)
    with pytest.raises(Invalid):
        project.add_person("eve", ["viewer"], "0s")
    assert "eve" not in project.identity.people, "who got nothing is nobody"
    with pytest.raises(Missing, match="no invitation"):
        identity.take(project.records, project.clock, bob.split("_")[1])
    refused(project, bob, lambda: project.invite_person("eve", ["viewer"], "2d", "9d"))


def test_a_lost_admin_comes_back_loudly(
    project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = project.issue_token("ann", "9d")
    project.add_person("bob", ["operator"], "9d")
    for name, reason, error in (("ann", " ", Invalid), ("bob", "x", Conflict), ("eve", "x", Missing)):
        with pytest.raises(error):
            project.recover(name, reason, "1d")
    with pytest.raises(Invalid):
        project.recover("ann", "a token that is good for nothing", "0s")
    monkeypatch.setenv("FAIRLEAD_TOKEN", "")
    monkeypatch.setenv("FAIRLEAD_ACTOR", "root")
    assert main(["people", "recover", "ann", "--reason", "the laptop is lost", "-C", str(tmp_path)]) == 0
    token, told = capsys.readouterr()
    assert "every other token of ann ended" in told
    project.show(token.strip())
    assert project.by("administer") == "ann"
    refused(project, lost, project.caller)
    event = list(project.records.events())[-1]
    assert (event.verb, event.actor, event.body["reason"]) == ("token.recovered", "root (recovery)", "the laptop is lost")
    (alert,) = project.alerts().open
    assert alert.monitor == "recovery" and "root (recovery) made a new token for the admin ann" in alert.cause


def test_silence_does_not_hide_a_recovery(project: Project) -> None:
    project.add_person("olga", ["operator"], "9d")
    project.show(project.issue_token("olga", "9d"))
    project.silence("*", "1d", "quiet, please")
    project.recover("ann", "lost", "1d")
    assert [n.alert.monitor for n in project.alerts().notices] == ["recovery"]
