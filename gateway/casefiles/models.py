"""Orders of case files. The files themselves lie in the node's casefiles/, readable to the node alone.

table            trusted?                              may it lose data?             grows with
casefile_orders  no: what was made is in the log, as   yes: it is ordered once more  orders, until they expire
                 `casefile.exported`
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, String, Table, Text

from gateway.database import metadata

casefile_orders = Table(
    "casefile_orders",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("department", String(31), nullable=False),
    Column("number", String(100), nullable=False),
    Column("wanted", Text, nullable=False),  # JSON: the body of the request
    Column("account", String(64), nullable=False),
    Column("request", String(64), nullable=False),
    Column("ordered_at", BigInteger, nullable=False),  # seconds since 1970
    Column("state", String(10), nullable=False),  # waiting, making, ready, failed
    Column("code", String(64), nullable=True),  # why it failed
    Column("detail", Text, nullable=True),
    Column("record_id", String(36), nullable=True),
    Column("log_size", BigInteger, nullable=True),
    Column("items", Integer, nullable=True),
    Column("later", BigInteger, nullable=True),
    Column("octets", BigInteger, nullable=True),
    Column("sha256", String(64), nullable=True),  # of the tag manifest
    Column("finished_at", BigInteger, nullable=True),
    Index("casefile_orders_state", "state", "ordered_at"),
)
