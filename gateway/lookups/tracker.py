"""The data tracker: who looked at a person's or a company's data, when, for what (after Estonia's Data Tracker).

What it shows is what the department's own log says; names of officers are not among it. What another department did
with data that it received stands in that department's log, and its tracker shows it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, select, union

from gateway.lookups.models import access_records, access_subjects, accesses
from gateway.projections.models import subject_entries
from ledger.errors import Refusal
from ledger.records import RecordReader
from ledger.store.models import entries, logs

NEWEST = 1 << 62


@dataclass(frozen=True, slots=True)
class Access:
    """One access to data on the subject. `authority`: the department that looked, or was refused; `kinds`: the record
    types it saw with the units shown, None for all. `at`: seconds since 1970."""

    position: int
    action: str
    at: int
    department: str
    authority: str
    purpose: str | None
    claim: str | None
    number: str | None
    lead: str | None
    code: str | None
    kinds: Mapping[str, frozenset[str] | None]


def accesses_to(
    connection: Connection,
    reader: RecordReader,
    department: str,
    subject: bytes,
    before: int = NEWEST,
    limit: int = 100,
) -> list[Access]:
    """The accesses to data on `subject` (a blind index) that the department's log tells of, newest first, those before
    position `before`, at most `limit`."""
    log = select(logs.c.log).where(logs.c.department == department).scalar_subquery()
    by_record = (
        select(access_records.c.position)
        .join(entries, entries.c.record_id == access_records.c.record_id)
        .join(subject_entries, subject_entries.c.position == entries.c.position)
        .where(subject_entries.c.subject == subject)
    )
    named = select(access_subjects.c.position).where(access_subjects.c.subject == subject)
    both = union(by_record, named).subquery()
    query = (
        select(accesses, entries.c.record_id)
        .join(entries, entries.c.position == accesses.c.position)
        .join(both, both.c.position == accesses.c.position)
        .where(accesses.c.log == log, accesses.c.position < before)
        # what the department itself received is others' data: their trackers tell of it
        .where(accesses.c.action != "received")
        .order_by(accesses.c.position.desc())
        .limit(limit)
    )
    rows = connection.execute(query).all()
    kinds = _kinds(connection, subject, [row.position for row in rows])
    return [
        Access(
            position=row.position,
            action=row.action,
            at=row.at,
            department=row.department,
            authority=row.other or row.department,
            purpose=_purpose(connection, reader, row),
            claim=row.claim,
            number=row.number,
            lead=row.lead,
            code=row.code,
            kinds={} if row.action == "refused" else kinds.get(row.position, {}),
        )
        for row in rows
    ]


def _purpose(connection: Connection, reader: RecordReader, row: Any) -> str | None:
    if row.action not in ("read", "searched"):
        return row.purpose  # type: ignore[no-any-return]
    try:
        return reader.open(connection, str(UUID(bytes=row.record_id))).record().get("purpose")
    except Refusal:
        return None  # forgotten


def _kinds(connection: Connection, subject: bytes, positions: list[int]) -> dict[int, dict[str, frozenset[str] | None]]:
    query = (
        select(access_records.c.position, subject_entries.c.type, access_records.c.units)
        .join(entries, entries.c.record_id == access_records.c.record_id)
        .join(subject_entries, subject_entries.c.position == entries.c.position)
        .where(subject_entries.c.subject == subject, access_records.c.position.in_(positions))
    )
    found: dict[int, dict[str, frozenset[str] | None]] = {}
    for position, name, units in connection.execute(query):
        kinds = found.setdefault(position, {})
        before = kinds.get(name, frozenset())
        kinds[name] = None if units is None or before is None else before | frozenset(json.loads(units))
    return found
