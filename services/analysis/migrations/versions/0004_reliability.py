"""dead letters, circuits of the networks, and until when an analysis must be answered"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("analysis", sa.Column("answer_by", postgresql.TIMESTAMP(timezone=True), nullable=True))
    op.create_table(
        "dead_letter",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("analysis_id", sa.Uuid(), nullable=False),
        sa.Column("stage", sa.String(), nullable=False),
        sa.Column("reason_code", sa.String(), nullable=False),
        sa.Column("deliveries", sa.Integer(), nullable=False),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("retried_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.CheckConstraint("stage IN ('prepare', 'stack')", name=op.f("ck_dead_letter_known_stage")),
        sa.ForeignKeyConstraint(
            ["analysis_id"], ["analysis.id"], name=op.f("fk_dead_letter_analysis_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dead_letter")),
    )
    op.create_index(op.f("ix_dead_letter_analysis_id"), "dead_letter", ["analysis_id"], unique=False)
    op.create_table(
        "circuit",
        sa.Column("network", sa.String(), nullable=False),
        sa.Column("failures", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("open_until", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.CheckConstraint("failures >= 0", name=op.f("ck_circuit_failures_range")),
        sa.PrimaryKeyConstraint("network", name=op.f("pk_circuit")),
    )


def downgrade() -> None:
    op.drop_table("circuit")
    op.drop_index(op.f("ix_dead_letter_analysis_id"), table_name="dead_letter")
    op.drop_table("dead_letter")
    op.drop_column("analysis", "answer_by")
