"""Alerts: a fold over the audit log; one trouble is one alert, and nobody is told twice of it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.core.alert import ANY, Alerts, document, headline, lines
from fairlead.core.event import Event

SEEN = {"measure": "accuracy", "value": 0.61, "n": 500, "low": 0.58, "high": 0.64}
RAISED = {
    "monitor": "quality", "package": "package/flights@aa", "cause": "accuracy: 0.61 below 0.7",
    "measure": "accuracy", "seen": [SEEN], "slices": [SEEN | {"slice": "carrier=UA"}],
    "actions": ["alert", "rollback"], "next": "look", "decision": "d" * 64,
}  # fmt: skip


class Book:
    """An audit log in memory."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def add(self, verb: str, at: float = 0.0, actor: str = "fairlead", service: str = "flights",
            **body: Any) -> "Book":  # fmt: skip
        self.events.append(Event(seq=len(self.events) + 1, at=at or len(self.events) + 1.0,
                                 actor=actor, verb=verb, subject=f"service/{service}",
                                 body={"service": service, **body}))  # fmt: skip
        return self

    def raised(self, at: float = 0.0, **changes: Any) -> "Book":
        return self.add("alert.raised", at, **{**RAISED, **changes})

    def read(self) -> Alerts:
        return Alerts("flights", self.events)

    def told(self) -> list[str]:
        return [n.kind for n in self.read().notices]


def test_an_alert_names_cause_slices_evidence_action_and_the_next_step() -> None:
    (alert,) = Book().raised().read().open
    said = dict(lines(alert))
    assert said["cause"] == RAISED["cause"] and said["action"] == "alert, rollback"
    assert said["evidence"] == "accuracy 0.61 [0.58, 0.64] of 500"
    assert said["worst"].startswith("carrier=UA 0.61") and said["next"] == "look"
    assert alert.name == "quality" and alert.id == 1 and alert.told


def test_the_same_trouble_is_one_alert_with_a_count() -> None:
    book = Book().raised().raised(cause="accuracy: 0.60 below 0.7").raised(package="package/flights@bb")
    first, other = book.read().open
    assert (first.count, first.raised_at, first.last_at) == (2, 1.0, 2.0)
    assert first.cause == "accuracy: 0.60 below 0.7" and other.count == 1
    assert book.told() == ["raised", "repeated", "raised"]


def test_it_is_resolved_when_the_monitor_passes_and_the_next_one_is_new() -> None:
    book = Book().raised().raised(monitor="drift").add("alert.cleared", monitor="quality", cause="fine")
    read = book.read()
    assert [a.name for a in read.open] == ["drift"] and read.all[0].why == "passes again"
    assert book.told() == ["raised", "raised", "resolved"]
    assert "is over" in headline(read.notices[-1]) and "next" not in dict(lines(read.all[0]))
    assert [a.id for a in book.raised().read().open] == [2, 4]


def test_a_release_that_ends_well_resolves_what_was_raised_about_releases() -> None:
    book = Book().raised(monitor="", release="flights-2", check="errors").raised()
    book.add("release.rolled_back")
    assert len(book.read().open) == 2
    assert [a.name for a in book.add("release.promoted").read().open] == ["quality"]


def test_an_acknowledged_alert_counts_on_in_silence_and_its_end_is_told() -> None:
    book = Book().raised().add("alert.acknowledged", actor="ann", alert=1, note="on it").raised()
    (alert,) = book.read().open
    assert (alert.state, alert.by, alert.why, alert.count) == ("acknowledged", "ann", "on it", 2)
    book.add("alert.resolved", actor="ann", alert=1, reason="fixed")
    assert book.told() == ["raised", "resolved"] and book.read().open == []


