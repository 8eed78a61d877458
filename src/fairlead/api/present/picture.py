"""Pictures: charts as SVG for a page, coloured by its style sheet, each with its text for the blind."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import groupby
from math import ceil, floor, isfinite, log10

from fairlead.api.present.figures import measure
from fairlead.api.present.page import Ink, Markup, tag

__all__ = ["Picture", "SERIES", "days", "extent", "legend", "steps"]

Point = tuple[float, float]
Tick = tuple[float, str]

SERIES: tuple[Ink, ...] = ("ours", "warm", "cool", "good", "muted")
"""Inks of lines beside each other, in this order."""

LEFT, RIGHT, TOP, BOTTOM = 46.0, 10.0, 10.0, 24.0
DAY = 86400.0
PACES = (3600.0, 3 * 3600.0, 6 * 3600.0, 12 * 3600.0, DAY, 2 * DAY, 7 * DAY, 14 * DAY, 30 * DAY,
         90 * DAY, 365 * DAY)  # fmt: skip


class Picture:
    """A chart over the ranges `x` and `y`; `text` says what it shows. Values that are not finite
    break a line; what lies outside is drawn at the rim. `bare`: without room for an axis; `left`:
    room for the names at its left."""

    def __init__(self, text: str, x: Point, y: Point, *, width: float = 460, height: float = 200,
                 bare: bool = False, left: float = LEFT) -> None:  # fmt: skip
        self._text, self._x, self._y = text, _wide(x), _wide(y)
        self._width, self._height = width, height
        self._left, self._right, self._top, self._bottom = (
            (2.0, 2.0, 3.0, 3.0) if bare else (left, RIGHT, TOP, BOTTOM))  # fmt: skip
        self._parts: list[str] = []

    def place(self, x: float, y: float) -> Point:
        """A value as a point of the drawing."""
        across, up = _part(x, self._x), _part(y, self._y)
        inner = self._width - self._left - self._right, self._height - self._top - self._bottom
        return self._left + inner[0] * across, self._top + inner[1] * (1 - up)

    def axes(self, xs: Iterable[Tick], ys: Iterable[Tick]) -> None:
        """Labels below, and a line across with its label for every y."""
        floor_y = self._height - self._bottom
        for y, text in ys:
            _, at = self.place(self._x[0], y)
            self._stroke((self._left, at), (self._width - self._right, at), "s-grid thin")
            self._write(self._left - 6, at + 4, text, "muted", "end")
        self._stroke((self._left, floor_y), (self._width - self._right, floor_y), "s-muted thin")
        for x, text in xs:
            at, _ = self.place(x, self._y[0])
            self._stroke((at, floor_y), (at, floor_y + 4), "s-muted thin")
            self._write(
                min(max(at, self._left + 12), self._width - 24),
                floor_y + 17,
                text,
                "muted",
                "middle",
            )

    def line(self, points: Iterable[Point], ink: Ink = "ours", *, dash: bool = False,
             title: str = "") -> None:  # fmt: skip
        """Points joined in their order; one alone becomes a dot."""
        for run in _runs(points):
            if len(run) == 1:
                self.dots(run, ink, title=title)
            else:
                self._shape("polyline", run, f"line s-{ink}{' dash' if dash else ''}", title)

    def band(self, rows: Iterable[tuple[float, float, float]], ink: Ink = "ours", *,
             soft: bool = True, title: str = "") -> None:  # fmt: skip
        """A filled stretch between low and high, of (x, low, high); one alone becomes a line."""
        for whole, run in groupby(rows, key=lambda r: all(map(isfinite, r))):
            kept = list(run)
            if whole and len(kept) == 1:
                self._line(*kept[0], f"s-{ink} thin")
            elif whole:
                low = [(x, low) for x, low, _ in reversed(kept)]
                outline = [*((x, high) for x, _, high in kept), *low]
                self._shape("polygon", outline, f"f-{ink}{' soft' if soft else ''}", title)

    def dots(self, points: Iterable[Point], ink: Ink = "ours", *, size: float = 3,
             title: str = "") -> None:  # fmt: skip
        for x, y in points:
            cx, cy = self.place(x, y)
            inside = (tag("title", title),) if title else ()
            self._parts.append(
                tag("circle", *inside, class_=f"f-{ink}", cx=_at(cx), cy=_at(cy), r=size)
            )

    def level(self, y: float, ink: Ink = "bad", text: str = "") -> None:
        """A dashed line across, such as a limit, with its name at the right end."""
        self._shape("polyline", [(self._x[0], y), (self._x[1], y)], f"line thin dash s-{ink}")
        if text:
            x, at = self.place(self._x[1], y)
            self._write(x, at - 4 if at > 24 else at + 13, text, ink, "end")

    def moment(self, x: float, ink: Ink = "muted", title: str = "") -> None:
        """A line upwards at a moment; `title` shows when it is pointed at."""
        self._line(x, *self._y, f"line thin faint s-{ink}", title)

    def words(self, x: float, y: float, text: str, ink: Ink = "ink", *, anchor: str = "start",
              up: float = 0.0) -> None:  # fmt: skip
        """Text at a value, raised by so many points."""
        cx, cy = self.place(x, y)
        self._write(cx, cy - up, text, ink, anchor)

    def svg(self) -> Markup:
        """The picture; the colours are those of the page that holds it."""
        return tag("svg", *self._parts, viewBox=f"0 0 {self._width:g} {self._height:g}", role="img",
                   aria_label=self._text)  # fmt: skip

    def _line(self, x: float, low: float, high: float, kind: str, title: str = "") -> None:
        self._shape("polyline", [(x, low), (x, high)], kind, title)

    def _shape(self, name: str, points: Sequence[Point], kind: str, title: str = "") -> None:
        placed = " ".join(f"{_at(x)},{_at(y)}" for x, y in (self.place(*p) for p in points))
        inside = (tag("title", title),) if title else ()
        self._parts.append(tag(name, *inside, class_=kind, points=placed))

    def _stroke(self, a: Point, b: Point, kind: str) -> None:
        self._parts.append(
            tag("line", class_=kind, x1=_at(a[0]), y1=_at(a[1]), x2=_at(b[0]), y2=_at(b[1]))
        )

    def _write(self, x: float, y: float, text: str, ink: Ink, anchor: str) -> None:
        self._parts.append(
            tag("text", text, class_=f"f-{ink}", x=_at(x), y=_at(y), text_anchor=anchor)
        )


def extent(values: Iterable[float], *, zero: bool = False, room: float = 0.06) -> Point:
    """The range of finite values with some room; `zero`: from 0 on."""
    kept = [v for v in values if isfinite(v)]
    low, high = (min(kept), max(kept)) if kept else (0.0, 1.0)
    low = min(low, 0.0) if zero else low
    more = (high - low) * room
    return low if zero else low - more, high + more


def steps(span: Point, most: int = 4) -> list[Tick]:
    """Round numbers within a range, at most about so many, as labels."""
    low, high = _wide(span)
    raw = (high - low) / most
    size = 10.0 ** floor(log10(raw))
    pace = next(m * size for m in (1, 2, 2.5, 5, 10) if m * size >= raw * (1 - 1e-9))
    numbers = [
        round(i * pace, 12) for i in range(ceil(low / pace - 1e-9), floor(high / pace + 1e-9) + 1)
    ]
    return [(v, measure(v)) for v in numbers]


def days(span: Point, most: int = 6) -> list[Tick]:
    """Moments within a range of UTC seconds: days as ``4 May``, hours where it is short."""
    low, high = span
    pace = next((p for p in PACES if (high - low) / p <= most), PACES[-1])
    form = "%H:%M" if pace < DAY else "%-d %b" if pace < 365 * DAY else "%Y"
    first = ceil(low / pace)
    return [(i * pace, datetime.fromtimestamp(i * pace, UTC).strftime(form))
            for i in range(first, floor(high / pace) + 1)]  # fmt: skip


def legend(names: Iterable[tuple[str, Ink]]) -> Markup:
    """What the colours stand for, in a line."""
    return tag("p", *(part for name, ink in names
                      for part in (tag("span", "● ", class_=f"t-{ink}"), f"{name}  ")), class_="lead")  # fmt: skip


def _runs(points: Iterable[Point]) -> list[list[Point]]:
    whole = groupby(points, key=lambda p: isfinite(p[0]) and isfinite(p[1]))
    return [list(run) for drawn, run in whole if drawn]


def _wide(span: Point) -> Point:
    low, high = span
    return (low, high) if high > low else (low - 0.5 * (abs(low) or 1), low + 0.5 * (abs(low) or 1))


def _part(value: float, span: Point) -> float:
    return min(max((value - span[0]) / (span[1] - span[0]), 0.0), 1.0)


def _at(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
