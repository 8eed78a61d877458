"""The data commands: versions of the table."""

from pathlib import Path

from rich.console import Group
from rich.text import Text

from fairlead.api.console import console, emit, next_commands, progress
from fairlead.api.present.figures import count
from fairlead.api.present.table import change_lines, diff_view, versions_table
from fairlead.api.session import opened
from fairlead.core.artifact import Artifact, DatasetSpec
from fairlead.errors import Invalid, Missing
from fairlead.flow import data
from fairlead.project import Project

__all__ = ["checkout", "commit", "difference", "log"]


def commit(given: Path | None, source: Path | None, *, append: bool, accept_breaking: bool,
           as_json: bool) -> None:  # fmt: skip
    """Snapshot the table of the manifest, or `source`; `append` adds its rows to the newest."""
    if append and source is None:
        raise Invalid("--append needs a file", hint="fairlead data commit --append NEW_ROWS")
    with opened(given) as project:
        before = {v.ref for v in _versions(project)}
        with progress("committing the table", quiet=as_json):
            if append and source is not None:
                version, changes = project.append(source)
            else:
                version, changes = project.snapshot(source, accept_breaking=accept_breaking)
    rows = _spec(version).rows
    same = version.ref in before
    head = Text.assemble((version.ref.short, "cyan"), f"  {count(rows)} rows",
                         ("  nothing new" if same else "", "dim"))  # fmt: skip
    value = {"version": version.ref, "rows": rows, "new": not same, "changes": changes}
    emit(value, head if same or not before else Group(head, change_lines(changes)), as_json=as_json)
    if not as_json:
        next_commands("fairlead train", "fairlead data log")


def log(given: Path | None, *, as_json: bool) -> None:
    """List versions, newest first."""
    with opened(given) as project:
        versions, now = data.log(_versions(project)), project.clock.now()
    shown = versions_table(versions, now) if versions else Text("no versions yet: `fairlead data commit` makes the first")  # fmt: skip
    emit(versions[::-1], shown, as_json=as_json)


def difference(given: Path | None, old: str, new: str, *, as_json: bool) -> None:
    """Compare two versions; the newest two unless named."""
    with opened(given) as project, progress("comparing", quiet=as_json):
        before, after = _pair(project, old, new)
        found = data.diff(_spec(before), _spec(after), project.blobs)
    emit({"old": before.ref, "new": after.ref, **_fields(found)},
         diff_view(before.ref, after.ref, found), as_json=as_json)  # fmt: skip


def checkout(given: Path | None, version: str, target: Path) -> None:
    """Write a version's rows into a file."""
    with opened(given) as project:
        ref = project.records.find(version, "dataset").ref
        rows = project.checkout(ref, target)
    console().print(f"{count(rows)} rows of {ref.short} in {target}")


def _fields(found: data.DataDiff) -> dict[str, object]:
    return {name: getattr(found, name) for name in found.__struct_fields__}


def _spec(version: Artifact) -> DatasetSpec:
    assert isinstance(version.spec, DatasetSpec)
    return version.spec


def _versions(project: Project) -> list[Artifact]:
    return project.records.artifacts("dataset", project.name)


def _pair(project: Project, old: str, new: str) -> tuple[Artifact, Artifact]:
    versions = _versions(project)
    if not versions:
        raise Missing("there are no versions yet", hint="`fairlead data commit` makes the first")
    after = project.records.find(new, "dataset") if new else versions[-1]
    if old:
        return project.records.find(old, "dataset"), after
    earlier = [v for v in versions if v.created_at <= after.created_at and v.ref != after.ref]
    if not earlier:
        raise Missing(f"{after.ref.short} is the only version, there is nothing to compare it with",
                      hint="commit again when the table has changed")  # fmt: skip
    return earlier[-1], after
