"""Who gave, received, read, refused or asked for what. A projection: dropped and made again by `yunxi rebuild`.

table            grows with
accesses         disclosures (pages), receipts, refusals, reads, duplicate checks and tracker searches
access_records   the records in them
access_subjects  the subjects that duplicate checks asked about

No officer, no account and no name stands here.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, String, Table, Text

from gateway.database import metadata

accesses = Table(
    "accesses",
    metadata,
    Column("position", BigInteger, primary_key=True, autoincrement=False),  # of the record that tells of it
    Column("log", Integer, nullable=False),
    Column("action", String(10), nullable=False),  # disclosed, received, refused, read, checked, searched
    Column("at", BigInteger, nullable=False),  # its `iat`, seconds since 1970
    Column("department", String(31), nullable=False),  # in whose log it stands
    Column("other", String(31), nullable=True),  # with whom: who received it, gave it, asked for it
    Column("purpose", String(64), nullable=True),
    Column("claim", String(10), nullable=True),  # case or inspection
    Column("number", String(100), nullable=True),
    Column("lead", String(31), nullable=True),
    Column("code", String(64), nullable=True),  # of a refusal
    Column("records", Integer, nullable=False),  # how many; of a refusal, how many times
    Index("accesses_time", "log", "at"),
)

access_records = Table(
    "access_records",
    metadata,
    Column("record_id", LargeBinary(16), primary_key=True),
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    Column("type", String(64), nullable=True),
    Column("units", Text, nullable=True),  # JSON list of the units shown; null: all of it
)

access_subjects = Table(
    "access_subjects",
    metadata,
    Column("subject", LargeBinary(16), primary_key=True),
    Column("position", BigInteger, primary_key=True, autoincrement=False),
)
