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
EXPIRING = 3600.0
"""Seconds between two looks for predictions that are too old to keep."""

log = logging.getLogger("fairlead.controller")


def main(argv: Sequence[str]) -> int:
    """``controller ROOT``: turn the loop until told to stop; ``retrain ROOT``: one retraining."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(message)s")
    verb, root = argv[0], Path(argv[1])
    with Project.open(root, unattended=True) as project:
        if verb == "retrain":
            project.retrainer().turn(project.clock.now())
        else:
            stop = threading.Event()
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: stop.set())
            threading.Thread(target=_outlived, args=(stop,), daemon=True).start()
            Controller(project).run(stop)
    return 0


def _outlived(stop: threading.Event) -> None:
    """Stop when the supervisor is gone, however it died: standard input is its pipe, and ends then."""
    if stat.S_ISFIFO(os.fstat(0).st_mode):
        while os.read(0, 4096):
            pass
        stop.set()


class Controller:
    """Turns the loop; a retraining runs in a process of its own, one at a time."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._retrainer = project.retrainer()
        self._training: subprocess.Popen[bytes] | None = None
        self._sealed_at = time.monotonic()
        self._expired_at = float("-inf")

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
        """Move releases, judge monitors, tell of alerts, retrain when wanted, seal what is finished."""
        for event in self._project.tick():
            log.info("%s %s %s", event.verb, event.subject, event.body.get("reason", ""))
        self._project.courier.turn()
        self._project.admit()
        self._retrain()
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
            self._training = subprocess.Popen(
                [sys.executable, "-m", "fairlead", "retrain", str(self._project.root)],
                stdin=subprocess.DEVNULL,
            )

    def _end(self) -> None:
        if self._training is not None and self._training.poll() is None:
            self._training.terminate()
            self._training.wait()
