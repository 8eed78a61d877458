"""One suite for every engine of records."""

from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace as changed

from fairlead.adapters.records.memory import MemoryRecords
from fairlead.adapters.records.sql import PAGE
from fairlead.adapters.records.sqlite import SqliteRecords
from fairlead.core.artifact import Artifact, DatasetSpec, FeaturesSpec, Part
from fairlead.core.decision import Decision
from fairlead.core.event import seal, verify
from fairlead.core.ref import Ref
from fairlead.core.release import Release, Service
from fairlead.core.run import Run
from fairlead.core.schema import Schema
from fairlead.core.traffic import canary
from fairlead.errors import Conflict, Invalid, Missing
from fairlead.ports import Change, Records

Factory = Callable[[], Records]
PACKAGE, OTHER = Ref("package", "fraud", "b2" * 32), Ref("package", "fraud", "c3" * 32)


@pytest.fixture(params=["memory", "sqlite"])
def records(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Records]:
    if request.param == "memory":
        yield MemoryRecords()
        return
    engine = SqliteRecords(tmp_path / "records.db")
    yield engine
    engine.close()


def change(**more: object) -> Change:
    whole: dict[str, object] = {"at": 1.5, "actor": "ann", "verb": "test", "subject": "thing/1"}
    return Change(**(whole | more))  # type: ignore[arg-type]


def dataset(digest: str, name: str = "flights", at: float = 1.0) -> Artifact:
    spec = DatasetSpec(parts=(Part(digest, 3, 10),), contract=Schema(columns=()))
    return Artifact(ref=Ref("dataset", name, digest), spec=spec, created_at=at)


def features(digest: str, name: str = "flights") -> Artifact:
    spec = FeaturesSpec(parts=(), schema=Schema(columns=()))
    return Artifact(ref=Ref("features", name, digest), spec=spec, created_at=1.0)


def run(run_id: str, error: str = "") -> Run:
    return Run(id=run_id, verb="train", state="done", inputs=(PACKAGE,), error=error,
               started_at=1.0, ended_at=2.0)  # fmt: skip


def release(number: int = 1, service: str = "fraud") -> Release:
    return Release(id=f"{service}-{number}", service=service, candidates=(PACKAGE,), baseline=None,
                   plan=canary(()), started_at=0.1, entered_at=0.2)  # fmt: skip


def stored(records: Records) -> tuple[object, ...]:
    """Everything an engine holds, to see that nothing moved."""
    return (records.artifacts(), records.runs(), records.releases(), records.services(),
            records.decisions(PACKAGE), list(records.events()), records.head())  # fmt: skip


# Values


def test_an_empty_store_knows_nothing(records: Records) -> None:
    assert (records.head(), list(records.events()), records.artifacts()) == ((0, ""), [], [])
    assert (records.service("fraud"), records.services(), records.releases()) == (None, [], [])
    for ask in (lambda: records.artifact(PACKAGE), lambda: records.run("r"),
                lambda: records.release("x"), lambda: records.find("abc")):  # fmt: skip
        with pytest.raises(Missing) as refusal:
            ask()
        assert refusal.value.hint


def test_what_is_stored_comes_back_equal_and_oldest_first(records: Records) -> None:
    decision = Decision(subject=PACKAGE, actions=frozenset(), because=(), at=3.0)
    later = changed(decision, at=1.0)
    b, a = dataset("b1"), features("a1")
    records.commit(change(artifacts=(b, a), runs=(run("z"), run("a")), decisions=(decision,)))
    records.commit(change(artifacts=(dataset("00", "other"),), decisions=(later,)))
    assert records.artifacts() == [b, a, dataset("00", "other")]
    assert (records.artifacts("dataset"), records.artifacts("dataset", "other")) == (
        [b, dataset("00", "other")], [dataset("00", "other")])  # fmt: skip
    assert records.artifacts(name="flights") == [b, a]
    assert (records.artifact(a.ref), records.run("a")) == (a, run("a"))
    assert [r.id for r in records.runs()] == ["z", "a"]
    assert records.decisions(PACKAGE) == [decision, later] and records.decisions(OTHER) == []


def test_saving_twice_changes_nothing(records: Records) -> None:
    records.commit(change(artifacts=(dataset("b1"),), runs=(run("r"),)))
    records.commit(change(artifacts=(dataset("b1", at=9.0),), runs=(run("r", "other"),)))
    assert records.artifacts() == [dataset("b1")] and records.runs() == [run("r")]
    assert records.head()[0] == 2


def test_an_artifact_is_found_by_reference_name_or_prefix(records: Records) -> None:
    old, new = dataset("ab" * 32), dataset("ac" * 32)
    named, both = features("ad" * 32), features("ad" * 32, "planes")
    records.commit(change(artifacts=(old, new, named, both)))
    assert records.find(str(old.ref)) == old == records.find(old.ref.short)
    assert records.find("dataset/flights") == new == records.find("flights", "dataset")
    assert records.find("ab") == old == records.find("ab", "dataset")
    assert records.find("features/planes@ad") == both
    for text, kind in [("a", None), ("ad", None), ("dataset/flights@a", None)]:
        with pytest.raises(Invalid, match=r"matches [24]") as refusal:
            records.find(text, kind)
        assert "more letters" in refusal.value.hint
    for text, kind in [("ff", None), ("ab", "features"), ("dataset/trains", None), ("", None),
                       ("flights", None), ("a%", None), ("__", None)]:  # fmt: skip
        with pytest.raises(Missing, match="no artifact"):
            records.find(text, kind)  # type: ignore[arg-type]
    for text, kind in [("car/flights", None), ("dataset/flights", "features")]:
        with pytest.raises(Invalid):
            records.find(text, kind)  # type: ignore[arg-type]


