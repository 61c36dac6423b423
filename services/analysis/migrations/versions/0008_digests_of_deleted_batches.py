"""batches keep digests only as long as they can be repeated"""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "UPDATE batch SET idempotency_key_digest = NULL, uploads_digest = NULL"
        " WHERE uploads_digest IS NOT NULL AND (idempotency_key_digest IS NULL OR NOT EXISTS"
        " (SELECT FROM analysis WHERE analysis.batch_id = batch.id AND analysis.state <> 'deleted'))"
    )


def downgrade() -> None:
    """What was forgotten stays so."""
