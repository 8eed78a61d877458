"""The demo's server: `fairlead serve` as a process of its own, as anybody would start it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Self

import msgspec

from fairlead.errors import Unavailable
from fairlead.settings import STATE

__all__ = ["Server"]

READY_SECONDS = 20.0
POLL = 0.02


class Server:
    """Serves the project in `root`; the clock of its processes is the file `clock`."""

    def __init__(self, root: Path, clock: Path) -> None:
        self._log = (root / "serve.log").open("wb")
        self._facts = root / STATE / "run" / "serve.json"
        self.began = time.monotonic()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "fairlead", "serve", "--project", str(root), "--port", "0"],
            env={**os.environ, "FAIRLEAD_CLOCK": str(clock)}, stdin=subprocess.DEVNULL,
            stdout=self._log, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self.port = int(self._ready()["port"])
        self.seconds = time.monotonic() - self.began

    def _ready(self) -> dict[str, Any]:
        while time.monotonic() < self.began + READY_SECONDS:
            if self._process.poll() is not None:
                break
            if self._facts.exists():
                facts: dict[str, Any] = msgspec.json.decode(self._facts.read_bytes())
                if facts.get("ready"):
                    return facts
            time.sleep(POLL)
        raise Unavailable("the service did not become ready", hint=f"see {self._log.name}")

    def stop(self) -> None:
        """Drain and end."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
