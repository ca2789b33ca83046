"""What was received for which inspection or case. A projection of `disclosure.received`: made again by `yunxi rebuild`.

table            grows with
dossier_entries  records received, once for each inspection or case

Only what the receipt itself says stands here; the presentations lie encrypted as its attachment.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, String, Table, Text

from gateway.database import metadata

dossier_entries = Table(
    "dossier_entries",
    metadata,
    Column("log", Integer, primary_key=True, autoincrement=False),  # of the department that received it
    Column("kind", String(10), primary_key=True),  # inspection or case
    Column("lead", String(31), primary_key=True),
    Column("number", String(100), primary_key=True),
    Column("owner", String(31), primary_key=True),
    Column("record_id", String(36), primary_key=True),
    Column("type", String(64), nullable=False),
    Column("units", Text, nullable=False),  # JSON list of the units shown
    Column("received_position", BigInteger, nullable=False),  # of the disclosure.received that brought it last
    Column("received_id", String(36), nullable=False),
    Column("received_at", BigInteger, nullable=False),
    Index("dossier_entries_received", "log", "kind", "lead", "number", "received_position"),
)
