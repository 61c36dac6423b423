"""What the sweeper asks for: work that nobody heard of, and what is past its time."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from sqlalchemy import and_, exists, func, or_, select, update

from services.analysis.record.base import Record
from services.analysis.statements import UNHEARD_AFTER_S, in_seconds
from services.analysis.states import STAGES, AnalysisState, Stage, stage_of
from services.analysis.tables import AnalysisRow, FeedbackRow


class Upkeep(Record):
    """Finds what is due."""

    def take_due(self, limit: int, stages: Sequence[Stage] = STAGES) -> tuple[tuple[Stage, uuid.UUID], ...]:
        """Analyses that wait unheard or whose lease ran out, at most `limit`; each is due again a while later.

        Several sweepers may ask at once: rows another one is looking at are skipped.
        """
        due = (
            select(AnalysisRow.id)
            .where(
                AnalysisRow.due_at <= func.now(),
                AnalysisRow.state.in_([state for stage in stages for state in (stage.waiting, stage.working)]),
            )
            .order_by(AnalysisRow.due_at)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        with self._transaction() as connection:
            rows = connection.execute(
                update(AnalysisRow)
                .where(AnalysisRow.id.in_(due.scalar_subquery()))
                .values(due_at=in_seconds(UNHEARD_AFTER_S))
                .returning(AnalysisRow.id, AnalysisRow.state)
            ).all()
        found = ((stage_of(row.state), row.id) for row in rows)
        return tuple((stage, analysis_id) for stage, analysis_id in found if stage is not None)

    def images_past_retention(self, image_retention_h: float, limit: int) -> tuple[uuid.UUID, ...]:
        """Finished analyses whose photographs are still stored although their time is over.

        A photograph that may be used for training stays as long as its result, or until the consent is revoked: what a
        biopsy finds is known only weeks later, and a picture that is gone by then helps nobody.
        """
        agreed = exists().where(
            FeedbackRow.analysis_id == AnalysisRow.id, FeedbackRow.consent, FeedbackRow.revoked_at.is_(None)
        )
        # Two ranges of `ix_analysis_images`, for this is asked every few seconds.
        over = or_(
            and_(AnalysisRow.store, AnalysisRow.finished_at < in_seconds(-image_retention_h * 3600), ~agreed),
            ~AnalysisRow.store,
        )
        stored = and_(AnalysisRow.finished_at.is_not(None), AnalysisRow.images_deleted_at.is_(None))
        with self._transaction() as connection:
            rows = connection.execute(select(AnalysisRow.id).where(stored, over).limit(limit)).scalars()
            return tuple(rows)

    def images_deleted(self, analysis_id: uuid.UUID) -> None:
        """Records that the blobs of the analysis are gone. This is idempotent."""
        with self._transaction() as connection:
            connection.execute(
                update(AnalysisRow)
                .where(AnalysisRow.id == analysis_id, AnalysisRow.images_deleted_at.is_(None))
                .values(images_deleted_at=func.now())
            )

    def with_images(self, analysis_ids: Sequence[uuid.UUID]) -> frozenset[uuid.UUID]:
        """Those of the analyses whose blobs are still wanted; all others are unknown, deleted or past retention."""
        with self._transaction() as connection:
            rows = connection.execute(
                select(AnalysisRow.id).where(
                    AnalysisRow.id.in_(analysis_ids),
                    AnalysisRow.state != AnalysisState.DELETED,
                    AnalysisRow.images_deleted_at.is_(None),
                )
            ).scalars()
            return frozenset(rows)

    def results_past_retention(self, result_retention_d: float, limit: int) -> tuple[uuid.UUID, ...]:
        """Analyses whose result has been kept for its time."""
        with self._transaction() as connection:
            rows = connection.execute(
                select(AnalysisRow.id)
                .where(
                    AnalysisRow.finished_at < in_seconds(-result_retention_d * 86_400),
                    AnalysisRow.state != AnalysisState.DELETED,
                )
                .limit(limit)
            ).scalars()
            return tuple(rows)
