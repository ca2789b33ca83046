"""Alembic's entry point: migrates over the connection that `ledger.store.schema` hands it."""

from alembic import context

from ledger.store.models import metadata

context.configure(
    connection=context.config.attributes["connection"],
    version_table=context.config.attributes["version_table"],
    target_metadata=metadata,
)
context.run_migrations()
