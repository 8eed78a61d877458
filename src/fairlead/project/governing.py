"""Who may act on a project, and who has to agree: people, tokens, the policy, approvals."""

from collections.abc import Sequence

from fairlead.adapters.router.register import LocalRegister
from fairlead.core.approval import Approvals
from fairlead.core.duration import seconds
from fairlead.core.event import Event
from fairlead.core.identity import Caller, passes
from fairlead.core.ref import Ref
from fairlead.core.traffic import TrafficPlan
from fairlead.flow import identity
from fairlead.flow.approval import Card, Desk
from fairlead.project.house import House

__all__ = ["Governing"]

READER = Caller(name="", powers=frozenset())


class Governing(House):
    """Verbs of governance. Nobody changes their own roles, nor approves what is their own."""

    def add_person(self, name: str, roles: Sequence[str], lasts: str) -> str:
        """Record somebody; their first token, which is shown once. Raises what `flow.identity.add` does."""
        actor, span = self.by("administer"), identity.span(seconds(lasts))
        identity.add(self.records, self.clock, name, roles, actor=actor)
        return self._issued(name, actor, span)

    def change_roles(self, name: str, roles: Sequence[str]) -> None:
        """Other roles instead of theirs; tokens stay and lose what the roles no longer give."""
        identity.change(self.records, self.clock, name, roles, actor=self.by("administer"))
        self.admit()

    def remove_person(self, name: str) -> None:
        """Somebody leaves, and their tokens end."""
        identity.remove(self.records, self.clock, name, actor=self.by("administer"))
        self.admit()

    def issue_token(self, owner: str, lasts: str, powers: Sequence[str] = (), environment: str = "") -> str:
        """One more token for somebody; it is shown once."""
        return self._issued(owner, self.by("administer"), seconds(lasts), powers, environment)

    def invite_person(self, name: str, roles: Sequence[str], lasts: str, grants: str) -> str:
        """An invitation for somebody, who is recorded if they have `roles` and are not known yet: they
        take their own token for it, once. Raises what `flow.identity.add` and `invite` do."""
        actor = self.by("administer")
        span, granted = identity.span(seconds(lasts), "an invitation"), identity.span(seconds(grants))
        if roles:
            identity.add(self.records, self.clock, name, roles, actor=actor)
        return identity.invite(self.records, self.clock, name, actor=actor, lasts=span, grants=granted)

    def take_token(self) -> str:
        """One's own token, for the invitation that is shown; it is shown once."""
        made = identity.take(self.records, self.clock, self.caller("join").token)
        self.admit()
        return made

    def recover(self, name: str, reason: str, lasts: str) -> str:
        """A new token for an admin who lost theirs, for whoever can write the records: on this machine
        only. Everybody is told by an alert, and the log says who was logged in."""
        made = identity.recover(self.records, self.clock, name, reason, actor=f"{self._login} (recovery)",
                                lasts=seconds(lasts), service=self.name)  # fmt: skip
        self.admit()
        return made

    def revoke_token(self, number: str, reason: str) -> None:
        """End a token, by an admin or its owner. Gateways hear of it within a second."""
        caller, token = self.caller(), self.identity.tokens.get(number)
        if token is None or token.owner != caller.name:
            caller.must("administer")
        identity.revoke(self.records, self.clock, number, reason, actor=caller.name)
        self.admit()

    def admit(self) -> None:
        """Tell the gateway whose tokens it takes, if that changed."""
        known = self.identity
        if known.governed:
            LocalRegister(self.state / "run").publish(passes(known, self.manifest.environment.name))

    def desk(self, caller: Caller) -> Desk:
        """Where `caller` deals with approvals."""
        return Desk(self.records, self.clock, self.manifest, caller)

    def approvals(self) -> Approvals:
        """All approvals, policies and broken glass."""
        return self.desk(READER).read()

    def approval(self, number: int) -> Card:
        """What exactly somebody is asked to approve."""
        return self.desk(READER).show(number)

    def adopt_policy(self, reason: str) -> Event:
        """Make the gate, release, governance and environment sections of the manifest binding."""
        return self.desk(self.caller("administer")).adopt(reason)

    def request_approval(self, packages: Sequence[Ref], plan: TrafficPlan, reason: str = "") -> Card:
        """Ask that a release may start."""
        return self.desk(self.caller("make", "release")).request(packages, plan, reason)

    def grant(self, number: int, reason: str) -> Card:
        """Let a release through that somebody else made and asked for."""
        return self.desk(self.caller("approve")).grant(number, reason)

    def deny(self, number: int, reason: str) -> Card:
        """Do not let it through, or withdraw what one asked for."""
        return self.desk(self.caller()).deny(number, reason)

    def review(self, release: str, reason: str) -> Event:
        """Look at a release that started without approval, as somebody else."""
        return self.desk(self.caller("approve", "audit")).review(release, reason)

    def _issued(
        self, owner: str, actor: str, lasts: float, powers: Sequence[str] = (), environment: str = ""
    ) -> str:
        token = identity.issue(self.records, self.clock, owner, actor=actor, lasts=lasts,
                               powers=powers, environment=environment)  # fmt: skip
        self.admit()
        return token
