"""Runs the migrations on the connection, and inside the transaction, that the caller holds."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], version_table="version")
with context.begin_transaction():
    context.run_migrations()
