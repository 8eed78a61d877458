"""A page: self-contained HTML without scripts, in which text that was not made here stays text."""

from base64 import b64encode
from collections.abc import Iterable, Sequence
from hashlib import sha256
from html import escape
from typing import Literal

__all__ = ["Ink", "Markup", "cards", "facts", "figure", "folded", "html", "note", "section",
           "table", "tag"]  # fmt: skip

Ink = Literal["ink", "muted", "grid", "good", "bad", "ours", "warm", "cool"]
"""Colours by meaning; each has a light and a dark shade."""

LIGHT = {"ink": "#1f2328", "muted": "#59636e", "grid": "#e4e7ea", "good": "#1a7f37", "bad": "#cf222e",
         "ours": "#0969da", "warm": "#bc4c00", "cool": "#8250df", "paper": "#ffffff", "desk": "#f6f8fa"}  # fmt: skip
DARK = {"ink": "#f0f6fc", "muted": "#9198a1", "grid": "#2a313c", "good": "#3fb950", "bad": "#f85149",
        "ours": "#4493f8", "warm": "#f0883e", "cool": "#ab7df8", "paper": "#151b23", "desk": "#0d1117"}  # fmt: skip

LAYOUT = """*{box-sizing:border-box}
body{margin:0;background:var(--desk);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI","DejaVu Sans",sans-serif}
main,header,footer{max-width:1160px;margin:0 auto;padding:0 20px}
header{padding-top:36px}footer{padding-bottom:40px;color:var(--muted);font-size:13px}
h1{font-size:26px;line-height:1.25;margin:0}h2{font-size:19px;margin:40px 0 2px}
h3{font-size:14px;margin:0 0 2px}p{margin:2px 0 10px}p.lead{color:var(--muted);max-width:76ch}
code,.mono{font-family:ui-monospace,SFMono-Regular,"DejaVu Sans Mono",monospace;font-size:.92em}
.cards{display:grid;gap:16px;grid-template-columns:repeat(auto-fill,minmax(min(100%,440px),1fr))}
.cards.small{grid-template-columns:repeat(auto-fill,minmax(min(100%,215px),1fr));gap:12px}
.cards+.cards,.card+.cards,.cards+.card,.lead+.card,section>.card+.card{margin-top:14px}
.card{background:var(--paper);border:1px solid var(--grid);border-radius:10px;padding:14px 16px;margin:0;min-width:0}
.wide{overflow-x:auto}.wide svg{min-width:820px}
figcaption{color:var(--muted);font-size:13px;min-height:1.5em}
svg{display:block;width:100%;height:auto;margin-top:4px}
svg text{font-size:12px;font-family:inherit}
.line{fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}.thin{stroke-width:1}
.dash{stroke-dasharray:5 4}.faint{stroke-opacity:.35}.soft{fill-opacity:.18}
.facts{display:flex;flex-wrap:wrap;gap:10px 34px;margin:18px 0 0}
.facts dt{color:var(--muted);font-size:13px}.facts dd{margin:0;font-size:21px;font-weight:600;
font-variant-numeric:tabular-nums}
.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:14px}
th{text-align:left;font-weight:500;color:var(--muted);white-space:nowrap}
td,th{padding:6px 18px 6px 0;border-bottom:1px solid var(--grid);vertical-align:top}
tr:last-child td{border-bottom:0}.right{text-align:right;font-variant-numeric:tabular-nums}
td.right,td.tight{white-space:nowrap}
summary{cursor:pointer;color:var(--muted)}
@media(max-width:600px){main,header,footer{padding-left:12px;padding-right:12px}
h1{font-size:22px}.facts dd{font-size:18px}.card{padding:12px}}
@media print{body{background:none}.card{break-inside:avoid}}"""


