"""deliveries that are due are found webhook by webhook"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

DUE = sa.text("due_at IS NOT NULL")


def upgrade() -> None:
    op.create_index("ix_webhook_delivery_due", "webhook_delivery", ["webhook_id", "due_at"], postgresql_where=DUE)
    op.drop_index("ix_webhook_delivery_due_at", table_name="webhook_delivery")


def downgrade() -> None:
    op.create_index("ix_webhook_delivery_due_at", "webhook_delivery", ["due_at"], postgresql_where=DUE)
    op.drop_index("ix_webhook_delivery_due", table_name="webhook_delivery")
