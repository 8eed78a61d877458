"""Triggers: each asks for a retraining once it is due, and again only when it has been earned anew."""

from msgspec.structs import replace

from fairlead.adapters.records.memory import MemoryRecords
from fairlead.core.artifact import Artifact, DatasetSpec, name_of
from fairlead.core.cost import Staying
from fairlead.core.manifest import RetrainSection
from fairlead.core.ref import Ref
from fairlead.core.release import Service
from fairlead.core.schema import Schema
from fairlead.core.traffic import DAY
from fairlead.flow.retrain import Retrainer
from fairlead.flow.trigger import Trigger
from fairlead.ports import Change

SPEC = DatasetSpec(parts=(), contract=Schema(columns=()))
PACKAGE = replace(name_of("flights", SPEC), kind="package")
BORN = 1_000_000.0


class World:
    """A package made at BORN that serves; what is seen of it is set by hand."""

    def __init__(self, section: RetrainSection) -> None:
        self.at, self.truths, self.debt = BORN, list[float](), 0.0
        self.records = MemoryRecords()
        made = Artifact(ref=PACKAGE, spec=SPEC, created_at=BORN)
        here = Service(name="flights", package=PACKAGE)
        self.records.commit(Change(at=BORN, actor="t", verb="x", subject="s", artifacts=(made,),
                                   services=((None, here),)))  # fmt: skip
        self.retrainer = Retrainer(self, self.records, self, "flights", section)  # type: ignore[arg-type]
        self.trigger = Trigger(self, self.retrainer, self.records, "flights", section)

    def now(self) -> float:
        return self.at

    def labelled(self, since: float) -> int:
        return sum(at > since for at in self.truths)

    def staying(self, package: Ref, since: float, now: float, price: float) -> Staying:
        assert package == PACKAGE and since >= BORN
        return Staying(debt=price * self.debt, rate=0.0, days=(now - since) / DAY)

    def asks(self, at: float) -> str:
        self.at = at
        return self.trigger.turn(at)

    def trained(self) -> None:
        self.records.commit(Change(at=self.at, actor="t", verb="retrain.started", body={},
                                   subject="service/flights"))  # fmt: skip


def test_the_calendar_counts_from_the_last_training() -> None:
    world = World(RetrainSection(every="7d"))
    assert world.asks(BORN + 6.9 * DAY) == ""
    assert world.asks(BORN + 7 * DAY) == "7.0 days since the last training, every 7d"
    assert world.retrainer.pending(world.at)
    world.trained()
    assert world.asks(BORN + 13 * DAY) == "" and world.asks(BORN + 14 * DAY) != ""


def test_so_many_new_labels() -> None:
    world = World(RetrainSection(labels=3))
    world.truths = [BORN - 5, BORN + 1, BORN + 2]
    assert world.asks(BORN + DAY) == ""
    world.truths.append(BORN + DAY)
    assert world.asks(BORN + DAY + 60) == "", "it looks once an hour"
    assert world.asks(BORN + 2 * DAY) == "3 new labels since the last training"
    world.trained()
    assert world.asks(BORN + 3 * DAY) == ""


def test_staying_that_costs_more_than_a_retraining() -> None:
    world = World(RetrainSection(cost=100, mistake=2))
    world.debt = 49
    assert world.asks(BORN + DAY) == ""
    world.debt = 51
    said = world.asks(BORN + 2 * DAY)
    assert said.startswith("staying costs 102.0 (102.0 lost") and said.endswith("a retraining 100.0")
    assert world.retrainer.pending(world.at)


def test_without_a_trigger_nothing_is_asked() -> None:
    world = World(RetrainSection())
    world.truths, world.debt = [BORN + 1] * 100_000, 1e9
    assert world.asks(BORN + 365 * DAY) == "" and not world.retrainer.pending(world.at)
