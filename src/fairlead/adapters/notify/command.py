"""Alerts to a program of the user's: arguments as they are written, the notice on standard input."""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from fairlead.core.alert import Notice, document
from fairlead.errors import Unavailable

__all__ = ["Command"]

SHOWN = 200
"""Characters of a program's complaint that are repeated."""


class Command:
    """Implements `ports.Notifier`. Runs `argv` without a shell in `folder`, with the environment
    `env` and FAIRLEAD_KEY; exit status 0 within `timeout` seconds means delivered."""

    def __init__(self, argv: Sequence[str], folder: Path, env: Mapping[str, str], *,
                 timeout: float = 10.0) -> None:  # fmt: skip
        self._argv, self._folder, self._env, self._timeout = list(argv), folder, dict(env), timeout

    def tell(self, notice: Notice) -> None:
        name = self._argv[0]
        try:
            program = subprocess.Popen(
                self._argv, cwd=self._folder, env={**self._env, "FAIRLEAD_KEY": notice.key},
                stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise Unavailable(f"{name} cannot be started: {error.strerror}",
                              hint="is it installed, and executable?") from error  # fmt: skip
        try:
            _, said = program.communicate(document(notice), self._timeout)
        except subprocess.TimeoutExpired:
            os.killpg(program.pid, signal.SIGKILL)
            program.communicate()
            raise Unavailable(f"{name} was still running after {self._timeout:g} s and was stopped",
                              hint="allow it more time with `timeout`") from None  # fmt: skip
        if program.returncode:
            text = said.decode(errors="replace").strip()[-SHOWN:]
            raise Unavailable(f"{name} ended with {program.returncode}: {text}".removesuffix(": "),
                              hint="it is run again; exit status 0 means delivered")  # fmt: skip
