"""Checkpoints as commits of a git repository: every clone of it becomes a witness."""

import subprocess
from pathlib import Path

from fairlead.errors import Conflict, Unavailable

__all__ = ["GitAnchor"]

SECONDS = 30.0


class GitAnchor:
    """The Anchor port over the work tree in `folder`: a file and a commit each, pushed where a
    remote is set up. Needs the `git` command."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def publish(self, name: str, data: bytes) -> str:
        target = self._folder / name
        try:
            if target.exists() and target.read_bytes() != data:
                raise Conflict(f"{name} is published already, with other bytes",
                               hint="is another project using the same place?")  # fmt: skip
            target.write_bytes(data)
        except OSError as error:
            raise Unavailable(f"checkpoints cannot be written to {self._folder}: {error.strerror}",
                              hint=f"git init {self._folder}") from error  # fmt: skip
        self._git("add", "--", name)
        if self._git("status", "--porcelain", "--", name):
            self._git("-c", "user.name=fairlead", "-c", "user.email=audit@fairlead.invalid",
                      "commit", "--quiet", "--message", f"Checkpoint {name}", "--", name)  # fmt: skip
        if self._git("remote"):
            self._git("push", "--quiet")
        return f"{self._folder}@{self._git('rev-parse', '--short', 'HEAD')}"

    def _git(self, *arguments: str) -> str:
        try:
            done = subprocess.run(["git", "-C", str(self._folder), *arguments], text=True, check=False,
                                  capture_output=True, timeout=SECONDS, stdin=subprocess.DEVNULL)  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Unavailable(f"git {arguments[0]} did not work: {error}",
                              hint="is git installed, and its remote within reach?") from error  # fmt: skip
        if done.returncode:
            raise Unavailable(f"git {arguments[0]} in {self._folder} failed: {done.stderr.strip()[-200:]}",
                              hint="it is tried again at the next turn")  # fmt: skip
        return done.stdout.strip()
