"""Events: what an entry of a department's log means to its systems, as CloudEvents 1.0 (structured JSON).

    {"specversion": "1.0", "id": "<position>-<n>", "source": "//<log origin>", "type": "yunxi.<name>", "time": …,
     "subject": "<record id>", "datacontenttype": "application/json", "data": {ids, types, codes}}

The log is the queue: an event's id is its entry's position and `n`, 0 for `record.sealed`, which every entry is, and 1
for what else it may be. Nothing is lost while the log has it, whoever was killed meanwhile.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Connection, select

from gateway.extractions.refusals import instant
from gateway.projections.projector import read_claims
from ledger.errors import Refusal
from ledger.records import RecordReader
from ledger.store.models import entries, index_of, position_of
from ledger.store.reading import LogRow, read_logs

SEALED = "record.sealed"
OF_TYPES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "disclosure.received": ("dossier.entry.arrived", ("owner", "lead", "extraction", "page")),
    "participant.missing": ("participant.missing", ("participant", "lead", "state", "code", "missing_since")),
    "recall.received": ("recall.received", ("notice", "kind", "owner", "record", "asks", "replaced_by")),
    "emergency.used": ("emergency.used", ("role", "emergency", "owner", "requester", "types", "due_at")),
    "disclosure.refused": ("disclosure.refused", ("role", "code", "requester", "owner", "extraction", "asked")),
    "grant.changed": ("grant.changed", ("change", "grant", "owner", "grantee")),
}
"""Record type to event, and the members of the record that the event tells: ids, types and codes."""

EVENTS = (SEALED, *(name for name, _ in OF_TYPES.values()))
LAST = 1
"""The highest `n`."""
SCAN = 200
_CLEAR = ("matter", "case", "inspection", "amends")
_ID = re.compile(r"([0-9]{1,18})-([0-9])")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a subscriber asks for: events of these names; of record types `types` (None: all; it narrows records only);
    of the inspection or case `number`."""

    events: frozenset[str]
    types: frozenset[str] | None = None
    claim: str | None = None
    number: str | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """An event. `at`: milliseconds since 1970, when its entry was acknowledged."""

    position: int
    n: int
    name: str
    origin: str
    record_id: str
    at: int
    data: dict[str, Any]

    @property
    def id(self) -> str:
        """Its place in the log."""
        return event_id(self.position, self.n)

    def to_json(self) -> bytes:
        """The CloudEvent."""
        event = {
            "specversion": "1.0",
            "id": self.id,
            "source": f"//{self.origin}",
            "type": f"yunxi.{self.name}",
            "time": instant(self.at / 1000),
            "subject": self.record_id,
            "datacontenttype": "application/json",
            "data": self.data,
        }
        return orjson.dumps(event)


def event_id(position: int, n: int) -> str:
    """The id of an event."""
    return f"{position}-{n}"


def parse_id(text: str) -> tuple[int, int] | None:
    """Position and `n` of an id, None for what is none."""
    found = _ID.fullmatch(text)
    return None if found is None or int(found[1]) >= 1 << 62 else (int(found[1]), int(found[2]))


def newest(connection: Connection, department: str) -> tuple[int, int]:
    """The place past which everything is yet to come."""
    log = read_logs(connection, department)[0]
    return position_of(log.number, log.size) - 1, LAST


def read_events(
    connection: Connection,
    reader: RecordReader,
    department: str,
    wanted: Wanted,
    after: tuple[int, int],
    scan: int = SCAN,
) -> tuple[list[Event], tuple[int, int]]:
    """The wanted events of the next `scan` entries past `after`, in the log's order, and from where to go on; the same
    place again where the log has no more. `after` of another log begins with the department's own."""
    log = read_logs(connection, department)[0]
    first, end = position_of(log.number, 0), position_of(log.number, log.size)
    begin = max(after, (first - 1, LAST))
    c = entries.c
    query = select(c.position, c.record_id, c.statement, c.acknowledged_at)
    query = query.where(c.position >= begin[0], c.position < end, c.position >= first).order_by(c.position)
    found: list[Event] = []
    place = begin
    for row in connection.execute(query.limit(scan)).all():
        found += [e for e in _of_entry(connection, reader, log, wanted, row) if (e.position, e.n) > begin]
        place = max(place, (row.position, LAST))
    return found, place


def read_event(
    connection: Connection, reader: RecordReader, department: str, wanted: Wanted, place: tuple[int, int]
) -> Event | None:
    """The event at a place, None where it is not wanted or there is none."""
    found, _ = read_events(connection, reader, department, wanted, (place[0], place[1] - 1), 1)
    return next((event for event in found if (event.position, event.n) == place), None)


def _of_entry(connection: Connection, reader: RecordReader, log: LogRow, wanted: Wanted, row: Any) -> Iterator[Event]:
    claims = read_claims(row.statement)
    if claims is None or (wanted.claim is not None and claims.get(wanted.claim) != wanted.number):
        return
    kind, record_id = claims["type"], str(UUID(bytes=row.record_id))
    clear = {name: claims[name] for name in _CLEAR if isinstance(claims.get(name), str)}
    sealed = {"record": record_id, "record_type": kind, "index": index_of(row.position), **clear}
    event = Event(row.position, 0, SEALED, log.origin, record_id, row.acknowledged_at, sealed)
    if SEALED in wanted.events and (wanted.types is None or kind in wanted.types):
        yield event
    name, members = OF_TYPES.get(kind, ("", ()))
    if name in wanted.events:
        data = _told(connection, reader, record_id, kind, members)
        if _narrow(data, wanted.types):
            yield replace(event, n=1, name=name, data={"record_sealed": record_id, **clear, **data})


def _told(
    connection: Connection, reader: RecordReader, record_id: str, kind: str, members: tuple[str, ...]
) -> dict[str, Any]:
    try:
        record = reader.open(connection, record_id).record()
    except Refusal:
        return {}  # forgotten since: that it happened is still told
    data = {name: record[name] for name in members if name in record}
    if kind == "disclosure.received":
        data["records"] = [{"id": each["id"], "type": each["type"]} for each in record["records"]]
    return data


def _narrow(data: dict[str, Any], types: frozenset[str] | None) -> bool:
    """Leaves only the wanted types among the records of a page; False where none is left."""
    if types is None or "records" not in data:
        return True
    data["records"] = [each for each in data["records"] if each["type"] in types]
    return bool(data["records"])
