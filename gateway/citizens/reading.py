"""What the page of a served decision shows: the decision's own dates, what became of it, its documents' digests, who
had it. No subject, no officer and no reason is among it.

Whether a decision is in force is the department's word in its log: corrected where a later record amends it, withdrawn
where a recall says not to use it. Deadlines are what the decision's record says; none is computed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, case, func, select

from gateway.citizens.links import Link
from gateway.lookups.models import access_records, accesses
from gateway.lookups.projection import DISCLOSED, READ
from gateway.projections.models import reference_entries
from gateway.recalls.projection import RECALLED
from ledger.errors import RecordRefused
from ledger.formats import manifest
from ledger.formats.casefile import DECISION
from ledger.records import RecordReader
from ledger.store.models import INDEX_BITS, entries
from ledger.store.reading import EntryRow, find_entry

IN_FORCE, CORRECTED, WITHDRAWN = "in-force", "corrected", "withdrawn"
REPLACE = "replace"
"""What a recall asks where another record stands for the recalled one; otherwise it is not to be used any more."""

MAX_CHANGES = 100
_BEIJING = timedelta(hours=8)
_SAID = ("decision_number", "served_on", "service_method", "remedies", "pay_by")


@dataclass(frozen=True, slots=True)
class Change:
    """What became of a decision: `on` a day (Beijing time), `kind` CORRECTED or WITHDRAWN, `number` of the decision
    that stands for it."""

    kind: str
    on: str
    number: str | None


@dataclass(frozen=True, slots=True)
class Document:
    """A file that the decision was sealed with. `sha256` in hex."""

    number: int
    media_type: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Seen:
    """How often a department had the decision itself, and when last (a day)."""

    department: str
    disclosed: int
    read: int
    last: str


@dataclass(frozen=True, slots=True)
class Served:
    """A served decision. `said` are members of its record as they stand there, empty where it was forgotten."""

    department: str
    sealed_on: str
    forgotten: bool
    said: Mapping[str, Any]
    status: str
    changes: tuple[Change, ...]
    documents: tuple[Document, ...]
    seen: tuple[Seen, ...]


def served(connection: Connection, reader: RecordReader, link: Link) -> Served:
    """What the page shows of a link's decision. The projections must have caught up.

    Raises RecordRefused for a record that is not here, PayloadInvalid or DisclosureInvalid where what is stored is not
    what was sealed, KeyRefused.
    """
    row = find_entry(connection, link.record_id or "")
    record = _record(connection, reader, row.record_id)
    changes = _changes(connection, reader, row)
    kinds = {change.kind for change in changes}
    return Served(
        department=link.department,
        sealed_on=_day(row.acknowledged_at // 1000),
        forgotten=record is None,
        said={name: record[name] for name in _SAID if name in record} if record else {},
        status=WITHDRAWN if WITHDRAWN in kinds else CORRECTED if kinds else IN_FORCE,
        changes=changes,
        documents=_documents(record or {}),
        seen=_seen(connection, row),
    )


def _record(connection: Connection, reader: RecordReader, record_id: str) -> dict[str, Any] | None:
    """The record, None where it was forgotten."""
    try:
        return reader.open(connection, record_id).record()
    except RecordRefused as error:
        if error.reason != "forgotten":
            raise
        return None


def _documents(record: Mapping[str, Any]) -> tuple[Document, ...]:
    found = enumerate(record.get("attachments", ()), 1)
    return tuple(
        Document(number, each["media_type"], each["size"], each["sha256"])
        for number, each in found
        if each["name"] != manifest.NAME  # the list of evidence that the decision froze was served to nobody
    )


def _changes(connection: Connection, reader: RecordReader, row: EntryRow) -> tuple[Change, ...]:
    """What the log says of the decision after it, oldest first."""
    c = reference_entries.c
    mine = c.position.between(row.log << INDEX_BITS, (row.log + 1 << INDEX_BITS) - 1)
    query = (
        select(c.type, c.issued_at, entries.c.record_id)
        .join_from(reference_entries, entries, entries.c.position == c.position)
        .where(c.kind == "amends", c.number == row.record_id, mine, c.type.in_((RECALLED, DECISION)))
        .order_by(c.position)
        .limit(MAX_CHANGES)
    )
    return tuple(
        _change(connection, reader, row.log, found.type, found.issued_at, str(UUID(bytes=found.record_id)))
        for found in connection.execute(query)
    )


def _change(connection: Connection, reader: RecordReader, log: int, name: str, at: int, record_id: str) -> Change:
    record = _record(connection, reader, record_id) or {}
    if name == DECISION:
        return Change(CORRECTED, _day(at), record.get("decision_number"))
    # a recall that cannot be read any more counts for what it mostly is
    kind = CORRECTED if record.get("asks") == REPLACE else WITHDRAWN
    return Change(kind, _day(at), _number_of(connection, reader, log, record.get("replaced_by")))


def _number_of(connection: Connection, reader: RecordReader, log: int, record_id: str | None) -> str | None:
    """The number of a decision of the same log; what stands in another's is not ours to show."""
    try:
        if record_id is None or find_entry(connection, record_id).log != log:
            return None
    except RecordRefused:
        return None
    number: str | None = (_record(connection, reader, record_id) or {}).get("decision_number")
    return number


def _seen(connection: Connection, row: EntryRow) -> tuple[Seen, ...]:
    a, r = accesses.c, access_records.c
    name = func.coalesce(func.nullif(a.other, ""), a.department).label("name")
    given = func.sum(case((a.action == DISCLOSED, 1), else_=0)).label("given")
    query = (  # counted by the database: anybody may ask, of a record that was read a million times
        select(name, given, func.count().label("all"), func.max(a.at).label("last"))
        .join_from(access_records, accesses, a.position == r.position)
        .where(r.record_id == UUID(row.record_id).bytes, a.log == row.log, a.action.in_((DISCLOSED, READ)))
        .group_by(name)
    )
    rows = sorted(connection.execute(query).all(), key=lambda found: found.name)
    return tuple(Seen(each.name, int(each.given), each.all - int(each.given), _day(each.last)) for each in rows)


def _day(seconds: int) -> str:
    return (datetime.fromtimestamp(seconds, UTC) + _BEIJING).date().isoformat()
