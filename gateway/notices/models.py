"""What was told to whom.

table     trusted?                        may it lose data?                            grows with
tellings  no: whoever is told verifies    yes: it is told again, which changes nothing records told × departments
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, String, Table, Text

from gateway.database import metadata

tellings = Table(
    "tellings",
    metadata,
    Column("sender", String(31), primary_key=True),
    Column("peer", String(31), primary_key=True),
    Column("kind", String(20), primary_key=True),  # recall, correction, acknowledgement, justification
    Column("record_id", String(36), primary_key=True),  # of the sender's record that is shown
    Column("state", String(12), nullable=False),  # waiting, unreachable, refused, told
    Column("code", String(64), nullable=True),  # why unreachable or refused
    Column("detail", Text, nullable=True),
    Column("since", BigInteger, nullable=False),  # in this state since, seconds since 1970
    Column("retry_at", BigInteger, nullable=False),  # ms since 1970
    Column("attempts", Integer, nullable=False),
    Column("answer", String(36), nullable=True),  # the peer's own record of it
    Index("tellings_due", "state", "retry_at"),
)
