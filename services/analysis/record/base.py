"""What every side of the record has: the database, and on whose behalf it is asked."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

from sqlalchemy import ColumnElement, Connection, Engine, select, true

from services.analysis.database import database_errors
from services.analysis.errors import AnalysisNotFoundError
from services.analysis.record.kinds import Behalf
from services.analysis.statements import visible_to
from services.analysis.tables import AnalysisRow


class Record:
    """One side of the record. Every method is one transaction and raises `DatabaseUnavailableError`."""

    def __init__(self, engine: Engine, behalf: Behalf | None = None) -> None:
        self._engine = engine
        self._behalf = behalf

    def on_behalf_of(self, api_key_id: uuid.UUID | None) -> Self:
        """The record as far as a caller may see it; what the caller sends in belongs to its key.

        None is a caller without a key.
        """
        return type(self)(self._engine, Behalf(api_key_id))

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        with database_errors(), self._engine.begin() as connection:
            yield connection

    @property
    def _api_key_id(self) -> uuid.UUID | None:
        return None if self._behalf is None else self._behalf.api_key_id

    def _visible(self) -> ColumnElement[bool]:
        return true() if self._behalf is None else visible_to(self._api_key_id)

    def _make_sure_it_is_there(self, connection: Connection, analysis_id: uuid.UUID) -> None:
        found = connection.execute(select(AnalysisRow.id).where(AnalysisRow.id == analysis_id, self._visible())).first()
        if found is None:
            raise AnalysisNotFoundError
