"""Approvals: what exactly somebody let through, who did, and whether it still holds. Pure.

The audit log is the only memory: approvals, the policy in force and broken glass are a fold over
its events. What is approved is named by digests, so any byte that changes makes it void.
"""

from collections.abc import Callable, Iterable
from typing import Any, Literal

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from fairlead.core.event import Event
from fairlead.core.ref import Ref, digest

__all__ = ["POLICY", "SUBJECT", "Approval", "Approvals", "Bound", "Broken", "Policy", "Word",
           "May", "changes", "objection", "standing", "state", "void"]  # fmt: skip

SUBJECT, POLICY = "approval", "policy"
"""What events about approvals, and about the policy, are about."""

May = Callable[[str], bool]
"""Whether somebody may approve now."""
State = Literal["waiting", "granted", "denied", "used", "expired"]


class Bound(Struct, frozen=True, kw_only=True):
    """Exactly what is approved: these packages, made from these versions of data, on this evidence
    (digest of the gate's decisions), under this policy and plan (digests), in place of `baseline`,
    in this environment."""

    service: str
    environment: str
    packages: tuple[Ref, ...]
    data: tuple[Ref, ...]
    evidence: str
    policy: str
    plan: str
    baseline: Ref | None = None

    @property
    def digest(self) -> str:
        return digest(self)


class Word(Struct, frozen=True, kw_only=True):
    """What somebody said, and with which token."""

    by: str
    at: float
    reason: str
    token: str = ""


class Approval(Struct, frozen=True, kw_only=True):
    """Asked for once, used once. `makers`: who trained, built or brought the packages; `authors`:
    who set the policy they are judged by; `used`: the release that consumed it."""

    id: int
    bound: Bound
    plan: str
    asked: Word
    needs: int
    expires_at: float
    makers: tuple[str, ...]
    authors: tuple[str, ...]
    grants: tuple[Word, ...] = ()
    denied: Word | None = None
    used: str = ""


class Broken(Struct, frozen=True, kw_only=True):
    """A release that was started without the approval it needs."""

    release: str
    packages: tuple[str, ...]
    told: Word
    makers: tuple[str, ...] = ()
    reviewed: Word | None = None


class Policy(Struct, frozen=True, kw_only=True):
    """The gate, release, governance and environment sections somebody made binding."""

    digest: str
    told: Word


class Approvals:
    """The approvals of one service, the policy in force, and glass that was broken."""

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self.all: dict[int, Approval] = {}
        self.broken: dict[str, Broken] = {}
        self.policies: list[Policy] = []
        for event in events:
            self.take(event)

    @property
    def policy(self) -> Policy | None:
        """The one in force; None when none was ever adopted."""
        return self.policies[-1] if self.policies else None

    @property
    def unreviewed(self) -> list[Broken]:
        return [b for b in self.broken.values() if b.reviewed is None]

    def take(self, event: Event) -> None:
        """Read an event; those about other things change nothing."""
        body = event.body
        match event.verb:
            case "approval.requested":
                self.all[event.seq] = _asked(event)
            case "approval.granted":
                self._change(body["approval"], lambda a: {"grants": (*a.grants, _word(event))})
            case "approval.denied":
                self._change(body["approval"], lambda a: {"denied": _word(event)})
            case "approval.reviewed" if body["release"] in self.broken:
                known = self.broken[body["release"]]
                self.broken[known.release] = replace(known, reviewed=_word(event))
            case "policy.adopted":
                self.policies.append(Policy(digest=body["digest"], told=_word(event)))
            case "release.started":
                self._started(event)

    def _started(self, event: Event) -> None:
        release, body = event.subject.partition("/")[2], event.body
        if "approval" in body:
            self._change(body["approval"], lambda a: {"used": a.used or release})
        if glass := body.get("break_glass"):
            self.broken[release] = Broken(
                release=release, packages=tuple(body["to"]["candidates"]),
                makers=tuple(glass["makers"]),
                told=Word(by=event.actor, at=event.at, reason=glass["reason"]))  # fmt: skip

    def _change(self, number: int, change: Callable[[Approval], dict[str, Any]]) -> None:
        known = self.all.get(number)
        if known is not None:
            self.all[number] = replace(known, **change(known))


def objection(approval: Approval, name: str, may: May) -> str:
    """Why this person may not grant this approval; "" when nothing speaks against it."""
    if name == approval.asked.by:
        return "asked for it"
    if name in approval.makers:
        return "made what is to be approved"
    if name in approval.authors:
        return "set the policy it is judged by"
    return "" if may(name) else "is no approver"


def standing(approval: Approval, may: May) -> tuple[str, ...]:
    """Whose grants count now, each person once."""
    return tuple(dict.fromkeys(g.by for g in approval.grants if not objection(approval, g.by, may)))


def state(approval: Approval, at: float, may: May) -> State:
    """Where an approval stands at a moment, if what it is bound to has not changed."""
    if approval.used:
        return "used"
    if approval.denied is not None:
        return "denied"
    if at >= approval.expires_at:
        return "expired"
    return "granted" if len(standing(approval, may)) >= approval.needs else "waiting"


def changes(approval: Approval, here: Bound) -> tuple[str, ...]:
    """What is not as it was when it was asked for."""
    return tuple(name for name in Bound.__struct_fields__
                 if getattr(here, name) != getattr(approval.bound, name))  # fmt: skip


def void(approval: Approval, here: Bound, needs: int, at: float, may: May) -> str:
    """Why an approval does not let `here` through at a moment; "" when it does. `needs`: grants
    that are needed by now, when the policy asks for more than at the time of asking."""
    if changed := changes(approval, here):
        return f"is for what was: {' and '.join(changed)} changed since it was asked for"
    seen = state(approval, at, may)
    if seen in ("used", "denied", "expired"):
        words = {"used": f"was used by {approval.used}", "denied": "was denied", "expired": "has expired"}
        return words[seen]
    missing = max(needs, approval.needs) - len(standing(approval, may))
    return f"lacks {missing} of {max(needs, approval.needs)} grants" if missing > 0 else ""


def _word(event: Event) -> Word:
    return Word(by=event.actor, at=event.at, reason=event.body.get("reason", ""),
                token=event.body.get("token", ""))  # fmt: skip


def _asked(event: Event) -> Approval:
    body = event.body
    return Approval(id=event.seq, bound=msgspec.convert(body["bound"], Bound), plan=body["plan"],
                    asked=_word(event), needs=body["needs"], expires_at=body["expires_at"],
                    makers=tuple(body["makers"]), authors=tuple(body["authors"]))  # fmt: skip
