"""Four eyes: ask for, grant, deny and use approvals, adopt a policy, and look at broken glass afterwards."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from fairlead.core.approval import (
    POLICY,
    SUBJECT,
    Approval,
    Approvals,
    Bound,
    changes,
    objection,
    state,
    void,
)
from fairlead.core.artifact import (
    Artifact,
    DatasetSpec,
    FeaturesSpec,
    ModelSpec,
    ancestors,
    name_of,
)
from fairlead.core.decision import Decision
from fairlead.core.duration import seconds
from fairlead.core.event import Event
from fairlead.core.identity import Caller
from fairlead.core.manifest import Manifest
from fairlead.core.ref import Ref, digest
from fairlead.core.tombs import record_of
from fairlead.core.traffic import TrafficPlan
from fairlead.errors import Conflict, Corrupt, Forbidden, Invalid, Missing
from fairlead.flow.identity import read as people
from fairlead.ports import Change, Clock, Records

__all__ = ["Card", "Desk", "makers", "policy_of", "read"]

MADE = frozenset({"model.trained", "package.built", "package.received"})
"""Events whose actor made a package, or the model in it, or brought it here."""
OPEN = ("waiting", "granted")


class Card(Struct, frozen=True, kw_only=True):
    """What somebody is asked to approve, with the evidence for it. `void`: why it would not let the
    release start now ("" when it would); `changed`: what is not as it was when it was asked for;
    `decisions`: the gate's, newest last."""

    approval: Approval
    state: str
    void: str
    changed: tuple[str, ...]
    packages: tuple[Artifact, ...]
    decisions: tuple[Decision, ...]


def policy_of(manifest: Manifest) -> str:
    """The digest of what decides who and what goes live."""
    return digest((manifest.service, manifest.gate, manifest.release, manifest.governance,
                   manifest.environment, manifest.data.sensitive, manifest.data.slices))  # fmt: skip


