"""The first tables: artifacts, runs, decisions, releases, services, events and their head."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

Column = sa.Column[Any]


def upgrade() -> None:
    """Make every table, and a head that says: no event yet."""
    _table("artifact", *_stored("ref", "kind", "name", "digest"), sa.UniqueConstraint("ref"))
    _table("run", *_stored("id"), sa.UniqueConstraint("id"))
    _table("decision", *_stored("subject"))
    _table("release", *_stored("id", "service"), sa.UniqueConstraint("id"))
    _table("service", sa.Column("name", sa.Text(), primary_key=True), _number("seq"), _text("body"))
    _table("event", _key("seq", counted=False), sa.Column("at", sa.Double(), nullable=False),
           *map(_text, ("actor", "verb", "subject", "body", "prev")))  # fmt: skip
    head = _table("head", _key("id", counted=False), _number("seq"), _text("seal"))
    op.create_index("ix_decision_subject", "decision", ["subject"])
    op.create_index("ix_event_subject", "event", ["subject"])
    op.bulk_insert(head, [{"id": 1, "seq": 0, "seal": ""}])


def _stored(*found_by: str) -> list[Column]:
    return [_key("place", counted=True), *map(_text, found_by), _number("seq"), _text("body")]


def _key(name: str, *, counted: bool) -> Column:
    return sa.Column(name, sa.Integer(), primary_key=True, autoincrement=counted)


def _number(name: str) -> Column:
    return sa.Column(name, sa.Integer(), nullable=False)


def _text(name: str) -> Column:
    return sa.Column(name, sa.Text(), nullable=False)


def _table(name: str, *parts: sa.schema.SchemaItem) -> sa.Table:
    return op.create_table(name, *parts)
