"""A canvas: charts as plain SVG that reads well on light and on dark screens."""

from collections.abc import Iterable, Sequence
from math import log10
from typing import Literal

__all__ = ["Canvas", "Chart", "Ink"]

Ink = Literal["good", "bad", "ours", "warm", "cool", "muted", "ink"]
Point = tuple[float, float]

LIGHT = {"paper": "#ffffff", "ink": "#1f2328", "muted": "#59636e", "grid": "#e4e7ea",
         "good": "#1a7f37", "bad": "#cf222e", "ours": "#0969da", "warm": "#bc4c00", "cool": "#8250df"}  # fmt: skip
DARK = {"paper": "#0d1117", "ink": "#f0f6fc", "muted": "#9198a1", "grid": "#2a313c",
        "good": "#3fb950", "bad": "#f85149", "ours": "#4493f8", "warm": "#f0883e", "cool": "#ab7df8"}  # fmt: skip

STYLE = """text{font:13px system-ui,-apple-system,"Segoe UI","DejaVu Sans",sans-serif}
.small{font-size:12px}.title{font-size:14px;font-weight:600}
.line{fill:none;stroke-width:2;stroke-linejoin:round}.thin{stroke-width:1}.dash{stroke-dasharray:5 4}"""


def _colours(scheme: dict[str, str]) -> str:
    fills = "".join(f".f-{name}{{fill:{colour}}}" for name, colour in scheme.items())
    return fills + "".join(f".s-{name}{{stroke:{colour}}}" for name, colour in scheme.items())


class Canvas:
    """A picture of so many points; `text` gives its description to those who cannot see it."""

    def __init__(self, width: int, height: int, text: str) -> None:
        self._size = width, height
        self._text = text
        self._parts: list[str] = []

    def add(self, part: str) -> None:
        self._parts.append(part)

    def label(self, x: float, y: float, text: str, ink: Ink = "ink", *, anchor: str = "start",
              kind: str = "", turn: bool = False) -> None:  # fmt: skip
        """Text whose baseline starts (ends, has its middle) at a point; `turn`: upwards."""
        turned = f' transform="rotate(-90 {x:.1f} {y:.1f})"' if turn else ""
        safe = text.replace("&", "&amp;").replace("<", "&lt;")
        self.add(
            f'<text x="{x:.1f}" y="{y:.1f}" class="f-{ink} {kind}" text-anchor="{anchor}"{turned}>{safe}</text>'
        )

    def svg(self) -> str:
        width, height = self._size
        style = f"{STYLE}{_colours(LIGHT)}@media(prefers-color-scheme:dark){{{_colours(DARK)}}}"
        return "\n".join([
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
            f'height="{height}" role="img">',
            f"<title>{self._text}</title>", f"<style>{style}</style>",
            f'<rect class="f-paper" width="{width}" height="{height}" rx="8"/>',
            *self._parts, "</svg>", "",
        ])  # fmt: skip


class Chart:
    """Axes in a box of a canvas. `box`: left, top, width, height; `x`, `y`: the range of values."""

    def __init__(self, canvas: Canvas, box: tuple[float, float, float, float], x: Point, y: Point,
                 *, log_x: bool = False, log_y: bool = False) -> None:  # fmt: skip
        self._canvas, self._box = canvas, box
        self._x, self._y, self._log = x, y, (log_x, log_y)

    def place(self, x: float, y: float) -> Point:
        """A value as a point of the canvas; what lies outside is drawn at the rim."""
        left, top, width, height = self._box
        across = _part(x, self._x, self._log[0])
        return left + width * across, top + height * (1 - _part(y, self._y, self._log[1]))

    def frame(self, title: str, across: str, up: str) -> None:
        """Title, the names of both axes, and the line at the bottom."""
        left, top, width, height = self._box
        self._canvas.label(left, top - 14, title, kind="title")
        self._canvas.label(
            left + width / 2, top + height + 38, across, "muted", anchor="middle", kind="small"
        )
        if up:
            self._canvas.label(
                left - 46, top + height / 2, up, "muted", anchor="middle", kind="small", turn=True
            )
        self._stroke((left, top + height), (left + width, top + height), "s-muted thin")

    def ticks(self, xs: Iterable[tuple[float, str]], ys: Iterable[tuple[float, str]]) -> None:
        """Marks with their labels; each y gets a line across."""
        left, top, width, height = self._box
        for value, text in xs:
            x, _ = self.place(value, self._y[0])
            self._stroke((x, top + height), (x, top + height + 4), "s-muted thin")
            self._canvas.label(x, top + height + 18, text, "muted", anchor="middle", kind="small")
        for value, text in ys:
            _, y = self.place(self._x[0], value)
            self._stroke((left, y), (left + width, y), "s-grid thin")
            self._canvas.label(left - 8, y + 4, text, "muted", anchor="end", kind="small")

    def line(self, points: Sequence[Point], ink: Ink, *, dash: bool = False) -> None:
        placed = " ".join(f"{x:.1f},{y:.1f}" for x, y in (self.place(*p) for p in points))
        self._canvas.add(
            f'<polyline class="line s-{ink}{" dash" if dash else ""}" points="{placed}"/>'
        )

    def level(
        self, y: float, text: str, ink: Ink = "ink", *, up: float = 6.0, left: bool = False
    ) -> None:
        """A dashed line across, its name above the right (or left) end by so many points."""
        self.line([(self._x[0], y), (self._x[1], y)], ink, dash=True)
        self.note(self._x[0 if left else 1], y, text, ink, anchor="start" if left else "end", up=up)

    def dot(self, x: float, y: float, ink: Ink) -> None:
        cx, cy = self.place(x, y)
        self._canvas.add(f'<circle class="f-{ink}" cx="{cx:.1f}" cy="{cy:.1f}" r="4.5"/>')

    def note(self, x: float, y: float, text: str, ink: Ink = "ink", *, anchor: str = "start",
             up: float = 0.0, aside: float = 0.0) -> None:  # fmt: skip
        """Text at a value, moved by so many points."""
        cx, cy = self.place(x, y)
        self._canvas.label(cx + aside, cy - up, text, ink, anchor=anchor, kind="small")

    def band(self, start: float, end: float) -> None:
        """A shaded span of x."""
        _, top, _, height = self._box
        left, right = self.place(start, self._y[0])[0], self.place(end, self._y[0])[0]
        self._canvas.add(f'<rect class="f-grid" x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" '
                         f'height="{height:.1f}" opacity="0.6"/>')  # fmt: skip

    def _stroke(self, a: Point, b: Point, kind: str) -> None:
        self._canvas.add(
            f'<line class="{kind}" x1="{a[0]:.1f}" y1="{a[1]:.1f}" x2="{b[0]:.1f}" y2="{b[1]:.1f}"/>'
        )


def _part(value: float, span: Point, log: bool) -> float:
    low, high = (log10(v) for v in span) if log else span
    value = log10(max(value, span[0])) if log else value
    return min(max((value - low) / (high - low), 0.0), 1.0)
