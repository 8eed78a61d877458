"""Cards: every figure with its source, every gap named, text that stays text, the same bytes every time."""

import json

import pytest

from fairlead.api.present.card import FORMATS, card_html, card_json, card_markdown
from fairlead.core.card import Card, Chapter, Fact, Grid

HOSTILE = "<script>alert(1)</script>|`x`[a](javascript:b)"

def card(text: str) -> Card:
    facts = (Fact(name=text, value=text, source=text), Fact(name="risks", ask="write card.risks"))
    grid = Grid(titles=("what", "value", "source"), rows=((text, 0.12345, "run/1"), (None, True, "run/1")))
    return Card(kind="model", title=text, subject="model/x@0", lead=text, chapters=(Chapter(title=text, facts=facts, grids=(grid,)),))


def test_text_of_others_stays_text_in_every_format() -> None:
    made = card(HOSTILE)
    assert "<script>" not in card_html(made) and "&lt;script&gt;" in card_html(made)
    markdown = card_markdown(made)
    assert "<script>" not in markdown.replace("\\<", "") and "\\|" in markdown
    assert json.loads(card_json(made))["chapters"][0]["facts"][0]["value"] == HOSTILE


@pytest.mark.parametrize("form", FORMATS)
def test_what_is_missing_is_named_with_who_makes_it_known(form: str) -> None:
    assert FORMATS[form](card("x")) == FORMATS[form](card("x"))
    assert "write card.risks" in FORMATS[form](card("x"))