@pytest.mark.parametrize("name", ["quality", ANY])
def test_a_silence_holds_for_its_time_and_the_alert_is_there_all_the_same(name: str) -> None:
    book = Book().add("alert.silenced", 10.0, "ann", monitor=name, until=100.0, reason="upgrade")
    book.raised(50.0)
    read = book.read()
    assert read.open[0].told is False and read.notices == []
    assert read.silenced("quality", 50.0) == read.silences[name] and not read.silenced("quality", 100.0)
    assert book.raised(100.0).told() == ["repeated"]


def test_nobody_hears_the_end_of_what_nobody_heard_of() -> None:
    book = Book().add("alert.silenced", 1.0, monitor="quality", until=100.0, reason="x").raised(2.0)
    assert book.add("alert.cleared", 200.0, monitor="quality").told() == []


def test_an_action_that_failed_asks_for_a_hand() -> None:
    book = Book().raised().add("respond.failed", action="rollback", reason="no earlier package",
                               next="release another one")  # fmt: skip
    notice = book.read().notices[-1]
    assert notice.kind == "failed" and notice.alert.next == "release another one"
    assert headline(notice) == "flights: quality needs a hand: rollback: no earlier package"


def test_a_receiver_is_told_what_happens_after_it_is_known_and_in_order() -> None:
    book = Book().raised().add("alert.subscribed", to="ops").raised(monitor="a").raised(monitor="b")
    assert [n.alert.name for n in book.read().waiting("ops")] == ["a", "b"]
    assert book.read().waiting("nobody") == []
    key = book.read().waiting("ops")[0].key
    book.add("alert.undelivered", to="ops", key=key, reason="down")
    assert book.read().posts["ops"].trouble == "down" and len(book.read().waiting("ops")) == 2
    book.add("alert.delivered", to="ops", key=key)
    post = book.read().posts["ops"]
    assert (post.delivered, post.trouble) == (1, "") and len(book.read().waiting("ops")) == 1
    book.add("alert.refused", to="ops", key=book.read().waiting("ops")[0].key, reason="too long")
    assert book.read().waiting("ops") == [] and book.read().posts["ops"].refused == 1


def test_two_notices_of_one_event_are_delivered_one_by_one() -> None:
    book = Book().add("alert.subscribed", to="ops").raised(package="p/a").raised(package="p/b")
    book.add("alert.cleared", monitor="quality")
    keys = [n.key for n in book.read().notices]
    assert len(set(keys)) == 4
    for left, key in zip((3, 2, 1, 0), keys, strict=True):
        book.add("alert.delivered", to="ops", key=key)
        assert len(book.read().waiting("ops")) == left


def test_other_services_and_older_writers_do_no_harm() -> None:
    book = Book().raised(service="other").raised(new_field="of a later version")
    assert [a.id for a in book.read().open] == [2]
    assert b'"cause":"accuracy: 0.61 below 0.7"' in document(book.read().notices[0])


VERBS = st.sampled_from(["raised", "cleared", "acknowledged", "silenced", "failed"])


@given(st.lists(st.tuples(VERBS, st.sampled_from(["a", "b"])), max_size=30), st.integers(0, 30))
def test_reading_in_two_parts_gives_what_reading_at_once_gives(moves: list[tuple[str, str]], cut: int) -> None:
    book = Book()
    for verb, name in moves:
        match verb:
            case "raised":
                book.raised(monitor=name)
            case "cleared":
                book.add("alert.cleared", monitor=name)
            case "acknowledged":
                book.add("alert.acknowledged", alert=1)
            case "silenced":
                book.add("alert.silenced", monitor=name, until=len(book.events) + 3.0, reason="x")
            case "failed":
                book.add("respond.failed", action="rollback", reason="x")
    parts = Alerts("flights", book.events[:cut])
    for event in book.events[cut:]:
        parts.take(event)
    whole = book.read()
    assert (parts.all, parts.notices, parts.silences) == (whole.all, whole.notices, whole.silences)
    assert len({a.same for a in whole.open}) == len(whole.open)
    ended = sum(n.kind == "resolved" for n in whole.notices)
    assert ended <= sum(n.kind in ("raised", "repeated") for n in whole.notices)
