"""Wrong one-time codes behind the right password are counted apart."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Adds the column; nobody has any yet."""
    op.add_column("accounts", sa.Column("wrong_codes", sa.Integer(), nullable=False, server_default="0"))
