"""The controller: the process that observes, judges and decides while a project is served."""

import logging
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from fairlead.errors import FairleadError
from fairlead.project import Project

__all__ = ["main"]

PAUSE = 0.2
"""Seconds between two turns of the loop."""
SEALING = 5.0
"""Seconds between two looks for finished journals."""
MEASURING = 600.0
"""Seconds between two attempts at measuring what columns contribute."""
EXPIRING = 3600.0
"""Seconds between two looks for predictions that are too old to keep."""

AT_ONCE = 100
"""Answers that are explained by one process, and looked at in one turn."""
PATIENT = 10
"""How much the processes that answer callers are preferred to the one that explains."""

log = logging.getLogger("fairlead.controller")


def main(argv: Sequence[str]) -> int:
    """``controller ROOT``: turn the loop until told to stop; ``retrain ROOT``: one retraining;
    ``explanations ROOT ID...``: explain these answers, and a sample if a monitor waits for it."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(message)s")
    verb, root = argv[0], Path(argv[1])
    with Project.open(root, unattended=True) as project:
        if verb == "retrain":
            project.retrainer().turn(project.clock.now())
        elif verb == "explanations":
            os.nice(PATIENT)
            _explain(project, argv[2:])
        else:
            stop = threading.Event()
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: stop.set())
            threading.Thread(target=_outlived, args=(stop,), daemon=True).start()
            Controller(project).run(stop)
    return 0


def _explain(project: Project, ids: Sequence[str]) -> None:
    """Explain these answers, and a sample of all if a monitor waits for that."""
    try:
        project.explain_all(ids)
        project.measure_attribution()
    except FairleadError as error:
        log.warning("not explained: %s (%s)", error, error.hint)


def _outlived(stop: threading.Event) -> None:
    """Stop when the supervisor is gone, however it died: standard input is its pipe, and ends then."""
    if stat.S_ISFIFO(os.fstat(0).st_mode):
        while os.read(0, 4096):
            pass
        stop.set()


class Controller:
    """Turns the loop; a retraining runs in a process of its own, one at a time, and so do explanations."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._retrainer, self._scrubber = project.retrainer(), project.scrubber()
        self._training: subprocess.Popen[bytes] | None = None
        self._explaining: subprocess.Popen[bytes] | None = None
        self._sealed_at = time.monotonic()
        self._expired_at = self._measured_at = float("-inf")

    def run(self, stop: threading.Event) -> None:
        """Until `stop` is set. A turn that fails is logged; the next one starts from the records."""
        try:
            while not stop.is_set():
                try:
                    self.turn()
                except FairleadError as error:
                    log.warning("%s (%s)", error, error.hint)
                except Exception:  # the border of the loop
                    log.exception("a turn of the loop failed; the next one starts anew")
                stop.wait(PAUSE)
        finally:
            self._end()

    def turn(self) -> None:
        """Move releases, judge monitors, tell of alerts, retrain when wanted, seal what is finished,
        read packages again."""
        for event in self._project.tick():
            log.info("%s %s %s", event.verb, event.subject, event.body.get("reason", ""))
        self._project.courier.turn()
        self._project.admit()
        self._retrain()
        self._explain()
        if (damage := self._scrubber.turn(time.monotonic())) is not None:
            log.error("%s: %s", damage.body["package"], damage.body["cause"])
        if time.monotonic() - self._sealed_at > SEALING:
            self._project.log.seal()
            for failure in self._project.witness():
                log.warning("audit checkpoint: %s", failure)
            self._sealed_at = time.monotonic()
        if time.monotonic() - self._expired_at > EXPIRING:
            self._expired_at = time.monotonic()
            if gone := self._project.expire():
                log.info("%s files of the prediction log expired", gone)

    def _retrain(self) -> None:
        if self._training is not None:
            if self._training.poll() is None:
                return
            self._training = None
        if self._retrainer.pending(self._project.clock.now()):
            self._training = self._beside("retrain")

    def _explain(self) -> None:
        """Answers whose callers asked for it, some at a time; whom it failed the next controller asks again."""
        if self._explaining is not None and self._explaining.poll() is None:
            return
        late = time.monotonic() - self._measured_at > MEASURING and self._project.attribution_due()
        if late:
            self._measured_at = time.monotonic()
        if (ids := self._project.unexplained(AT_ONCE)) or late:
            self._explaining = self._beside("explanations", *ids)

    def _beside(self, verb: str, *arguments: str) -> "subprocess.Popen[bytes]":
        return subprocess.Popen([sys.executable, "-m", "fairlead", verb, str(self._project.root), *arguments],
                                stdin=subprocess.DEVNULL)  # fmt: skip

    def _end(self) -> None:
        for process in filter(None, (self._training, self._explaining)):
            if process.poll() is None:
                process.terminate()
                process.wait()
