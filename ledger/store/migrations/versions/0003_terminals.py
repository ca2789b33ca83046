"""Terminals: who seals for a department, and which key-encryption keys they drew."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Creates the table and widens `keks`. Spelled out: `ledger.store.models` goes on changing, this does not."""
    op.create_table(
        "terminals",
        sa.Column("kid", sa.String(43), primary_key=True),
        sa.Column("log", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("public", sa.LargeBinary(32), nullable=False),
        sa.Column("request_kid", sa.String(43), nullable=False, unique=True),
        sa.Column("request", sa.LargeBinary(32), nullable=False),
        sa.Column("recipient", sa.LargeBinary(32), nullable=False),
        sa.Column("offline_s", sa.BigInteger(), nullable=False),
        sa.Column("valid_from", sa.BigInteger(), nullable=False),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
    )
    op.add_column("keks", sa.Column("terminal", sa.String(43), nullable=True))
    op.add_column("keks", sa.Column("name", sa.LargeBinary(16), nullable=True))
    op.create_index("keks_of_terminal", "keks", ["log", "terminal", "name"], unique=True)
