"""Recalls and corrections as the logs tell of them. Projections: made again by `yunxi rebuild`.

table             in the log of   grows with
recalls           the owner       recalls, and amendments of records that were disclosed
recall_notices    the owner       those × departments that extracted the record: who must hear of it
recall_answers    the owner       acknowledgements
received_recalls  the recipient   notices received

What was told so far stands in `tellings` (gateway/notices).
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, String, Table

from gateway.database import metadata

recalls = Table(
    "recalls",
    metadata,
    Column("log", Integer, primary_key=True, autoincrement=False),
    Column("notice", String(36), primary_key=True),  # the record that recalls or amends
    Column("record_id", String(36), nullable=False),  # the one that it is about
    Column("kind", String(10), nullable=False),  # recall or correction
    Column("position", BigInteger, nullable=False),  # of the notice
    Column("made_at", BigInteger, nullable=False),  # its `iat`, seconds since 1970
    Index("recalls_position", "log", "position"),
)

recall_notices = Table(
    "recall_notices",
    metadata,
    Column("log", Integer, primary_key=True, autoincrement=False),
    Column("notice", String(36), primary_key=True),
    Column("department", String(31), primary_key=True),
    Column("kind", String(10), nullable=False),
)

recall_answers = Table(
    "recall_answers",
    metadata,
    Column("log", Integer, primary_key=True, autoincrement=False),
    Column("notice", String(36), primary_key=True),
    Column("department", String(31), primary_key=True),
    Column("done", String(20), nullable=False),  # stopped-using, replaced, deleted, not-used
    Column("acknowledgement", String(36), nullable=False),  # the recipient's own record
    Column("answered_at", BigInteger, nullable=False),
)

received_recalls = Table(
    "received_recalls",
    metadata,
    Column("log", Integer, primary_key=True, autoincrement=False),  # of the recipient
    Column("received", String(36), primary_key=True),  # its recall.received
    Column("owner", String(31), nullable=False),
    Column("notice", String(36), nullable=False),
    Column("record_id", String(36), nullable=False),
    Column("kind", String(10), nullable=False),
    Column("asks", String(12), nullable=True),  # stop-using, replace, delete
    Column("reason_kind", String(12), nullable=True),
    Column("replaced_by", String(36), nullable=True),
    Column("position", BigInteger, nullable=False),
    Column("received_at", BigInteger, nullable=False),
    Column("done", String(20), nullable=True),
    Column("acknowledgement", String(36), nullable=True),  # its recall.acknowledged
    Column("acknowledged_at", BigInteger, nullable=True),
    Index("received_recalls_record", "log", "owner", "record_id"),
)
