"""The projector's own tables, and the index of what each entry's clear claims name.

All of them can be dropped and made again from the logs (`yunxi rebuild`); none is trusted, none must be kept.

table               grows with
projection_cursors  logs
subject_entries     records × their subjects
reference_entries   records × (case, inspection, amended record)
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Integer, LargeBinary, String, Table

from gateway.database import metadata

projection_cursors = Table(
    "projection_cursors",
    metadata,
    Column("log", Integer, primary_key=True, autoincrement=False),
    Column("applied", BigInteger, nullable=False),  # entries 0 … applied - 1 are in the projections
    Column("made_by", String(64), nullable=False),  # which projections they are in, see `Projector.made_by`
)

# keyed by what is looked up: one tree, no second index
subject_entries = Table(
    "subject_entries",
    metadata,
    Column("subject", LargeBinary(16), primary_key=True),  # the blind index
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    Column("type", String(64), nullable=False),
    Column("matter", String(64), nullable=True),
    Column("issued_at", BigInteger, nullable=False),  # the statement's `iat`, seconds since 1970
    sqlite_with_rowid=False,
)

reference_entries = Table(
    "reference_entries",
    metadata,
    Column("kind", String(10), primary_key=True),  # case, inspection or amends
    Column("number", String(200), primary_key=True),  # a case or inspection number, or a record id
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    Column("type", String(64), nullable=False),
    Column("issued_at", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
