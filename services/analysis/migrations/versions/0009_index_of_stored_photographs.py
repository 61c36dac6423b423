"""photographs past their retention are found by an index"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "ix_analysis_images",
        "analysis",
        ["store", "finished_at"],
        unique=False,
        postgresql_where=sa.text("finished_at IS NOT NULL AND images_deleted_at IS NULL"),
    )


def downgrade() -> None:
    op.drop_index(
        "ix_analysis_images",
        table_name="analysis",
        postgresql_where=sa.text("finished_at IS NOT NULL AND images_deleted_at IS NULL"),
    )
