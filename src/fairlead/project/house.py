"""The house a project is built on: its folder, its manifest, and the doors to the outside."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from fairlead.adapters import manifest as manifests
from fairlead.adapters.blobs.local import LocalBlobs
from fairlead.adapters.clock import open_clock
from fairlead.adapters.compute.local import LocalCompute
from fairlead.adapters.notify.log import LogNotifier
from fairlead.adapters.online.sqlite import SqliteOnline
from fairlead.adapters.predictions.files import PredictionFiles
from fairlead.adapters.records.sqlite import SqliteRecords
from fairlead.adapters.router.local import LocalRouter
from fairlead.core.artifact import PackageSpec
from fairlead.core.manifest import Manifest
from fairlead.core.ref import Ref
from fairlead.errors import Invalid
from fairlead.flow.observe import Observer
from fairlead.flow.respond import Patrol, Responder
from fairlead.flow.retrain import Retrainer
from fairlead.ports import Blobs, Clock, Compute, Notifier, Online, PredictionLog, Records, Router
from fairlead.settings import MANIFEST, STATE, Settings, child_environment, settings

__all__ = ["House", "Progress", "quiet"]

Progress = Callable[[str], None]


def quiet(text: str) -> None:
    """No progress wanted."""


class House:
    """A folder with a `fairlead.yaml` and its open doors. Not shared between threads."""

    def __init__(
        self, root: Path, manifest: Manifest, *, records: Records, blobs: Blobs, online: Callable[[], SqliteOnline],
        log: PredictionLog, router: Router, clock: Clock, compute: Compute, notifier: Notifier,
        actor: str,
    ) -> None:  # fmt: skip
        self.root, self.manifest, self.actor = root, manifest, actor
        self.state = root / STATE
        self.records, self.blobs, self.log = records, blobs, log
        self._open_online = online
        self._online: SqliteOnline | None = None
        self.router, self.clock, self.compute, self.notifier = router, clock, compute, notifier
        self._closing = ExitStack()
        self._observer: Observer | None = None
        self._retrainer: Retrainer | None = None
        self._patrol: tuple[Responder, Patrol] | None = None

    @classmethod
    def open(cls, root: Path, chosen: Settings | None = None) -> Self:
        """Open the project in `root` with the embedded adapters, creating `.fairlead/` as needed.

        Raises Missing (no fairlead.yaml), Invalid (what is wrong in it, all of it).
        """
        chosen = chosen or settings()
        manifest = manifests.load(root / MANIFEST)
        state = root / STATE
        state.mkdir(mode=0o700, exist_ok=True)
        records = SqliteRecords(state / "records.db")
        project = cls(
            root, manifest, records=records, blobs=LocalBlobs(state / "blobs"),
            online=lambda: SqliteOnline(state / "online.db"),
            log=PredictionFiles(state / "predictions", lambda ref: _spec_of(records, ref)),
            router=LocalRouter(state / "run"), compute=LocalCompute(child_environment({})), actor=chosen.actor,
            clock=open_clock(chosen.clock),
            notifier=LogNotifier(state / "alerts.log"),
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
