"""the record of analyses"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "batch",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_batch")),
    )
    op.create_table(
        "analysis",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column(
            "state",
            sa.Enum(
                "queued",
                "preparing",
                "prepared",
                "stacking",
                "done",
                "rejected",
                "failed",
                "deleted",
                name="analysis_state",
            ),
            nullable=False,
        ),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("finished_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("due_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("deliveries", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("lease_token", sa.Uuid(), nullable=True),
        sa.Column("lease_until", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("force", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("store", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("turns", sa.Integer(), nullable=True),
        sa.Column("images_deleted_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("batch_id", sa.Uuid(), nullable=True),
        sa.Column("batch_position", sa.Integer(), nullable=True),
        sa.Column("idempotency_key_digest", sa.LargeBinary(), nullable=True),
        sa.Column("upload_digest", sa.LargeBinary(), nullable=False),
        sa.Column("preparation", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("reason_code", sa.String(), nullable=True),
        sa.Column("reason_sentence", sa.String(), nullable=True),
        sa.Column("probability", sa.Double(), nullable=True),
        sa.Column("band", sa.Enum("low", "unsure", "high", name="band"), nullable=True),
        sa.Column("classes", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("attention", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("model_version", sa.String(), nullable=True),
        sa.CheckConstraint(
            "(state = 'done') = (num_nulls(probability, band, classes, attention, model_version) = 0) AND num_nulls(probability, band, classes, attention, model_version) IN (0, 5)",
            name=op.f("ck_analysis_done_has_result"),
        ),
        sa.CheckConstraint(
            "(state IN ('done', 'rejected', 'failed', 'deleted')) = (due_at IS NULL)",
            name=op.f("ck_analysis_terminal_is_not_due"),
        ),
        sa.CheckConstraint(
            "(state IN ('done', 'rejected', 'failed', 'deleted')) = (finished_at IS NOT NULL)",
            name=op.f("ck_analysis_terminal_is_finished"),
        ),
        sa.CheckConstraint(
            "(state IN ('preparing', 'stacking')) = (num_nulls(lease_token, lease_until) = 0) AND num_nulls(lease_token, lease_until) IN (0, 2)",
            name=op.f("ck_analysis_working_has_lease"),
        ),
        sa.CheckConstraint(
            "(state IN ('rejected', 'failed')) = (num_nulls(reason_code, reason_sentence) = 0) AND num_nulls(reason_code, reason_sentence) IN (0, 2)",
            name=op.f("ck_analysis_refusal_has_reason"),
        ),
        sa.CheckConstraint(
            "state <> 'deleted' OR (preparation IS NULL AND images_deleted_at IS NOT NULL)",
            name=op.f("ck_analysis_deleted_is_empty"),
        ),
        sa.CheckConstraint(
            "(batch_id IS NULL) = (batch_position IS NULL)", name=op.f("ck_analysis_batch_has_position")
        ),
        sa.CheckConstraint("deliveries >= 0", name=op.f("ck_analysis_deliveries_range")),
        sa.CheckConstraint("turns IN (1, 2, 4, 8)", name=op.f("ck_analysis_turns_known")),
        sa.CheckConstraint("probability BETWEEN 0 AND 1", name=op.f("ck_analysis_probability_range")),
        sa.ForeignKeyConstraint(["batch_id"], ["batch.id"], name=op.f("fk_analysis_batch_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_analysis")),
        sa.UniqueConstraint("idempotency_key_digest", name=op.f("uq_analysis_idempotency_key_digest")),
    )
    op.create_index(
        "ix_analysis_due_at",
        "analysis",
        ["due_at"],
        unique=False,
        postgresql_where=sa.text("due_at IS NOT NULL"),
    )
    op.create_index(
        "ix_analysis_finished_at",
        "analysis",
        ["finished_at"],
        unique=False,
        postgresql_where=sa.text("state <> 'deleted'"),
    )
    op.create_index("uq_analysis_batch_position", "analysis", ["batch_id", "batch_position"], unique=True)
    op.create_table(
        "feedback",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("analysis_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("diagnosis", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("consent", sa.Boolean(), nullable=False),
        sa.Column("revoked_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.CheckConstraint("source IN ('biopsy', 'clinician', 'self')", name=op.f("ck_feedback_known_source")),
        sa.ForeignKeyConstraint(
            ["analysis_id"], ["analysis.id"], name=op.f("fk_feedback_analysis_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_feedback")),
    )
    op.create_index(op.f("ix_feedback_analysis_id"), "feedback", ["analysis_id"], unique=False)
    op.create_table(
        "prediction",
        sa.Column("analysis_id", sa.Uuid(), nullable=False),
        sa.Column("network", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("logit", sa.Double(), nullable=False),
        sa.Column("probability", sa.Double(), nullable=False),
        sa.CheckConstraint("probability BETWEEN 0 AND 1", name=op.f("ck_prediction_probability_range")),
        sa.ForeignKeyConstraint(
            ["analysis_id"], ["analysis.id"], name=op.f("fk_prediction_analysis_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("analysis_id", "network", name=op.f("pk_prediction")),
    )


def downgrade() -> None:
    op.drop_table("prediction")
    op.drop_index(op.f("ix_feedback_analysis_id"), table_name="feedback")
    op.drop_table("feedback")
    op.drop_index("uq_analysis_batch_position", table_name="analysis")
    op.drop_index("ix_analysis_finished_at", table_name="analysis", postgresql_where=sa.text("state <> 'deleted'"))
    op.drop_index("ix_analysis_due_at", table_name="analysis", postgresql_where=sa.text("due_at IS NOT NULL"))
    op.drop_table("analysis")
    op.drop_table("batch")
    op.execute("DROP TYPE analysis_state")
    op.execute("DROP TYPE band")
