"""Cursors of the projector, the subject index, inspections, cases, dossiers, accesses."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Creates the tables. Spelled out: the models go on changing, this does not."""
    op.create_table(
        "projection_cursors",
        sa.Column("log", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("applied", sa.BigInteger(), nullable=False),
        sa.Column("made_by", sa.String(64), nullable=False),
    )
    op.create_table(
        "subject_entries",
        sa.Column("subject", sa.LargeBinary(16), primary_key=True),
        sa.Column("position", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("type", sa.String(64), nullable=False),
        sa.Column("matter", sa.String(64), nullable=True),
        sa.Column("issued_at", sa.BigInteger(), nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "reference_entries",
        sa.Column("kind", sa.String(10), primary_key=True),
        sa.Column("number", sa.String(200), primary_key=True),
        sa.Column("position", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("type", sa.String(64), nullable=False),
        sa.Column("issued_at", sa.BigInteger(), nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "proceedings",
        sa.Column("log", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("kind", sa.String(10), primary_key=True),
        sa.Column("number", sa.String(100), primary_key=True),
        sa.Column("lead", sa.String(31), nullable=False),
        sa.Column("opened_at", sa.BigInteger(), nullable=False),
        sa.Column("opened_position", sa.BigInteger(), nullable=False),
        sa.Column("opened_id", sa.String(36), nullable=False),
        sa.Column("current_position", sa.BigInteger(), nullable=False),
        sa.Column("current_id", sa.String(36), nullable=False),
        sa.Column("request", sa.String(64), nullable=True),
        sa.Column("matter", sa.String(64), nullable=True),
        sa.Column("case_kind", sa.String(64), nullable=True),
        sa.Column("purpose", sa.String(64), nullable=True),
        sa.Column("types", sa.Text(), nullable=True),
        sa.Column("days", sa.Integer(), nullable=True),
        sa.Column("closed_at", sa.BigInteger(), nullable=True),
        sa.Column("closed_id", sa.String(36), nullable=True),
        sa.Column("close_request", sa.String(64), nullable=True),
        sa.Column("outcome", sa.String(20), nullable=True),
        sa.Column("merged_into", sa.String(100), nullable=True),
        sa.Column("merged_lead", sa.String(31), nullable=True),
    )
    op.create_index("proceedings_opened", "proceedings", ["opened_position"], unique=True)
    op.create_index("proceedings_request", "proceedings", ["log", "request"])
    op.create_table(
        "proceeding_participants",
        sa.Column("log", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("kind", sa.String(10), primary_key=True),
        sa.Column("number", sa.String(100), primary_key=True),
        sa.Column("department", sa.String(31), primary_key=True),
    )
    op.create_index("proceeding_participants_department", "proceeding_participants", ["department"])
    op.create_table(
        "proceeding_records",
        sa.Column("log", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("kind", sa.String(10), primary_key=True),
        sa.Column("number", sa.String(100), primary_key=True),
        sa.Column("record_id", sa.String(36), primary_key=True),
        sa.Column("owner", sa.String(31), nullable=False),
        sa.Column("leaf", sa.String(64), nullable=False),
        sa.Column("type", sa.String(64), nullable=True),
        sa.Column("attached_id", sa.String(36), nullable=False),
        sa.Column("attached_position", sa.BigInteger(), nullable=False),
        sa.Column("attached_at", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "dossier_entries",
        sa.Column("log", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("kind", sa.String(10), primary_key=True),
        sa.Column("lead", sa.String(31), primary_key=True),
        sa.Column("number", sa.String(100), primary_key=True),
        sa.Column("owner", sa.String(31), primary_key=True),
        sa.Column("record_id", sa.String(36), primary_key=True),
        sa.Column("type", sa.String(64), nullable=False),
        sa.Column("units", sa.Text(), nullable=False),
        sa.Column("received_position", sa.BigInteger(), nullable=False),
        sa.Column("received_id", sa.String(36), nullable=False),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
    )
    op.create_index(
        "dossier_entries_received", "dossier_entries", ["log", "kind", "lead", "number", "received_position"]
    )
    op.create_table(
        "accesses",
        sa.Column("position", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("log", sa.Integer(), nullable=False),
        sa.Column("action", sa.String(10), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("department", sa.String(31), nullable=False),
        sa.Column("other", sa.String(31), nullable=True),
        sa.Column("purpose", sa.String(64), nullable=True),
        sa.Column("claim", sa.String(10), nullable=True),
        sa.Column("number", sa.String(100), nullable=True),
        sa.Column("lead", sa.String(31), nullable=True),
        sa.Column("code", sa.String(64), nullable=True),
        sa.Column("records", sa.Integer(), nullable=False),
    )
    op.create_index("accesses_time", "accesses", ["log", "at"])
    op.create_table(
        "access_records",
        sa.Column("record_id", sa.LargeBinary(16), primary_key=True),
        sa.Column("position", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("type", sa.String(64), nullable=True),
        sa.Column("units", sa.Text(), nullable=True),
    )
    op.create_table(
        "access_subjects",
        sa.Column("subject", sa.LargeBinary(16), primary_key=True),
        sa.Column("position", sa.BigInteger(), primary_key=True, autoincrement=False),
    )
