"""The audit log: what was done by whom and when, in a table that can be added to and not changed.

It holds no personal data: of an analysis the first digits of its id, which open nothing; of a caller the id of its API
key, or nothing; no address, no file name, no answer. The database itself refuses to change a line, and to delete one
before its year is over (trigger `audit_event_is_append_only`).
"""

from __future__ import annotations

import datetime as dt
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, delete, func, insert, select

from services.analysis.database import database_errors, single_statement
from services.analysis.tables import AuditEventRow
from services.analysis.telemetry import log_id

#: Lines deleted in one statement, and seconds after which no further one begins: what is left is for the next time.
_FORGET_AT_ONCE = 10_000
_FORGET_WITHIN_S = 30.0


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One line. `actor` is an API key's id; None: somebody without a key. `subject` is the beginning of an id."""

    action: str
    outcome: str
    actor: uuid.UUID | None = None
    subject: str | None = None
    #: Set by the database.
    at: dt.datetime | None = None


class AuditLog:
    """Writes and reads the log. Every method is one transaction and raises `DatabaseUnavailableError`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def note(
        self, action: str, outcome: str, actor: uuid.UUID | None = None, subject: uuid.UUID | str | None = None
    ) -> None:
        """Adds a line; of `subject` only the beginning is kept."""
        line = {
            "action": action,
            "outcome": outcome,
            "actor": actor,
            "subject": None if subject is None else log_id(subject),
        }
        with single_statement(self._engine) as connection:
            connection.execute(insert(AuditEventRow).values(line))

    def events(self, since: dt.datetime | None = None, limit: int = 1_000) -> Iterator[AuditEvent]:
        """The newest `limit` lines since a moment, the oldest of them first."""
        rows = select(*AuditEventRow.__table__.columns).order_by(AuditEventRow.id.desc()).limit(limit)
        if since is not None:
            rows = rows.where(AuditEventRow.at >= since)
        with database_errors(), self._engine.begin() as connection:
            found = connection.execute(rows).all()
        yield from (AuditEvent(row.action, row.outcome, row.actor, row.subject, row.at) for row in reversed(found))

    def forget(self, retention_d: float) -> int:
        """Deletes lines that have been kept for their time, part by part; how many. This is idempotent."""
        end = time.monotonic() + _FORGET_WITHIN_S
        deleted = part = self._forget_part(retention_d)
        while part == _FORGET_AT_ONCE and time.monotonic() < end:
            part = self._forget_part(retention_d)
            deleted += part
        return deleted

    def _forget_part(self, retention_d: float) -> int:
        old: Any = (
            select(AuditEventRow.id)
            .where(AuditEventRow.at < func.now() - func.make_interval(0, 0, 0, 0, 0, 0, retention_d * 86_400))
            .limit(_FORGET_AT_ONCE)
        )
        with database_errors(), self._engine.begin() as connection:
            deleted = connection.execute(
                delete(AuditEventRow).where(AuditEventRow.id.in_(old.scalar_subquery())).returning(AuditEventRow.id)
            ).all()
        return len(deleted)
