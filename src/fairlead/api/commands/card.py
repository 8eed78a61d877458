"""The commands that write documents: cards, the bill of materials, the technical file."""

import sys
from pathlib import Path

import msgspec
from rich.text import Text

from fairlead.api.console import console
from fairlead.api.present.card import FORMATS, card_html, card_json, card_markdown
from fairlead.api.present.figures import size
from fairlead.api.session import opened
from fairlead.core.ref import canonical
from fairlead.errors import Conflict, Invalid

__all__ = ["annex", "bom", "write"]

LOG = "event-log"


def write(given: Path | None, kind: str, text: str, form: str, target: Path | None) -> None:
    """Write one card to `target`, or to standard output. Raises Invalid for an unknown format."""
    form = form or (target.suffix.removeprefix(".") if target else "md")
    if form not in FORMATS:
        raise Invalid(f"cannot write {form!r}", hint=f"--format {' or '.join(FORMATS)}")
    with opened(given) as project:
        card = project.card(kind, text)
    _put(FORMATS[form](card), target)


def bom(given: Path | None, text: str, target: Path | None) -> None:
    """Write the CycloneDX ML-BOM."""
    with opened(given) as project:
        made = project.bom(text)
    _put(msgspec.json.format(canonical(made), indent=2).decode() + "\n", target)


def annex(given: Path | None, folder: Path, text: str) -> None:
    """Write the technical file into a new folder. Raises Conflict when it exists."""
    if folder.exists() and any(folder.iterdir()):
        raise Conflict(f"{folder} is not empty", hint="name a new folder: a technical file is not patched")
    folder.mkdir(parents=True, exist_ok=True)
    with opened(given) as project:
        events = project.evidence_into(folder / LOG)
        documents, parts = project.documents(text), project.bom(text)
    for name, card in documents.items():
        for suffix, made in (("md", card_markdown), ("html", card_html), ("json", card_json)):
            (folder / f"{name}.{suffix}").write_text(made(card), encoding="utf-8")
    (folder / "bom.cdx.json").write_bytes(msgspec.json.format(canonical(parts), indent=2))
    gaps = documents["annex-iv"].gaps
    console().print(Text.assemble(
        ("wrote ", "bold green"), f"{len(documents)} documents, the bill of materials and {events:,} events into {folder}\n",
        (f"{len(gaps)} points", "bold yellow" if gaps else "bold green"), " are still to be written by people\n",
        *(f"  {chapter.split(' ')[0]:9} {f.name}: {f.ask}\n" for chapter, f in gaps)))  # fmt: skip


def _put(text: str, target: Path | None) -> None:
    if target is None:
        sys.stdout.write(text)
        return
    target.write_text(text, encoding="utf-8")
    console().print(Text.assemble("wrote ", (str(target), "bold"), f"  {size(target.stat().st_size)}"))
