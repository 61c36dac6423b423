"""webhooks' secrets may be sealed"""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_NAME = "ck_webhook_secret_length"


def upgrade() -> None:
    op.drop_constraint(op.f(_NAME), "webhook")
    # A sealed one adds a head with a key's id of at most 64 characters, a nonce and a tag.
    op.create_check_constraint(op.f(_NAME), "webhook", "octet_length(secret) BETWEEN 32 AND 129")


def downgrade() -> None:
    # Whoever goes back without the keys could sign nothing: a webhook without its secret is no webhook.
    op.execute("DELETE FROM webhook WHERE octet_length(secret) <> 32")
    op.drop_constraint(op.f(_NAME), "webhook")
    op.create_check_constraint(op.f(_NAME), "webhook", "octet_length(secret) = 32")
