"""The demo's story: what is done in which order, and what must have happened at the end."""

import asyncio
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from fairlead.adapters.clock import SharedClock
from fairlead.api.console import console
from fairlead.api.demo.drive import Drive
from fairlead.api.demo.ending import Ledger, close, picture
from fairlead.api.demo.narrator import Narrator
from fairlead.api.demo.screen import Screen, Traffic
from fairlead.api.demo.server import Server
from fairlead.api.demo.world import HOUR, World
from fairlead.api.folder import shipped
from fairlead.api.load import Client
from fairlead.api.present.report import report_page
from fairlead.core.artifact import DatasetSpec, PackageSpec
from fairlead.core.check import Outcome
from fairlead.project import Project
from fairlead.settings import Settings

__all__ = ["run"]

DAY = 24 * HOUR
WORKING = 12.0
"""Hours replayed per second while a model is trained: work takes real seconds, the year waits."""
CONNECTIONS = 16
FEWER = ("{max_iter: 150, learning_rate: 0.06,", "{max_iter: 60, learning_rate: 0.15,")
"""What --quick changes in the manifest: nearly the same model in half the time."""


class Dates(Struct, frozen=True, kw_only=True):
    """UTC seconds of the replayed year: the first request, the broken feed, the careless candidate,
    stretches without traffic, and the end. `brief`: end when the last step has happened."""

    live: float
    defect: float
    careless: float
    idle: tuple[tuple[float, float], ...] = ()
    end: float
    brief: bool = False


def _at(month: int, day: int) -> float:
    return datetime(2013, month, day, tzinfo=UTC).timestamp()


FULL = Dates(live=_at(5, 1), defect=_at(5, 4), careless=_at(5, 10), end=_at(8, 1))
SHORT = Dates(live=_at(5, 1), defect=_at(5, 2), careless=_at(5, 3), end=_at(8, 1), brief=True,
              idle=((_at(5, 3), _at(5, 15)), (_at(5, 30), _at(6, 24))))  # fmt: skip


def run(*, quick: bool = False, folder: Path | None = None, shot: Path | None = None) -> int:
    """Play the whole loop on real flights; 0 when every step happened and no request failed.

    `folder`: where the project stays for looking at afterwards (default: a temporary one).
    `shot`: an SVG file to write the timeline and the closing tables to.
    """
    example, out = shipped("flights"), console()
    root = folder or Path(tempfile.mkdtemp(prefix="fairlead-demo-"))
    root.mkdir(parents=True, exist_ok=True)
    dates = SHORT if quick else FULL
    for name in ("fairlead.yaml", "train.py"):
        text = (example / name).read_text()
        (root / name).write_text(text.replace(*FEWER) if quick else text)
    clock = SharedClock.create(root / "clock", dates.live)
    out.print("\n336,776 real flights from New York in 2013. Asked two hours before departure:\n"
              "will this one land more than 15 minutes late?\n", style="bold")  # fmt: skip
    traffic = Traffic(since=dates.live, until=dates.end)
    try:
        with Screen(out, traffic) as screen, ExitStack() as stack:
            settings = Settings(clock=root / "clock", actor="demo")
            open_project = lambda: stack.enter_context(Project.open(root, settings))  # noqa: E731
            story = Story(open_project, clock, example, root, screen, dates)
            ledger = story.play()
            story.report(_page(folder))
        if shot is not None:
            picture(shot, screen.beats, ledger, screen.elapsed)
        return close(out, ledger, screen.elapsed)
    finally:
        if folder is None:
            shutil.rmtree(root, ignore_errors=True)


def _page(folder: Path | None) -> Path:
    """Where the report goes: it outlives a demo that leaves no folder."""
    if folder is not None:
        return folder / "report.html"
    with tempfile.NamedTemporaryFile(prefix="fairlead-demo-", suffix=".html", delete=False) as file:
        return Path(file.name)


