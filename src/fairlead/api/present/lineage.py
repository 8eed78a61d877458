"""Why a prediction is what it is: one tree from the answer back to the rows."""

from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from fairlead.api.present.chat import brief, chat_view
from fairlead.api.present.figures import count, name, percent, short, span, stamp
from fairlead.api.present.table import grid
from fairlead.api.present.verdicts import verdict_table
from fairlead.core.artifact import Artifact, DatasetSpec, FeaturesSpec, PackageSpec
from fairlead.core.decision import Decision
from fairlead.core.prediction import Refused
from fairlead.core.run import Run
from fairlead.flow.govern import Learnt, Routing, Served, Why

__all__ = ["refused_tree", "why_tree"]

MOST_VALUES = 24


def why_tree(why: Why) -> RenderableType:
    """The whole walk: prediction, features, package, model, gate, run, data, rows."""
    tree = Tree(_answer(why), guide_style="dim")
    for note in why.feedback:
        tree.add(Text.assemble((f"{note.name} ", "dim"), (_shown(note.value), "bold"),
                               (f"  known at {stamp(note.at)}", "dim")))  # fmt: skip
    for other in why.others:
        kind = "failed" if other.error else "mirrored"
        tree.add(Text.assemble((f"{kind} ", "dim"), name(other.package), "  ",
                               other.error or _output(other.output)))  # fmt: skip
    _request(tree, why)
    tree.add(_routing(why.routing))
    if why.approval is not None:
        for grant in why.approval.grants:
            tree.add(Text.assemble(("approved ", "dim"), f"by {grant.by}: {grant.reason}",
                                   (f"  {stamp(grant.at)}, asked by {why.approval.asked.by}, approval {why.approval.id}", "dim")))  # fmt: skip
    if why.glass is not None:
        seen = f"reviewed by {why.glass.reviewed.by}" if why.glass.reviewed else "not reviewed yet"
        tree.add(Text.assemble(("not approved ", "bold red"), f"{why.glass.told.by} started {why.glass.release} without: {why.glass.told.reason}", (f"  {seen}", "dim")))  # fmt: skip
    package = tree.add(_package(why.package))
    if why.model is not None:
        _model(package, why)
    for gap in why.gaps:
        tree.add(Text.assemble(("gap ", "yellow"), gap))
    return tree


def refused_tree(refused: Refused) -> RenderableType:
    """Why a request has no answer: what it was told, what of it is in the log, who would have answered."""
    tree = Tree(Text.assemble((refused.id, "bold"), "  ", (str(refused), "bold red"),
                              (f"  at {stamp(refused.at)} in {span(refused.latency)}", "dim")), guide_style="dim")  # fmt: skip
    if refused.inputs:
        own = [Served(name=n, value=v) for n, v in refused.inputs.items()]
        tree.add(Group(Text("request", "dim"), _values(own)))
    if refused.unit != refused.id:
        tree.add(Text.assemble(("unit ", "dim"), refused.unit))
    if refused.count > 1:
        tree.add(Text.assemble(("one of ", "dim"), count(refused.count), (f" refused as {refused.code} within moments", "dim")))
    if refused.package is not None:
        tree.add(Text.assemble(("nobody was asked; ", "dim"), (name(refused.package), "cyan"), (" would have been", "dim")))
    return tree


def _answer(why: Why) -> Text:
    answer = why.answer
    head = Text.assemble((answer.id, "bold"), "  ", (_output(answer.output) if not answer.error else f"failed: {answer.error}", "bold green" if not answer.error else "bold red"))  # fmt: skip
    head.append(f"  at {stamp(answer.at)} in {span(answer.latency)}", "dim")
    return head.append("  by the fallback", "yellow") if answer.fallback else head


def _request(tree: Tree, why: Why) -> None:
    own = [s for s in why.served if not s.view]
    if _task(why.package) == "chat":
        tree.add(chat_view(why.answer.inputs, why.answer.output))
    else:
        tree.add(Group(Text("request", "dim"), _values(own)))
    for view in dict.fromkeys(s.view for s in why.served if s.view):
        mine = [s for s in why.served if s.view == view]
        first = mine[0]
        head = Text.assemble(("features ", "dim"), view, (f"  {first.entity}={_shown(first.key)}, {first.rule}, from {first.source}", "dim"))  # fmt: skip
        tree.add(Group(head, _values(mine)))


def _values(served: list[Served]) -> Table:
    table = grid("", "", "", "")
    shown = [(s.name, _shown(s.value)) for s in served[:MOST_VALUES]]
    for i in range(0, len(shown), 2):
        pair = [*shown[i : i + 2], ("", "")][:2]
        cells = [cell for n, v in pair for cell in (Text(f"  {n}" if n else "", "dim"), Text(v))]
        table.add_row(*cells)
    if len(served) > MOST_VALUES:
        table.add_row(Text(f"  and {len(served) - MOST_VALUES} more", "dim"))
    return table


