"""Alerts into a file: one line of JSON each, for people who tail it and tests that read it."""

import os
from pathlib import Path

from fairlead.core.alert import Notice, document
from fairlead.errors import Unavailable

__all__ = ["LogNotifier"]


class LogNotifier:
    """Implements `ports.Notifier`; appends, and reaches the disk before it returns."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def tell(self, notice: Notice) -> None:
        line = document(notice) + b"\n"
        try:
            handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                os.write(handle, line)
                os.fsync(handle)
            finally:
                os.close(handle)
        except OSError as error:
            raise Unavailable(f"alert not written to {self._path.name}: {error.strerror}",
                              hint="free the disk; the alert is in the audit log too") from error  # fmt: skip
