"""the person's age, where it was told, and what the photograph alone says"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("analysis", sa.Column("age_years", sa.SmallInteger(), nullable=True))
    op.add_column("analysis", sa.Column("without_age", sa.Float(), nullable=True))
    op.create_check_constraint(op.f("ck_analysis_age_range"), "analysis", "age_years BETWEEN 0 AND 120")
    op.create_check_constraint(op.f("ck_analysis_without_age_range"), "analysis", "without_age BETWEEN 0 AND 1")


def downgrade() -> None:
    op.drop_column("analysis", "without_age")
    op.drop_column("analysis", "age_years")
