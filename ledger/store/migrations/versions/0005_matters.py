"""Matters: the lists that departments published, and what the newest of each says."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Creates the tables. Spelled out: `ledger.store.models` goes on changing, this does not."""
    op.create_table(
        "matter_lists",
        sa.Column("log", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("version", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("sha256", sa.LargeBinary(32), nullable=False),
        sa.Column("as_of", sa.String(10), nullable=False),
        sa.Column("published_at", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "matters",
        sa.Column("log", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("code", sa.String(64), primary_key=True),
        sa.Column("effective_from", sa.String(10), primary_key=True),
        sa.Column("effective_to", sa.String(10), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("legal_basis", sa.Text(), nullable=False),
        sa.Column("level", sa.Text(), nullable=False),
    )
