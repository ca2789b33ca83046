"""Accounts, sessions, and sign-ins at the identity provider that are under way."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Creates the tables. Spelled out: the models go on changing, this does not."""
    op.create_table(
        "accounts",
        sa.Column("account", sa.String(22), primary_key=True),
        sa.Column("department", sa.String(31), nullable=False),
        sa.Column("login", sa.String(254), nullable=False, unique=True),
        sa.Column("roles", sa.String(200), nullable=False),
        sa.Column("password", sa.String(200), nullable=True),
        sa.Column("totp", sa.LargeBinary(), nullable=True),
        sa.Column("totp_step", sa.BigInteger(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("locked_until", sa.BigInteger(), nullable=False),
        sa.Column("disabled", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "sessions",
        sa.Column("token", sa.LargeBinary(32), primary_key=True),
        sa.Column("account", sa.String(22), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("used_at", sa.BigInteger(), nullable=False),
    )
    op.create_index("sessions_account", "sessions", ["account"])
    op.create_table(
        "sign_ins",
        sa.Column("state", sa.LargeBinary(32), primary_key=True),
        sa.Column("nonce", sa.String(43), nullable=False),
        sa.Column("verifier", sa.String(64), nullable=False),
        sa.Column("began_at", sa.BigInteger(), nullable=False),
        sa.Column("back_to", sa.Text(), nullable=False),
    )