class Desk:
    """Where the approvals of one service are dealt with; `by`: who stands before it."""

    def __init__(self, records: Records, clock: Clock, manifest: Manifest, by: Caller) -> None:
        self._records, self._clock, self._manifest, self._by = records, clock, manifest, by
        self._identity = people(records)

    def read(self) -> Approvals:
        """All approvals, as of now."""
        return read(self._records, self._manifest.service)

    def adopt(self, reason: str) -> Event:
        """Make the policy in the manifest the one in force. Raises Invalid, Conflict (it is)."""
        self._said(reason)
        wanted, known = policy_of(self._manifest), self.read().policy
        if known is not None and known.digest == wanted:
            raise Conflict("this policy is in force already", hint="change gate, release or governance first")
        return self._write("policy.adopted", POLICY, digest=wanted, reason=reason)

    def request(self, packages: Sequence[Ref], plan: TrafficPlan, reason: str = "") -> Card:
        """Ask that a release of `packages` by `plan` may start.

        Raises Conflict (open already, policy not adopted), Invalid (no approval is needed), Missing.
        """
        section = self._manifest.governance
        if not section.approvals:
            raise Invalid("no approval is needed here", hint="governance.approvals in fairlead.yaml says how many are")
        known, bound, now = self.read(), self.bind(packages, plan), self._clock.now()
        self._lawful(known)
        for other in known.all.values():
            if other.bound == bound and state(other, now, self._may) in OPEN:
                raise Conflict(f"approval {other.id} is open for the same", hint=f"`fairlead approval show {other.id}`")  # fmt: skip
        event = self._write("approval.requested", SUBJECT, bound=bound, plan=plan.name,
                            reason=reason, needs=section.approvals, digest=bound.digest,
                            expires_at=now + seconds(section.expires), makers=makers(self._records, packages),
                            authors=_authors(known, self._since()))  # fmt: skip
        return self.show(event.seq)

    def show(self, number: int) -> Card:
        """What exactly one approves. Raises Missing."""
        approval = self._one(number)
        packages = tuple(self._records.artifact(p) for p in approval.bound.packages)
        here = replace(self.bind(approval.bound.packages, None), plan=approval.bound.plan)
        now, needs = self._clock.now(), self._manifest.governance.approvals
        return Card(approval=approval, state=state(approval, now, self._may), packages=packages,
                    void=void(approval, here, needs, now, self._may), changed=changes(approval, here),
                    decisions=tuple(self._decisions(packages)))  # fmt: skip

    def grant(self, number: int, reason: str) -> Card:
        """Let it through. Raises Forbidden (one's own; no approver), Conflict (not open; changed
        since), Missing, Invalid (no reason)."""
        self._said(reason)
        card = self.show(number)
        if why := objection(card.approval, self._by.name, self._may):
            raise Forbidden(f"{self._by.name} {why}: approval {number} needs somebody else",
                            hint="whoever asked, trained, built or set the policy does not approve")  # fmt: skip
        if self._by.name in [g.by for g in card.approval.grants]:
            raise Conflict(f"{self._by.name} granted approval {number} before", hint="somebody else has to, if it lacks grants")  # fmt: skip
        if card.state not in OPEN or card.changed:
            raise Conflict(f"approval {number} {card.void}", hint="`fairlead approval request` asks anew")
        self._write("approval.granted", SUBJECT, approval=number, digest=card.approval.bound.digest, reason=reason)  # fmt: skip
        return self.show(number)

    def deny(self, number: int, reason: str) -> Card:
        """Do not let it through; whoever asked may withdraw. Raises Forbidden, Conflict, Missing, Invalid."""
        self._said(reason)
        card = self.show(number)
        if self._by.name != card.approval.asked.by:
            self._by.must("approve")
        if card.state not in OPEN:
            raise Conflict(f"approval {number} is {card.state}", hint="only an open one can be denied")
        self._write("approval.denied", SUBJECT, approval=number, reason=reason)
        return self.show(number)

    def review(self, release: str, reason: str) -> Event:
        """Say, as somebody else, that a release without approval was looked at; ends its alert.

        Raises Missing, Conflict (reviewed), Forbidden (who broke the glass or made it), Invalid.
        """
        self._said(reason)
        broken = self.read().broken.get(release)
        if broken is None:
            raise Missing(f"no release {release!r} was started by breaking glass", hint="`fairlead approval list` names them")  # fmt: skip
        if broken.reviewed is not None:
            raise Conflict(f"{broken.reviewed.by} reviewed {release}", hint="nothing is left to do")
        if self._by.name in (broken.told.by, *broken.makers):
            raise Forbidden(f"{self._by.name} broke the glass or made what was released", hint="somebody else reviews it")  # fmt: skip
        return self._write("approval.reviewed", SUBJECT, release=release, reason=reason)

    def consent(self, packages: Sequence[Ref], plan: TrafficPlan, glass: str) -> dict[str, Any]:
        """What the event of a starting release says of who let it through. Ask after the service
        was read: its compare-and-swap then makes sure that no approval is used twice.

        `glass`: why it starts without. Raises Forbidden, naming the next command.
        """
        needs = self._manifest.governance.approvals
        if glass and not needs:
            raise Invalid("no approval is needed: there is no glass to break", hint="leave --break-glass out")
        if not needs and not self._identity.governed:
            return {}
        if not self._identity.governed:
            raise Invalid("governance.approvals needs to know its people", hint="`fairlead people add NAME --role admin`")
        if glass:
            return {"break_glass": {"reason": glass, "makers": makers(self._records, packages)}}
        known, now = self.read(), self._clock.now()
        if needs or known.policy is not None:
            self._lawful(known)
        if not needs:
            return {}
        here = self.bind(packages, plan)
        reasons = [(a, void(a, here, needs, now, self._may)) for a in known.all.values()
                   if set(a.bound.packages) == set(packages)]  # fmt: skip
        good = [a for a, why in reasons if not why]
        if good:
            return {"approval": good[0].id, "approved": good[0].bound.digest}
        words = "".join(f"; approval {a.id} {why}" for a, why in reasons[-1:])
        short = " ".join(p.digest[:12] for p in packages)
        waiting = [a.id for a, _ in reasons if state(a, now, self._may) == "waiting" and not changes(a, here)]
        raise Forbidden(f"this release needs {needs} approval{'s' if needs > 1 else ''}{words}",
                        hint=f"`fairlead approval grant {waiting[-1]}` by somebody who may" if waiting
                        else f"`fairlead approval request {short}`")  # fmt: skip

    def bind(self, packages: Sequence[Ref], plan: TrafficPlan | None) -> Bound:
        """What a release of `packages` rests on now. Raises Missing, Corrupt."""
        made = [self._records.artifact(p) for p in packages]
        lineage = {a.ref: a for p in packages for a in ancestors(p, self._records.artifact)}
        for artifact in lineage.values():
            redacted = any(self._records.events(subject=record_of(artifact.ref)))
            if name_of(artifact.ref.name, artifact.spec) != artifact.ref and not redacted:
                raise Corrupt(f"{artifact.ref.short} is not what its digest says", hint="restore the records from a backup")  # fmt: skip
        here = self._records.service(self._manifest.service)
        return Bound(
            service=self._manifest.service, environment=self._manifest.environment.name,
            packages=tuple(packages), baseline=here.package if here else None,
            data=tuple(sorted(r for r, a in lineage.items() if isinstance(a.spec, DatasetSpec | FeaturesSpec))),
            evidence=digest(list(self._decisions(made))), policy=policy_of(self._manifest),
            plan="" if plan is None else digest(plan),
        )  # fmt: skip

    def _decisions(self, packages: Sequence[Artifact]) -> Iterator[Decision]:
        for package in packages:
            for model in (a for a in ancestors(package.ref, self._records.artifact) if isinstance(a.spec, ModelSpec)):  # fmt: skip
                yield from self._records.decisions(model.ref)

    def _lawful(self, known: Approvals) -> None:
        if known.policy is None or known.policy.digest != policy_of(self._manifest):
            what = "no policy was adopted yet" if known.policy is None else "the policy in fairlead.yaml is not the one in force"
            raise Conflict(what, hint="an admin does `fairlead policy adopt --reason TEXT`")

    def _since(self) -> float:
        """When the last release started."""
        made = self._records.releases(self._manifest.service)
        return made[-1].started_at if made else 0.0

    def _one(self, number: int) -> Approval:
        known = self.read().all
        if number not in known:
            raise Missing(f"no approval {number}", hint="`fairlead approval list` names them")
        return known[number]

    def _may(self, name: str) -> bool:
        return self._identity.can(name, "approve")

    def _said(self, reason: str) -> None:
        if not reason.strip():
            raise Invalid("no reason is given", hint="--reason says why, for whoever reads the audit log")

    def _write(self, verb: str, subject: str, **body: Any) -> Event:
        return self._records.commit(Change(
            at=self._clock.now(), actor=self._by.name, verb=verb, subject=subject,
            body={"service": self._manifest.service, "token": self._by.token, **body}))  # fmt: skip


def makers(records: Records, packages: Sequence[Ref]) -> list[str]:
    """Whoever trained, built or brought packages, here or where they came from."""
    made: set[str] = set()
    for ref in {a.ref for p in packages for a in ancestors(p, records.artifact)
                if a.ref.kind in ("model", "package")}:  # fmt: skip
        for event in records.events(subject=str(ref)):
            if event.verb in MADE:
                made |= {event.actor, *event.body.get("spoken", {}).get("makers", ())}
    return sorted(made)


def read(records: Records, service: str) -> Approvals:
    """All approvals of a service, its policies, and its releases without approval, as of now."""
    said = [e for subject in (POLICY, SUBJECT) for e in records.events(subject=subject) if e.body["service"] == service]
    starts = [e for r in records.releases(service) for e in islice(records.events(subject=f"release/{r.id}"), 1)]
    return Approvals(sorted([*said, *starts], key=lambda e: e.seq))


def _authors(known: Approvals, since: float) -> list[str]:
    """Who set the policy in force, or any one that was in force since the last release."""
    late = [p.told.by for p in known.policies if p.told.at >= since]
    return sorted({*late, *(p.told.by for p in known.policies[-1:])})
