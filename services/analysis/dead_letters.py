"""Dead letters: analyses that failed on our side, for an operator to look at and to have tried again.

The record writes one whenever it ends an analysis as failed (`record/leases.py`), in the same transaction. They go with
the analysis: deleted by its owner or by the retention clock, it leaves none.
"""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Engine, func, select, text, update

from services.analysis.database import database_errors
from services.analysis.statements import CHANGES_CHANNEL
from services.analysis.states import AnalysisState
from services.analysis.tables import AnalysisRow, DeadLetterRow


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One failure. `analysis_id` opens the analysis: show its beginning (`telemetry.log_id`), never all of it.

    `retried_at` is when another try was asked for, whether it could be made or not.
    """

    id: uuid.UUID
    analysis_id: uuid.UUID
    stage: str
    reason_code: str
    deliveries: int
    created_at: dt.datetime
    retried_at: dt.datetime | None
    image_stored: bool


class Retry(StrEnum):
    """What came of asking for another try."""

    QUEUED = "queued"
    UNKNOWN = "unknown"
    NOT_FAILED = "not_failed"
    IMAGE_GONE = "image_gone"


class DeadLetters:
    """Every method is one transaction and raises `DatabaseUnavailableError`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def all(self, *, retried_too: bool = False) -> tuple[DeadLetter, ...]:
        """The dead letters, the oldest first; without `retried_too` those that nobody had tried again."""
        rows = (
            select(*DeadLetterRow.__table__.columns, AnalysisRow.images_deleted_at)
            .join(AnalysisRow, AnalysisRow.id == DeadLetterRow.analysis_id)
            .order_by(DeadLetterRow.created_at, DeadLetterRow.id)
        )
        if not retried_too:
            rows = rows.where(DeadLetterRow.retried_at.is_(None))
        with database_errors(), self._engine.begin() as connection:
            return tuple(_dead_letter(row) for row in connection.execute(rows))

    def count(self) -> int:
        """How many nobody has had tried again."""
        with database_errors(), self._engine.begin() as connection:
            unseen = select(func.count()).select_from(DeadLetterRow).where(DeadLetterRow.retried_at.is_(None))
            return int(connection.execute(unseen).scalar_one())

    def retry(self, dead_letter_id: uuid.UUID, answer_within_s: float) -> Retry:
        """Queues the analysis again from its beginning, with all its tries and `answer_within_s` seconds.

        The sweeper rings for it. Two at once: one of them finds it `NOT_FAILED`. One whose photograph is gone counts as
        seen to from then on: there is nothing that anybody could do.
        """
        with database_errors(), self._engine.begin() as connection:
            letter = connection.execute(
                select(DeadLetterRow.analysis_id, AnalysisRow.state, AnalysisRow.images_deleted_at)
                .join(AnalysisRow, AnalysisRow.id == DeadLetterRow.analysis_id)
                .where(DeadLetterRow.id == dead_letter_id)
                .with_for_update()
            ).first()
            if letter is None:
                return Retry.UNKNOWN
            if letter.state is not AnalysisState.FAILED:
                return Retry.NOT_FAILED
            connection.execute(
                update(DeadLetterRow)
                .where(DeadLetterRow.analysis_id == letter.analysis_id, DeadLetterRow.retried_at.is_(None))
                .values(retried_at=func.now())
            )
            if letter.images_deleted_at is not None:
                return Retry.IMAGE_GONE
            connection.execute(
                update(AnalysisRow)
                .where(AnalysisRow.id == letter.analysis_id)
                .values(
                    state=AnalysisState.QUEUED,
                    due_at=func.now(),
                    updated_at=func.now(),
                    answer_by=func.now() + func.make_interval(0, 0, 0, 0, 0, 0, answer_within_s),
                    deliveries=0,
                    **dict.fromkeys(("finished_at", "preparation", "reason_code", "reason_sentence")),
                )
            )
            connection.execute(
                text("SELECT pg_notify(:channel, :id)"), {"channel": CHANGES_CHANNEL, "id": str(letter.analysis_id)}
            )
        return Retry.QUEUED


def _dead_letter(row: Any) -> DeadLetter:
    return DeadLetter(
        id=row.id,
        analysis_id=row.analysis_id,
        stage=row.stage,
        reason_code=row.reason_code,
        deliveries=row.deliveries,
        created_at=row.created_at,
        retried_at=row.retried_at,
        image_stored=row.images_deleted_at is None,
    )
