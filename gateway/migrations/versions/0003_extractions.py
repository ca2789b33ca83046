"""Standing extractions, their pages, and what the requester's side pulls."""

from alembic import op
from sqlalchemy import BigInteger, Column, Integer, LargeBinary, String, Text

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Creates the tables. Spelled out: the models go on changing, this does not."""
    op.create_table(
        "extractions",
        Column("extraction", String(32), primary_key=True),
        Column("owner", String(31), nullable=False),
        Column("requester", String(31), nullable=False),
        Column("lead", String(31), nullable=False),
        Column("claim", String(10), nullable=False),
        Column("number", String(100), nullable=False),
        Column("reference", String(36), nullable=False),
        Column("purpose", String(64), nullable=False),
        Column("case_kind", String(64), nullable=False),
        Column("subjects", LargeBinary, nullable=False),
        Column("types", Text, nullable=True),
        Column("units", Text, nullable=True),
        Column("since", BigInteger, nullable=False),
        Column("state", String(10), nullable=False),
        Column("opened_at", BigInteger, nullable=False),
    )
    op.create_index("extractions_requester", "extractions", ["owner", "requester", "state"])
    op.create_table(
        "extraction_pages",
        Column("log", Integer, primary_key=True, autoincrement=False),
        Column("extraction", String(32), primary_key=True),
        Column("page", Integer, primary_key=True, autoincrement=False),
        Column("position", BigInteger, nullable=False),
        Column("records", Integer, nullable=False),
        Column("last_position", BigInteger, nullable=False),
        Column("made_at", BigInteger, nullable=False),
        Column("sha256", String(64), nullable=False),
    )
    op.create_table(
        "extraction_cursors",
        Column("log", Integer, primary_key=True, autoincrement=False),
        Column("extraction", String(32), primary_key=True),
        Column("type", String(64), primary_key=True),
        Column("last_position", BigInteger, nullable=False),
    )
    op.create_table(
        "extraction_usage",
        Column("log", Integer, primary_key=True, autoincrement=False),
        Column("grant_id", BigInteger, primary_key=True, autoincrement=False),
        Column("extraction", String(32), primary_key=True),
        Column("page", Integer, primary_key=True, autoincrement=False),
        Column("made_at", BigInteger, nullable=False),
        Column("records", Integer, nullable=False),
    )
    op.create_index("extraction_usage_time", "extraction_usage", ["log", "grant_id", "made_at"])
    op.create_table(
        "closed_references",
        Column("lead", String(31), primary_key=True),
        Column("claim", String(10), primary_key=True),
        Column("number", String(100), primary_key=True),
        Column("record_id", String(36), nullable=False),
        Column("closed_at", BigInteger, nullable=False),
    )
    op.create_table(
        "pulls",
        Column("requester", String(31), primary_key=True),
        Column("owner", String(31), primary_key=True),
        Column("lead", String(31), primary_key=True),
        Column("claim", String(10), primary_key=True),
        Column("number", String(100), primary_key=True),
        Column("reference", String(36), nullable=False),
        Column("extraction", String(32), nullable=True),
        Column("state", String(12), nullable=False),
        Column("code", String(64), nullable=True),
        Column("detail", Text, nullable=True),
        Column("withheld", Text, nullable=False),
        Column("page", Integer, nullable=False),
        Column("records", BigInteger, nullable=False),
        Column("since", BigInteger, nullable=False),
        Column("retry_at", BigInteger, nullable=False),
        Column("attempts", Integer, nullable=False),
        Column("last_success_at", BigInteger, nullable=True),
    )
    op.create_index("pulls_extraction", "pulls", ["extraction"])
