"""The record of analyses in PostgreSQL: the one truth about what was accepted and what became of it.

A stage works on an analysis under a *lease*: `claim` takes it, every later write names its token, and a write whose
token is no longer in the row changes nothing (`LeaseLostError`). So a task may be delivered twice, late, or to a
worker that dies: the outcome is recorded exactly once. `take_due` is what the sweeper asks for.

Workers see every analysis. The gateway asks `on_behalf_of` somebody: an API key sees its own analyses and anonymous
ones, everybody else only anonymous ones. What one may not see is not there.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    CursorResult,
    Engine,
    Row,
    Select,
    and_,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    true,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import insert as upsert

from services.analysis import statements
from services.analysis.database import database_errors, single_statement
from services.analysis.errors import (
    AnalysisFinishedError,
    AnalysisGoneError,
    AnalysisNotFoundError,
    DailyQuotaError,
    IdempotencyMismatchError,
    LeaseLostError,
)
from services.analysis.results import (
    CLASSES,
    NETWORKS,
    Band,
    Explanation,
    NetworkExplanation,
    NetworkOpinion,
    Reason,
    Result,
)
from services.analysis.statements import (
    NO_LEASE,
    UNHEARD_AFTER_S,
    announcement,
    claimable,
    in_seconds,
    too_late,
    under_lease,
    visible_to,
)
from services.analysis.states import STAGES, TERMINAL_STATES, AnalysisState, Stage, stage_of
from services.analysis.tables import AnalysisRow, ApiKeyRow, BatchRow, DeadLetterRow, FeedbackRow, PredictionRow
from services.analysis.webhooks import note_ended

TOO_MANY_DELIVERIES = Reason(
    code="delivered_too_often",
    sentence="This photograph could not be worked through after several tries. Please take a new one and try again.",
)

OUT_OF_TIME = Reason(
    code="out_of_time",
    sentence="This photograph could not be answered for in time. Nothing is wrong with it: please send it again.",
)

#: Seconds over which it is measured how many analyses are finished.
PACE_WINDOW_S = 60.0


CANCELLED = Reason(
    code="cancelled",
    sentence="The analysis was cancelled before it had ended, and its photograph was deleted.",
)


@dataclass(frozen=True, slots=True)
class Submission:
    """An upload as the gateway accepts it. Digests are SHA-256."""

    analysis_id: uuid.UUID
    upload_digest: bytes
    idempotency_key_digest: bytes | None = None
    force: bool = False
    store: bool = True
    turns: int | None = None
    #: Seconds after which nobody waits for the answer any more; None: as long as it takes.
    answer_within_s: float | None = None
    explain: bool = False
    #: Set when the gateway already knows that the file cannot be used: it is recorded as rejected, with no photograph.
    refusal: Reason | None = None


@dataclass(frozen=True, slots=True)
class Behalf:
    """On whose behalf the record is read and written: an API key's, or (None) that of somebody without one."""

    api_key_id: uuid.UUID | None


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to work on one analysis until `until` (database clock)."""

    analysis_id: uuid.UUID
    stage: Stage
    token: uuid.UUID
    until: dt.datetime
    #: 1 for the first try of this stage.
    delivery: int
    force: bool
    store: bool
    #: Sides to look at the lesion from; None: as many as the stack was made for.
    turns: int | None
    #: Seconds that are left of the time in which the analysis must be answered; None: no limit.
    time_left_s: float | None = None
    explain: bool = False


@dataclass(frozen=True, slots=True)
class NotClaimed:
    """There is nothing to do: somebody else holds it, or it is past this stage, deleted or unknown."""


@dataclass(frozen=True, slots=True)
class Exhausted:
    """The analysis was begun too often, or too late, and has just been recorded as failed."""

    store: bool
    reason: Reason = TOO_MANY_DELIVERIES


@dataclass(frozen=True, slots=True)
class Analysis:
    """One analysis as it is told to its owner."""

    id: uuid.UUID
    state: AnalysisState
    created_at: dt.datetime
    updated_at: dt.datetime
    finished_at: dt.datetime | None
    deliveries: int
    force: bool
    store: bool
    turns: int | None
    images_deleted_at: dt.datetime | None
    upload_digest: bytes
    explain: bool = False
    preparation: Mapping[str, Any] | None = None
    reason: Reason | None = None
    result: Result | None = None
    batch_id: uuid.UUID | None = None
    batch_position: int | None = None


@dataclass(frozen=True, slots=True)
class Backlog:
    """How much waits for one stage: `waiting` analyses, the oldest for `oldest_s` seconds."""

    stage: Stage
    waiting: int
    oldest_s: float


@dataclass(frozen=True, slots=True)
class Pressure:
    """How much work there is, and how quickly it is done."""

    #: Analyses that were accepted and are not finished.
    waiting: int
    #: How many seconds the oldest analysis has waited that nobody has begun yet (in its present stage).
    oldest_s: float
    #: Analyses finished in a second, measured while there was work; 0: none was.
    finished_per_s: float


@dataclass(frozen=True, slots=True)
class Feedback:
    """What a lesion was confirmed as, and by whom (`biopsy`, `clinician`, `self`)."""

    diagnosis: str
    source: str
    consent: bool
    id: uuid.UUID = field(default_factory=uuid.uuid4)


class AnalysisRecord:
    """Reads and writes the record. Every method is one transaction and raises `DatabaseUnavailableError`."""

    def __init__(self, engine: Engine, behalf: Behalf | None = None) -> None:
        self._engine = engine
        self._behalf = behalf

    def on_behalf_of(self, api_key_id: uuid.UUID | None) -> AnalysisRecord:
        """The record as far as a caller may see it; what the caller sends in belongs to its key.

        None is a caller without a key.
        """
        return AnalysisRecord(self._engine, Behalf(api_key_id))

    # --- the gateway's side -------------------------------------------------------------------------------------

    def accept(self, submission: Submission) -> Analysis:
        """Records an upload as queued. The same Idempotency-Key gives the analysis it gave before.

        Raises:
            IdempotencyMismatchError: the key belongs to an upload with other bytes or options.
            DailyQuotaError: the API key sent as many as it may today; nothing was recorded.
        """
        idempotency_key_digest = self._own(submission.idempotency_key_digest)
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
                    "new_api_key_id": self._api_key_id,
                    "answer_within_s": submission.answer_within_s,
                },
            ).first()
            if inserted is not None:
                self._keep_to_quota(connection)
                return _analysis(inserted, ())
            same_key = AnalysisRow.idempotency_key_digest == idempotency_key_digest
            analysis = _analyses(connection, select(AnalysisRow).where(same_key))[0]
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
        key_digest, uploads_digest = self._own(idempotency_key_digest), _digest_of_all(submissions)
        with self._transaction() as connection:
            inserted = connection.execute(
                upsert(BatchRow)
                .values(id=batch_id, idempotency_key_digest=key_digest, uploads_digest=uploads_digest)
                .on_conflict_do_nothing(index_elements=["idempotency_key_digest"])
                .returning(BatchRow.id)
            ).first()
            if inserted is None:
                return self._batch_before(connection, key_digest, uploads_digest)
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
            return tuple(_analyses(connection, rows.order_by(AnalysisRow.batch_position)))

    def _batch_before(
        self, connection: Connection, key_digest: bytes | None, uploads_digest: bytes
    ) -> tuple[Analysis, ...]:
        batch = connection.execute(
            select(BatchRow.id, BatchRow.uploads_digest).where(BatchRow.idempotency_key_digest == key_digest)
        ).one()
        if batch.uploads_digest != uploads_digest:
            raise IdempotencyMismatchError("The key was used before, with other photographs or other options.")
        rows = select(AnalysisRow).where(AnalysisRow.batch_id == batch.id, self._visible())
        return tuple(_analyses(connection, rows.order_by(AnalysisRow.batch_position)))

    def batch(self, batch_id: uuid.UUID) -> tuple[Analysis, ...]:
        """The analyses of a batch in the order of their upload.

        Raises:
            AnalysisNotFoundError: there is no such batch.
        """
        # Rows outlive the deletion of what is in them, so a batch always has some.
        with self._transaction() as connection:
            rows = select(AnalysisRow).where(AnalysisRow.batch_id == batch_id, self._visible())
            analyses = _analyses(connection, rows.order_by(AnalysisRow.batch_position))
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
            return tuple(_analyses(connection, newest_first.limit(limit)))

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
            analyses = _with_opinions(connection, rows)
        if not analyses:
            raise AnalysisNotFoundError
        if analyses[0].state is AnalysisState.DELETED:
            raise AnalysisGoneError
        return analyses[0]

    def waiting_ahead(self, analysis: Analysis) -> int:
        """How many analyses that are not yet finished were accepted before this one."""
        with single_statement(self._engine) as connection:
            count = connection.execute(
                select(func.count())
                .select_from(AnalysisRow)
                .where(AnalysisRow.due_at.is_not(None), AnalysisRow.created_at < analysis.created_at)
            ).scalar_one()
        return int(count)

    def backlog(self) -> tuple[Backlog, ...]:
        """What waits for each stage now."""
        with self._transaction() as connection:
            rows = connection.execute(
                select(
                    AnalysisRow.state,
                    func.count(),
                    func.extract("epoch", func.now() - func.min(AnalysisRow.updated_at)),
                )
                .where(AnalysisRow.due_at.is_not(None))
                .group_by(AnalysisRow.state)
            ).all()
        by_state = {state: (int(count), float(age)) for state, count, age in rows}
        return tuple(Backlog(stage, *by_state.get(stage.waiting, (0, 0.0))) for stage in STAGES)

    def pressure(self) -> Pressure:
        """How much waits, for how long, and how quickly it gets less.

        The pace is measured since the oldest waiting analysis arrived: since then nobody was idle for want of work.
        """
        with self._transaction() as connection:
            waiting, oldest_s = connection.execute(
                select(
                    func.count(),
                    func.coalesce(
                        func.extract(
                            "epoch",
                            func.now() - func.min(AnalysisRow.updated_at).filter(_never_begun()),
                        ),
                        0.0,
                    ),
                ).where(AnalysisRow.due_at.is_not(None))
            ).one()
            window_s = min(max(float(oldest_s), PACE_WINDOW_S / 12), PACE_WINDOW_S)
            finished = connection.execute(
                select(func.count()).where(
                    AnalysisRow.finished_at > in_seconds(-window_s),
                    AnalysisRow.state != AnalysisState.DELETED,
                )
            ).scalar_one()
        return Pressure(int(waiting), max(0.0, float(oldest_s)), finished / window_s)

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
                .values(**_refused(AnalysisState.FAILED, CANCELLED))
                .returning(AnalysisRow.id)
            ).first()
            if cancelled is not None:
                _ended(connection, analysis_id)
        analysis = self.find(analysis_id)
        if analysis.reason != CANCELLED:
            raise AnalysisFinishedError(f"The analysis is {analysis.state.value}.")
        return analysis

    def delete(self, analysis_id: uuid.UUID) -> None:
        """Empties the row and marks it deleted. Delete its blobs first, so that a crash between leaves no image.

        A worker that holds a lease on it finds the lease lost. This is idempotent.

        Raises:
            AnalysisNotFoundError: there never was one with this id, or it is another key's.
        """
        with self._transaction() as connection:
            changed = connection.execute(
                update(AnalysisRow)
                .where(AnalysisRow.id == analysis_id, self._visible())
                .values(**_emptied())
                .returning(AnalysisRow.id)
            ).first()
            if changed is None:
                raise AnalysisNotFoundError
            connection.execute(delete(PredictionRow).where(PredictionRow.analysis_id == analysis_id))
            connection.execute(delete(FeedbackRow).where(FeedbackRow.analysis_id == analysis_id))
            connection.execute(delete(DeadLetterRow).where(DeadLetterRow.analysis_id == analysis_id))
            _announce(connection, analysis_id)

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

    # --- the workers' side --------------------------------------------------------------------------------------

    def claim(
        self, analysis_id: uuid.UUID, stage: Stage, lease_s: float, max_deliveries: int
    ) -> Lease | NotClaimed | Exhausted:
        """Takes the analysis for `stage` for `lease_s` seconds, if it waits there or its last holder's lease ran out.

        The `max_deliveries + 1`-th try is not begun, nor one after the time in which the analysis must be answered: it
        is recorded as failed instead, and as a dead letter.
        """
        token = uuid.uuid4()
        with single_statement(self._engine) as connection:
            row = connection.execute(
                statements.claimed(stage),
                {
                    "analysis_id": analysis_id,
                    "token": token,
                    "lease_s": lease_s,
                    "max_deliveries": max_deliveries,
                },
            ).first()
            if row is not None:
                return Lease(
                    analysis_id,
                    stage,
                    token,
                    row.lease_until,
                    row.deliveries,
                    force=row.force,
                    store=row.store,
                    turns=row.turns,
                    time_left_s=None if row.time_left_s is None else float(row.time_left_s),
                    explain=row.explain,
                )
        with self._transaction() as connection:
            hopeless = (AnalysisRow.deliveries >= max_deliveries, TOO_MANY_DELIVERIES), (too_late(), OUT_OF_TIME)
            for condition, reason in hopeless:
                exhausted = connection.execute(
                    update(AnalysisRow)
                    .where(claimable(analysis_id, stage), condition)
                    .values(**_refused(AnalysisState.FAILED, reason))
                    .returning(AnalysisRow.store, AnalysisRow.deliveries)
                ).first()
                if exhausted is not None:
                    _bury(connection, analysis_id, stage, reason, exhausted.deliveries)
                    _ended(connection, analysis_id)
                    return Exhausted(store=exhausted.store, reason=reason)
        return NotClaimed()

    def advance(self, lease: Lease, preparation: Mapping[str, Any]) -> None:
        """Ends the preparation: the analysis waits for the stacker. Its tensor must be stored before."""
        with single_statement(self._engine) as connection:
            row = connection.execute(
                statements.advanced(),
                {
                    "analysis_id": lease.analysis_id,
                    "token": lease.token,
                    "new_preparation": dict(preparation),
                },
            ).first()
        if row is None:
            raise LeaseLostError

    def reject(self, lease: Lease, reason: Reason) -> None:
        """Ends the analysis with an expected refusal: the photograph cannot be answered for."""
        self._write(lease, _refused(AnalysisState.REJECTED, reason))

    def fail(self, lease: Lease, reason: Reason) -> None:
        """Ends the analysis with a failure on our side: a dead letter."""
        with self._transaction() as connection:
            _write_under_lease(connection, lease, _refused(AnalysisState.FAILED, reason))
            _bury(connection, lease.analysis_id, lease.stage, reason, lease.delivery)
            _ended(connection, lease.analysis_id)

    def retry_later(self, lease: Lease, delay_s: float, *, counted: bool = True) -> None:
        """Gives the lease back; the sweeper rings again in `delay_s` seconds.

        The delivery stays counted, unless it was not the image's fault (`counted=False`).
        """
        uncounted = {} if counted else {"deliveries": AnalysisRow.deliveries - 1}
        self._write(lease, {"state": lease.stage.waiting, "due_at": in_seconds(delay_s), **uncounted, **NO_LEASE})

    def postpone(self, analysis_id: uuid.UUID, stage: Stage, delay_s: float) -> bool:
        """Has the sweeper ring again in `delay_s` seconds for what could be claimed for `stage` now.

        False, and nothing changed, when there is no such analysis, or when it must have been answered by now: then
        `claim` ends it.
        """
        with self._transaction() as connection:
            changed = connection.execute(
                update(AnalysisRow)
                .where(claimable(analysis_id, stage), ~too_late())
                .values(due_at=in_seconds(delay_s))
                .returning(AnalysisRow.id)
            ).first()
        return changed is not None

    def finish(self, lease: Lease, result: Result) -> None:
        """Ends the analysis with its result; row, four predictions and messages are one statement, one round trip."""
        networks = {
            "networks_network": [opinion.name for opinion in result.networks],
            "networks_version": [opinion.version for opinion in result.networks],
            "networks_logit": [opinion.logit for opinion in result.networks],
            "networks_probability": [opinion.probability for opinion in result.networks],
        }
        doubts = [{"code": doubt.code, "sentence": doubt.sentence, "soft": True} for doubt in result.doubts]
        with single_statement(self._engine) as connection:
            row = connection.execute(
                statements.finished(doubted=bool(doubts)),
                {
                    "analysis_id": lease.analysis_id,
                    "token": lease.token,
                    "new_probability": result.probability,
                    "new_band": result.band,
                    "new_classes": dict(result.classes),
                    "new_attention": [list(row) for row in result.attention],
                    "new_model_version": result.model_version,
                    "new_explanation": asdict(result.explanation) if result.explanation else None,
                    **networks,
                    **({"doubts": doubts} if doubts else {}),
                },
            ).first()
        if row is None:
            raise LeaseLostError

    # --- the sweeper's side -------------------------------------------------------------------------------------

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
        over = or_(
            and_(AnalysisRow.finished_at < in_seconds(-image_retention_h * 3600), ~agreed),
            and_(AnalysisRow.finished_at.is_not(None), AnalysisRow.store.is_(False)),
        )
        with self._transaction() as connection:
            rows = connection.execute(
                select(AnalysisRow.id).where(over, AnalysisRow.images_deleted_at.is_(None)).limit(limit)
            ).scalars()
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

    # --- inside -------------------------------------------------------------------------------------------------

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

    def _own(self, idempotency_key_digest: bytes | None) -> bytes | None:
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

    def _write(self, lease: Lease, values: Mapping[str, Any]) -> None:
        with self._transaction() as connection:
            _write_under_lease(connection, lease, values)
            _ended(connection, lease.analysis_id)


def _never_begun() -> ColumnElement[bool]:
    waits = AnalysisRow.state.in_([stage.waiting for stage in STAGES])
    return and_(waits, AnalysisRow.deliveries == 0)


def _bury(connection: Connection, analysis_id: uuid.UUID, stage: Stage, reason: Reason, deliveries: int) -> None:
    connection.execute(
        insert(DeadLetterRow).values(
            id=uuid.uuid4(),
            analysis_id=analysis_id,
            stage=stage.name,
            reason_code=reason.code,
            deliveries=deliveries,
        )
    )


def _digest_of_all(submissions: Sequence[Submission]) -> bytes:
    """SHA-256 of what makes two batches the same: the uploads in their order, and how each is to be treated."""
    digest = hashlib.sha256()
    for submission in submissions:
        digest.update(submission.upload_digest + repr(_options(submission)).encode())
    return digest.digest()


def _options(of: Submission | Analysis) -> tuple[object, ...]:
    """How a photograph is to be treated: with the same bytes and other options it is another upload."""
    asked: tuple[object, ...] = (of.force, of.store, of.turns)
    # Left out where it was not asked for: digests of batches from before the option existed stay as they were.
    return (*asked, "explain") if of.explain else asked


def _begun(refusal: Reason | None) -> dict[str, Any]:
    if refusal is None:
        return {"state": AnalysisState.QUEUED, "due_at": in_seconds(UNHEARD_AFTER_S)}
    return {**_refused(AnalysisState.REJECTED, refusal), "images_deleted_at": func.now()}


def _refused(state: AnalysisState, reason: Reason) -> dict[str, Any]:
    return {
        "state": state,
        "finished_at": func.now(),
        "updated_at": func.now(),
        "due_at": None,
        "reason_code": reason.code,
        "reason_sentence": reason.sentence,
        **NO_LEASE,
    }


def _emptied() -> dict[str, Any]:
    forgotten = (
        "preparation", "reason_code", "reason_sentence", "probability", "band", "classes", "attention",
        "model_version", "explanation", "due_at", "idempotency_key_digest",
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


def _write_under_lease(connection: Connection, lease: Lease, values: Mapping[str, Any]) -> None:
    outcome: CursorResult[Any] = connection.execute(
        under_lease(values), {"analysis_id": lease.analysis_id, "token": lease.token}
    )
    if outcome.rowcount != 1:
        raise LeaseLostError


def _announce(connection: Connection, analysis_id: uuid.UUID) -> None:
    connection.execute(select(announcement(str(analysis_id))))


def _ended(connection: Connection, analysis_id: uuid.UUID) -> None:
    """Announces a change that may have been the last one, and notes what webhooks are to be told of it."""
    note_ended(connection, analysis_id)
    _announce(connection, analysis_id)


def _analyses(connection: Connection, rows: Select[AnalysisRow]) -> list[Analysis]:
    return _with_opinions(connection, connection.execute(rows.with_only_columns(*AnalysisRow.__table__.columns)).all())


def _with_opinions(connection: Connection, rows: Sequence[Row[Any]]) -> list[Analysis]:
    done = [row.id for row in rows if row.state is AnalysisState.DONE]
    opinions: dict[uuid.UUID, list[NetworkOpinion]] = {analysis_id: [] for analysis_id in done}
    if done:
        predictions = connection.execute(statements.predicted(), {"analysis_ids": done}).all()
        for row in sorted(predictions, key=lambda row: NETWORKS.index(row.network)):
            opinions[row.analysis_id].append(NetworkOpinion(row.network, row.version, row.logit, row.probability))
    return [_analysis(row, tuple(opinions.get(row.id, ()))) for row in rows]


def _analysis(row: Row[Any], opinions: tuple[NetworkOpinion, ...]) -> Analysis:
    result = None
    if row.state is AnalysisState.DONE:
        result = Result(
            probability=row.probability,
            band=Band(row.band),
            networks=opinions,
            classes=tuple((name, float(row.classes[name])) for name in CLASSES),
            attention=tuple(tuple(float(x) for x in line) for line in row.attention),
            model_version=row.model_version,
            explanation=_explanation(row.explanation),
        )
    reason = None
    if row.state in TERMINAL_STATES and row.reason_code is not None:
        reason = Reason(row.reason_code, row.reason_sentence)
    return Analysis(
        id=row.id,
        state=row.state,
        created_at=row.created_at,
        updated_at=row.updated_at,
        finished_at=row.finished_at,
        deliveries=row.deliveries,
        force=row.force,
        store=row.store,
        turns=row.turns,
        explain=row.explain,
        images_deleted_at=row.images_deleted_at,
        upload_digest=row.upload_digest,
        preparation=row.preparation,
        reason=reason,
        result=result,
        batch_id=row.batch_id,
        batch_position=row.batch_position,
    )


def _explanation(stored: Mapping[str, Any] | None) -> Explanation | None:
    if stored is None:
        return None
    networks = tuple(
        NetworkExplanation(
            name=network["name"],
            coefficient=network["coefficient"],
            contribution=network["contribution"],
            attention=tuple(tuple(float(x) for x in line) for line in network["attention"]),
        )
        for network in stored["networks"]
    )
    return Explanation(stored["intercept"], stored["low_below"], stored["high_from"], networks)
