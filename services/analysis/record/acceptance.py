"""An upload becomes an analysis: once for each Idempotency-Key, within a key's quota."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, func, insert, select
from sqlalchemy.dialects.postgresql import insert as upsert

from services.analysis import statements
from services.analysis.database import single_statement
from services.analysis.errors import DailyQuotaError, IdempotencyMismatchError
from services.analysis.record.base import Record
from services.analysis.record.kinds import Analysis, Submission
from services.analysis.record.rows import analysis_of, refused, selected
from services.analysis.results import Reason
from services.analysis.statements import UNHEARD_AFTER_S, in_seconds
from services.analysis.states import AnalysisState
from services.analysis.tables import AnalysisRow, ApiKeyRow, BatchRow
from services.analysis.webhooks import note_ended


class Acceptance(Record):
    """Records what was sent in."""

    def accept(self, submission: Submission) -> Analysis:
        """Records an upload as queued. The same Idempotency-Key gives the analysis it gave before.

        Raises:
            IdempotencyMismatchError: the key belongs to an upload with other bytes or options.
            DailyQuotaError: the API key sent as many as it may today; nothing was recorded.
        """
        idempotency_key_digest = self._key_digest(submission.idempotency_key_digest)
        counts = self._api_key_id is not None
        with self._transaction() if counts else single_statement(self._engine) as connection:
            inserted = connection.execute(
                statements.accepted(),
                {
                    "new_id": submission.analysis_id,
                    "new_upload_digest": submission.upload_digest,
                    "new_idempotency_key_digest": idempotency_key_digest,
                    "new_force": submission.force,
                    "new_store": submission.store,
                    "new_turns": submission.turns,
                    "new_explain": submission.explain,
                    "new_age_years": submission.age_years,
                    "new_api_key_id": self._api_key_id,
                    "answer_within_s": submission.answer_within_s,
                },
            ).first()
            if inserted is not None:
                self._keep_to_quota(connection)
                return analysis_of(inserted, ())
            same_key = AnalysisRow.idempotency_key_digest == idempotency_key_digest
            found = selected(connection, select(AnalysisRow).where(same_key))
        if not found:
            # It was deleted between the two statements, which sets its key free for this one.
            return self.accept(submission)
        analysis = found[0]
        if (analysis.upload_digest, *_options(analysis)) != (submission.upload_digest, *_options(submission)):
            raise IdempotencyMismatchError("The key was used before, with another photograph or other options.")
        return analysis

    def accept_batch(
        self, batch_id: uuid.UUID, submissions: Sequence[Submission], idempotency_key_digest: bytes | None = None
    ) -> tuple[Analysis, ...]:
        """Records a batch and all its uploads in one transaction, in the order given: all of them or none.

        The same Idempotency-Key gives the analyses it gave before, which name the batch they belong to.

        Raises:
            IdempotencyMismatchError: the key belongs to a batch of other uploads or options.
            DailyQuotaError: the API key may not send that many any more today.
        """
        key_digest = self._key_digest(idempotency_key_digest)
        # Nothing but a repetition is compared with it.
        uploads_digest = None if key_digest is None else _digest_of_all(submissions)
        with self._transaction() as connection:
            inserted = connection.execute(
                upsert(BatchRow)
                .values(id=batch_id, idempotency_key_digest=key_digest, uploads_digest=uploads_digest)
                .on_conflict_do_nothing(index_elements=["idempotency_key_digest"])
                .returning(BatchRow.id)
            ).first()
            if inserted is not None:
                return self._filled(connection, batch_id, submissions)
            before = self._batch_before(connection, key_digest, uploads_digest)
        # As in `accept`: deleted between the two statements.
        return before or self.accept_batch(batch_id, submissions, idempotency_key_digest)

    def _filled(
        self, connection: Connection, batch_id: uuid.UUID, submissions: Sequence[Submission]
    ) -> tuple[Analysis, ...]:
        for position, submission in enumerate(submissions):
            connection.execute(
                insert(AnalysisRow).values(
                    id=submission.analysis_id,
                    upload_digest=submission.upload_digest,
                    force=submission.force,
                    store=submission.store,
                    turns=submission.turns,
                    answer_by=in_seconds(submission.answer_within_s),
                    explain=submission.explain,
                    age_years=submission.age_years,
                    api_key_id=self._api_key_id,
                    batch_id=batch_id,
                    batch_position=position,
                    **_begun(submission.refusal),
                )
            )
            if submission.refusal is not None:
                note_ended(connection, submission.analysis_id)
        self._keep_to_quota(connection)
        rows = select(AnalysisRow).where(AnalysisRow.batch_id == batch_id)
        return tuple(selected(connection, rows.order_by(AnalysisRow.batch_position)))

    def _batch_before(
        self, connection: Connection, key_digest: bytes | None, uploads_digest: bytes | None
    ) -> tuple[Analysis, ...] | None:
        """The batch of a key that was used before; None where it is deleted by now."""
        batch = connection.execute(
            select(BatchRow.id, BatchRow.uploads_digest).where(BatchRow.idempotency_key_digest == key_digest)
        ).first()
        if batch is None:
            return None
        if batch.uploads_digest != uploads_digest:
            raise IdempotencyMismatchError("The key was used before, with other photographs or other options.")
        rows = select(AnalysisRow).where(AnalysisRow.batch_id == batch.id, self._visible())
        return tuple(selected(connection, rows.order_by(AnalysisRow.batch_position)))

    def _key_digest(self, idempotency_key_digest: bytes | None) -> bytes | None:
        """Two API keys may use the same Idempotency-Key without meeting each other's analyses."""
        if idempotency_key_digest is None or self._api_key_id is None:
            return idempotency_key_digest
        return hashlib.sha256(self._api_key_id.bytes + idempotency_key_digest).digest()

    def _keep_to_quota(self, connection: Connection) -> None:
        """Takes back what the transaction recorded if it is more than the API key may send today.

        The key's row is locked until the commit, so two uploads at once cannot both be the last one.
        """
        if self._api_key_id is None:
            return
        quota = connection.execute(
            select(ApiKeyRow.daily_quota).where(ApiKeyRow.id == self._api_key_id).with_for_update(key_share=True)
        ).scalar_one()
        if quota is None:
            return
        today = func.date_trunc("day", func.now(), "UTC")
        used, tomorrow_in_s = connection.execute(
            select(
                func.count(),
                func.extract("epoch", today + func.make_interval(0, 0, 0, 1) - func.now()),
            ).where(AnalysisRow.api_key_id == self._api_key_id, AnalysisRow.created_at >= today)
        ).one()
        if used > quota:
            raise DailyQuotaError(f"At most {quota:,} photographs a day are taken.", int(tomorrow_in_s) + 1)


def _digest_of_all(submissions: Sequence[Submission]) -> bytes:
    """SHA-256 of what makes two batches the same: the uploads in their order, and how each is to be treated."""
    digest = hashlib.sha256()
    for submission in submissions:
        digest.update(submission.upload_digest + repr(_options(submission)).encode())
    return digest.digest()


def _options(of: Submission | Analysis) -> tuple[object, ...]:
    """How a photograph is to be treated: with the same bytes and other options it is another upload."""
    # What came later is left out where it was not sent: digests of batches from before it existed stay as they were.
    later = ["explain"] if of.explain else []
    if of.age_years is not None:
        later.append(f"age {of.age_years}")
    return (of.force, of.store, of.turns, *later)


def _begun(refusal: Reason | None) -> dict[str, Any]:
    if refusal is None:
        return {"state": AnalysisState.QUEUED, "due_at": in_seconds(UNHEARD_AFTER_S)}
    return {**refused(AnalysisState.REJECTED, refusal), "images_deleted_at": func.now()}
