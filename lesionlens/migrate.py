"""`python -m lesionlens.migrate`: bring the database named by DATABASE_URL to the newest schema. It is idempotent."""

from __future__ import annotations

import sys

import structlog
from alembic.util.exc import CommandError
from sqlalchemy.exc import SQLAlchemyError

from services.analysis.database import database_errors, make_engine
from services.analysis.errors import DatabaseUnavailableError, LesionLensError, SettingsError
from services.analysis.migrations import migrate
from services.analysis.settings import load_settings
from services.analysis.telemetry import configure_logging


def main() -> int:
    """Migrates; 0, or 1 after one log line that says what stands in the way."""
    log = structlog.get_logger(__name__)
    try:
        settings = load_settings()
        configure_logging(settings, "migrate")
        if not settings.database_url:
            raise SettingsError("DATABASE_URL: it must name the PostgreSQL database to migrate")
        engine = make_engine(settings.database_url, pool_size=1)
        with database_errors():
            migrate(engine)
        engine.dispose()
    except LesionLensError as error:
        log.critical("not migrated", why=error.detail, advice=_advice(error))
        return 1
    except CommandError as error:
        # The database's revision is none of ours: a newer release has been here.
        log.critical("not migrated", why=str(error), advice="Run that release, or restore the backup made before it.")
        return 1
    except SQLAlchemyError:
        log.exception("not migrated")
        return 1
    return 0


def _advice(error: LesionLensError) -> str:
    # This runs beside a database that something else has to start: `make run`, Compose or a cluster.
    if isinstance(error, DatabaseUnavailableError):
        return "Check DATABASE_URL, and that the database is up."
    return error.advice


if __name__ == "__main__":
    sys.exit(main())
