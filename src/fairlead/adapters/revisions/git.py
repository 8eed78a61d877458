"""Revisions: what a folder looked like at an earlier commit of the git repository it lies in."""

import io
import subprocess
import tarfile
from pathlib import Path

from fairlead.errors import Invalid, Unavailable

__all__ = ["GitRevisions"]

SECONDS = 300.0


class GitRevisions:
    """Reads the repository around `folder` with the `git` command, and changes nothing in it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def base(self, reference: str) -> str:
        """The commit at which the work tree left `reference`. Raises Invalid when there is none."""
        commit = self._git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{reference}^{{commit}}")
        if not commit:
            raise Invalid(f"git knows no {reference!r} here", hint=f"git fetch it: {self._deeper()}")
        found = self._git("merge-base", commit.decode().strip(), "HEAD").decode().strip()
        if not found:
            raise Invalid(f"{reference} and HEAD have no common commit here", hint=f"fetch more of the history: {self._deeper()}")  # fmt: skip
        return found

    def changed(self, commit: str) -> list[str]:
        """Files under the folder that differ from `commit`, and modules git does not know yet (reports
        and the like are nobody's change), by their path from there."""
        differ = self._git("diff", "--name-only", "--no-renames", "--relative", "-z", commit, "--", ".")
        fresh = self._git("ls-files", "--others", "--exclude-standard", "-z", "--", "*.py")
        return sorted({p.decode(errors="replace") for p in (differ + fresh).split(b"\0") if p})

    def lay(self, commit: str, target: Path) -> None:
        """Write the files of the folder as they were at `commit` into `target`; none where it was not
        there. Links are left out."""
        up, prefix = (self._git("rev-parse", f"--show-{w}").decode().strip() for w in ("cdup", "prefix"))
        if prefix and not self._git("ls-tree", "-d", "-z", "--full-tree", commit, prefix.rstrip("/")):
            return
        packed = self._git("-C", up or ".", "archive", "--format=tar", f"{commit}:{prefix}")  # only from the top
        with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
            for info in (i for i in tar if i.isreg()):
                path, content = target / info.name, tar.extractfile(info)
                if content is not None and path.resolve().is_relative_to(target.resolve()):
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(content.read())

    def _git(self, *arguments: str) -> bytes:
        """What git says; nothing where the answer is no (status 1). Raises Invalid, Unavailable."""
        try:
            done = subprocess.run(["git", "-C", str(self._folder), *arguments], capture_output=True, check=False,
                                  timeout=SECONDS, stdin=subprocess.DEVNULL)  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Unavailable(f"git {' '.join(arguments)} did not work: {error}", hint="is git installed?") from error
        if done.returncode > 1:
            raise Invalid(f"git {' '.join(arguments)} failed: {done.stderr.decode(errors='replace').strip()[-300:]}",
                          hint="--base needs a git work tree") from None  # fmt: skip
        return done.stdout

    def _deeper(self) -> str:
        return "with actions/checkout set fetch-depth: 0, in GitLab GIT_DEPTH: 0"
