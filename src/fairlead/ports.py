"""Every door to the outside, on one page. Adapters open them; nothing else may."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, Protocol

from msgspec import Struct

from fairlead.core.alert import Notice
from fairlead.core.answers import Cursor, Tail
from fairlead.core.artifact import Artifact
from fairlead.core.decision import Decision
from fairlead.core.event import Event
from fairlead.core.feature import FeatureView
from fairlead.core.identity import Passes
from fairlead.core.oci import Descriptor, Layer
from fairlead.core.prediction import Erased, Feedback, Prediction, Reach, Refused
from fairlead.core.ref import Kind, Ref
from fairlead.core.release import Release, Service
from fairlead.core.run import Run
from fairlead.core.traffic import Route

__all__ = ["Anchor", "Blobs", "Change", "Clock", "Compute", "Entry", "Fleet", "Images", "Notifier", "Online", "PredictionLog",
           "Records", "Register", "Router", "Signer", "Stored", "Tracker", "Workbench"]  # fmt: skip


class Clock(Protocol):
    """UTC seconds. Durations use the monotonic clock of the process, never this one."""

    def now(self) -> float: ...


class Blobs(Protocol):
    """Immutable bytes by SHA-256 (hex). Writing the same bytes twice stores them once."""

    def put(self, data: bytes | Path) -> str:
        """Store and return the digest; a Path is streamed."""

    def get(self, digest: str) -> bytes:
        """All bytes, verified. Raises Missing or Corrupt."""

    def fetch(self, digest: str, target: Path) -> None:
        """Write the verified bytes to `target` atomically. Raises Missing or Corrupt."""

    def has(self, digest: str) -> bool: ...

    def delete(self, digest: str) -> None:
        """Take the bytes away for good (an erasure); gone already is fine."""


Stored = Artifact | Run | Decision
"""Records that only an erasure changes."""


class Change(Struct, frozen=True, kw_only=True):
    """One state change: what to store and the event that tells of it, all or nothing.

    `releases` and `services` are (before, after); before None means: must not exist yet.
    `redacted`: (stored, without what is erased) of records that otherwise never change.
    """

    at: float
    actor: str
    verb: str
    subject: str
    body: dict[str, Any] = {}
    artifacts: tuple[Artifact, ...] = ()
    runs: tuple[Run, ...] = ()
    decisions: tuple[Decision, ...] = ()
    releases: tuple[tuple[Release | None, Release], ...] = ()
    services: tuple[tuple[Service | None, Service], ...] = ()
    redacted: tuple[tuple[Stored, Stored], ...] = ()


class Records(Protocol):
    """Small facts and the audit log. Saving an artifact or a run twice changes nothing."""

    def commit(self, change: Change) -> Event:
        """Store everything and append one sealed event in one transaction.

        Raises Conflict when a release or a service is not what `before` says; nothing is stored.
        """

    def artifact(self, ref: Ref) -> Artifact:
        """Raises Missing."""

    def find(self, text: str, kind: Kind | None = None) -> Artifact:
        """By full reference, ``kind/name`` (the newest), or a unique digest prefix; where `kind`
        is given, a bare name will do.

        Raises Missing, or Invalid when several match.
        """

    def artifacts(self, kind: Kind | None = None, name: str = "") -> list[Artifact]:
        """Oldest first."""

    def run(self, run_id: str) -> Run:
        """Raises Missing."""

    def runs(self) -> list[Run]:
        """Oldest first."""

    def release(self, release_id: str) -> Release:
        """Raises Missing."""

    def releases(self, service: str = "") -> list[Release]:
        """Oldest first."""

    def service(self, name: str) -> Service | None: ...
    def services(self) -> list[Service]:
        """By name."""

    def decisions(self, subject: Ref) -> list[Decision]:
        """Oldest first."""

    def events(self, since: int = 0, subject: str = "") -> Iterator[Event]:
        """Events with seq > since, in order."""

    def head(self) -> tuple[int, str]:
        """Sequence number and seal of the last event; (0, "") when there is none."""

    def compact(self) -> None:
        """Leave no byte of what was redacted in any file of the store."""


class Online(Protocol):
    """Feature values by entity, readable at any moment T (point in time), in microseconds."""

    def push(self, view: FeatureView, rows: Iterable[Mapping[str, Any]], batch: str = "") -> int:
        """Add facts (entity, time, columns of the view); return how many. A named `batch` is
        added once, however often it is pushed. Raises Conflict when another process writes."""

    def read(self, view: FeatureView, entity: str, at: float) -> dict[str, Any]:
        """`view.outputs` -> value as of `at`; None where nothing is known."""

    def forget(self, entity: str, value: str) -> int:
        """Delete all facts about the entity `value` of every view by `entity`, old definitions
        included, for good; return how many. Raises Conflict when another process writes."""


class PredictionLog(Protocol):
    """Everything that was asked and answered, and the feedback to it, in order of arrival."""

    def predictions(self, since: float = 0.0, until: float = float("inf"),
                    service: str = "") -> Iterator[Prediction]:  # fmt: skip
        """By `at`, since <= at < until."""

    def find(self, prediction_id: str) -> list[Prediction]:
        """The live answer first, then its mirrored twins. Raises Missing."""

    def reach(self, packages: Sequence[Ref], since: float = 0.0, until: float = float("inf"),
              served: Mapping[str, str] = {}) -> list[Reach]:  # fmt: skip
        """What these packages answered within since <= at < until, in their order; only requests
        with these logged values (columns of the request or ``view.column``, as text)."""

    def feedback(self, prediction_id: str = "") -> Iterator[Feedback]:
        """All feedback, or that of one prediction, in order of arrival."""

    def sample(self, package: Ref, since: float, until: float, most: int) -> list[Prediction]:
        """At most `most` answers of a package that callers saw within since <= at < until, with their
        inputs, evenly spaced."""

    def refused(self, request_id: str = "") -> Iterator[Refused]:
        """All refused requests, or the one with this id."""

    def tail(self, cursor: Cursor, since: float = 0.0) -> Tail:
        """What arrived behind `cursor` ({}: everything), each row once however it was sealed
        meanwhile; sealed rows older than `since` are left out. Raises Corrupt."""

    def add(self, notes: Sequence[Feedback]) -> int:
        """Add feedback that came by another way than the gateway; return how many."""

    def seal(self) -> int:
        """Move finished journal files into Parquet segments; return how many rows moved."""

    def erase(self, where: Mapping[str, Collection[str]], units: Collection[str]) -> Erased:
        """Rewrite the sealed log without requests, refused ones too, that have one of these values (as
        text) in every column of `where`, or one of these units, and without the feedback to them."""

    def expire(self, before: float) -> int:
        """Delete sealed files of rows older than `before` only; return how many."""


class Compute(Protocol):
    """Runs one job in a process of its own."""

    def run(self, job: Sequence[str], workdir: Path, env: Mapping[str, str]) -> None:
        """`job`: arguments of ``python -m fairlead``. Raises Invalid with the end of its output
        when it fails, Unavailable when it cannot be started."""


class Router(Protocol):
    """Tells the data plane what to do; refuses to go back to an older epoch."""

    def publish(self, route: Route) -> None:
        """Raises Conflict when a newer epoch was published."""

    def published(self) -> Route | None: ...


class Register(Protocol):
    """Tells the data plane whom it serves."""

    def publish(self, passes: Passes) -> None:
        """Replace what was published; the same again changes nothing."""

    def published(self) -> Passes | None:
        """None when nobody was ever registered. Raises Corrupt."""


class Fleet(Protocol):
    """Brings the running replicas to exactly what is wanted; safe to repeat."""

    def reconcile(self, wanted: Mapping[Ref, int], shadows: Set[Ref]) -> dict[Ref, int]:
        """How many run now of each. `shadows`: those whose answers nobody sees yield to all others."""


class Notifier(Protocol):
    """Brings word of an alert to one receiver, at least once: `notice.key` tells repetitions."""

    def tell(self, notice: Notice) -> None:
        """Return when the receiver has it. Raises Unavailable (later it may work), Invalid
        (when its configuration was changed), Refused (never); none names a secret."""


class Signer(Protocol):
    """Signs for this project with a key that never leaves it (Ed25519)."""

    @property
    def key(self) -> str:
        """The public key, hex."""

    def sign(self, data: bytes) -> bytes:
        """64 bytes."""


class Anchor(Protocol):
    """An outside place that keeps checkpoints of the audit log."""

    def publish(self, name: str, data: bytes) -> str:
        """Keep `data` under `name` for good; where it lies now. The same again changes nothing.

        Raises Unavailable, or Conflict when other bytes have that name.
        """


class Tracker(Protocol):
    """Another tool's record of runs and models; nothing of a model is opened."""

    def fetch(self, uri: str, target: Path) -> tuple[Path, Mapping[str, Any]]:
        """The folder of a model, copied beneath `target`, and what it says of itself. Raises Missing,
        Invalid, Unavailable."""

    def publish(
        self, experiment: str, name: str, *, params: Mapping[str, Any], metrics: Mapping[str, float],
        tags: Mapping[str, str], folder: Path, document: Mapping[str, Any] | None,
    ) -> tuple[str, str]:  # fmt: skip
        """Write a run with its files; the ids of the run and of its model ("" where `document`, what it
        says of itself, is None). Raises Unavailable."""


