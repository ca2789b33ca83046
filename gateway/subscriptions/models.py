"""Subscriptions and the deliveries that are outstanding.

table          trusted?                         may it lose data?                               grows with
subscriptions  yes: whom to tell, and a secret  no: the subscriber makes it anew                subscriptions
deliveries     no: events are read from the log with its subscription's cursor put back to the  outstanding and dead
                                                log's position, events come again               deliveries
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, LargeBinary, String, Table, Text

from gateway.database import metadata

subscriptions = Table(
    "subscriptions",
    metadata,
    Column("subscription", String(22), primary_key=True),
    Column("department", String(31), nullable=False),
    Column("url", String(500), nullable=False),
    Column("events", Text, nullable=False),  # JSON list
    Column("types", Text, nullable=True),  # JSON list of record types; null: all
    Column("claim", String(10), nullable=True),  # inspection or case: only those of `number`
    Column("number", String(100), nullable=True),
    Column("secret", LargeBinary, nullable=False),  # encrypted for this node
    Column("cursor", BigInteger, nullable=False),  # events up to this position are in `deliveries`, or were delivered
    Column("state", String(10), nullable=False),  # active, disabled (the target answered 410)
    Column("created_at", BigInteger, nullable=False),
    Column("created_by", String(64), nullable=False),  # id of the account or key
    Column("delivered", BigInteger, nullable=False),
    Column("delivered_at", BigInteger, nullable=True),
    Index("subscriptions_department", "department"),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("subscription", String(22), primary_key=True),
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    Column("n", Integer, primary_key=True, autoincrement=False),  # which event of the entry
    Column("attempts", Integer, nullable=False),
    Column("retry_at", BigInteger, nullable=False),  # ms since 1970
    Column("dead", Boolean, nullable=False),
    Column("code", String(64), nullable=True),  # why the last attempt failed
    Column("failed_at", BigInteger, nullable=True),
    Index("deliveries_due", "subscription", "dead", "retry_at"),
)
