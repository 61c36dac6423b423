"""What the owner of an analysis may ask and order."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

from sqlalchemy import Connection, delete, exists, func, select, tuple_, update

from services.analysis import statements
from services.analysis.database import single_statement
from services.analysis.errors import AnalysisFinishedError, AnalysisGoneError, AnalysisNotFoundError
from services.analysis.record.base import Record
from services.analysis.record.kinds import CANCELLED, Analysis
from services.analysis.record.rows import announce, announce_end, refused, selected, with_opinions
from services.analysis.statements import NO_LEASE
from services.analysis.states import AnalysisState
from services.analysis.tables import (
    AnalysisRow,
    BatchRow,
    DeadLetterRow,
    FeedbackRow,
    PredictionRow,
    WebhookDeliveryRow,
    WebhookRow,
)


class Ownership(Record):
    """Shows, cancels and deletes."""

    def find(self, analysis_id: uuid.UUID) -> Analysis:
        """The analysis as it stands.

        Raises:
            AnalysisNotFoundError: there never was one with this id, or it is another key's.
            AnalysisGoneError: it was deleted.
        """
        with single_statement(self._engine) as connection:
            asked: dict[str, Any] = {"analysis_id": analysis_id}
            if self._behalf is not None:
                asked["api_key_id"] = self._api_key_id
            rows = connection.execute(statements.found(by_anybody=self._behalf is None), asked).all()
            analyses = with_opinions(connection, rows)
        if not analyses:
            raise AnalysisNotFoundError
        if analyses[0].state is AnalysisState.DELETED:
            raise AnalysisGoneError
        return analyses[0]

    def batch(self, batch_id: uuid.UUID) -> tuple[Analysis, ...]:
        """The analyses of a batch in the order of their upload.

        Raises:
            AnalysisNotFoundError: there is no such batch.
        """
        # Rows outlive the deletion of what is in them, so a batch always has some.
        with self._transaction() as connection:
            rows = select(AnalysisRow).where(AnalysisRow.batch_id == batch_id, self._visible())
            analyses = selected(connection, rows.order_by(AnalysisRow.batch_position))
        if not analyses:
            raise AnalysisNotFoundError("There is no batch with this id.")
        return tuple(analyses)

    def own(self, limit: int, before: tuple[dt.datetime, uuid.UUID] | None = None) -> tuple[Analysis, ...]:
        """The API key's own analyses, the newest first, at most `limit`; deleted ones are left out.

        `before` is when the last one of the page before was created, and its id.
        """
        rows = select(AnalysisRow).where(
            AnalysisRow.api_key_id == self._api_key_id, AnalysisRow.state != AnalysisState.DELETED
        )
        place = tuple_(AnalysisRow.created_at, AnalysisRow.id)
        if before is not None:
            rows = rows.where(place < before)
        with self._transaction() as connection:
            newest_first = rows.order_by(AnalysisRow.created_at.desc(), AnalysisRow.id.desc())
            return tuple(selected(connection, newest_first.limit(limit)))

    def waiting_ahead(self, analysis: Analysis) -> int:
        """How many analyses that are not yet finished were accepted before this one."""
        with single_statement(self._engine) as connection:
            count = connection.execute(
                select(func.count())
                .select_from(AnalysisRow)
                .where(AnalysisRow.due_at.is_not(None), AnalysisRow.created_at < analysis.created_at)
            ).scalar_one()
        return int(count)

    def cancel(self, analysis_id: uuid.UUID) -> Analysis:
        """Ends an analysis that is not finished, as failed with the reason `cancelled`. This is idempotent.

        A worker that holds a lease on it finds the lease lost.

        Raises:
            AnalysisNotFoundError: there never was one with this id, or it is another key's.
            AnalysisGoneError: it was deleted.
            AnalysisFinishedError: it has ended by itself.
        """
        with self._transaction() as connection:
            cancelled = connection.execute(
                update(AnalysisRow)
                .where(AnalysisRow.id == analysis_id, self._visible(), AnalysisRow.due_at.is_not(None))
                .values(**refused(AnalysisState.FAILED, CANCELLED))
                .returning(AnalysisRow.id)
            ).first()
            if cancelled is not None:
                announce_end(connection, analysis_id)
        analysis = self.find(analysis_id)
        if analysis.reason != CANCELLED:
            raise AnalysisFinishedError(f"The analysis is {analysis.state.value}.")
        return analysis

    def delete(self, analysis_id: uuid.UUID) -> None:
        """Empties the row and marks it deleted. Delete its blobs first, so that a crash between leaves no image.

        A worker that holds a lease on it finds the lease lost, and webhooks that were not told yet are not told any
        more. This is idempotent.

        Raises:
            AnalysisNotFoundError: there never was one with this id, or it is another key's.
        """
        with self._transaction() as connection:
            changed = connection.execute(
                update(AnalysisRow)
                .where(AnalysisRow.id == analysis_id, self._visible())
                .values(**_emptied())
                .returning(AnalysisRow.batch_id, AnalysisRow.api_key_id)
            ).first()
            if changed is None:
                raise AnalysisNotFoundError
            connection.execute(delete(PredictionRow).where(PredictionRow.analysis_id == analysis_id))
            connection.execute(delete(FeedbackRow).where(FeedbackRow.analysis_id == analysis_id))
            connection.execute(delete(DeadLetterRow).where(DeadLetterRow.analysis_id == analysis_id))
            # By the key's webhooks, which an index leads from to the analysis.
            webhooks = select(WebhookRow.id).where(WebhookRow.api_key_id == changed.api_key_id)
            connection.execute(
                delete(WebhookDeliveryRow).where(
                    WebhookDeliveryRow.webhook_id.in_(webhooks), WebhookDeliveryRow.analysis_id == analysis_id
                )
            )
            if changed.batch_id is not None:
                _forget_what_was_sent(connection, changed.batch_id)
            announce(connection, analysis_id)


def _forget_what_was_sent(connection: Connection, batch_id: uuid.UUID) -> None:
    """Takes its digests from a batch that nothing is left of: it can be repeated no more."""
    # Locked until the commit: two deletions at once would each see what the other one deletes.
    connection.execute(select(BatchRow.id).where(BatchRow.id == batch_id).with_for_update())
    left = exists().where(AnalysisRow.batch_id == batch_id, AnalysisRow.state != AnalysisState.DELETED)
    connection.execute(
        update(BatchRow).where(BatchRow.id == batch_id, ~left).values(idempotency_key_digest=None, uploads_digest=None)
    )


def _emptied() -> dict[str, Any]:
    forgotten = (
        "preparation", "reason_code", "reason_sentence", "probability", "band", "classes", "attention",
        "model_version", "explanation", "age_years", "without_age", "due_at", "idempotency_key_digest",
    )  # fmt: skip
    return {
        "state": AnalysisState.DELETED,
        "finished_at": func.coalesce(AnalysisRow.finished_at, func.now()),
        "images_deleted_at": func.coalesce(AnalysisRow.images_deleted_at, func.now()),
        "updated_at": func.now(),
        "upload_digest": b"",
        **dict.fromkeys(forgotten),
        **NO_LEASE,
    }
