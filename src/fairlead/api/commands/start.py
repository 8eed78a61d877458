"""The commands one starts with: init, run, schema."""

import sys
from pathlib import Path
from shlex import quote
from typing import Any

from fairlead.adapters.manifest import json_schema
from fairlead.api.border import REFUSED
from fairlead.api.console import console, emit, next_commands, progress
from fairlead.api.present.lines import gate_line, model_line, release_line, rows_line
from fairlead.api.present.script import dump
from fairlead.api.present.table import draft_view, targets_view
from fairlead.api.present.verdicts import verdict_table
from fairlead.api.session import opened
from fairlead.api.steps import Steps
from fairlead.core.artifact import Artifact
from fairlead.core.release import Release
from fairlead.errors import Conflict, Invalid, Missing
from fairlead.flow import init as start
from fairlead.flow.scaffold import Remark, Wishes
from fairlead.project import Project, read_table

__all__ = ["Wishes", "init", "run", "schema"]

LIVE = ("fairlead serve", "fairlead predict   (in another terminal)")
CANARY = ("fairlead serve   (the evidence comes from live traffic)", "fairlead release watch")


def init(table: Path | None, wishes: Wishes, into: Path, *, as_json: bool) -> int:
    """Write a project for a table; without a target, say which there could be (status 2)."""
    if table is None:
        raise Invalid("no table to begin with", hint="fairlead init --from TABLE --target COLUMN")
    if not table.exists():
        near = sorted(p.name for p in table.parent.glob("*") if p.suffix in (".csv", ".parquet", ".tsv"))  # fmt: skip
        raise Missing(f"no file {table}", hint=f"tables in that folder: {', '.join(near[:8])}" if near else "--from names a CSV or Parquet file")  # fmt: skip
    if (into / "fairlead.yaml").exists():
        raise Conflict(f"{into / 'fairlead.yaml'} exists already: this folder is a project",
                       hint="go on with `fairlead run`, or choose another folder with --into")  # fmt: skip
    moments = (wishes.time,) if wishes.time else ()
    with progress(f"reading {table.name}", quiet=as_json):
        read = read_table(table, target=wishes.target, moments=moments)
        if not wishes.target:
            facts = start.targets(read.frame)
            best = quote(facts[0].name) if facts else "COLUMN"
            call = f"fairlead init --from {quote(str(table))} --target {best}"
            emit({"targets": facts}, targets_view(facts, call), as_json=as_json)
            return 2
        remarks = [Remark(f.column, f"{f.seen}; {f.done}") for f in read.findings]
        made = start.draft(read.frame, remarks, wishes, table)
    written = start.write(made, table, into)
    emit({"project": made, "written": written}, draft_view(made), as_json=as_json)
    if not as_json:
        console().print("\nwrote    " + ", ".join(str(p) for p in written))
        cd = "" if into.resolve() == Path.cwd() else f"cd {quote(str(into))} && "
        next_commands(f"{cd}fairlead run", "fairlead serve")
    return 0


def schema() -> None:
    """Print the JSON Schema of the manifest."""
    sys.stdout.write(dump(json_schema()) + "\n")


def run(given: Path | None, plan: str, *, accept_breaking: bool, as_json: bool) -> int:
    """Snapshot and train (or compose a chat), gate, package and release; 1 when the gate refuses."""
    steps = Steps(quiet=as_json)
    with opened(given) as project:
        chats = project.manifest.chat is not None
        made, model = _composed(project, steps) if chats else _trained(project, steps, accept_breaking)
        decision = steps.do("gate", lambda say: project.gate(model.ref, say), gate_line)
        value: dict[str, Any] = {**made, "model": model.ref, "gate": decision}
        if not decision.proceed:
            steps.end(verdict_table(decision.because))
            again = ("change the prompt or the provider and run again",) if chats else (
                "change train.py or the data and run again", "fairlead data diff")  # fmt: skip
            return _told(value, REFUSED, as_json, *again, "fairlead status")
        package = steps.do("package", lambda say: project.package(model.ref, say),
                           lambda p: (True, p.ref.short))  # fmt: skip
        release = _release(project, package, plan, steps)
    value |= {"package": package.ref, "release": release}
    live = release is None or release.phase.final
    return _told(value, 0, as_json, *(LIVE[:1] if live and chats else LIVE if live else CANARY))


def _trained(project: Project, steps: Steps, accept_breaking: bool) -> tuple[dict[str, Any], Artifact]:
    version, _ = steps.do("snapshot", lambda say: project.snapshot(accept_breaking=accept_breaking),
                          lambda made: (True, rows_line(made[0])))  # fmt: skip
    model = steps.do("train", lambda say: project.train(dataset=version.ref, on_progress=say),
                     lambda m: (True, model_line(m, project.records.run(m.run))))  # fmt: skip
    return {"dataset": version.ref}, model


def _composed(project: Project, steps: Steps) -> tuple[dict[str, Any], Artifact]:
    section = project.manifest.chat
    model = steps.do("compose", lambda say: project.train(),
                     lambda m: (True, f"{m.ref.short}  {section.model if section else ''}"))  # fmt: skip
    return {}, model


def _release(project: Project, package: Artifact, plan: str, steps: Steps) -> Release | None:
    """Release the package, unless it is the one that serves; a plan without checks is done at once."""
    here = project.records.service(project.name)
    if here is not None and here.package == package.ref:
        steps.do("release", lambda say: None, lambda _: (True, "nothing to do: this package is live"))
        return None

    def begin(say: object) -> Release:
        begun = project.start_release(package.ref, project.plan(plan) if plan else None)
        if not begun.here.checks and not begun.here.hold:
            project.tick()
        return project.records.release(begun.id)

    return steps.do("release", begin, release_line)


def _told(value: dict[str, Any], status: int, as_json: bool, *commands: str) -> int:
    if as_json:
        emit(value, "", as_json=True)
    else:
        next_commands(*commands)
    return status
