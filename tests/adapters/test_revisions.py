"""What git says of a work tree: where it left its base, what differs, what the base held."""

import os
import subprocess
from pathlib import Path

import pytest

from fairlead.adapters.revisions.git import GitRevisions
from fairlead.errors import Invalid


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), "-c", "user.name=ann", "-c", "user.email=ann@example.org", *arguments],
                          check=True, capture_output=True, text=True)  # fmt: skip
    return done.stdout.strip()


def test_a_base_is_found_compared_and_laid_out_beside(tmp_path: Path) -> None:
    top = tmp_path / "top"
    inner = top / "inner"
    inner.mkdir(parents=True)
    git(top, "init", "-q", "-b", "main")
    odd = os.fsdecode(b"caf\xe9.py")  # no UTF-8
    for name in ("kept.py", "edited.py", odd):
        (inner / name).write_text("1")
    (inner / "link.py").symlink_to("/etc/passwd")
    (top / "outside.py").write_text("1")
    git(top, "add", "-A")
    git(top, "commit", "-qm", "base")
    (inner / "edited.py").write_text("2")
    (inner / odd).write_text("2")
    (inner / "new.py").write_text("2")
    (inner / "report.xml").write_text("2")
    (top / "outside.py").write_text("2")
    history = GitRevisions(inner)
    commit = history.base("main")
    assert commit == git(top, "rev-parse", "HEAD")
    assert history.changed(commit) == ["caf\ufffd.py", "edited.py", "new.py"]
    history.lay(commit, tmp_path / "laid")
    laid = {p.name: p.read_text() for p in (tmp_path / "laid").iterdir()}
    assert laid == {"kept.py": "1", "edited.py": "1", odd: "1"}, "links are left out"


@pytest.mark.parametrize("reference", ["nowhere", "--all", "HEAD~9"])
def test_what_git_does_not_know_is_no_base(tmp_path: Path, reference: str) -> None:
    git(tmp_path, "init", "-q")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "base")
    with pytest.raises(Invalid, match="git knows no"):
        GitRevisions(tmp_path).base(reference)
