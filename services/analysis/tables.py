"""The tables, with CHECK constraints that make nonsense unstorable.

Migrations in `migrations/` create exactly this; a test compares the two.
"""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Enum,
    ForeignKey,
    Identity,
    Index,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TIMESTAMP
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from services.analysis.results import Band
from services.analysis.states import AnalysisState


class Base(DeclarativeBase):
    """Names every constraint, so that migrations can refer to them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_name)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {
        dt.datetime: TIMESTAMP(timezone=True),
        dict[str, Any]: JSONB(none_as_null=True),
        list[Any]: JSONB(none_as_null=True),
    }


def _values(enum: type[AnalysisState | Band]) -> list[str]:
    return [member.value for member in enum]


class ApiKeyRow(Base):
    """A key to use the API with. Keys are revoked, never deleted: their analyses name them."""

    __tablename__ = "api_key"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    name: Mapped[str]
    #: SHA-256 of the token's 256 random bits (`keys.py`).
    secret_digest: Mapped[bytes] = mapped_column(LargeBinary)
    scopes: Mapped[list[str]] = mapped_column(ARRAY(String))
    #: Photographs a day, UTC; NULL: no quota.
    daily_quota: Mapped[int | None]
    #: Uploads a minute; NULL: what the setting says for one address.
    uploads_per_minute: Mapped[int | None]
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    last_used_at: Mapped[dt.datetime | None]
    revoked_at: Mapped[dt.datetime | None]

    __table_args__ = (
        CheckConstraint("daily_quota > 0", name="quota_range"),
        CheckConstraint("uploads_per_minute > 0", name="rate_range"),
        CheckConstraint("octet_length(secret_digest) = 32", name="digest_is_sha256"),
        CheckConstraint(
            "cardinality(scopes) > 0 AND scopes <@ ARRAY['analyses:read', 'analyses:write']::varchar[]",
            name="known_scopes",
        ),
    )


class BatchRow(Base):
    """Several uploads sent together; its state is that of its analyses."""

    __tablename__ = "batch"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    #: SHA-256 of the Idempotency-Key, and of all uploads with their options, in their order; NULL: sent without a key,
    #: or nothing of it is left.
    idempotency_key_digest: Mapped[bytes | None] = mapped_column(LargeBinary, unique=True)
    uploads_digest: Mapped[bytes | None] = mapped_column(LargeBinary)

    __table_args__ = (
        CheckConstraint(
            "idempotency_key_digest IS NULL OR uploads_digest IS NOT NULL", name="repeatable_knows_its_uploads"
        ),
    )


class AnalysisRow(Base):
    """One uploaded photograph and what became of it. Its blobs are found by its id (`blobs.py`)."""

    __tablename__ = "analysis"

    #: 122 random bits (RFC 9562, version 4): knowing the id is the permission to read the analysis.
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    state: Mapped[AnalysisState] = mapped_column(Enum(AnalysisState, name="analysis_state", values_callable=_values))
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    #: Since when it is in its present stage, or has ended. Neither being taken nor being given back changes it: what is
    #: tried again and again has waited all that time.
    updated_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    finished_at: Mapped[dt.datetime | None]

    #: When the sweeper has to ring for it again; NULL once nothing is left to do.
    due_at: Mapped[dt.datetime | None]
    #: How often the present stage was begun; back to 0 when the stage is done.
    deliveries: Mapped[int] = mapped_column(server_default=text("0"))
    #: Fencing token of whoever holds the lease: a write with an old one changes nothing.
    lease_token: Mapped[uuid.UUID | None]
    lease_until: Mapped[dt.datetime | None]
    #: After this no stage begins any more: it fails, for nobody waits that long. NULL: sent before there was a limit.
    answer_by: Mapped[dt.datetime | None]

    #: The person asked for an answer in spite of soft quality reasons.
    force: Mapped[bool] = mapped_column(server_default=text("false"))
    #: False: the photograph is deleted as soon as the analysis is terminal.
    store: Mapped[bool] = mapped_column(server_default=text("true"))
    #: Sides the lesion is looked at from (1, 2, 4 or 8); NULL: as many as the stack was made for.
    turns: Mapped[int | None]
    #: The sender asked for what each network contributed and where each of them looked.
    explain: Mapped[bool] = mapped_column(server_default=text("false"))
    #: The person's age, where it was told.
    age_years: Mapped[int | None] = mapped_column(SmallInteger)
    images_deleted_at: Mapped[dt.datetime | None]

    #: Whose analysis it is; NULL: anonymous, and open to whoever knows its id.
    api_key_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("api_key.id"))

    batch_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("batch.id", ondelete="CASCADE"))
    batch_position: Mapped[int | None]

    #: SHA-256 of the Idempotency-Key and of the upload it came with.
    idempotency_key_digest: Mapped[bytes | None] = mapped_column(LargeBinary, unique=True)
    upload_digest: Mapped[bytes] = mapped_column(LargeBinary)

    #: What the preprocessor measured and did (hair share, concerns, quality), for the answer and for drift.
    preparation: Mapped[dict[str, Any] | None]

    reason_code: Mapped[str | None]
    reason_sentence: Mapped[str | None]

    probability: Mapped[float | None]
    #: The probability from the photograph alone; NULL where that is all there was.
    without_age: Mapped[float | None]
    band: Mapped[Band | None] = mapped_column(Enum(Band, name="band", values_callable=_values))
    classes: Mapped[dict[str, Any] | None]
    attention: Mapped[list[Any] | None]
    model_version: Mapped[str | None]
    explanation: Mapped[dict[str, Any] | None]

    __table_args__ = (
        CheckConstraint("probability BETWEEN 0 AND 1", name="probability_range"),
        CheckConstraint("without_age BETWEEN 0 AND 1", name="without_age_range"),
        CheckConstraint("age_years BETWEEN 0 AND 120", name="age_range"),
        CheckConstraint("deliveries >= 0", name="deliveries_range"),
        CheckConstraint("turns IN (1, 2, 4, 8)", name="turns_known"),
        CheckConstraint(
            "(state = 'done') = (num_nulls(probability, band, classes, attention, model_version) = 0)"
            " AND num_nulls(probability, band, classes, attention, model_version) IN (0, 5)",
            name="done_has_result",
        ),
        CheckConstraint(
            "(state IN ('rejected', 'failed')) = (num_nulls(reason_code, reason_sentence) = 0)"
            " AND num_nulls(reason_code, reason_sentence) IN (0, 2)",
            name="refusal_has_reason",
        ),
        CheckConstraint(
            "(state IN ('done', 'rejected', 'failed', 'deleted')) = (finished_at IS NOT NULL)",
            name="terminal_is_finished",
        ),
        CheckConstraint(
            "(state IN ('done', 'rejected', 'failed', 'deleted')) = (due_at IS NULL)",
            name="terminal_is_not_due",
        ),
        CheckConstraint(
            "(state IN ('preparing', 'stacking')) = (num_nulls(lease_token, lease_until) = 0)"
            " AND num_nulls(lease_token, lease_until) IN (0, 2)",
            name="working_has_lease",
        ),
        CheckConstraint(
            "state <> 'deleted' OR (preparation IS NULL AND images_deleted_at IS NOT NULL)",
            name="deleted_is_empty",
        ),
        CheckConstraint("(batch_id IS NULL) = (batch_position IS NULL)", name="batch_has_position"),
        Index("ix_analysis_due_at", "due_at", postgresql_where=text("due_at IS NOT NULL")),
        Index(
            "ix_analysis_finished_at",
            "finished_at",
            postgresql_where=text("state <> 'deleted'"),
        ),
        # Finished analyses whose photographs are still stored, by whether they may be and since when.
        Index(
            "ix_analysis_images",
            "store",
            "finished_at",
            postgresql_where=text("finished_at IS NOT NULL AND images_deleted_at IS NULL"),
        ),
        Index(
            "ix_analysis_of_key",
            "api_key_id",
            "created_at",
            "id",
            postgresql_where=text("api_key_id IS NOT NULL"),
        ),
        Index("uq_analysis_batch_position", "batch_id", "batch_position", unique=True),
    )


class PredictionRow(Base):
    """One network's opinion on one analysis."""

    __tablename__ = "prediction"

    analysis_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("analysis.id", ondelete="CASCADE"), primary_key=True)
    network: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int]
    logit: Mapped[float]
    probability: Mapped[float]

    __table_args__ = (CheckConstraint("probability BETWEEN 0 AND 1", name="probability_range"),)