def _routing(routing: Routing) -> Text:
    text = Text.assemble(("routed ", "dim"))
    if routing.role == "only":
        text.append("to the only package then")
    else:
        text.append(f"{routing.role} in {routing.release}")
        text.append(f" ({routing.plan}, step {routing.step + 1}), chance {percent(routing.share)}", "dim")
    if routing.event is not None:
        e = routing.event
        text.append(f", since event {e.seq}: {e.verb} by {e.actor}, {stamp(e.at)}", "dim")
    return text.append(f", epoch {routing.epoch}", "dim")


def _package(package: Artifact) -> Text:
    spec = package.spec
    flavor = f"  {spec.task}, {spec.flavor}" if isinstance(spec, PackageSpec) else ""
    if isinstance(spec, PackageSpec) and spec.task == "binary":
        flavor += f", threshold {spec.threshold:g}"
    return Text.assemble(("package ", "dim"), (name(package.ref), "cyan"), flavor, (f"  made {stamp(package.created_at)}", "dim"))  # fmt: skip


def _task(package: Artifact) -> str:
    return package.spec.task if isinstance(package.spec, PackageSpec) else ""


def _model(parent: Tree, why: Why) -> None:
    assert why.model is not None
    node = parent.add(Text.assemble(("model ", "dim"), (name(why.model.ref), "cyan")))
    for decision in why.gate[-1:]:
        node.add(Group(_gate(decision, len(why.gate)), verdict_table(decision.because)))
    if why.run is not None:
        node.add(_run(why.run))
    views = [a for a in why.lineage if isinstance(a.spec, FeaturesSpec)]
    for features in views:
        node.add(Text.assemble(("features ", "dim"), (name(features.ref), "cyan"), (f"  joined {stamp(features.created_at)}", "dim")))  # fmt: skip
    for table in dict.fromkeys(d.ref.name for d in why.datasets):
        versions = sorted((d for d in why.datasets if d.ref.name == table), key=lambda d: d.created_at)
        node.add(_dataset(versions[-1], len(versions) - 1))
    if why.learnt is not None:
        node.add(_learnt(why.learnt))


def _gate(decision: Decision, times: int) -> Text:
    outcome = ("passed", "green") if decision.proceed else ("refused", "red")
    more = f", judged {times} times" if times > 1 else ""
    return Text.assemble(("gate ", "dim"), outcome, (f"  {stamp(decision.at)} by {decision.actor}{more}", "dim"))  # fmt: skip


def _run(run: Run) -> RenderableType:
    params = ", ".join(f"{k}={_shown(v)}" for k, v in run.params.items()) or "none"
    took = span(run.ended_at - run.started_at)
    lines = [Text.assemble(("run ", "dim"), run.id, (f"  {stamp(run.started_at)}, took {took}, seed {run.seed}", "dim")),
             Text.assemble(("  parameters  ", "dim"), params),
             Text.assemble(("  code        ", "dim"), short(run.code), ("   environment ", "dim"), short(run.environment))]  # fmt: skip
    return Group(*lines)


def _dataset(dataset: Artifact, earlier: int) -> Text:
    """The version that was read, and how many earlier ones it grew from."""
    spec = dataset.spec
    rows = f"  {count(spec.rows)} rows in {len(spec.parts)} parts" if isinstance(spec, DatasetSpec) else ""  # fmt: skip
    grew = f", grown from {earlier} earlier versions" if earlier else ""
    return Text.assemble(("dataset ", "dim"), (name(dataset.ref), "cyan"), rows, (f"  committed {stamp(dataset.created_at)}{grew}", "dim"))  # fmt: skip


def _learnt(learnt: Learnt) -> RenderableType:
    between = f" from {stamp(learnt.since)[:10]} to {stamp(learnt.until)[:10]}" if learnt.until else ""  # fmt: skip
    head = Text.assemble(("rows ", "dim"), f"learnt from {count(learnt.rows)}{between}, judged on {count(learnt.held_out)}")  # fmt: skip
    if not learnt.nearest:
        return head
    columns = [k for k in learnt.nearest[0] if k != "_alike"][:7]
    table = grid("  most alike", *columns)
    for row in learnt.nearest:
        table.add_row(Text(f"  {percent(row['_alike'])}", "dim"), *(_shown(row[c]) for c in columns))
    return Group(head, table)


def _output(output: Any) -> str:
    match output:
        case {"label": label, "score": score}:
            return f"{label} (score {score:.4g})"
        case {"label": label, "scores": {**scores}}:
            return f"{label} ({scores.get(label, 0):.4g})"
        case {"value": value}:
            return f"{value:.6g}"
        case {"finish_reason": _}:
            return brief(output)
        case _:
            return _shown(output)


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    return text if len(text) <= 32 else f"{text[:31]}…"
