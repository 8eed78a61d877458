"""Checkpoints: signed statements of how far the audit log went, kept where its owner cannot rewrite them."""

from hashlib import sha256

from msgspec import Struct

from fairlead.core.ref import canonical
from fairlead.errors import Corrupt

__all__ = ["PREFIX", "Checkpoint", "SignedCheckpoint", "link", "payload"]

PREFIX = b"fairlead-checkpoint-v1\n"
"""Stands before the bytes that are signed, so that no other signature can pass for this one."""


class Checkpoint(Struct, frozen=True, kw_only=True):
    """After event `seq` the chain ended with `seal`, and the Merkle root of all seals was `root`.

    `at`: UTC seconds. `number` counts the checkpoints of a log from 1; `prev` is the digest of the one before.
    """

    number: int
    seq: int
    seal: str
    root: str
    at: int
    prev: str = ""


class SignedCheckpoint(Struct, frozen=True, kw_only=True):
    """`key`: the Ed25519 public key (hex) that verifies `signature` (hex) over `payload`."""

    checkpoint: Checkpoint
    key: str
    signature: str


def payload(checkpoint: Checkpoint) -> bytes:
    """The bytes that are signed."""
    return PREFIX + canonical(checkpoint)


def link(last: Checkpoint | None, seq: int, seal: str, root: str, at: int) -> Checkpoint:
    """The next checkpoint after `last`. Raises Corrupt when the log is shorter than it was then."""
    if last is None:
        return Checkpoint(number=1, seq=seq, seal=seal, root=root, at=at)
    if seq < last.seq or (seq == last.seq and seal != last.seal):
        raise Corrupt(
            f"the audit log ends at event {seq}, yet checkpoint {last.number} saw event {last.seq}",
            hint="events were cut off or rewritten: restore a backup and compare",
        )
    return Checkpoint(number=last.number + 1, seq=seq, seal=seal, root=root, at=at,
                      prev=sha256(canonical(last)).hexdigest())  # fmt: skip