class FeedbackRow(Base):
    """What a lesion was confirmed as; kept apart from the analysis, revocable."""

    __tablename__ = "feedback"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    analysis_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("analysis.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    diagnosis: Mapped[str]
    source: Mapped[str]
    consent: Mapped[bool]
    revoked_at: Mapped[dt.datetime | None]

    __table_args__ = (CheckConstraint("source IN ('biopsy', 'clinician', 'self')", name="known_source"),)


class DeadLetterRow(Base):
    """An analysis that failed on our side: for the operator, who may have it tried again."""

    __tablename__ = "dead_letter"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    analysis_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("analysis.id", ondelete="CASCADE"), index=True)
    #: The stage in which it failed, and how often that was begun.
    stage: Mapped[str]
    reason_code: Mapped[str]
    deliveries: Mapped[int]
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    retried_at: Mapped[dt.datetime | None]

    __table_args__ = (CheckConstraint("stage IN ('prepare', 'stack')", name="known_stage"),)


class CircuitRow(Base):
    """How one network has been doing (`circuits.py`), known to all stackers and to whoever reads the metrics."""

    __tablename__ = "circuit"

    network: Mapped[str] = mapped_column(primary_key=True)
    #: Calls in a row that were not answered.
    failures: Mapped[int] = mapped_column(server_default=text("0"))
    #: Until then nobody asks it; NULL: the circuit is closed.
    open_until: Mapped[dt.datetime | None]

    __table_args__ = (CheckConstraint("failures >= 0", name="failures_range"),)


