"""batches can be repeated by Idempotency-Key"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("batch", sa.Column("idempotency_key_digest", sa.LargeBinary(), nullable=True))
    op.add_column("batch", sa.Column("uploads_digest", sa.LargeBinary(), nullable=True))
    op.create_unique_constraint(op.f("uq_batch_idempotency_key_digest"), "batch", ["idempotency_key_digest"])
    op.create_check_constraint(
        op.f("ck_batch_repeatable_knows_its_uploads"),
        "batch",
        "idempotency_key_digest IS NULL OR uploads_digest IS NOT NULL",
    )


def downgrade() -> None:
    op.drop_constraint(op.f("ck_batch_repeatable_knows_its_uploads"), "batch", type_="check")
    op.drop_constraint(op.f("uq_batch_idempotency_key_digest"), "batch", type_="unique")
    op.drop_column("batch", "uploads_digest")
    op.drop_column("batch", "idempotency_key_digest")
