"""Emergency accesses as the logs of both sides tell of them. A projection: made again by `yunxi rebuild`.

table        grows with
emergencies  emergency accesses, once in each side's log
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, String, Table, Text

from gateway.database import metadata

emergencies = Table(
    "emergencies",
    metadata,
    Column("log", Integer, primary_key=True, autoincrement=False),
    Column("emergency", String(36), primary_key=True),  # the requester's emergency.used
    Column("role", String(10), nullable=False),  # owner or requester: whose log it is
    Column("owner", String(31), nullable=False),
    Column("requester", String(31), nullable=False),
    Column("lead", String(31), nullable=False),
    Column("claim", String(10), nullable=True),  # case or inspection
    Column("number", String(100), nullable=True),
    Column("extraction", String(32), nullable=True),  # in the owner's log
    Column("types", Text, nullable=True),  # JSON list; null: whatever the owner allows
    Column("position", BigInteger, nullable=False),
    Column("used_at", BigInteger, nullable=False),  # seconds since 1970
    Column("due_at", BigInteger, nullable=False),
    Column("outcome", String(14), nullable=True),  # justified, not-justified, refused; null: open
    Column("justified_by", String(36), nullable=True),  # the requester's emergency.justified
    Column("justified_at", BigInteger, nullable=True),
    Column("late", Boolean, nullable=True),
    Index("emergencies_extraction", "extraction"),
    Index("emergencies_open", "log", "outcome", "due_at"),
)
