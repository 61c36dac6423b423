"""Connections to PostgreSQL: made after the fork, one small pool a process."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import DatabaseError, DBAPIError, DisconnectionError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from services.analysis import tracing
from services.analysis.errors import DatabaseUnavailableError

#: Seconds to wait for a connection: a dead database must cost an upload less than a person's patience.
CONNECT_TIMEOUT_S = 3
#: Milliseconds one statement may run: every statement here touches a handful of rows by index.
STATEMENT_TIMEOUT_MS = 5_000
#: Seconds a connection may rest in the pool before it is asked whether it still stands. No server restarts in less, and
#: to ask each time was a third of what a busy process asked.
TRUSTED_FOR_S = 1.0


def make_engine(database_url: str, pool_size: int = 4) -> Engine:
    """An engine that connects at the first statement, not here. Call it after a fork, never before."""
    url = database_url.replace("postgres://", "postgresql://", 1)
    engine = create_engine(
        url.replace("postgresql://", "postgresql+psycopg2://", 1),
        pool_size=pool_size,
        max_overflow=2 * pool_size,
        pool_timeout=CONNECT_TIMEOUT_S,
        # Error messages quote the parameters of a statement, and those are ids, which stay out of logs.
        hide_parameters=True,
        connect_args={
            "connect_timeout": CONNECT_TIMEOUT_S,
            "options": f"-c statement_timeout={STATEMENT_TIMEOUT_MS} -c timezone=utc",
            "application_name": "lesionlens",
        },
    )
    _ask_those_that_rested(engine)
    return tracing.watch(engine)


@contextmanager
def single_statement(engine: Engine) -> Iterator[Connection]:
    """For what one statement does: it is its own transaction, and one round trip instead of three."""
    with database_errors(), engine.connect() as connection:
        yield connection.execution_options(isolation_level="AUTOCOMMIT")


def _ask_those_that_rested(engine: Engine) -> None:
    """As SQLAlchemy's `pool_pre_ping`, which asks each time."""

    @event.listens_for(engine, "checkin")
    def rests(_connection: Any, pooled: Any) -> None:
        pooled.info["rests_since"] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def ask(connection: Any, pooled: Any, _proxy: Any) -> None:
        if time.monotonic() - pooled.info.get("rests_since", time.monotonic()) <= TRUSTED_FOR_S:
            return
        try:
            engine.dialect.do_ping(connection)
        except engine.dialect.loaded_dbapi.Error as error:
            raise DisconnectionError from error  # the pool makes another


@contextmanager
def database_errors() -> Iterator[None]:
    """Turns "PostgreSQL does not answer" into `DatabaseUnavailableError`; any other error passes through."""
    try:
        yield
    except (OperationalError, InterfaceError, PoolTimeoutError) as error:
        raise DatabaseUnavailableError("The database does not answer.") from error
    except DBAPIError as error:
        if error.connection_invalidated or _broke_off(error):
            raise DatabaseUnavailableError("The database does not answer.") from error
        raise


def _broke_off(error: DBAPIError) -> bool:
    """Whether it is libpq that complains: psycopg2's plain error, with no SQLSTATE, as no server sent one.

    A server that is killed between two packets ends so: "error with status PGRES_TUPLES_OK and no message from the
    libpq".
    """
    return type(error) is DatabaseError and getattr(error.orig, "pgcode", None) is None


def database_answers(engine: Engine) -> bool:
    """Whether a trivial statement succeeds now."""
    try:
        with database_errors(), engine.connect() as connection:
            connection.execute(text("SELECT 1"))
    except DatabaseUnavailableError:
        return False
    return True
