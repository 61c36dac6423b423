"""The database of the settings, or of `make run`, as the commands reach it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from sqlalchemy import Engine
from sqlalchemy.exc import ProgrammingError

from lesionlens.refusals import refusals
from services.analysis.database import make_engine
from services.analysis.settings import Settings, load_settings


@contextmanager
def opened_database() -> Iterator[tuple[Engine, Settings]]:
    """An engine for one command, which ends with a sentence where that cannot be."""
    with refusals():
        settings = load_settings()
        engine = make_engine(database_url(settings), pool_size=1)
        try:
            yield engine, settings
        except ProgrammingError as error:
            raise click.ClickException(
                "The database has an older schema: run `python -m lesionlens.migrate`."
            ) from error
        finally:
            engine.dispose()


def database_url(settings: Settings) -> str:
    """The setting, or where `make run` has its database."""
    if settings.database_url:
        return settings.database_url
    folder = settings.data_dir.resolve()
    refuse_no_database(folder)
    from lesionlens.supervisor.postgres import EmbeddedPostgres

    return EmbeddedPostgres(folder / "postgres", folder / "run").url


def refuse_no_database(folder: Path) -> None:
    """Ends the command where `make run` has never made a database in this data folder."""
    if not (folder / "postgres" / "PG_VERSION").exists():
        raise click.ClickException(
            f"There is no database in {folder}. Set DATABASE_URL; or have `make run` running, and call this in the same"
            " folder."
        )
