"""Alembic's entry: runs on the connection that `migrate` opened and locked."""

from alembic import context

from services.analysis.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    transaction_per_migration=False,
)
context.run_migrations()
