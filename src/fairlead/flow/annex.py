"""The technical file of the EU AI Act: Annex IV point by point, from records where they tell, gaps named elsewhere."""

from collections.abc import Iterable

from msgspec import Struct

from fairlead.core.artifact import Artifact
from fairlead.core.card import Card, Chapter, Fact
from fairlead.core.manifest import Manifest
from fairlead.flow.card import Clerk, model_behind, tables_behind
from fairlead.ports import Records

__all__ = ["POINTS", "Point", "annex"]


class Point(Struct, frozen=True):
    """A point of Annex IV: its number, what it asks, keys of `card:` that people answer it with, and
    chapters of cards that records answer it with."""

    number: str
    asks: str
    keys: tuple[str, ...] = ()
    chapters: tuple[str, ...] = ()


POINTS = (
    Point("1(a)", "Intended purpose, provider, version and its relation to earlier versions",
          ("purpose", "provider"), ("How it was made", "Releases")),
    Point("1(b)", "How it interacts with hardware or software that is not part of it", ("hardware",)),
    Point("1(c)", "Versions of relevant software, and what an update needs", (), ("Environment",)),
    Point("1(d)-(g)", "Forms in which it is placed on the market, hardware, pictures, user interface", ("hardware", "users")),
    Point("1(h)", "Instructions for use for the deployer", ("instructions",)),
    Point("2(a)-(c)", "Methods and steps of development, design, architecture, resources used", (),
          ("How it was made", "Environment")),
    Point("2(d)", "Data requirements: provenance, scope, characteristics, labelling, cleaning", ("collection",),
          ("What it learnt from", "Where it comes from", "Columns", "Who is in it", "Versions")),
    Point("2(e)", "Human oversight measures, and how outputs are made interpretable (Art. 14)", ("oversight",)),
    Point("2(f)", "Pre-determined changes, and continuous compliance", ("changes",)),
    Point("2(g)", "Validation and testing: data, metrics, discriminatory impacts, dated and signed reports", ("measures",),
          ("How good it is", "Fairness", "What the gate decided", "Who let it through")),
    Point("2(h)", "Cybersecurity measures", ("security",)),
    Point("3", "Monitoring, functioning and control: capabilities, limits, accuracy by group, foreseeable risks",
          ("limits", "out_of_scope", "affected", "oversight"), ("How good it is", "Fairness", "In production")),
    Point("4", "Why the performance metrics are appropriate", ("measures",)),
    Point("5", "The risk management system (Art. 9)", ("risks",)),
    Point("6", "Relevant changes made through the lifecycle", (), ("Versions", "Releases")),
    Point("7", "Harmonised standards applied, or other solutions", ("standards",)),
    Point("8", "Copy of the EU declaration of conformity (Art. 47)", ("declaration",)),
    Point("9", "System and plan of post-market monitoring (Art. 72)", ("monitoring",), ("In production",)),
)  # fmt: skip
"""Annex IV of Regulation (EU) 2024/1689, its points in order, in our words."""


def annex(subject: Artifact, clerk: Clerk, manifest: Manifest, records: Records) -> Card:
    """The skeleton for a model: what records tell is filled in, the rest says who has to write it."""
    model = model_behind(subject, records)
    sources = [clerk.model(model)]
    sources += [clerk.dataset(t) for t in tables_behind(model, records) if t.ref.kind == "dataset"][:1]
    known = {c.title: c for card in sources for c in card.chapters}
    return Card(
        kind="annex-iv", title=f"Technical documentation (Annex IV): {manifest.service}",
        subject=str(model.ref), lead="A skeleton, not a legal opinion: points follow Annex IV of Regulation (EU) 2024/1689.",
        chapters=tuple(_point(p, manifest, known) for p in POINTS),
    )  # fmt: skip


def _point(point: Point, manifest: Manifest, known: dict[str, Chapter]) -> Chapter:
    chapters = [known[title] for title in point.chapters if title in known]
    told = [f for c in chapters for f in c.facts if f.value is not None and not f.source.startswith("fairlead.yaml card.")]
    open_ = [f for c in chapters for f in c.facts if f.value is None and not f.ask.startswith("write card.")]
    return Chapter(title=f"{point.number} {point.asks}", grids=tuple(g for c in chapters for g in c.grids),
                   facts=(*_written(point.keys, manifest), *told, *open_))  # fmt: skip


def _written(keys: Iterable[str], manifest: Manifest) -> Iterable[Fact]:
    for key in keys:
        text = getattr(manifest.card, key)
        yield Fact(name=key.replace("_", " "), value=text or None, source=f"fairlead.yaml card.{key}" if text else "",
                   ask="" if text else f"the provider writes it as card.{key} in fairlead.yaml")  # fmt: skip
