"""The commands that explain: why, and the audit log."""

from pathlib import Path

from rich.text import Text

from fairlead.api.console import console, emit
from fairlead.api.present.figures import count, stamp
from fairlead.api.present.lineage import why_tree
from fairlead.api.present.table import grid
from fairlead.api.session import opened

__all__ = ["log", "verify", "why"]

MOST = 160


def why(given: Path | None, prediction: str, *, as_json: bool) -> None:
    """Walk one prediction back to its rows."""
    with opened(given) as project:
        answer = project.why(prediction)
    emit(answer, why_tree(answer), as_json=as_json)


def log(given: Path | None, last: int, subject: str, *, as_json: bool) -> None:
    """The newest events, oldest first."""
    with opened(given) as project:
        events = list(project.records.events(subject=subject))[-last:]
    table = grid("event", "at", "who", "what", "subject", "why", right=("event",), fold=("why",))
    for event in events:
        said = event.body.get("reason") or event.body.get("text") or ""
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


def _short(subject: str) -> str:
    kind, at, digest = subject.partition("@")
    return f"{kind}@{digest[:12]}" if at else subject
