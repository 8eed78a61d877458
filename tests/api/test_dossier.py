"""The page of one release: everything on it comes from the records, and nothing else is needed to read it."""

import re

import pytest
from msgspec.structs import replace as changed

from fairlead.adapters.records.memory import MemoryRecords
from fairlead.api.present.dossier import Dossier, dossier, hypothesis
from fairlead.api.present.rollout import seen
from fairlead.core.catalogue import plan_of, release_checks
from fairlead.core.check import Check, Parity
from fairlead.core.decision import Decision
from fairlead.core.evidence import EvidenceSet, Tally
from fairlead.core.manifest import ReleaseSection
from fairlead.core.ref import Ref, digest
from fairlead.core.release import Release, Service, advance, apply, settle
from fairlead.flow.release import transition

OLD, NEW = Ref("package", "loans", "a" * 64), Ref("package", "loans", "b" * 64)
SECTION = ReleaseSection(plan="canary", shares=(0.1, 0.5), hold="0s", max_slower=0)
PLAN = plan_of(SECTION, release_checks(SECTION, "binary"))


def facts(windows: int, bad: int) -> EvidenceSet:
    errors = [Tally(subject=s, measure=m, at=float(at), events=bad if s == NEW else 0, n=n)
              for m in ("errors", "slow") for at in range(windows) for s, n in ((NEW, 100), (OLD, 900))]  # fmt: skip
    split = [Tally(subject=s, measure="requests", at=0.0, events=0, n=n) for s, n in ((NEW, 100), (OLD, 900))]
    return EvidenceSet([*errors, *split])


def released(reason: str = "") -> tuple[Dossier, Decision]:
    """One step taken on good evidence, then rolled back."""
    records = MemoryRecords()
    began = Release(id="loans-2", service="loans", candidates=(NEW,), baseline=OLD, plan=PLAN,
                    started_at=100.0, entered_at=100.0)  # fmt: skip
    here = settle(Service(name="loans", package=OLD), began)
    records.commit(transition("started", 100.0, reason or "ann", None, began, (None, here)))
    made: list[Decision] = []
    for verb, at, seen_by_then in (("advanced", 200.0, facts(40, 0)), ("rolled_back", 230.0, facts(44, 2))):
        decision = advance(began, seen_by_then, at)
        after = apply(began, decision, seen_by_then)
        assert after != began, decision
        there = settle(here, after)
        records.commit(transition(verb, at, "fairlead", began, after, (here, there), decision))
        began, here = after, there
        made += [d for d in records.decisions(NEW) if d not in made]
    events = tuple(records.events(subject="release/loans-2"))
    return Dossier(view=seen(began, made[-1], None, 300.0), events=events, decisions=tuple(made)), made[-1]


def test_the_page_tells_what_was_asked_how_it_grew_and_how_it_ended() -> None:
    made, _ = released()
    page = dossier(made)
    for words in ("Release loans-2", "rolled back", "not 2 × as often, or below 0.2 %", "step 2: 50 % live",
                  "errors: 88 of 4,400 against 0 of 39,600", "replays byte for byte", "acts at 20",
                  "the candidate gets 50 % of the requests"):  # fmt: skip
        assert words in page, words
    assert page.count("replays byte for byte") == 2 and "does NOT" not in page
    assert page.count("<svg") == len(made.view.growths) == 2
    assert len(re.findall(r"<polyline[^>]*s-bad", page)) == 2, "a curve of harm per check"
    assert dossier(made) == page


def test_the_page_is_whole_and_harmless() -> None:
    page = dossier(released("<script>alert(1)</script>")[0])
    assert "<script" not in page and "&lt;script&gt;" in page
    assert not re.search(r'(src|href)="', page)


def test_a_forged_record_is_shown_as_such() -> None:
    made, last = released()
    forged = changed(last, at=last.at + 1, actions=frozenset())
    events = (*made.events[:-1], changed(made.events[-1], body=made.events[-1].body | {"decision": digest(forged)}))
    page = dossier(changed(made, decisions=(*made.decisions[:-1], forged), events=events))
    assert page.count("does NOT replay") == 1


@pytest.mark.parametrize("check", [*release_checks(ReleaseSection(), "binary"),
                                   Check(name="p", measure="m", rule=Parity())])  # fmt: skip
def test_every_rule_has_its_hypothesis_in_words(check: Check) -> None:
    assert len(hypothesis(check)) > 8
