"""What lesions were confirmed as, for as long as whoever said so agrees."""

from __future__ import annotations

import uuid

from sqlalchemy import func, insert, select, update

from services.analysis.errors import AnalysisGoneError, AnalysisNotFoundError
from services.analysis.record.base import Record
from services.analysis.record.kinds import Feedback
from services.analysis.states import AnalysisState
from services.analysis.tables import AnalysisRow, FeedbackRow


class FeedbackRecord(Record):
    """Takes, shows and withdraws feedback."""

    def add_feedback(self, analysis_id: uuid.UUID, feedback: Feedback) -> None:
        """Stores what the lesion was confirmed as.

        Raises:
            AnalysisNotFoundError: there is no such analysis, or it is another key's.
            AnalysisGoneError: it was deleted, perhaps a moment ago.
        """
        with self._transaction() as connection:
            # Locked until the commit: what came between a deletion's look for feedback and its end would stay for ever.
            state = connection.execute(
                select(AnalysisRow.state)
                .where(AnalysisRow.id == analysis_id, self._visible())
                .with_for_update(read=True)
            ).scalar_one_or_none()
            if state is None:
                raise AnalysisNotFoundError
            if state is AnalysisState.DELETED:
                raise AnalysisGoneError
            connection.execute(
                insert(FeedbackRow).values(
                    id=feedback.id,
                    analysis_id=analysis_id,
                    diagnosis=feedback.diagnosis,
                    source=feedback.source,
                    consent=feedback.consent,
                )
            )

    def standing_feedback(self, analysis_id: uuid.UUID) -> tuple[Feedback, ...]:
        """What the lesion was said to be confirmed as and was not withdrawn since, the oldest first.

        Raises:
            AnalysisNotFoundError: there is no such analysis, or it is another key's.
        """
        with self._transaction() as connection:
            self._make_sure_it_is_there(connection, analysis_id)
            rows = connection.execute(
                select(FeedbackRow.diagnosis, FeedbackRow.source, FeedbackRow.consent, FeedbackRow.id)
                .where(FeedbackRow.analysis_id == analysis_id, FeedbackRow.revoked_at.is_(None))
                .order_by(FeedbackRow.created_at, FeedbackRow.id)
            ).all()
        return tuple(Feedback(row.diagnosis, row.source, consent=row.consent, id=row.id) for row in rows)

    def consented(self) -> tuple[tuple[uuid.UUID, Feedback], ...]:
        """Feedback whose photograph may be used for training now, with its analysis' id; the oldest first."""
        with self._transaction() as connection:
            rows = connection.execute(
                select(
                    FeedbackRow.analysis_id,
                    FeedbackRow.diagnosis,
                    FeedbackRow.source,
                    FeedbackRow.consent,
                    FeedbackRow.id,
                )
                .join(AnalysisRow, AnalysisRow.id == FeedbackRow.analysis_id)
                .where(
                    FeedbackRow.consent,
                    FeedbackRow.revoked_at.is_(None),
                    AnalysisRow.store,
                    AnalysisRow.images_deleted_at.is_(None),
                    self._visible(),
                )
                .order_by(FeedbackRow.created_at, FeedbackRow.id)
            ).all()
        return tuple(
            (row.analysis_id, Feedback(row.diagnosis, row.source, consent=row.consent, id=row.id)) for row in rows
        )

    def revoke_feedback(self, analysis_id: uuid.UUID, feedback_id: uuid.UUID) -> bool:
        """Withdraws a feedback and its consent; False when there is none with this id.

        Raises:
            AnalysisNotFoundError: there is no such analysis, or it is another key's.
        """
        with self._transaction() as connection:
            self._make_sure_it_is_there(connection, analysis_id)
            changed = connection.execute(
                update(FeedbackRow)
                .where(FeedbackRow.id == feedback_id, FeedbackRow.analysis_id == analysis_id)
                .values(revoked_at=func.now(), consent=False)
                .returning(FeedbackRow.id)
            ).first()
        return changed is not None
