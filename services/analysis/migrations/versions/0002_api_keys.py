"""API keys, and the analyses that belong to one"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "api_key",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("secret_digest", sa.LargeBinary(), nullable=False),
        sa.Column("scopes", postgresql.ARRAY(sa.String()), nullable=False),
        sa.Column("daily_quota", sa.Integer(), nullable=True),
        sa.Column("uploads_per_minute", sa.Integer(), nullable=True),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("last_used_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("revoked_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.CheckConstraint("daily_quota > 0", name=op.f("ck_api_key_quota_range")),
        sa.CheckConstraint("uploads_per_minute > 0", name=op.f("ck_api_key_rate_range")),
        sa.CheckConstraint("octet_length(secret_digest) = 32", name=op.f("ck_api_key_digest_is_sha256")),
        sa.CheckConstraint(
            "cardinality(scopes) > 0 AND scopes <@ ARRAY['analyses:read', 'analyses:write']::varchar[]",
            name=op.f("ck_api_key_known_scopes"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_key")),
    )
    op.add_column("analysis", sa.Column("api_key_id", sa.Uuid(), nullable=True))
    op.create_foreign_key(op.f("fk_analysis_api_key_id"), "analysis", "api_key", ["api_key_id"], ["id"])
    op.create_index(
        "ix_analysis_of_key",
        "analysis",
        ["api_key_id", "created_at", "id"],
        unique=False,
        postgresql_where=sa.text("api_key_id IS NOT NULL"),
    )


def downgrade() -> None:
    # Without the column, analyses of keys would become readable by anybody who knows their id.
    op.execute("DELETE FROM analysis WHERE api_key_id IS NOT NULL")
    op.drop_index("ix_analysis_of_key", table_name="analysis", postgresql_where=sa.text("api_key_id IS NOT NULL"))
    op.drop_constraint(op.f("fk_analysis_api_key_id"), "analysis", type_="foreignkey")
    op.drop_column("analysis", "api_key_id")
    op.drop_table("api_key")
