"""Forgetting: which record destroyed which, legal holds, and how far the shredding of old keys has come."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Creates the tables. Spelled out: the models go on changing, this does not."""
    op.create_table(
        "destructions",
        sa.Column("position", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("by_position", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "holds",
        sa.Column("position", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("log", sa.Integer(), nullable=False),
        sa.Column("scope", sa.String(12), nullable=False),
        sa.Column("value", sa.String(100), nullable=False),
        sa.Column("lifted_by", sa.BigInteger(), nullable=True),
    )
    op.create_index("holds_scope", "holds", ["log", "scope", "value"])
    op.create_table(
        "shreds",
        sa.Column("log", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("epoch", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("kid", sa.String(43), nullable=False),
        sa.Column("in_force", sa.BigInteger(), nullable=False),
        sa.Column("begun_at", sa.BigInteger(), nullable=False),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
    )