def test_an_unknown_name_is_answered_with_the_known_ones(records: Records) -> None:
    records.commit(change(artifacts=(dataset("ab"),)))
    with pytest.raises(Missing) as refusal:
        records.find("dataset/flight")
    assert "dataset/flights" in refusal.value.hint


# Changes


def test_releases_and_services_move_by_comparison(records: Records) -> None:
    first, service = release(), Service(name="fraud", release="fraud-1", epoch=1)
    records.commit(change(releases=((None, first),), services=((None, service),)))
    moved, served = changed(first, revision=1), changed(service, epoch=2)
    records.commit(change(releases=((first, moved),), services=((service, served),)))
    assert (records.release("fraud-1"), records.service("fraud")) == (moved, served)
    other = release(1, "spam")
    records.commit(change(releases=((None, other),), services=((None, Service(name="a")),)))
    assert (records.releases(), records.releases("spam")) == ([moved, other], [other])
    assert records.services() == [Service(name="a"), served]


@pytest.mark.parametrize("kind", ["exists", "stale", "absent", "service"])
def test_a_stale_change_is_refused_whole(records: Records, kind: str) -> None:
    first, service = release(), Service(name="fraud", epoch=1)
    records.commit(change(releases=((None, first),), services=((None, service),)))
    before = stored(records)
    moved = changed(first, revision=1)
    stale = changed(first, reason="differs in a field nobody counts")
    bad: dict[str, Change] = {
        "exists": change(releases=((None, moved),)),
        "stale": change(releases=((stale, moved),)),
        "absent": change(releases=((release(7), changed(release(7), revision=1)),)),
        "service": change(releases=((first, moved),),
                          services=((changed(service, epoch=0), changed(service, epoch=9)),)),
    }  # fmt: skip
    whole = changed(bad[kind], artifacts=(dataset("b1"),), runs=(run("r"),), decisions=(
        Decision(subject=PACKAGE, actions=frozenset(), because=(), at=0.0),))  # fmt: skip
    with pytest.raises(Conflict, match="not what was read") as refusal:
        records.commit(whole)
    assert refusal.value.hint and stored(records) == before
    assert records.commit(change()).seq == 2


def test_a_body_that_cannot_be_written_stores_nothing(records: Records) -> None:
    before = stored(records)
    for body in ({"x": object()}, {"x": "\udc80"}, {("a", "b"): 1}):
        with pytest.raises(Invalid, match="cannot be written"):
            records.commit(change(body=body, artifacts=(dataset("b1"),)))
    assert stored(records) == before


# The audit log


def test_every_change_is_one_event_of_an_intact_chain(records: Records) -> None:
    made = [records.commit(change(verb=f"v{i}", body={"i": i})) for i in range(5)]
    assert list(records.events()) == made and [e.seq for e in made] == [1, 2, 3, 4, 5]
    assert [e.prev for e in made] == ["", *(seal(e) for e in made[:-1])]
    assert records.head() == (5, seal(made[-1]))
    assert verify(records.events(), records.head()[1]) == 5


def test_events_can_be_read_from_a_place_and_about_a_subject(records: Records) -> None:
    for i in range(PAGE + 5):
        records.commit(change(subject=f"s/{i % 2}"))
        if i > 8:
            break
    assert [e.seq for e in records.events(since=7)] == [8, 9, 10]
    assert [e.seq for e in records.events(since=2, subject="s/1")] == [4, 6, 8, 10]
    assert list(records.events(since=10)) == [] == list(records.events(subject="s/"))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=20)
    | st.floats(allow_nan=True) | st.tuples(st.integers(), st.text(max_size=3)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.dictionaries(st.text(max_size=5), json_values, max_size=4), at=st.floats(0, 4e9),
       words=st.text(max_size=20))  # fmt: skip
def test_any_event_reads_back_with_the_seal_it_was_given(
    records: Records, body: dict[str, object], at: float, words: str
) -> None:
    seq = records.head()[0]
    try:
        made = records.commit(change(body=body, at=at, actor=words, subject=words))
    except Invalid:
        assert records.head()[0] == seq
        return
    assert [*records.events(since=seq)] == [made]
    assert records.head() == (made.seq, seal(made))
    assert verify(records.events(), records.head()[1]) == made.seq


def test_many_writers_make_one_chain(records: Records) -> None:
    """Everybody wants to move the same service; each step is taken by exactly one."""
    records.commit(change(services=((None, Service(name="fraud")),)))
    won: list[int] = []

    def work() -> None:
        while (here := records.service("fraud")) and here.epoch < 25:
            try:
                records.commit(change(services=((here, changed(here, epoch=here.epoch + 1)),)))
            except Conflict:
                continue
            won.append(here.epoch)

    threads = [Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == list(range(25))
    assert verify(records.events(), records.head()[1]) == 26
