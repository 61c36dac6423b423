"""The schema's history (Alembic). `migrate` brings a database to its head."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, text

#: Any number that nothing else in the database uses; "lesionlens" on a telephone keypad.
MIGRATION_LOCK = 53_746_653_67

_FOLDER = Path(__file__).parent


def migrate(engine: Engine, revision: str = "head") -> None:
    """Brings the schema to `revision`. Two at once wait for each other; it is idempotent.

    The lock belongs to the transaction (`pg_advisory_xact_lock`), so that a connection pool in between cannot orphan
    it.
    """
    with engine.begin() as connection:
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
        config = Config()
        config.set_main_option("script_location", str(_FOLDER))
        config.attributes["connection"] = connection
        if revision == "base":
            command.downgrade(config, revision)
        else:
            command.upgrade(config, revision)
