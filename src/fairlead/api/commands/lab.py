"""The commands that make and judge a model: train, gate, package."""

from pathlib import Path
from typing import Any

import yaml
from rich.console import Group, RenderableType
from rich.text import Text

from fairlead.api.border import REFUSED
from fairlead.api.console import emit, next_commands, progress
from fairlead.api.present.figures import count, span
from fairlead.api.present.table import grid
from fairlead.api.present.verdicts import decision_panel, junit
from fairlead.api.session import opened
from fairlead.core.artifact import Artifact, ModelSpec, PackageSpec
from fairlead.core.ref import Kind
from fairlead.core.run import Run
from fairlead.errors import Invalid, Missing
from fairlead.project import Project

__all__ = ["gate", "model_view", "newest", "package", "package_view", "train"]


def train(given: Path | None, dataset: str, params: tuple[str, ...], *, as_json: bool) -> None:
    """Train on a version of the table."""
    chosen = dict(_param(p) for p in params) or None
    with opened(given) as project:
        ref = project.records.find(dataset, "dataset").ref if dataset else None
        with progress("training", quiet=as_json) as say:
            model = project.train(dataset=ref, params=chosen, on_progress=say)
        run = project.records.run(model.run) if model.run else None
    emit({"model": model.ref, "run": run}, model_view(model, run), as_json=as_json)
    if not as_json:
        next_commands("fairlead gate")


def gate(given: Path | None, model: str, report: Path | None, *, as_json: bool) -> int:
    """Judge a model; 1 when it is refused."""
    with opened(given) as project:
        candidate = newest(project, "model", model)
        with progress("judging on held-out rows", quiet=as_json):
            decision = project.gate(candidate.ref)
    if report is not None:
        report.write_text(junit(decision, f"gate of {candidate.ref.short}"), encoding="utf-8")
    emit(decision, decision_panel(decision), as_json=as_json)
    if not decision.proceed:
        return REFUSED
    if not as_json:
        next_commands("fairlead package")
    return 0


def package(given: Path | None, model: str, *, as_json: bool) -> None:
    """Package a model."""
    with opened(given) as project, progress("packaging", quiet=as_json):
        made = project.package(newest(project, "model", model).ref)
    emit(made, package_view(made), as_json=as_json)
    if not as_json:
        next_commands("fairlead release start", "fairlead serve")


def newest(project: Project, kind: Kind, text: str) -> Artifact:
    """The artifact `text` names, or the newest of its kind. Raises Missing."""
    if text:
        return project.records.find(text, kind)
    made = project.records.artifacts(kind)
    if not made:
        before = {"model": "fairlead train", "package": "fairlead package"}.get(kind, "fairlead run")
        raise Missing(f"there is no {kind} yet", hint=f"make one with `{before}`")
    return made[-1]


def model_view(model: Artifact, run: Run | None) -> RenderableType:
    """A model and how it did on held-out rows, if it was trained."""
    spec = model.spec
    assert isinstance(spec, ModelSpec)
    if run is None:
        return Text.assemble((model.ref.short, "cyan"), f"  {spec.task}, {spec.flavor}")
    head = Text.assemble((model.ref.short, "cyan"), f"  {spec.task}, {spec.flavor}, "
                         f"{len(spec.inputs.columns)} columns, trained in {span(run.ended_at - run.started_at)}")  # fmt: skip
    table = grid("", "", "")
    for e in run.evidence:
        if not e.slice and e.against is None:
            between = f"{e.low:.4g} to {e.high:.4g}" if e.low is not None and e.high is not None else ""  # fmt: skip
            table.add_row(f"  {e.measure}", f"{e.value:.4g}", Text(f"{between}  on {count(e.n)} rows", "dim"))  # fmt: skip
    return Group(head, table) if table.row_count else head


def package_view(package: Artifact) -> RenderableType:
    """A package and what it carries."""
    spec = package.spec
    assert isinstance(spec, PackageSpec)
    views = f", {len(spec.views)} feature views" if spec.views else ""
    return Text.assemble((package.ref.short, "cyan"), f"  {spec.task}, {spec.flavor}, "
                         f"{len(spec.contract.columns)} request columns{views}")  # fmt: skip


def _param(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise Invalid(f"--param {text!r} is not NAME=VALUE", hint="--param learning_rate=0.05")
    read = yaml.safe_load(value) if value else ""
    if read is not None and not isinstance(read, str | int | float | bool):
        raise Invalid(f"--param {name}: {value!r} is not a text, a number or a boolean",
                      hint="a parameter is a single value")  # fmt: skip
    return name, read
