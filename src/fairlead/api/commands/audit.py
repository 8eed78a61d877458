"""The commands that explain: why, and the audit log."""

from datetime import UTC, datetime
from math import inf
from pathlib import Path

import msgspec
from rich.console import Group
from rich.text import Text

from fairlead.api.border import REFUSED
from fairlead.api.commands.lab import newest
from fairlead.api.console import console, emit, progress
from fairlead.api.present.explanation import told_view
from fairlead.api.present.figures import count, stamp
from fairlead.api.present.impact import impact_view
from fairlead.api.present.lineage import refused_tree, why_tree
from fairlead.api.present.script import simple
from fairlead.api.present.table import grid
from fairlead.api.session import opened
from fairlead.errors import Invalid, Missing
from fairlead.flow.reproduce import Reproduction

__all__ = ["checkpoint", "export", "impact", "key", "log", "pairs", "prove", "reproduce", "verify", "why"]

MOST = 160


def why(given: Path | None, prediction: str, *, explain: bool, as_json: bool) -> None:
    """Walk one prediction back to its rows; with what each column did to it, where that is known."""
    with opened(given) as project:
        try:
            answer = project.why(prediction)
        except Missing:
            if (refused := project.refused(prediction)) is None:
                raise
            emit({"refused": refused}, refused_tree(refused), as_json=as_json)
            return
        if explain:
            project.explain(prediction)
        told = project.explained(answer.answer)
    held = {s.name: s.value for s in answer.served}
    emit({**simple(answer), "explanation": told.explanation},
         Group(why_tree(answer), *told_view(told, held)), as_json=as_json)  # fmt: skip


def impact(
    given: Path | None, subject: str, rows: tuple[str, ...], served: tuple[str, ...], view: str,
    times: tuple[str, str], *, as_json: bool,
) -> None:  # fmt: skip
    """Walk forward from an artifact."""
    since, until = (_moment(t) for t in times)
    with opened(given) as project:
        found = project.impact(project.records.find(subject), rows=pairs(rows), served=pairs(served),
                               view=view, since=since or 0.0, until=until or inf)  # fmt: skip
    emit(msgspec.to_builtins(found) | {"predictions": found.predictions}, impact_view(found), as_json=as_json)


def pairs(given: tuple[str, ...]) -> dict[str, str]:
    """``COLUMN=VALUE`` texts as a table. Raises Invalid."""
    for text in given:
        if "=" not in text:
            raise Invalid(f"not COLUMN=VALUE: {text!r}", hint="for example --rows tailnum=N14228")
    return dict(text.split("=", 1) for text in given)


def _moment(text: str) -> float:
    if not text:
        return 0.0
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise Invalid(f"not a time: {text!r} ({error})", hint="for example 2026-11-23T10:00") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def reproduce(given: Path | None, model: str, *, as_json: bool) -> int:
    """Train a model again; 1 when a byte differs."""
    with opened(given) as project, progress("reproducing", quiet=as_json) as say:
        done = project.reproduce(newest(project, "model", model).ref, say)
    emit(msgspec.to_builtins(done) | {"same": done.same}, _reproduction(done), as_json=as_json)
    return 0 if done.same else REFUSED


def _reproduction(done: Reproduction) -> Group:
    """File by file, then what the difference means, then what changed around it."""
    table = grid("file", "recorded", "again", "")
    for name, (then, now) in done.files.items():
        table.add_row(name, then[:12] or "-", now[:12] or "-",
                      Text("same", "green") if then == now else Text("differs", "red"))  # fmt: skip
    said = Text.assemble(("the same, bit for bit", "bold green")) if done.same else Text(
        "other rows were held out: the models cannot be compared" if done.difference is None else
        f"the scores of {count(done.rows)} held-out rows differ by at most {done.difference:.3g}", "bold red")  # fmt: skip
    gone, new = done.environment
    around = [Text(f"  {sign} {line}", "dim") for sign, lines in (("-", gone), ("+", new)) for line in lines]
    head = [Text("the environment is another one:")] if around else []
    return Group(Text(done.model.short, "cyan"), table, said, *head, *around)


def log(given: Path | None, last: int, subject: str, *, as_json: bool) -> None:
    """The newest events, oldest first."""
    with opened(given) as project:
        events = list(project.records.events(subject=subject))[-last:]
    table = grid("event", "at", "who", "what", "subject", "why", right=("event",), fold=("why",))
    for event in events:
        said = event.body.get("reason") or event.body.get("text") or event.body.get("cause") or ""
        table.add_row(Text(str(event.seq), "dim"), stamp(event.at), event.actor, event.verb,
                      Text(_short(event.subject), "cyan"), str(said)[:MOST])  # fmt: skip
    emit(events, table if events else Text("nothing has happened yet"), as_json=as_json)


def verify(given: Path | None, *, as_json: bool) -> None:
    """Check the chain of events; Corrupt (exit status 6) when it is broken."""
    with opened(given) as project:
        n = project.verify_audit()
        seal = project.records.head()[1]
    if as_json:
        emit({"events": n, "head": seal, "intact": True}, "", as_json=True)
        return
    console().print(Text.assemble(("intact", "bold green"), f"  {count(n)} events, head {seal[:12] or '-'}"))  # fmt: skip


def checkpoint(given: Path | None, *, as_json: bool) -> int:
    """Sign and publish; the exit status is 5 when a place was out of reach."""
    with opened(given) as project:
        signed, failures = project.notary.checkpoint(), project.notary.publish()
        places = len(project.manifest.audit.checkpoints) - len(failures)
    said = signed.checkpoint
    text = Text.assemble(("signed", "bold green"), f"  checkpoint {said.number}: {count(said.seq)} events, seal {said.seal[:12]}, ",
                         f"kept in {places} place{'' if places == 1 else 's'} outside\n", ("key ", "dim"), signed.key)  # fmt: skip
    for failure in failures:
        text.append(f"\n{failure}", "red")
    emit({"signed": signed, "failures": failures}, text, as_json=as_json)
    return 5 if failures else 0


def key(given: Path | None) -> None:
    """The public key, alone on a line."""
    with opened(given) as project:
        console().print(project.signer.key)


def prove(given: Path | None, event: int) -> None:
    """The inclusion proof of one event."""
    with opened(given) as project:
        emit(project.notary.prove(event), "", as_json=True)


def export(given: Path | None, folder: Path, *, as_json: bool) -> None:
    """Write the bundle, and say how a stranger verifies it."""
    with opened(given) as project, console().status("writing the log ...") as status:
        signed = project.export_audit(folder, lambda n: status.update(f"writing the log: {count(n)} events"))
    said = signed.checkpoint
    text = Text.assemble(("exported", "bold green"), f"  {count(said.seq)} events into {folder}, signed by key\n{signed.key}\n",
                         ("verify it anywhere:  ", "dim"), f"python3 {folder}/verify.py {folder} --key {signed.key[:8]}...")  # fmt: skip
    emit({"events": said.seq, "key": signed.key, "folder": str(folder)}, text, as_json=as_json)


def _short(subject: str) -> str:
    kind, at, digest = subject.partition("@")
    return f"{kind}@{digest[:12]}" if at else subject
