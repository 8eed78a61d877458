import pytest

from fairlead.core.duration import seconds
from fairlead.errors import Invalid


@pytest.mark.parametrize(
    ("text", "expected"),
    [("250ms", 0.25), ("90s", 90), ("10m", 600), ("3h", 10800), ("2d", 172800), ("1w", 604800),
     ("1d12h", 129600), (" 1d 12h ", 129600), ("0s", 0), ("1.5h", 5400)],
)  # fmt: skip
def test_reads_what_people_write(text: str, expected: float) -> None:
    assert seconds(text) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("text", ["", " ", "90", "3 hours", "h", "-3h", "3h!", "1e3s", "٣h x"])
def test_refuses_the_rest_and_shows_it(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        seconds(text)
    assert repr(text) in str(caught.value)
    assert "3h" in caught.value.hint
