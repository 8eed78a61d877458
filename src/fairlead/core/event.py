"""Events: the append-only audit log. Each event seals the one before it."""

from collections.abc import Iterable
from hashlib import sha256
from typing import Any

import msgspec

from fairlead.core.ref import canonical
from fairlead.errors import Corrupt, Invalid

__all__ = ["Event", "follow", "seal", "verify"]


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Who did what to which thing, when, and the seal of the event before ("" for the first)."""

    seq: int = 0
    at: float
    actor: str
    verb: str
    subject: str
    body: dict[str, Any] = {}
    prev: str = ""


def follow(head: tuple[int, str], event: Event) -> Event:
    """`event` as the next link after `head` (sequence number, seal).

    Its body becomes what JSON gives back, so that an event read from a store has the same seal.
    Raises Invalid when the event cannot be written as JSON.
    """
    link = msgspec.structs.replace(event, seq=head[0] + 1, prev=head[1])
    try:
        return msgspec.json.decode(canonical(link), type=Event)
    except (TypeError, ValueError) as error:
        raise Invalid(f"event {event.verb!r} cannot be written down: {error}",
                      hint="bodies hold text, numbers, lists and tables of these") from error  # fmt: skip


def seal(event: Event) -> str:
    """The digest the next event carries in `prev`."""
    return sha256(canonical(event)).hexdigest()


def verify(events: Iterable[Event], head: str | None = None) -> int:
    """Count the events of an unbroken chain from seq 1.

    `head` is the seal the last event must have (a checkpoint kept elsewhere), so that a cut tail
    is seen too. Raises Corrupt, naming the first event that does not follow from the one before.
    """
    prev, seq = "", 0
    for event in events:
        seq += 1
        if event.prev != prev or event.seq != seq:
            raise Corrupt(
                f"audit log is broken at event {event.seq} (expected {seq})",
                hint="somebody changed the log outside Fairlead: restore a backup and compare",
            )
        prev = seal(event)
    if head is not None and head != prev:
        raise Corrupt(
            f"audit log ends at event {seq} with another seal than its head says",
            hint="the newest events were cut off or rewritten: restore a backup and compare",
        )
    return seq
