"""Pages and reports: the same records give the same bytes, and no text of others becomes markup."""

from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from io import StringIO
from itertools import pairwise
from math import inf, nan

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.api.console import console
from fairlead.api.present import page
from fairlead.api.present.monitors import monitors_view, sparkline
from fairlead.api.present.picture import Picture, days, extent, steps
from fairlead.api.present.report import report_page
from fairlead.core.alert import Alert, Figure
from fairlead.core.check import Outcome, Verdict
from fairlead.core.event import Event
from fairlead.core.evidence import Evidence
from fairlead.core.manifest import MonitorText
from fairlead.core.monitor import monitors
from fairlead.core.ref import Ref
from fairlead.core.release import Phase, Release
from fairlead.core.traffic import canary
from fairlead.flow.report import Report, Slot, _cut
from fairlead.flow.survey import Standing

DAY = 86400.0
OLD, NEW = Ref("package", "flights", "a" * 64), Ref("package", "flights", "b" * 64)
HOSTILE = [
    "<script>alert(1)</script>", "\"><img src=x onerror=alert(1)>", "' onmouseover='alert(1)", "</style><script>",
    "<svg/onload=alert(1)>", "javascript:alert(1)", "]]><a href=x>", "&lt;script&gt;", "</title><b>", "<!--",
]  # fmt: skip
KNOWN = {
    "html", "head", "meta", "title", "style", "body", "header", "main", "footer", "section", "h1", "h2", "h3",
    "p", "div", "span", "dl", "dt", "dd", "figure", "figcaption", "svg", "polyline", "polygon", "circle", "line",
    "text", "table", "thead", "tbody", "tr", "th", "td", "details", "summary",
}  # fmt: skip


def slot(package: Ref, day: int, columns: list[str], volume: float) -> Slot:
    def seen(measure: str, value: float) -> Evidence:
        return Evidence(subject=package, measure=measure, value=value, n=500, low=value - 0.02, high=value + 0.02)

    values = {"volume": volume, "errors": 0.01, "fallback": 0.0, "latency_p50_ms": 1.0, "latency_p99_ms": 9.0,
              "positive_rate": 0.2, "labelled": 0.8, "auc": 0.7 + day / 100, "estimated_auc": 0.71,
              "log_loss": 0.5, "brier": 0.2, **{f"drift:{c}": 0.3 for c in columns}} if volume else {"volume": 0.0}  # fmt: skip
    facts = {k: seen(k, v) for k, v in values.items()}
    return Slot(package=package, since=day * DAY, until=(day + 1) * DAY, facts=facts)


def made(words: str = "fine", columns: list[str] | None = None) -> Report:
    columns = columns or ["dest"]
    slots = tuple(slot(p, d, columns, v) for p, split in ((OLD, (1, 1, 0)), (NEW, (0, 1, 1)))
                  for d, v in enumerate(split))  # fmt: skip
    figure = Figure(measure="auc", value=0.6, n=9, low=0.5, high=0.7, slice=f"dest={words}")
    alert = Alert(id=3, service="flights", package=str(OLD), monitor=words, cause=words, seen=(figure,),
                  next=words, raised_at=DAY, ended_at=2 * DAY, state="resolved", why=words)  # fmt: skip
    release = Release(id=words, service="flights", candidates=(NEW,), baseline=OLD, plan=canary(()),
                      started_at=DAY, entered_at=DAY, phase=Phase.ROLLED_BACK, ended_at=1.5 * DAY, reason=words)  # fmt: skip
    event = Event(seq=1, at=DAY, actor=words, verb="release.started", subject=f"release/{words}", body={"reason": words})
    whole = (slot(OLD, 0, columns, 2.0), slot(NEW, 0, columns, 2.0))
    return Report(service=words, since=0.0, until=3 * DAY, now=3 * DAY, task="binary", packages=(OLD, NEW),
                  whole=whole, fine=slots, coarse=slots, alerts=(alert,), releases=(release,), events=(event,))  # fmt: skip


class Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, "tags close in their order"

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    assert reader.open == []
    return reader


@pytest.mark.parametrize("words", HOSTILE)
def test_text_of_others_stays_text(words: str) -> None:
    reader = read(report_page(made(words, [words, "dest"])))
    assert {tag for tag, _ in reader.tags} <= KNOWN
    for tag, attributes in reader.tags:
        assert not [a for a in attributes if a.startswith("on") or a in ("src", "href", "style", "srcdoc")], tag
    assert sum(words in t for t in reader.texts) >= 6


