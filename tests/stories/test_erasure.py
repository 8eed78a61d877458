"""Story: one person is planted in every place a project has, erased, and looked for in every byte."""

import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from msgspec import json
from msgspec.structs import replace

from fairlead import jobs
from fairlead.api.present.card import FORMATS, card_json
from fairlead.core.artifact import Artifact, PackageSpec
from fairlead.core.card import Card, Chapter
from fairlead.core.evidence import Evidence
from fairlead.core.journal import HEADER, Batch, Denial, Note, frame
from fairlead.core.manifest import LogSection
from fairlead.core.release import Phase
from fairlead.core.traffic import DAY
from fairlead.core.veil import marked
from fairlead.errors import Conflict, Invalid, Missing
from fairlead.flow.annex import POINTS
from fairlead.flow.card import Clerk
from fairlead.flow.explain import EXPLAINED
from fairlead.flow.fairness import assess
from fairlead.flow.rows import ROW
from fairlead.project import Project
from fairlead.project.erasing import KEY

CANARY = "CANARY-7f3a9c"
"""In every value of the person that nobody else has."""
YEAR = 365 * DAY
MANIFEST = """
service: loans
data: {source: loans.csv, target: late, time: at, entity: client, sensitive: [sex]}
features:
  clients: {source: clients.csv, entity: client, time: since, columns: [plan]}
train: {code: train.py}
card: {risk: high, purpose: Says who pays late., oversight: A clerk decides.}
"""
TRAIN = """
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

def train(data, params):
    return make_pipeline(SimpleImputer(), LogisticRegression(max_iter=500)).fit(data.X, data.y)
"""


class Here:
    """Compute without a process: the same job, in this interpreter."""

    def run(self, job: Sequence[str], workdir: Path, env: Mapping[str, str]) -> None:
        if jobs.main(job):
            raise Invalid(f"{job[0]} failed")


class Fixed:
    def __init__(self, at: float) -> None:
        self.at = at

    def now(self) -> float:
        return self.at


def tables(root: Path, *, without: bool = False) -> None:
    """600 loans of 30 clients, every tenth of them of the person."""
    rng, n = np.random.default_rng(3), 600
    who = [CANARY if i % 10 == 0 else f"client-{i % 30:03d}" for i in range(n)]
    amount, sex = rng.gamma(3, 300, n).round(2), rng.choice(["f", "m"], n)
    loans = pl.DataFrame({
        "at": [f"2020-{1 + i // 60:02d}-{1 + (i % 60) // 3:02d}T00:00:00" for i in range(n)],
        "client": who, "town": [f"{CANARY}-town" if w == CANARY else "Ghent" if i % 3 else "Porto" for i, w in enumerate(who)],
        "amount": amount, "sex": sex, "late": (amount + rng.logistic(size=n) * 200 > 900).astype(int),
    })  # fmt: skip
    known = sorted(set(who))
    clients = pl.DataFrame({"client": known, "since": "2019-01-01T00:00:00",
                            "plan": [f"{CANARY}-plan" if w == CANARY else "basic" for w in known]})  # fmt: skip
    for name, made in (("loans", loans), ("clients", clients)):
        (made.filter(pl.col("client") != CANARY) if without else made).write_csv(root / f"{name}.csv")


def asked(root: Path, package: Artifact) -> None:
    """Two answered requests, one of them the person's, with feedback, and one of theirs that was refused,
    in a finished journal."""
    rows = [{"client": c, "town": t, "amount": 100.0, "sex": "f"} for c, t in ((CANARY, f"{CANARY}-town"), ("client-001", "Ghent"))]
    served: list[dict[str, Any] | None] = [{"clients.plan": f"{CANARY}-plan"}, {"clients.plan": "basic"}]
    made = Batch(service="loans", package=str(package.ref), at=1.7e9, epoch=1, live=True, propensity=1.0,
                 ids=["aaaagw00aaaa", "aaaagw00aaab"], units=["u1", "u2"], bodies=[json.encode(r) for r in rows],
                 features=served, outputs=[[0.25], [0.75]], errors=["", ""], fallback=[False, False], latencies=[0.001, 0.001])  # fmt: skip
    notes = [Note(prediction=i, name="label", value=v, at=1.7e9) for i, v in (("aaaagw00aaaa", f"{CANARY}-said"), ("aaaagw00aaab", "1"))]
    denial = Denial(id="aaaagw00aaac", service="loans", package=str(package.ref), at=1.7e9, epoch=1, unit="u1", status=422,
                    code="type", pointer="/amount", message=f"not {CANARY}", body=json.encode(rows[0] | {"amount": "much"}), latency=0.001)
    folder = root / ".fairlead" / "predictions" / "journal"
    folder.mkdir(parents=True)
    (folder / "gw00-000000.log").write_bytes(HEADER + frame(made) + b"".join(frame(n) for n in notes) + frame(denial))