Entry = tuple[str, bytes | Path]
"""A file of a layer: its path there without a leading slash, and its content."""


class Images(Protocol):
    """A place that keeps images and what speaks of them: a folder, or a repository of a registry."""

    def has(self, digest: str) -> bool: ...

    def open(self, blob: Descriptor) -> Iterator[bytes]:
        """Its bytes, verified at the end: whoever reads on meets Corrupt. Raises Missing."""

    def put(self, blob: Descriptor, content: Callable[[int], Iterator[bytes]]) -> None:
        """Keep a blob; `content` gives its bytes from an offset on. Raises Corrupt, Unavailable."""

    def manifest(self, reference: str) -> tuple[Descriptor, bytes]:
        """By tag or digest, verified. Raises Missing or Corrupt."""

    def publish(self, manifest: Descriptor, data: bytes, tag: str = "") -> None:
        """Keep a manifest whose blobs are there, under its digest and under `tag`."""

    def refer(self, data: bytes) -> Descriptor:
        """Keep a manifest that speaks of another one (its subject), found by `referrers`."""

    def referrers(self, digest: str) -> tuple[Descriptor, ...]:
        """What speaks of the manifest with this digest."""


class Workbench(Images, Protocol):
    """A place where layers are made."""

    def kept(self, key: str) -> Layer | None:
        """The layer that was made under `key` (what its content follows from), while it is there."""

    def layer(self, entries: Iterable[Entry], *, packed: bool, key: str = "") -> Layer:
        """Write a layer: the same entries, in any order, are the same bytes. One with the same
        `key` (what its content follows from) that is there already is not made again."""

    def pack(self, tar: Path) -> Layer:
        """Take a root file system in as a layer, byte for byte."""