def test_a_page_loads_nothing_runs_nothing_and_knows_its_style_by_digest() -> None:
    reader = read(report_page(made()))
    (policy,) = (a["content"] for t, a in reader.tags if t == "meta" and "http-equiv" in a)
    style = reader.texts[reader.texts.index(page.STYLE)]
    digest = b64encode(sha256(style.encode()).digest()).decode()
    assert policy == f"default-src 'none'; base-uri 'none'; form-action 'none'; style-src 'sha256-{digest}'"
    assert "url(" not in style and "@import" not in style and "prefers-color-scheme:dark" in style


def test_the_same_records_give_the_same_bytes_and_say_what_happened() -> None:
    html = report_page(made())
    assert html == report_page(made())
    said = " ".join(read(html).texts)
    for words in ("flights@aaaaaaaa", "flights@bbbbbbbb", "rolled back after 12h", "resolved after 1d", "AUC",
                  "Log loss", "dest", "1 release, 1 rolled back", "1 alert, none still open"):  # fmt: skip
        assert words in said


def test_values_that_are_none_break_a_line_and_lonely_ones_are_dots() -> None:
    chart = Picture("x", (0.0, 4.0), (0.0, 1.0))
    chart.line([(0, 0.1), (1, 0.2), (2, nan), (3, 0.5), (4, inf)])
    svg = chart.svg()
    assert svg.count("<polyline") == 1 and svg.count("<circle") == 1 and "nan" not in svg and "inf" not in svg


@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9))
def test_ticks_are_round_few_and_within(low: float, width: float) -> None:
    span = (low, low + width)
    ticks = [v for v, _ in steps(span)]
    slack = width * 1e-6 + abs(low) * 1e-12  # what a float can tell apart there
    assert len(ticks) <= 6 and all(span[0] - slack <= v <= span[1] + slack for v in ticks)
    assert len(days((1.3e9, 1.3e9 + min(width, 1e8)))) <= 7


def test_a_scale_has_room_and_starts_at_zero_when_asked() -> None:
    assert extent([1.0, 3.0, nan]) == (0.88, 3.12) and extent([1.0, 3.0], zero=True) == (0.0, 3.18)
    assert extent([]) == extent([nan]) and steps((5.0, 5.0)) and Picture("x", (5.0, 5.0), (0.0, 0.0)).svg()


@given(st.floats(0, 2e9), st.floats(60.0, 1e9), st.integers(2, 60))
def test_slots_cover_the_time_once(since: float, length: float, most: int) -> None:
    cut = _cut(since, since + length, most)
    assert cut[0][0] == since and cut[-1][1] == since + length
    assert all(a[1] == b[0] for a, b in pairwise(cut)) and len(cut) <= most + 1
    assert all(a < b for a, b in cut)


def test_a_sparkline_runs_from_the_least_to_the_largest() -> None:
    assert sparkline([0.0, None, 0.5, 1.0]) == "▁·▅█" and sparkline([2.0, 2.0]) == "▁▁" and sparkline([None]) == "·"


def test_monitors_show_value_limit_and_what_fails_first() -> None:
    both = monitors({"tardy": MonitorText(measure="errors", max=0.01), "quality": MonitorText(measure="auc", min=0.7)})
    verdicts = [Verdict(check=m.check, subject=OLD, outcome=o, reason=f"{m.name} because")
                for m, o in zip(both, (Outcome.PASS, Outcome.FAIL), strict=True)]  # fmt: skip
    rows = [Standing(monitor=m, verdict=v, values=(None, 0.5, 0.6), allowed=0.5, raised=2, alert=7 if m.name == "quality" else 0,
                     unwatched={"tax": "hidden", "note": "a text", "name": "hidden"} if m.name == "quality" else {})
            for m, v in zip(both, verdicts, strict=True)]  # fmt: skip
    out = StringIO()
    console(out).print(monitors_view(rows, 0.0))
    shown = out.getvalue()
    assert shown.index("quality") < shown.index("tardy")
    for words in ("fails, alert 7", "at least 0.7", "at most 0.01", "·▁█", "quality because", "of which 1 may be false",
                  "not watched for drift: tax, name (hidden); note (a text)"):
        assert words in shown


def test_the_report_says_which_columns_nobody_watches() -> None:
    assert "Not watched" not in report_page(made())
    page = report_page(msgspec.structs.replace(made(), unwatched={"tax": "hidden by log.redact or log.drop"}))
    assert "Not watched: " in page and "tax (hidden by log.redact or log.drop)" in page
