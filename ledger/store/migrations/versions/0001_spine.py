"""The first schema: logs, entries, vault, attachments, keks, tiles, checkpoints, anchors."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Creates the tables of the spine. Spelled out: `ledger.store.models` goes on changing, this does not."""
    op.create_table(
        "logs",
        sa.Column("log", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("department", sa.String(31), nullable=False, unique=True),
        sa.Column("origin", sa.String(200), nullable=False, unique=True),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("root", sa.LargeBinary(32), nullable=False),
        sa.Column("halted", sa.Text(), nullable=True),
    )
    op.create_table(
        "entries",
        sa.Column("position", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("record_id", sa.LargeBinary(16), nullable=False),
        sa.Column("key", sa.String(200), nullable=False),
        sa.Column("content_mark", sa.LargeBinary(16), nullable=False),
        sa.Column("acknowledged_at", sa.BigInteger(), nullable=False),
        sa.Column("statement", sa.LargeBinary(), nullable=False),
        sa.Column("log", sa.Integer(), nullable=False),
    )
    op.create_index("entries_record", "entries", ["record_id"], unique=True)
    op.create_index("entries_key", "entries", ["log", "key"], unique=True)
    op.create_table(
        "vault",
        sa.Column("position", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("wrapped_key", sa.LargeBinary(40), nullable=True),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
    )
    op.create_table(
        "attachments",
        sa.Column("position", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("ordinal", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("blob", sa.String(64), nullable=False),
    )
    op.create_table(
        "keks",
        sa.Column("log", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("epoch", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("recipient", sa.String(43), nullable=False),
        sa.Column("wrapped", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "tiles",
        sa.Column("log", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("level", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("tile", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("hashes", sa.LargeBinary(), nullable=False),
    )
    op.create_table(
        "checkpoints",
        sa.Column("log", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("size", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("note", sa.LargeBinary(), nullable=False),
        sa.Column("signed_at", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "anchors",
        sa.Column("log", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("size", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("contract", sa.String(42), nullable=False),
        sa.Column("block_number", sa.BigInteger(), nullable=False),
        sa.Column("block_hash", sa.LargeBinary(32), nullable=False),
        sa.Column("transaction", sa.LargeBinary(32), nullable=False),
        sa.Column("block_time", sa.BigInteger(), nullable=False),
        sa.Column("anchored_at", sa.BigInteger(), nullable=False),
    )