class Story:
    """Prepares a model until `dates.live`, then lets the year happen to it."""

    def __init__(
        self, open_project: Callable[[], Project], clock: SharedClock, example: Path, root: Path,
        screen: Screen, dates: Dates,
    ) -> None:  # fmt: skip
        self._open, self._project = open_project, open_project()
        self._clock, self._root, self._screen, self._dates = clock, root, screen, dates
        self._world = World(example, self._project.manifest.data, self._project.views())
        self._ledger = Ledger()
        self._narrator = Narrator(self._project.records, screen, self._ledger)
        self._doing: set[asyncio.Task[None]] = set()

    def play(self) -> Ledger:
        """The whole story; what happened, for the closing table."""
        self._prepare()
        with Server(self._root, self._root / "clock") as server:
            self._say("serve", f"http://127.0.0.1:{server.port}, first answer after {server.seconds:.1f} s")
            asyncio.run(self._replay(server.port))
            self._explain()
        self._ledger.audited = self._project.verify_audit()
        return self._ledger

    def report(self, page: Path) -> None:
        """Write the replayed time as a page."""
        made = self._project.report(self._dates.live, self._clock.now())
        page.write_text(report_page(made), encoding="utf-8")
        self._ledger.page = page

    def _say(self, title: str, text: str, mood: str = "plain") -> None:
        self._screen.say(self._clock.now(), title, text, mood)

    def _prepare(self) -> None:
        project, traffic = self._project, self._screen.traffic
        traffic.doing = "reading the flights up to today"
        self._world.export(self._root, self._dates.live)
        dataset, _ = project.snapshot()
        spec = dataset.spec
        assert isinstance(spec, DatasetSpec)
        self._say("snapshot", f"{dataset.ref.short}: {spec.rows:,} flights, contract of {len(spec.contract.columns)} columns")
        traffic.doing = "joining features as of each flight, training"
        model = project.train()
        run = project.records.run(model.run)
        auc = next(e for e in run.evidence if e.measure == "auc" and not e.slice)
        self._say("train", f"{model.ref.short}: AUC {auc.value:.3f} [{auc.low:.3f}, {auc.high:.3f}] on {auc.n:,} held-out flights")
        traffic.doing = "measuring, judging, packaging"
        decision = project.gate(model.ref)
        passed = sum(v.outcome is Outcome.PASS for v in decision.because)
        self._say("gate", f"passed, {passed} of {len(decision.because)} checks", "good")
        package = project.package(model.ref)
        assert isinstance(package.spec, PackageSpec)
        self._say("package", f"{package.ref.short}: ONNX, proven equal to the trained model in a clean process")
        project.start_release(package.ref)
        project.tick()
        self._ledger.happened("released", self._clock.now(), "first model live")
        traffic.doing = ""

    async def _replay(self, port: int) -> None:
        package = self._project.records.artifacts("package")[-1].spec
        assert isinstance(package, PackageSpec)
        acts = [(self._dates.defect, self._defect), (self._dates.careless, self._careless)]
        hours = (h for h in self._world.hours(self._dates.live, self._dates.end, package.contract.names)
                 if not any(a <= h.at < b for a, b in self._dates.idle))  # fmt: skip
        exported = self._dates.live
        async with Client("127.0.0.1", port, CONNECTIONS) as client:
            drive = Drive(self._project, self._clock, client, hours, self._screen.traffic,
                          self._ledger.tally, self._narrator.hear)  # fmt: skip
            async for now in drive.play():
                if acts and now >= acts[0][0] and not self._doing:
                    self._begin(acts.pop(0)[1])
                if now - exported >= DAY and not self._doing:
                    exported = now
                    await asyncio.to_thread(self._world.export, self._root, now)
                if self._dates.brief and "promoted" in self._ledger.steps:
                    break
                drive.pace = WORKING if self._doing or self._narrator.busy else None
            if self._doing:
                await asyncio.wait(self._doing)

    def _begin(self, act: Callable[[], None]) -> None:
        task = asyncio.get_running_loop().create_task(asyncio.to_thread(act))
        self._doing.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._doing.discard(task)
        error = task.exception()
        if error is not None:
            self._say("failed", str(error), "bad")

    def _defect(self) -> None:
        """A candidate trained after the upstream feed began to send kilometres for miles."""
        project = self._open()
        folder = self._root / "kilometres"
        self._world.export(folder, self._clock.now(), kilometres=True)
        dataset, change = project.snapshot(folder / project.manifest.data.source)
        wider = "; ".join(f"{c.column}: {c.text}" for c in change.changes if c.column == "distance")
        self._say("snapshot", f"{dataset.ref.short}: the feed changed ({wider or change.size})", "watch")
        decision = project.gate(project.train(dataset=dataset.ref).ref)
        if not decision.proceed:
            failed = [v for v in decision.because if v.outcome is Outcome.FAIL]
            self._ledger.happened("refused", self._clock.now(), failed[0].check.name)
            self._say("refused", f"{decision.subject.short}: {'; '.join(v.check.name for v in failed)}", "bad")

    def _careless(self) -> None:
        """A candidate that refuses destinations which its training window never saw."""
        project = self._open()
        manifest = project.manifest
        # A replay of recorded requests would show it before any traffic: its team does not ask.
        project.manifest = replace(manifest, train=replace(manifest.train, unseen="error"),
                                   gate=replace(manifest.gate, replay=0))  # fmt: skip
        self._world.export(self._root, self._clock.now())
        dataset, _ = project.snapshot()
        decision = project.gate(project.train(dataset=dataset.ref, until=self._dates.live).ref)
        if not decision.proceed:
            worst = max(decision.because, key=lambda v: v.outcome)
            self._say("refused", f"{decision.subject.short}: {worst.reason}", "bad")
            return
        package = project.package(decision.subject)
        project.start_release(package.ref, project.plan("canary"))
        self._ledger.happened("careless", self._clock.now(), "a careless candidate passed offline")

    def _explain(self) -> None:
        """Walk one prediction of the last model back to its rows; the log is read as it stands."""
        last = self._ledger.tally.last_id
        if not last:
            return
        began = time.monotonic()
        self._ledger.why = self._project.why(last)
        took = time.monotonic() - began
        self._ledger.happened("explained", self._clock.now(), f"one prediction in {took * 1000:.0f} ms")
