"""Inspections and cases as the hosted logs tell of them. A projection: dropped and made again by `yunxi rebuild`.

table                    grows with
proceedings              inspections and cases that departments of this node lead
proceeding_participants  their participants, as they are now
proceeding_records       the records attached to them

No subjects stand here: their blind indexes are in the statements, the identifiers in the vault.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, String, Table, Text

from gateway.database import metadata

proceedings = Table(
    "proceedings",
    metadata,
    Column("log", Integer, primary_key=True, autoincrement=False),
    Column("kind", String(10), primary_key=True),  # inspection or case
    Column("number", String(100), primary_key=True),
    Column("lead", String(31), nullable=False),
    Column("opened_at", BigInteger, nullable=False),  # positions and times of the records; times are their `iat`
    Column("opened_position", BigInteger, nullable=False),
    Column("opened_id", String(36), nullable=False),
    Column("current_position", BigInteger, nullable=False),  # the newest amendment, or the opening record itself
    Column("current_id", String(36), nullable=False),
    Column("request", String(64), nullable=True),
    Column("matter", String(64), nullable=True),
    Column("case_kind", String(64), nullable=True),
    Column("purpose", String(64), nullable=True),
    Column("types", Text, nullable=True),  # JSON list of the record types wanted
    Column("days", Integer, nullable=True),
    Column("closed_at", BigInteger, nullable=True),
    Column("closed_id", String(36), nullable=True),
    Column("close_request", String(64), nullable=True),
    Column("outcome", String(20), nullable=True),
    Column("merged_into", String(100), nullable=True),
    Column("merged_lead", String(31), nullable=True),
    Index("proceedings_opened", "opened_position", unique=True),
    Index("proceedings_request", "log", "request"),
)

proceeding_participants = Table(
    "proceeding_participants",
    metadata,
    Column("log", Integer, primary_key=True, autoincrement=False),
    Column("kind", String(10), primary_key=True),
    Column("number", String(100), primary_key=True),
    Column("department", String(31), primary_key=True),
    Index("proceeding_participants_department", "department"),
)

proceeding_records = Table(
    "proceeding_records",
    metadata,
    Column("log", Integer, primary_key=True, autoincrement=False),
    Column("kind", String(10), primary_key=True),
    Column("number", String(100), primary_key=True),
    Column("record_id", String(36), primary_key=True),
    Column("owner", String(31), nullable=False),
    Column("leaf", String(64), nullable=False),  # hex
    Column("type", String(64), nullable=True),
    Column("attached_id", String(36), nullable=False),
    Column("attached_position", BigInteger, nullable=False),
    Column("attached_at", BigInteger, nullable=False),
)
