"""Which errors mean that PostgreSQL does not answer."""

from __future__ import annotations

import psycopg2
import pytest
from sqlalchemy.exc import DBAPIError

from services.analysis.database import database_errors
from services.analysis.errors import DatabaseUnavailableError


def met(error: psycopg2.Error) -> DBAPIError:
    """What SQLAlchemy makes of it."""
    wrapped = DBAPIError.instance("SELECT 1", {}, error, psycopg2.Error)
    assert isinstance(wrapped, DBAPIError)
    return wrapped


@pytest.mark.parametrize(
    "error",
    [
        psycopg2.OperationalError("server closed the connection unexpectedly"),
        psycopg2.InterfaceError("connection already closed"),
        psycopg2.DatabaseError("error with status PGRES_TUPLES_OK and no message from the libpq"),
    ],
)
def test_a_connection_that_breaks_off_is_a_database_that_does_not_answer(error: psycopg2.Error) -> None:
    with pytest.raises(DatabaseUnavailableError), database_errors():
        raise met(error)


@pytest.mark.parametrize("error", [psycopg2.ProgrammingError("can't adapt type 'object'"), psycopg2.DataError("22003")])
def test_a_mistake_of_ours_passes_through(error: psycopg2.Error) -> None:
    with pytest.raises(DBAPIError), database_errors():
        raise met(error)