def _style() -> str:
    inks = "".join(f".f-{i}{{fill:var(--{i})}}.s-{i}{{stroke:var(--{i})}}.t-{i}{{color:var(--{i})}}"
                   for i in LIGHT)  # fmt: skip
    light, dark = (";".join(f"--{k}:{v}" for k, v in scheme.items()) for scheme in (LIGHT, DARK))
    return (f":root{{color-scheme:light dark;{light}}}\n"
            f"@media(prefers-color-scheme:dark){{:root{{{dark}}}}}\n{LAYOUT}\n{inks}")  # fmt: skip


STYLE = _style()
POLICY = ("default-src 'none'; base-uri 'none'; form-action 'none'; "
          f"style-src 'sha256-{b64encode(sha256(STYLE.encode()).digest()).decode()}'")  # fmt: skip
"""Nothing is loaded, nothing runs, nothing is sent; the one style sheet is known by its digest."""


class Markup(str):
    """Text that is HTML already; every other text is escaped when it goes into a tag."""

    __slots__ = ()


def tag(name: str, *inside: str, **attributes: str | float) -> Markup:
    """``<name …>inside</name>``. A trailing _ of an attribute is dropped (``class_``), other _
    become -; an empty text leaves the attribute out."""
    given = "".join(f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
                    for key, value in attributes.items() if value != "")  # fmt: skip
    return Markup(f"<{name}{given}>{''.join(map(_safe, inside))}</{name}>")


def html(title: str, lead: str, *body: str, foot: str = "") -> str:
    """A whole page. Its text is a function of the arguments alone."""
    head = Markup('<meta charset="utf-8">'
                  f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
                  '<meta name="viewport" content="width=device-width,initial-scale=1">'
                  '<meta name="referrer" content="no-referrer">')  # fmt: skip
    top = tag("header", tag("h1", title), tag("p", lead, class_="lead"))
    whole = tag("html", tag("head", head, tag("title", title), Markup(f"<style>{STYLE}</style>")),
                tag("body", top, tag("main", *body), tag("footer", tag("p", foot))), lang="en")  # fmt: skip
    return f"<!doctype html>\n{whole}\n"


def section(title: str, *body: str, lead: str = "") -> Markup:
    """A part of the page under a heading, with a sentence on how to read it."""
    return tag("section", tag("h2", title), tag("p", lead, class_="lead"), *body)


def cards(*inside: str, small: bool = False) -> Markup:
    """Figures beside each other, as many as the screen holds; `small`: twice as many."""
    return tag("div", *inside, class_="cards small" if small else "cards")


def figure(title: str, picture: str, caption: str = "", *, wide: bool = False) -> Markup:
    """A picture on a card; `wide`: over the whole page, scrolled on a phone."""
    return tag("figure", tag("h3", title), tag("figcaption", caption), picture,
               class_="card wide" if wide else "card")  # fmt: skip


def facts(pairs: Iterable[tuple[str, str, Ink]]) -> Markup:
    """Headline figures: (what, how much, colour)."""
    return tag("dl", *(tag("div", tag("dt", what), tag("dd", much, class_=f"t-{ink}"))
                       for what, much, ink in pairs), class_="facts")  # fmt: skip


def table(titles: Sequence[str], rows: Iterable[Sequence[str]], *,
          right: Sequence[str] = (), tight: Sequence[str] = ()) -> Markup:  # fmt: skip
    """A table on a card; columns in `right` hold numbers, those in `tight` do not wrap."""
    kinds = ["right" if t in right else "tight" if t in tight else "" for t in titles]
    head = tag("tr", *(tag("th", t, class_=k) for t, k in zip(titles, kinds, strict=True)))
    body = (tag("tr", *(tag("td", c, class_=k) for c, k in zip(row, kinds, strict=True)))
            for row in rows)  # fmt: skip
    return tag("div", tag("table", tag("thead", head), tag("tbody", *body)), class_="card scroll")


def note(text: str, ink: Ink = "muted") -> Markup:
    """A line of text in a colour."""
    return tag("span", text, class_=f"t-{ink}")


def folded(title: str, *inside: str) -> Markup:
    """What most readers skip, behind a line that opens it."""
    return tag("details", tag("summary", title), *inside)


def _safe(text: str) -> str:
    return text if isinstance(text, Markup) else escape(text)
