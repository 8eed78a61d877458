"""Evidence: measured facts about artifacts, each with how much data stands behind it."""

from collections.abc import Iterable, Iterator

from msgspec import UNSET, Struct, UnsetType

from fairlead.core.ref import Ref

__all__ = ["Evidence", "EvidenceSet", "Fact", "Moments", "Tally"]


class Evidence(Struct, frozen=True, tag="number", kw_only=True):
    """An AUC, a p99 latency, a PSI, a count of broken columns: a number with an `n`.

    `low`/`high`: its confidence interval at `level` (None when it is exact or has none).
    `against`: for a paired difference, the artifact it is compared with on the same rows.
    `slice`: "" for the whole, else ``column=value``. `example`: the id of a prediction that shows it;
    unset it leaves no trace in a record.
    """

    subject: Ref
    measure: str
    value: float
    n: int
    low: float | None = None
    high: float | None = None
    level: float = 0.95
    against: Ref | None = None
    slice: str = ""
    since: float = 0.0
    until: float = 0.0
    example: str | UnsetType = UNSET


class Tally(Struct, frozen=True, tag="tally", kw_only=True):
    """How many of `n` exposures of a subject were events, within one window starting at `at`."""

    subject: Ref
    measure: str
    at: float
    events: int
    n: int


class Moments(Struct, frozen=True, tag="moments", kw_only=True):
    """Sum and sum of squares of `n` values in [0, 1], within one window starting at `at`."""

    subject: Ref
    measure: str
    at: float
    n: int
    total: float
    squares: float


Fact = Evidence | Tally | Moments


class EvidenceSet:
    """A bag of evidence that answers one question: what is known of this subject?"""

    def __init__(self, facts: Iterable[Fact] = ()) -> None:
        self._numbers: dict[tuple[Ref, str, str], Evidence] = {}
        self._tallies: dict[tuple[Ref, str], dict[float, Tally]] = {}
        self._moments: dict[tuple[Ref, str], dict[float, Moments]] = {}
        for fact in facts:
            self._add(fact)

    def _add(self, fact: Fact) -> None:
        match fact:
            case Evidence():
                self._numbers[fact.subject, fact.measure, fact.slice] = fact
            case Tally():
                self._tallies.setdefault((fact.subject, fact.measure), {})[fact.at] = fact
            case Moments():
                self._moments.setdefault((fact.subject, fact.measure), {})[fact.at] = fact

    def __iter__(self) -> Iterator[Fact]:
        yield from self._numbers.values()
        for tallies in self._tallies.values():
            yield from tallies.values()
        for moments in self._moments.values():
            yield from moments.values()

    def get(self, subject: Ref, measure: str, slice: str = "") -> Evidence | None:
        """The number, or None."""
        return self._numbers.get((subject, measure, slice))

    def slices(self, subject: Ref, measure: str) -> list[Evidence]:
        """The number for each slice, without the whole."""
        return [
            e for (s, m, cut), e in self._numbers.items() if (s, m) == (subject, measure) and cut
        ]

    def tallies(self, subject: Ref, measure: str) -> dict[float, Tally]:
        """Window start -> tally."""
        return self._tallies.get((subject, measure), {})

    def moments(self, subject: Ref, measure: str) -> dict[float, Moments]:
        """Window start -> moments."""
        return self._moments.get((subject, measure), {})
