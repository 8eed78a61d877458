"""Auditing: checkpoints of the log in places its owner cannot rewrite, and bundles strangers verify."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from fairlead.core.checkpoint import Checkpoint, SignedCheckpoint, link, payload
from fairlead.core.event import seal
from fairlead.core.merkle import Tree, inclusion
from fairlead.core.ref import UNREADABLE, canonical
from fairlead.disk import alone, sync
from fairlead.errors import Conflict, Corrupt, Unavailable
from fairlead.ports import Anchor, Clock, Records, Signer

__all__ = ["Inclusion", "Notary"]

KEPT = "checkpoints.jsonl"
PENDING = "published"


class Inclusion(Struct, frozen=True, kw_only=True):
    """Event `seq` has `seal` and is in the log that `signed` states: `path` leads from it to the
    Merkle root (`core.merkle.proves`; hex, from the leaf up)."""

    seq: int
    seal: str
    path: tuple[str, ...]
    signed: SignedCheckpoint


class Notary:
    """Signs how far the audit log went, and tells it to outside places (the anchors).

    `folder` keeps the checkpoints of this log (KEPT) and how many of them each anchor has
    (PENDING), so that none is lost while a place is out of reach.
    """

    def __init__(
        self, records: Records, signer: Signer, clock: Clock, folder: Path,
        anchors: Sequence[tuple[str, Anchor]] = (),
    ) -> None:  # fmt: skip
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._records, self._signer, self._clock = records, signer, clock
        self._folder, self._anchors = folder, anchors
        self._tree = Tree()

    def due(self, every: float, entries: int) -> bool:
        """Whether `every` seconds or `entries` events have passed since the last checkpoint, with
        at least one event among them, or an anchor still waits for one."""
        seq, _ = self._records.head()
        kept = self.kept()
        last = kept[-1].checkpoint if kept else None
        new = seq - (last.seq if last else 0)
        old = self._clock.now() - (last.at if last else 0) >= every
        told = self._told()
        return new >= entries or (new > 0 and old) or any(told.get(n, 0) < len(kept) for n, _ in self._anchors)

    def checkpoint(self) -> SignedCheckpoint:
        """Sign the log as it stands; the last checkpoint when nothing was added since.

        Raises Corrupt when the log no longer is what an earlier checkpoint saw.
        """
        with alone(self._folder / "lock"):
            kept = self.kept()
            last = kept[-1] if kept else None
            seq, head = self._grow(None if last is None else last.checkpoint)
            if last is not None and last.checkpoint.seq == seq:
                return last
            made = link(last.checkpoint if last else None, seq, head, self._tree.root, int(self._clock.now()))
            signed = SignedCheckpoint(checkpoint=made, key=self._signer.key,
                                      signature=self._signer.sign(payload(made)).hex())  # fmt: skip
            with (self._folder / KEPT).open("ab") as file:
                file.write(canonical(signed) + b"\n")
            sync(self._folder / KEPT)
        return signed

    def publish(self) -> list[str]:
        """Hand every anchor what it has not got yet; the failures, in words."""
        kept, told, failures = self.kept(), self._told(), list[str]()
        for name, anchor in self._anchors:
            for signed in kept[told.get(name, 0) :]:
                number = signed.checkpoint.number
                try:
                    anchor.publish(f"{signed.key[:8]}-{number:08}.json", canonical(signed) + b"\n")
                except (Unavailable, Conflict) as error:
                    failures.append(str(error))
                    break
                told[name] = number
        _replace(self._folder / PENDING, msgspec.json.encode(told))
        return failures

    def kept(self) -> list[SignedCheckpoint]:
        """The checkpoints of this log, oldest first. Raises Corrupt when they cannot be read."""
        path = self._folder / KEPT
        if not path.exists():
            return []
        try:
            return [msgspec.json.decode(line, type=SignedCheckpoint)
                    for line in path.read_bytes().splitlines()]  # fmt: skip
        except UNREADABLE as error:
            raise Corrupt(f"{KEPT} cannot be read: {error}", hint="copy the published ones back") from error  # fmt: skip

    def export(self, target: Path, verifier: Path, progress: Callable[[int], None]) -> SignedCheckpoint:  # fmt: skip
        """Write a bundle into the new folder `target`: events, checkpoints, artifacts, and the
        program that verifies them. Raises Conflict when the folder has something in it."""
        if target.exists() and any(target.iterdir()):
            raise Conflict(f"{target} is not empty", hint="name a new folder")
        target.mkdir(parents=True, exist_ok=True)
        last = self.checkpoint()
        with (target / "events.jsonl").open("wb") as file:
            for event in self._records.events():
                if event.seq > last.checkpoint.seq:
                    break
                file.write(canonical(event) + b"\n")
                if event.seq % 10_000 == 0:
                    progress(event.seq)
        told = {e.subject for e in self._records.events() if e.seq <= last.checkpoint.seq}
        with (target / "artifacts.jsonl").open("wb") as file:
            for made in self._records.artifacts():
                if str(made.ref) in told:
                    line = {"ref": str(made.ref), "spec": canonical(made.spec).decode()}
                    file.write(canonical(line) + b"\n")
        shutil.copyfile(self._folder / KEPT, target / KEPT)
        shutil.copyfile(verifier, target / "verify.py")
        return last

    def prove(self, seq: int) -> Inclusion:
        """The proof that event `seq` is part of the log the newest checkpoint saw. Raises Invalid."""
        signed = self.checkpoint()
        seals = [seal(e).encode() for e in self._records.events() if e.seq <= signed.checkpoint.seq]
        return Inclusion(seq=seq, path=tuple(inclusion(seals, seq - 1)), seal=seals[seq - 1].decode(),
                         signed=signed)  # fmt: skip

    def _grow(self, last: Checkpoint | None) -> tuple[int, str]:
        """Add the new events to the tree; number and seal of the last one."""
        since, head = self._tree.size, ""
        for event in self._records.events(since):
            head = seal(event)
            self._tree.add(head.encode())
            if last is not None and event.seq == last.seq and (head, self._tree.root) != (last.seal, last.root):  # fmt: skip
                raise Corrupt(f"event {event.seq} is not what checkpoint {last.number} saw",
                              hint="somebody changed the log outside Fairlead: restore a backup and compare")  # fmt: skip
        return self._tree.size, head or self._records.head()[1]

    def _told(self) -> dict[str, int]:
        path = self._folder / PENDING
        return msgspec.json.decode(path.read_bytes(), type=dict[str, int]) if path.exists() else {}


def _replace(path: Path, data: bytes) -> None:
    fresh = path.with_name(f".{path.name}")
    fresh.write_bytes(data)
    fresh.replace(path)
