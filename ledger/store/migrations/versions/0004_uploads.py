"""Uploads: files on their way in, and attachments that have a stream key of their own."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Creates the table and widens `attachments`. Spelled out: `ledger.store.models` changes, this does not."""
    op.create_table(
        "uploads",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("department", sa.String(31), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("received", sa.BigInteger(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=True),
        sa.Column("wrapped_key", sa.LargeBinary(40), nullable=True),
        sa.Column("rest", sa.LargeBinary(), nullable=True),
        sa.Column("declared", sa.String(64), nullable=True),
        sa.Column("sha256", sa.String(64), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
    )
    op.create_index("uploads_department", "uploads", ["department"])
    op.create_index("uploads_expiry", "uploads", ["expires_at"])
    op.add_column("attachments", sa.Column("wrapped_key", sa.LargeBinary(40), nullable=True))
