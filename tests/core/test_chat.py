"""Chats as values: what a provider is sent, how its streams are cut, what holds of an answer."""

import json
from math import isnan
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.core.address import reachable
from fairlead.core.chat import (
    Conversation,
    Events,
    Heard,
    Provider,
    addressed,
    conversations_of,
    faults,
    question,
    unit_of,
)
from fairlead.core.contract import Malformed
from fairlead.core.manifest import PriceText
from fairlead.errors import Invalid

PROVIDER = Provider(url="https://api.example.com/v1", model="large", system="Be kind.", template="Customer: {message}",
                    parameters={"temperature": 0.2, "max_tokens": 100}, price=PriceText(prompt=1.0, completion=2.0))  # fmt: skip
ASKED: dict[str, Any] = {"model": "x", "temperature": 2, "messages": [
    {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}, {"role": "user", "content": "Bye"}]}  # fmt: skip


def test_the_package_says_how_and_the_caller_says_what() -> None:
    sent = json.loads(addressed(PROVIDER, ASKED | {"max_tokens": 7, "stop": ["\n"]}, "chat", stream=True))
    assert (sent["model"], sent["temperature"], sent["max_tokens"], sent["stop"]) == ("large", 0.2, 7, ["\n"])
    assert sent["messages"][0] == {"role": "system", "content": "Be kind."}
    assert [m["content"] for m in sent["messages"][1:]] == ["Hi", "Yes?", "Customer: Bye"]
    assert sent["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize(("asked", "sent"), [
    ({}, {"max_tokens": 100}), ({"max_tokens": 1000}, {"max_tokens": 100}),
    ({"max_completion_tokens": 9}, {"max_tokens": 9}),
])  # fmt: skip
def test_a_cap_is_lowered_and_never_raised(asked: dict[str, Any], sent: dict[str, Any]) -> None:
    made = json.loads(addressed(PROVIDER, ASKED | asked, "chat", stream=False))
    assert {k: v for k, v in made.items() if k.startswith("max")} == sent


@pytest.mark.parametrize(("body", "pointer"), [
    (b"{}", "/messages"), (b'{"messages": []}', "/messages"), (b'{"messages": [{"content": "x"}]}', "/messages/0"),
    (b'{"messages": [{"role": "user"}], "n": 3}', "/n"),
])  # fmt: skip
def test_a_question_that_is_none_names_its_field(body: bytes, pointer: str) -> None:
    with pytest.raises(Invalid) as error:
        question(body, "chat")
    assert error.value.pointer == pointer


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'"text"', b"[" * 100_000])
def test_what_is_no_json_object_is_malformed(body: bytes) -> None:
    with pytest.raises(Malformed):
        question(body, "text")


def test_the_unit_is_the_user_or_the_conversation() -> None:
    assert unit_of({"user": "ann", "metadata": {"conversation_id": "c"}}) == "ann"
    assert unit_of({"metadata": {"conversation_id": "c"}}) == "c"
    assert unit_of({"user": 7, "metadata": []}) == ""


@given(st.lists(st.text(alphabet="ab\u00e9{}", max_size=5)), st.data())
def test_a_stream_says_the_same_however_it_is_cut(said: list[str], data: st.DataObject) -> None:
    whole = b"".join(b": sign\r\nevent: x\ndata: %b\n\n" % s.encode() for s in said)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    events, found = Events(), []
    for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True):
        found += events.feed(whole[start:end])
    assert [f.decode() for f in found] == said


def test_an_endless_event_is_refused() -> None:
    events = Events()
    with pytest.raises(Invalid, match="1 MB"):
        for _ in range(20):
            events.feed(b"data: " + bytes(2**17).replace(b"\0", b"x"))


def test_pieces_add_up_to_the_answer_with_its_calls() -> None:
    heard = Heard()
    deltas: list[dict[str, Any]] = [
        {"role": "assistant", "content": ""}, {"content": "It is "}, {"content": "12."},
        {"tool_calls": [{"index": 0, "function": {"name": "pay", "arguments": '{"a"'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": ": 1}"}}]}]  # fmt: skip
    brought = [heard.take({"choices": [{"delta": d, "finish_reason": None}]}) for d in deltas]
    assert brought == [False, True, True, True, True]
    assert isnan(heard.numbers(PROVIDER.price, 0.5)[0])
    heard.take({"choices": [{"delta": {}, "finish_reason": "stop"}]})
    heard.take({"choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": 5}})
    assert heard.said() == {"answer": "It is 12.", "finish_reason": "stop",
                            "tool_calls": [{"name": "pay", "arguments": '{"a": 1}'}]}  # fmt: skip
    assert heard.numbers(PROVIDER.price, 0.5) == [0.02, 10, 5, 0.5]
    for nonsense in ({"choices": "no"}, {}, {"choices": [{"delta": {"content": "x", "tool_calls": [7]}}]}):
        with pytest.raises(Invalid, match="no answer"):
            heard.take(nonsense)


def test_what_does_not_hold_of_an_answer_is_said() -> None:
    heard = Heard()
    heard.take({"choices": [{"message": {"content": "You have 30 Days."}, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 1, "completion_tokens": 5}})  # fmt: skip
    sample = conversations_of(b'[{"name": "a", "messages": [], "contains": ["30 days"]}]')[0]
    assert faults(sample, heard) == []
    hard = Conversation(name="b", messages=[], contains=("weeks",), excludes=("DAYS",), json=True, max_tokens=4)
    assert [f.split()[0:2] for f in faults(hard, heard)] == [["does", "not"], ["contains", "'DAYS'"], ["is", "no"], ["took", "5"]]
    with pytest.raises(Invalid, match="unknown field"):
        conversations_of(b'[{"name": "a", "messages": [], "contain": []}]')


@pytest.mark.parametrize(("address", "public", "private"), [
    ("93.184.216.34", True, True), ("10.1.2.3", False, True), ("127.0.0.1", False, True), ("::1", False, True),
    ("169.254.169.254", False, False), ("::ffff:169.254.169.254", False, False), ("64:ff9b::a9fe:a9fe", False, False),
    ("fe80::1%eth0", False, False), ("0.0.0.0", False, False), ("224.0.0.1", False, False),
])  # fmt: skip
def test_where_a_server_may_be_sent(address: str, public: bool, private: bool) -> None:
    assert reachable(address, allow_private=False) == public
    assert reachable(address, allow_private=True) == private
