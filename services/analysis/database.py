"""Connections to PostgreSQL: made after the fork, one small pool a process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from services.analysis import tracing
from services.analysis.errors import DatabaseUnavailableError

#: Seconds to wait for a connection: a dead database must cost an upload less than a person's patience.
CONNECT_TIMEOUT_S = 3
#: Milliseconds one statement may run: every statement here touches a handful of rows by index.
STATEMENT_TIMEOUT_MS = 5_000


def make_engine(database_url: str, pool_size: int = 4) -> Engine:
    """An engine that connects at the first statement, not here. Call it after a fork, never before."""
    url = database_url.replace("postgres://", "postgresql://", 1)
    engine = create_engine(
        url.replace("postgresql://", "postgresql+psycopg2://", 1),
        pool_size=pool_size,
        max_overflow=2 * pool_size,
        pool_timeout=CONNECT_TIMEOUT_S,
        pool_pre_ping=True,
        # Error messages quote the parameters of a statement, and those are ids, which stay out of logs.
        hide_parameters=True,
        connect_args={
            "connect_timeout": CONNECT_TIMEOUT_S,
            "options": f"-c statement_timeout={STATEMENT_TIMEOUT_MS} -c timezone=utc",
            "application_name": "lesionlens",
        },
    )
    return tracing.watch(engine)


@contextmanager
def database_errors() -> Iterator[None]:
    """Turns "PostgreSQL does not answer" into `DatabaseUnavailableError`; any other error passes through."""
    try:
        yield
    except (OperationalError, InterfaceError, PoolTimeoutError) as error:
        raise DatabaseUnavailableError("The database does not answer.") from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise DatabaseUnavailableError("The database does not answer.") from error
        raise


def database_answers(engine: Engine) -> bool:
    """Whether a trivial statement succeeds now."""
    try:
        with database_errors(), engine.connect() as connection:
            connection.execute(text("SELECT 1"))
    except DatabaseUnavailableError:
        return False
    return True
