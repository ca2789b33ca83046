"""Witnesses: the cosignatures of our checkpoints, how asking went, and the state of the witnesses that run here."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Creates the tables. Spelled out: `ledger.store.models` goes on changing, this does not."""
    op.create_table(
        "cosignatures",
        sa.Column("log", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("size", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("witness", sa.String(400), primary_key=True),
        sa.Column("line", sa.LargeBinary(), nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "witness_calls",
        sa.Column("log", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("witness", sa.String(400), primary_key=True),
        sa.Column("asked_at", sa.BigInteger(), nullable=False),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.Column("refused", sa.Boolean(), nullable=False),
    )
    op.create_table(
        "witness_heads",
        sa.Column("witness", sa.String(400), primary_key=True),
        sa.Column("origin", sa.String(200), primary_key=True),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("root", sa.LargeBinary(32), nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.Column("note", sa.LargeBinary(), nullable=True),
    )
    op.create_table(
        "witness_conflicts",
        sa.Column("witness", sa.String(400), primary_key=True),
        sa.Column("origin", sa.String(200), primary_key=True),
        sa.Column("size", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("root", sa.LargeBinary(32), primary_key=True),
        sa.Column("note", sa.LargeBinary(), nullable=False),
        sa.Column("head", sa.LargeBinary(), nullable=True),
        sa.Column("proven", sa.Boolean(), nullable=False),
        sa.Column("kept_at", sa.BigInteger(), nullable=False),
    )
