"""Cards for readers: Markdown, a page without scripts, and JSON, of one and the same values."""

from collections.abc import Callable

from fairlead.api.present.page import Markup, facts, html, note, section, table, tag
from fairlead.api.present.script import dump
from fairlead.core.card import Card, Cell, Chapter, Fact, Grid

__all__ = ["FORMATS", "card_html", "card_json", "card_markdown"]

FOOT = "Made by Fairlead from the records of the project alone; the same records give the same bytes."
MISSING = "missing"


def card_json(card: Card) -> str:
    """Every value as it is, with its source, and the gaps once more by themselves."""
    gaps = [{"chapter": chapter, "name": f.name, "ask": f.ask} for chapter, f in card.gaps]
    return dump({**{n: getattr(card, n) for n in card.__struct_fields__}, "gaps": gaps}) + "\n"


def card_markdown(card: Card) -> str:
    """One heading per chapter, a list of facts, tables."""
    lines = [f"# {_plain(card.title)}", "", _plain(card.lead), "", f"`{card.subject}`", ""]
    for chapter in card.chapters:
        lines += [f"## {_plain(chapter.title)}", ""]
        lines += [_plain(chapter.lead), ""] if chapter.lead else []
        lines += [_line(f) for f in chapter.facts]
        lines += [""] if chapter.facts else []
        for grid in chapter.grids:
            lines += [_row(grid.titles), _row(["---"] * len(grid.titles)), *map(_row, grid.rows), ""]
    lines += ["## Known gaps", "", *_gaps(card), "", f"*{FOOT}*"]
    return "\n".join(lines) + "\n"


def card_html(card: Card) -> str:
    """The page."""
    missing = len(card.gaps)
    head = facts([("chapters", str(len(card.chapters)), "ink"),
                  ("known gaps", str(missing) if missing else "none", "warm" if missing else "good")])  # fmt: skip
    gaps = tag("ul", *(tag("li", f"{chapter}: {f.name} - ", note(f.ask)) for chapter, f in card.gaps))
    last = section("Known gaps", tag("div", gaps if missing else tag("p", "none"), class_="card"))
    return html(card.title, card.lead, head, tag("p", tag("code", card.subject)),
                *map(_chapter, card.chapters), last, foot=FOOT)  # fmt: skip


def _chapter(chapter: Chapter) -> Markup:
    inside = [table(("what", "value", "source"), [_shown(f) for f in chapter.facts])] if chapter.facts else []
    return section(chapter.title, *inside, *map(_table, chapter.grids), lead=chapter.lead)


def _shown(fact: Fact) -> tuple[str, str, str]:
    if fact.value is None:
        return fact.name, tag("span", note(MISSING, "warm"), f": {fact.ask}"), ""
    return fact.name, _text(fact.value), note(_short(fact.source))


def _table(grid: Grid) -> Markup:
    right = [t for i, t in enumerate(grid.titles) if any(_number(row[i]) for row in grid.rows)]
    rows = [[*map(_text, row[:-1]), note(_short(row[-1]))] for row in grid.rows]
    return table(grid.titles, rows, right=right, tight=("source",))


def _line(fact: Fact) -> str:
    if fact.value is None:
        return f"- {_plain(fact.name)}: **{MISSING}**: {_plain(fact.ask)}"
    return f"- {_plain(fact.name)}: {_plain(_text(fact.value))} ({_plain(_short(fact.source))})"


def _row(cells: list[str] | tuple[Cell, ...]) -> str:
    return f"| {' | '.join(_plain(_text(c)) for c in cells)} |"


def _gaps(card: Card) -> list[str]:
    return [f"- {_plain(chapter)}: {_plain(f.name)}: {_plain(f.ask)}" for chapter, f in card.gaps] or ["none"]


def _text(cell: Cell) -> str:
    """Numbers as people read them; "-" where there is none."""
    match cell:
        case None | "":
            return "-"
        case bool():
            return "yes" if cell else "no"
        case int():
            return f"{cell:,}"
        case float():
            return f"{cell:.4g}"
    return cell


def _number(cell: Cell) -> bool:
    return isinstance(cell, int | float) and not isinstance(cell, bool)


def _short(cell: Cell) -> str:
    """A reference as people compare it; other sources as they are."""
    text = _text(cell)
    name, at, digest = text.partition("@")
    return f"{name}@{digest[:12]}" if at else text


def _plain(text: str) -> str:
    """Text that Markdown, or HTML within it, cannot read as its own."""
    for sign in "\\`*_[]<>|":
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.split())


FORMATS: dict[str, Callable[[Card], str]] = {"md": card_markdown, "html": card_html, "json": card_json}
