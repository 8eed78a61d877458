"""Answers of the service on a screen, and how to ask it."""

import json
from shlex import quote
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from fairlead.api.present.figures import short
from fairlead.api.present.table import grid

__all__ = ["answers_view", "call_view", "verbatim"]


def answers_view(answer: Any, sent: str) -> RenderableType:
    """One line per prediction; `sent`: the sample row when the caller gave none."""
    rows = answer.get("predictions", [answer]) if isinstance(answer, dict) else []
    table = grid("prediction", "answer", "package", "")
    for row in rows:
        said = row.get("error")
        text = Text(said["message"], "red") if isinstance(said, dict) else _answer(row)
        package = str(row.get("package") or answer.get("package") or "")
        table.add_row(str(row.get("id", "-")), text, _package(package),
                      Text("fallback" if row.get("fallback") else "", "yellow"))  # fmt: skip
    if not sent:
        return table
    return Group(Text("sent a sample row:", "dim"), verbatim(sent), Text(""), table)


def call_view(service: str, url: str, sample: dict[str, Any] | None, token_file: str = "",
              path: str = "/predict") -> RenderableType:  # fmt: skip
    """Where the service is, and a call to copy: `sample` posted to `path`."""
    head = Text.assemble((service, "bold"), " answers on ", (url, "bold green"), ("   (Ctrl-C stops it)", "dim"))  # fmt: skip
    if sample is None:
        return head
    body = json.dumps(sample, ensure_ascii=False).replace("'", "'\\''")
    token = f' -H "authorization: Bearer $(cat {quote(token_file)})"' if token_file else ""
    call = f"curl -s {url}{path}{token} -H 'content-type: application/json' -d '{body}'"
    more = "fairlead predict, " if path == "/predict" else ""
    return Group(head, Text(""), verbatim(call), Text(""),
                 Text(f"in another terminal: {more}fairlead status, fairlead why PREDICTION", "dim"))  # fmt: skip


def verbatim(text: str) -> Text:
    """A text to copy: never broken into lines here (print it with crop=False)."""
    return Text(text, no_wrap=True, overflow="ignore")


def _answer(row: dict[str, Any]) -> Text:
    if "value" in row:
        return Text(f"{row['value']:.6g}", "bold")
    text = Text(str(row.get("label", "-")), "bold")
    if "score" in row:
        return text.append(f"  score {row['score']:.4g}", "default")
    scores = row.get("scores") or {}
    best = sorted(scores.items(), key=lambda s: -s[1])[:3]
    return text.append("  " + ", ".join(f"{k} {v:.3g}" for k, v in best), "dim")


def _package(text: str) -> Text:
    name, at, digest = text.partition("@")
    return Text(f"{name}{at}{short(digest)}", "cyan")