class WebhookRow(Base):
    """An address that is told when an analysis of its API key has ended."""

    __tablename__ = "webhook"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    api_key_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("api_key.id"), index=True)
    url: Mapped[str]
    #: Not a digest: every message is signed with it. 32 bytes, or more of them sealed (`BLOB_KEYS`).
    secret: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())

    __table_args__ = (CheckConstraint("octet_length(secret) BETWEEN 32 AND 129", name="secret_length"),)


class WebhookDeliveryRow(Base):
    """One message to one webhook, and how its delivery went. Its id is the message's, the same at every try."""

    __tablename__ = "webhook_delivery"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    webhook_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("webhook.id", ondelete="CASCADE"))
    #: NULL: a test message, which the holder of the key asked for.
    analysis_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("analysis.id", ondelete="CASCADE"))
    event: Mapped[str]
    created_at: Mapped[dt.datetime] = mapped_column(server_default=func.now())
    #: When it is to be tried (again); NULL once it was delivered or given up.
    due_at: Mapped[dt.datetime | None]
    attempts: Mapped[int] = mapped_column(server_default=text("0"))
    delivered_at: Mapped[dt.datetime | None]
    last_status: Mapped[int | None]
    last_error: Mapped[str | None]

    __table_args__ = (
        CheckConstraint("attempts >= 0", name="attempts_range"),
        CheckConstraint("delivered_at IS NULL OR due_at IS NULL", name="delivered_is_not_due"),
        # Nobody is told twice of the same end; what failed may be tried again by the operator, and then end otherwise.
        UniqueConstraint("webhook_id", "analysis_id", "event"),
        # What is due of each webhook, the oldest first.
        Index("ix_webhook_delivery_due", "webhook_id", "due_at", postgresql_where=text("due_at IS NOT NULL")),
    )


class AuditEventRow(Base):
    """One line of the audit log (`audit.py`): a trigger refuses to change it, and to delete it within a year."""

    __tablename__ = "audit_event"

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    at: Mapped[dt.datetime] = mapped_column(server_default=func.now(), index=True)
    #: The API key; NULL: somebody without one. No foreign key: the log outlives what it speaks of.
    actor: Mapped[uuid.UUID | None]
    action: Mapped[str]
    #: The first digits of an id: fit to recognise an analysis by, not to open it.
    subject: Mapped[str | None]
    outcome: Mapped[str]

    __table_args__ = (CheckConstraint("length(subject) <= 8", name="subject_opens_nothing"),)
