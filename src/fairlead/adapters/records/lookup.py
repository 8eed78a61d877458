"""Which record is meant: what a person may type for an artifact, and the errors all engines share."""

from collections.abc import Callable, Sequence
from typing import get_args

from fairlead.core.ref import Kind, Ref
from fairlead.errors import Conflict, Invalid, Missing

__all__ = ["Matching", "choose", "missing", "moved"]

Matching = Callable[[str, str, str], Sequence[Ref]]
"""(kind, name, digest prefix) -> references, oldest first; "" matches everything."""

SHAPES = "write kind/name, kind/name@digest, or the first letters of a digest"


def choose(text: str, kind: Kind | None, matching: Matching) -> Ref:
    """The artifact that `text` names; `kind` narrows it and lets a bare name do.

    Raises Missing when there is none, Invalid when several match or the kind is another.
    """
    named, _, prefix = text.rpartition("@") if "@" in text else (text, "", "")
    first, slash, name = named.partition("/")
    newest = False
    if slash:
        if first not in get_args(Kind):
            raise Invalid(f"{text!r} names no kind of artifact: {first!r}", hint=SHAPES)
        if kind not in (None, first):
            raise Invalid(f"{text!r} is a {first}, not a {kind}", hint=f"name a {kind}")
        found, newest = matching(first, name, prefix), not prefix
    else:
        found = matching(kind or "", "", text) if text else ()
        if not found and text and kind:
            found, newest = matching(kind, text, ""), True
    return _only(text, found[-1:] if newest else found, matching(kind or "", "", ""))


def _only(text: str, found: Sequence[Ref], known: Sequence[Ref]) -> Ref:
    if len(found) > 1:
        some = ", ".join(r.short for r in found[:5])
        raise Invalid(f"{text!r} matches {len(found)} artifacts: {some}",
                      hint="write more letters of the digest, or kind/name@digest")  # fmt: skip
    if not found:
        names = sorted({f"{r.kind}/{r.name}" for r in known})
        there = f"recorded: {', '.join(names[:8])}" if names else "nothing is recorded yet"
        raise Missing(f"no artifact {text!r}", hint=f"{there}; {SHAPES}")
    return found[0]


def missing(what: str, name: str) -> Missing:
    """No such artifact, run or release."""
    return Missing(f"no {what} {name!r} is recorded", hint="check the name; another project?")


def moved(what: str, name: str) -> Conflict:
    """A release or a service that somebody else changed since it was read."""
    return Conflict(f"{what} {name!r} is not what was read", hint="read it again, then retry")