def release(project: Project) -> Artifact:
    model = project.train()
    project.gate(model.ref)
    package = project.package(model.ref)
    begun = project.start_release(package.ref, project.plan("replace"), force="this test looks at erasing only")
    project.tick()
    assert project.records.release(begun.id).phase is Phase.PROMOTED
    return package


def places(root: Path) -> set[str]:
    """Files that hold the canary, found in another way than the product does."""
    found = set()
    for path in (p for p in root.rglob("*") if p.is_file()):
        data = path.read_bytes()
        values = str(pl.read_parquet(path).rows()) if data[:4] == b"PAR1" else ""
        if CANARY.encode() in data or CANARY in values:
            found.add(str(path.relative_to(root)))
    return found


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("loans")
    (root / "fairlead.yaml").write_text(MANIFEST)
    (root / "train.py").write_text(TRAIN)
    tables(root)
    with Project.open(root) as project:
        project.compute = Here()
        project.snapshot()
        package = release(project)
        project.feed()
    asked(root, package)
    return root


@pytest.fixture
def project(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    root = tmp_path / "loans"
    shutil.copytree(world, root)
    monkeypatch.setattr(sys, "path", list(sys.path))
    with Project.open(root) as opened:
        opened.compute = Here()
        yield opened


def test_a_person_is_gone_from_every_byte_and_the_audit_trail_still_verifies(project: Project) -> None:
    root, old = project.root, project.dataset()
    package = project.subject("")
    project.log.seal()
    killed = root / ".fairlead" / "jobs" / "job-killed"
    killed.mkdir()
    shutil.copy(root / "loans.csv", killed / "rows.csv")
    pl.read_csv(root / "loans.csv").write_parquet(root / ".fairlead" / "blobs" / "drafts" / "cut-short")
    before = places(root)
    for kind in ("jobs/", "blobs/drafts", "blobs/", "packages/", "predictions/segments/answers", "predictions/segments/feedback", "predictions/segments/refused", "online.db", "records.db"):
        assert [p for p in before if p.startswith(f".fairlead/{kind}")], kind
    assert {f"packages/{package.ref.digest}/{f}" for f in ("samples.json", "profile.msgpack", "reference.msgpack")} <= {
        p.removeprefix(".fairlead/") for p in before}  # fmt: skip
    theirs, others = (project.why(i).answer for i in ("aaaagw00aaaa", "aaaagw00aaab"))
    assert project.explain(theirs.id) and project.explain(others.id)
    told = [e.body["blob"] for e in project.records.events() if e.verb == EXPLAINED]
    seal = project.records.head()[1]

    dry = project.erase({"client": CANARY}, "", dry_run=True)
    assert [(f.ref.kind, f.ref.name, f.rows) for f in dry.tables] == [
        ("dataset", "loans", 60), ("dataset", "loans.clients", 1), ("features", "loans", 60)]  # fmt: skip
    assert dry.packages[0].live and places(root) == before and project.records.head()[1] == seal

    done = project.erase({"client": CANARY}, "request 4711")
    assert not list(killed.iterdir())
    assert (done.log.answers, done.log.feedback, done.log.refused, done.facts) == (1, 1, 1, 1)
    assert [project.blobs.has(digest) for digest in told] == [False, True], "explanations go with their predictions"
    assert project.explained(theirs).reason == "it was erased" and project.explained(others).state == "explained"
    assert project.refused("aaaagw00aaac") is None
    assert done.waiting == (dry.models[0].ref, package.ref)
    live = {r.where for r in done.remains}
    assert live == places(root) | {r for r in live if r.startswith("event")} and "loans.csv" in live
    with pytest.raises(Missing, match=r"erased: 60 rows"):
        project.checkout(old.ref, root / "old.csv")
    with pytest.raises(Missing, match=r"erased: 60 rows"):
        project.reproduce(project.records.artifacts("model")[0].ref)
    assert project.checkout(project.dataset().ref, root / "new.csv") == 540
    assert any("erased" in gap for gap in project.why("aaaagw00aaab").gaps)

    tables(root, without=True)
    assert project.erase({}, "finishing 4711").waiting and places(root)
    release(project)
    assert not project.erase({}, "finishing 4711").waiting
    assert places(root) == set()
    assert project.verify_audit() and project.records.service("loans").previous == ()  # type: ignore[union-attr]
    project.export_audit(root / "bundle", lambda n: None)
    said = subprocess.run([sys.executable, "-I", "verify.py", "."], cwd=root / "bundle", capture_output=True, text=True, check=False)
    assert said.returncode == 0 and "intact" in said.stdout, said.stdout
    assert places(root) == set()


@pytest.mark.parametrize("known", ["its hash", "its unit"])
def test_tables_made_from_the_log_lose_the_person_too(project: Project, known: str) -> None:
    """As a redacted column, or as nothing but the unit of a request: then by the ids of the requests."""
    folder = project.state / "predictions"
    (folder / KEY).write_bytes(b"k" * 32)
    project.manifest = replace(project.manifest, release=replace(project.manifest.release, sticky_by="client"))
    who = [CANARY if i % 3 == 0 else f"client-{i:03d}" for i in range(90)]
    rows = [{"town": "Ghent", "amount": 100.0 + i, "sex": "f"} | ({"client": marked(b"k" * 32, w)} if known == "its hash" else {})
            for i, w in enumerate(who)]  # fmt: skip
    ids = [f"aaaagw01{i:04d}" for i in range(90)]
    made = [Batch(service="loans", package=str(project.subject("").ref), at=1.7e9 + i, epoch=1, live=True, propensity=1.0,
                  ids=[ids[i]], units=[marked(b"k" * 32, who[i]) if known == "its unit" else ids[i]],
                  bodies=[json.encode(rows[i])], features=[{"clients.plan": "basic"}], outputs=[[0.25]], errors=[""],
                  fallback=[False], latencies=[0.001]) for i in range(90)]  # fmt: skip
    notes = [Note(prediction=name, name="label", value=i % 2, at=1.7e9 + i) for i, name in enumerate(ids)]
    (folder / "journal" / "gw01-000000.log").write_bytes(HEADER + b"".join(frame(b) for b in made) + b"".join(frame(n) for n in notes))
    table = project.harvest()
    model = project.train(dataset=table.ref)
    done = project.erase({"client": CANARY}, "request 4712")
    found = {f.ref.name: f.rows for f in done.tables if f.ref.name.endswith(".log")}
    assert found == {"loans.log": 31} and model.ref in {m.ref for m in done.models if m.rows}
    left = project.records.artifacts("dataset", "loans.log")[-1]
    assert left.ref != table.ref and project.checkout(left.ref, project.root / "left.csv") == 61
    assert not set(ids[::3]) & set(pl.read_csv(project.root / "left.csv").get_column(ROW))
    with pytest.raises(Missing, match="erased: 30 rows"):
        project.reproduce(model.ref)


def test_what_is_held_is_neither_erased_nor_expired(project: Project) -> None:
    exact = project.hold_evidence("dataset/loans", "case 7", add=True)
    with pytest.raises(Conflict, match="case 7"):
        project.erase({"client": CANARY}, "request")
    with pytest.raises(Conflict, match="held already"):
        project.hold_evidence(exact, "again", add=True)
    project.hold_evidence(exact, "case closed", add=False)
    assert project.holds() == {}
    with pytest.raises(Invalid, match="names the person"):
        project.erase({"client": CANARY}, f"as {CANARY} wrote")


def test_a_record_may_lose_values_only_where_the_log_says_so(project: Project) -> None:
    project.erase({"client": CANARY}, "request")
    bundle = project.root / "bundle"
    project.export_audit(bundle, lambda n: None)
    artifacts = bundle / "artifacts.jsonl"
    lines = artifacts.read_bytes().splitlines(keepends=True)
    whole = next(i for i, line in enumerate(lines) if b'"package/' in line)
    artifacts.write_bytes(b"".join([*lines[:whole], lines[whole].replace(b"Ghent", b"Gh3nt"), *lines[whole + 1 :]]))
    said = subprocess.run([sys.executable, "-I", "verify.py", "."], cwd=bundle, capture_output=True, text=True, check=False)
    assert said.returncode == 1 and "is not what the log tells of" in said.stdout


def test_a_redacted_package_spec_is_not_what_serves(project: Project) -> None:
    spec = project.subject("").spec
    project.erase({"client": CANARY}, "request")
    assert isinstance(spec, PackageSpec) and project.subject("").spec == spec


def test_cards_are_made_of_records_alone_and_name_every_source_and_gap(project: Project) -> None:
    cards = {kind: project.card(kind, "") for kind in ("model", "data", "release", "bias")}
    for kind, card in cards.items():
        for form in FORMATS.values():
            assert form(card) == form(project.card(kind, "")), kind
        for chapter in card.chapters:
            assert all(f.ask if f.value is None else f.source for f in chapter.facts), chapter.title
            assert all(g.titles[-1] == "source" and all(row[-1] for row in g.rows) for g in chapter.grids), chapter.title
    assert "A clerk decides." in card_json(cards["model"]) and "Says who pays late." in cards["model"].lead
    gaps = {f.name for _, f in cards["model"].gaps}
    assert "known limits" in gaps and not {"purpose", "human oversight"} & gaps
    assert CANARY not in card_json(cards["data"]), "a data card lists no person"


def test_a_bias_summary_says_how_groups_fare_in_production(project: Project) -> None:
    def production(card: Card) -> Chapter:
        return next(c for c in card.chapters if c.title == "In production")

    subject = project.subject("")
    assert "fewer than two groups" in str(production(project.card("bias", "")).facts), "the log knows two requests"
    rates = [Evidence(subject=subject.ref, measure="positive_rate", slice=f"sex={g}", value=v, n=900, low=v - 0.03, high=v + 0.03)
             for g, v in (("f", 0.2), ("m", 0.6))]  # fmt: skip
    lived = assess(subject.ref, rates, project.manifest, live=True)
    told = Clerk(project.records, project.blobs, project.manifest, project.approvals(), project.alerts(), lambda: lived)
    (row,) = production(told.bias(subject)).grids[0].rows
    assert row[:3] == ("positive_rate", "sex", "fail") and row[4:] == (900, f"prediction log, {subject.ref.short}")


def test_the_technical_file_has_every_point_in_order_and_says_who_writes_what_is_missing(project: Project) -> None:
    made = project.technical_file("")
    assert [c.title.partition(" ")[0] for c in made.chapters] == [p.number for p in POINTS]
    keys = {k for p in POINTS for k in p.keys}
    asked = {f.ask.split()[5].removeprefix("card.") for _, f in made.gaps if "provider writes" in f.ask}
    assert asked == keys - {"purpose", "oversight"}
    assert {"annex-iv", "model-card", "bias-summary", "data-card-1", "decision-loans-1"} <= set(project.documents(""))
    parts = project.bom("")
    assert parts["bomFormat"] == "CycloneDX" and parts == project.bom("")


def test_a_clock_ten_years_ahead_expires_nothing(project: Project) -> None:
    project.manifest = replace(project.manifest, log=LogSection(retention="183d"))
    project.log.seal()
    count = len(list(project.log.predictions()))
    start = project.clock.now()
    for jump in (10 * YEAR, 10 * YEAR + 1, 20 * YEAR, 0):
        project.clock = Fixed(start + jump)
        assert project.expire() == 0
    assert len(list(project.log.predictions())) == count
    for day in range(1, 190):  # the time that truly passes, an event a day
        project.clock = Fixed(start + day * DAY)
        project.expire()
    assert list(project.log.predictions()) == [] and project.verify_audit()


@pytest.mark.parametrize(("risk", "kept", "fine"), [("high", "182d", False), ("high", "183d", True), ("limited", "60d", True)])
def test_a_high_risk_system_cannot_keep_its_log_for_less_than_six_months(tmp_path: Path, risk: str, kept: str, fine: bool) -> None:
    text = MANIFEST.replace("risk: high", f"risk: {risk}") + f"log: {{retention: {kept}}}\n"
    (tmp_path / "fairlead.yaml").write_text(text)
    if fine:
        Project.open(tmp_path).close()
    else:
        with pytest.raises(Invalid, match="six months"):
            Project.open(tmp_path)
