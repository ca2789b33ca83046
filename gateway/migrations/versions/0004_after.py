"""After the fact: what was told, recalls, emergency accesses, subscriptions and their deliveries."""

from alembic import op
from sqlalchemy import BigInteger, Boolean, Column, Integer, LargeBinary, String, Text

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Creates the tables. Spelled out: the models go on changing, this does not."""
    op.create_table(
        "tellings",
        Column("sender", String(31), primary_key=True),
        Column("peer", String(31), primary_key=True),
        Column("kind", String(20), primary_key=True),
        Column("record_id", String(36), primary_key=True),
        Column("state", String(12), nullable=False),
        Column("code", String(64), nullable=True),
        Column("detail", Text, nullable=True),
        Column("since", BigInteger, nullable=False),
        Column("retry_at", BigInteger, nullable=False),
        Column("attempts", Integer, nullable=False),
        Column("answer", String(36), nullable=True),
    )
    op.create_index("tellings_due", "tellings", ["state", "retry_at"])
    op.create_table(
        "recalls",
        Column("log", Integer, primary_key=True, autoincrement=False),
        Column("notice", String(36), primary_key=True),
        Column("record_id", String(36), nullable=False),
        Column("kind", String(10), nullable=False),
        Column("position", BigInteger, nullable=False),
        Column("made_at", BigInteger, nullable=False),
    )
    op.create_index("recalls_position", "recalls", ["log", "position"])
    op.create_table(
        "recall_notices",
        Column("log", Integer, primary_key=True, autoincrement=False),
        Column("notice", String(36), primary_key=True),
        Column("department", String(31), primary_key=True),
        Column("kind", String(10), nullable=False),
    )
    op.create_table(
        "recall_answers",
        Column("log", Integer, primary_key=True, autoincrement=False),
        Column("notice", String(36), primary_key=True),
        Column("department", String(31), primary_key=True),
        Column("done", String(20), nullable=False),
        Column("acknowledgement", String(36), nullable=False),
        Column("answered_at", BigInteger, nullable=False),
    )
    op.create_table(
        "received_recalls",
        Column("log", Integer, primary_key=True, autoincrement=False),
        Column("received", String(36), primary_key=True),
        Column("owner", String(31), nullable=False),
        Column("notice", String(36), nullable=False),
        Column("record_id", String(36), nullable=False),
        Column("kind", String(10), nullable=False),
        Column("asks", String(12), nullable=True),
        Column("reason_kind", String(12), nullable=True),
        Column("replaced_by", String(36), nullable=True),
        Column("position", BigInteger, nullable=False),
        Column("received_at", BigInteger, nullable=False),
        Column("done", String(20), nullable=True),
        Column("acknowledgement", String(36), nullable=True),
        Column("acknowledged_at", BigInteger, nullable=True),
    )
    op.create_index("received_recalls_record", "received_recalls", ["log", "owner", "record_id"])
    op.create_table(
        "emergencies",
        Column("log", Integer, primary_key=True, autoincrement=False),
        Column("emergency", String(36), primary_key=True),
        Column("role", String(10), nullable=False),
        Column("owner", String(31), nullable=False),
        Column("requester", String(31), nullable=False),
        Column("lead", String(31), nullable=False),
        Column("claim", String(10), nullable=True),
        Column("number", String(100), nullable=True),
        Column("extraction", String(32), nullable=True),
        Column("types", Text, nullable=True),
        Column("position", BigInteger, nullable=False),
        Column("used_at", BigInteger, nullable=False),
        Column("due_at", BigInteger, nullable=False),
        Column("outcome", String(14), nullable=True),
        Column("justified_by", String(36), nullable=True),
        Column("justified_at", BigInteger, nullable=True),
        Column("late", Boolean, nullable=True),
    )
    op.create_index("emergencies_extraction", "emergencies", ["extraction"])
    op.create_index("emergencies_open", "emergencies", ["log", "outcome", "due_at"])
    op.create_table(
        "subscriptions",
        Column("subscription", String(22), primary_key=True),
        Column("department", String(31), nullable=False),
        Column("url", String(500), nullable=False),
        Column("events", Text, nullable=False),
        Column("types", Text, nullable=True),
        Column("claim", String(10), nullable=True),
        Column("number", String(100), nullable=True),
        Column("secret", LargeBinary, nullable=False),
        Column("cursor", BigInteger, nullable=False),
        Column("state", String(10), nullable=False),
        Column("created_at", BigInteger, nullable=False),
        Column("created_by", String(64), nullable=False),
        Column("delivered", BigInteger, nullable=False),
        Column("delivered_at", BigInteger, nullable=True),
    )
    op.create_index("subscriptions_department", "subscriptions", ["department"])
    op.create_table(
        "deliveries",
        Column("subscription", String(22), primary_key=True),
        Column("position", BigInteger, primary_key=True, autoincrement=False),
        Column("n", Integer, primary_key=True, autoincrement=False),
        Column("attempts", Integer, nullable=False),
        Column("retry_at", BigInteger, nullable=False),
        Column("dead", Boolean, nullable=False),
        Column("code", String(64), nullable=True),
        Column("failed_at", BigInteger, nullable=True),
    )
    op.create_index("deliveries_due", "deliveries", ["subscription", "dead", "retry_at"])
