from hypothesis import given
from hypothesis import strategies as st

from fairlead.core.trace import ALPHABET, Parent, parent_of, span_of, trace_of

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PREDICTIONS = st.text(ALPHABET, min_size=25, max_size=25).map(lambda s: "0" + s)


def test_a_header_of_the_standard_is_read_and_continued() -> None:
    parent = parent_of(f"00-{TRACE}-{SPAN}-01".encode())
    assert parent == Parent(TRACE, SPAN, 1) and parent.sampled
    assert parent.line("00f067aa0ba902b7") == f"00-{TRACE}-00f067aa0ba902b7-01".encode()
    late = parent_of(f"cc-{TRACE}-{SPAN}-02-what-the-future-brings".encode())
    assert late is not None and not late.sampled and late.line(SPAN).endswith(b"-00")


def test_what_the_standard_forbids_is_no_parent() -> None:
    for wrong in (b"", b"00", f"00-{TRACE.upper()}-{SPAN}-01".encode(), f"ff-{TRACE}-{SPAN}-01".encode(),
                  f"00-{'0' * 32}-{SPAN}-01".encode(), f"00-{TRACE}-{'0' * 16}-01".encode(),
                  f"00-{TRACE}-{SPAN}-01-more".encode(), f"00-{TRACE}-{SPAN}-1".encode(),
                  f"00-{TRACE}-{SPAN}-01x".encode(), f"00-{TRACE}-{SPAN}-01\n".encode()):  # fmt: skip
        assert parent_of(wrong) is None


@given(st.binary(max_size=80))
def test_any_bytes_are_a_parent_or_none(data: bytes) -> None:
    parent = parent_of(data)
    if parent is not None:
        assert parent_of(parent.line(parent.span)) is not None


@given(PREDICTIONS, PREDICTIONS)
def test_every_prediction_has_a_trace_of_its_own(one: str, other: str) -> None:
    assert len(trace_of(one)) == 32 and (trace_of(one) == trace_of(other)) == (one == other)
    assert (trace_of(one) < trace_of(other)) == (one < other)
    spans = {span_of(p, part) for p in (one, other) for part in ("gateway", "replica")}
    assert len(spans) == 2 * len({one, other}) and all(len(s) == 16 for s in spans)
