"""The house a project is built on: its folder, its manifest, and the doors to the outside."""

import os
from collections.abc import Callable
from contextlib import ExitStack
from functools import cache, partial
from pathlib import Path
from types import TracebackType
from typing import Self

from fairlead.adapters import manifest as manifests
from fairlead.adapters.blobs.local import LocalBlobs
from fairlead.adapters.clock import open_clock
from fairlead.adapters.compute.local import LocalCompute
from fairlead.adapters.online.sqlite import SqliteOnline
from fairlead.adapters.predictions.files import PredictionFiles
from fairlead.adapters.records.sqlite import SqliteRecords
from fairlead.adapters.router.local import LocalRouter
from fairlead.core.artifact import PackageSpec
from fairlead.core.identity import LOOP, POWERS, SUBJECT, Caller, Identity, Power
from fairlead.core.manifest import Manifest
from fairlead.core.ref import Ref
from fairlead.disk import settle
from fairlead.errors import Invalid
from fairlead.flow.observe import Observer
from fairlead.flow.respond import Patrol, Responder
from fairlead.flow.retrain import Retrainer
from fairlead.flow.trigger import Trigger
from fairlead.ports import Blobs, Clock, Compute, Online, PredictionLog, Records, Router
from fairlead.settings import MANIFEST, STATE, Settings, job_environment, settings, token

__all__ = ["House", "Progress", "quiet"]

Progress = Callable[[str], None]


def quiet(text: str) -> None:
    """No progress wanted."""


class House:
    """A folder with a `fairlead.yaml` and its open doors. Not shared between threads."""

    def __init__(
        self, root: Path, manifest: Manifest, *, records: Records, blobs: Blobs, online: Callable[[], SqliteOnline],
        log: PredictionLog, router: Router, clock: Clock, compute: Compute, actor: str,
        token: str = "", unattended: bool = False,
    ) -> None:  # fmt: skip
        self.root, self.manifest = root, manifest
        self._login, self._token, self._unattended = actor, token, unattended
        self._identity = Identity()
        self.state = root / STATE
        self.records, self.blobs, self.log = records, blobs, log
        self._open_online = online
        self._online: SqliteOnline | None = None
        self.router, self.clock, self.compute = router, clock, compute
        self._closing = ExitStack()
        self._observer: Observer | None = None
        self._retrainer: Retrainer | None = None
        self._patrol: tuple[Responder, Patrol, Trigger] | None = None

    @classmethod
    def open(cls, root: Path, chosen: Settings | None = None, *, unattended: bool = False) -> Self:
        """Open the project in `root` with the embedded adapters, creating `.fairlead/` as needed.

        `unattended`: nobody stands behind it but the loop. Raises Missing (no fairlead.yaml), Invalid (what is wrong in it, all of it).
        """
        chosen = chosen or settings()
        manifest = manifests.load(root / MANIFEST)
        state = root / STATE
        # What is written from here on is for this user only.
        os.umask(0o077)
        settle(state)
        records = SqliteRecords(state / "records.db")
        project = cls(
            root, manifest, records=records, blobs=LocalBlobs(state / "blobs"),
            online=lambda: SqliteOnline(state / "online.db"),
            log=PredictionFiles(state / "predictions", cache(partial(_spec_of, records))),
            router=LocalRouter(state / "run"), compute=LocalCompute(job_environment(Path.cwd())), actor=chosen.actor,
            clock=open_clock(chosen.clock), token="" if unattended else token(), unattended=unattended,
        )  # fmt: skip
        project._closing.callback(records.close)
        return project

    def close(self) -> None:
        """Let go of files and locks."""
        self._closing.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self.close()

    @property
    def name(self) -> str:
        """Of the service, and of the artifacts made for it."""
        return self.manifest.service

    @property
    def identity(self) -> Identity:
        """The people and tokens of this project, as of now."""
        for event in self.records.events(self._identity.seq, SUBJECT):
            self._identity.take(event)
        return self._identity

    def caller(self, *powers: Power) -> Caller:
        """Who acts, as of now, if they have one of `powers`: whoever is logged in where nobody is
        known yet, the loop when unattended, else whom the token names. Raises Forbidden."""
        known = self.identity
        if not known.governed:
            return Caller(name=self._login, powers=POWERS)
        if self._unattended:
            caller = Caller(name=LOOP, powers=frozenset({"make", "release"}))
        else:
            caller = known.caller(self._token, self.clock.now(), self.manifest.environment.name)
        caller.must(*(powers or POWERS))
        return caller

    def by(self, *powers: Power) -> str:
        """The name of whoever acts, if they may."""
        return self.caller(*powers).name

    @property
    def actor(self) -> str:
        """Who makes something: verbs that move traffic, look after people or the like ask `by`."""
        return self.by("make")

    def show(self, token: str) -> None:
        """From now on whoever shows this token acts."""
        self._token = token

    @property
    def online(self) -> Online:
        """The online store, for writing: opened when first needed, since one process may write.

        Raises Conflict when another process writes.
        """
        if self._online is None:
            self._online = self._open_online()
            self._closing.callback(self._online.close)
        return self._online


def _spec_of(records: Records, ref: str) -> PackageSpec:
    spec = records.artifact(Ref.parse(ref)).spec
    if not isinstance(spec, PackageSpec):
        raise Invalid(f"{ref} is not a package", hint="the prediction log names packages")
    return spec
