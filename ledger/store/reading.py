"""Reading a log out of the database: its head, its tiles, its entries. Nothing here is believed; callers verify."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, func, select

from ledger.errors import InclusionInvalid, RecordRefused
from ledger.store.models import anchors, entries, index_of, log_of, logs, position_of, tiles, vault


@dataclass(frozen=True, slots=True)
class LogRow:
    """A log as its row says. `halted` is the reason why it takes nothing, or None."""

    number: int
    department: str
    origin: str
    size: int
    root: bytes
    halted: str | None


@dataclass(frozen=True, slots=True)
class StoredTiles:
    """The `formats.tiles.TileReader` of one log, over one connection."""

    connection: Connection
    log: int

    def tile(self, level: int, index: int, width: int) -> bytes:
        """The first `width` hashes of a tile. Raises InclusionInvalid when the database has fewer."""
        here = (tiles.c.log == self.log) & (tiles.c.level == level) & (tiles.c.tile == index)
        data = self.connection.scalar(select(tiles.c.hashes).where(here)) or b""
        if len(data) < 32 * width:
            raise InclusionInvalid(f"tile {level}/{index} of the log is missing or cut short: run `yunxi audit`")
        return bytes(data[: 32 * width])


@dataclass(frozen=True, slots=True)
class EntryRow:
    """An entry with its vault row. `wrapped_key` is None once the record is forgotten, `payload` when it is lost."""

    log: int
    index: int
    record_id: str
    acknowledged_at: int
    statement: bytes
    epoch: int | None
    wrapped_key: bytes | None
    payload: bytes | None


def read_logs(connection: Connection, department: str | None = None) -> list[LogRow]:
    """All logs of the node by number, or the one of `department` (an empty list when there is none)."""
    query = select(logs).order_by(logs.c.log)
    if department is not None:
        query = query.where(logs.c.department == department)
    return [LogRow(r.log, r.department, r.origin, r.size, r.root, r.halted) for r in connection.execute(query)]


def anchored_size(connection: Connection, log: int) -> int:
    """The newest size of a log that this node knows to be anchored, 0 for none."""
    return connection.scalar(select(func.max(anchors.c.size)).where(anchors.c.log == log)) or 0


def find_entry(connection: Connection, record_id: str) -> EntryRow:
    """The entry of a record. Raises RecordRefused when this node has none."""
    try:
        wanted = UUID(record_id).bytes
    except ValueError as error:
        raise RecordRefused("unknown-record", f"{record_id!r} is not a record id; it is a UUID") from error
    row = connection.execute(_ENTRY.where(entries.c.record_id == wanted)).one_or_none()
    if row is None:
        raise RecordRefused("unknown-record", f"this node has no record {record_id}: ask the node of its department")
    return _entry(row)


def read_entries(connection: Connection, log: int, start: int, end: int) -> Iterator[EntryRow]:
    """Entries `start` to `end` - 1 of a log, in order; missing ones are simply not among them."""
    span = entries.c.position.between(position_of(log, start), position_of(log, end) - 1)
    for row in connection.execute(_ENTRY.where(span).order_by(entries.c.position)):
        yield _entry(row)


_ENTRY = select(
    entries.c.position,
    entries.c.record_id,
    entries.c.acknowledged_at,
    entries.c.statement,
    vault.c.epoch,
    vault.c.wrapped_key,
    vault.c.payload,
).select_from(entries.outerjoin(vault, entries.c.position == vault.c.position))


def _entry(row: Any) -> EntryRow:
    position, record_id, acknowledged_at, statement, epoch, wrapped_key, payload = row
    return EntryRow(
        log=log_of(position),
        index=index_of(position),
        record_id=str(UUID(bytes=record_id)),
        acknowledged_at=acknowledged_at,
        statement=statement,
        epoch=epoch,
        wrapped_key=wrapped_key,
        payload=payload,
    )
