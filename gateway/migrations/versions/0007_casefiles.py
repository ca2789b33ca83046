"""Orders of case files."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Creates the table. Spelled out: the models go on changing, this does not."""
    op.create_table(
        "casefile_orders",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("department", sa.String(31), nullable=False),
        sa.Column("number", sa.String(100), nullable=False),
        sa.Column("wanted", sa.Text(), nullable=False),
        sa.Column("account", sa.String(64), nullable=False),
        sa.Column("request", sa.String(64), nullable=False),
        sa.Column("ordered_at", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(10), nullable=False),
        sa.Column("code", sa.String(64), nullable=True),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.Column("record_id", sa.String(36), nullable=True),
        sa.Column("log_size", sa.BigInteger(), nullable=True),
        sa.Column("items", sa.Integer(), nullable=True),
        sa.Column("later", sa.BigInteger(), nullable=True),
        sa.Column("octets", sa.BigInteger(), nullable=True),
        sa.Column("sha256", sa.String(64), nullable=True),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
    )
    op.create_index("casefile_orders_state", "casefile_orders", ["state", "ordered_at"])
