"""Reading a log out of the database: its head, its tiles, its entries. Nothing here is believed; callers verify."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Cast, Column, Connection, LargeBinary, bindparam, cast, func, select

from ledger.errors import InclusionInvalid, RecordRefused
from ledger.store.models import anchors, checkpoints, entries, index_of, log_of, logs, position_of, tiles, vault

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


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
        data = self.connection.scalar(_TILE, {"of_log": self.log, "at_level": level, "at_tile": index}) or b""
        if len(data) < 32 * width:
            raise InclusionInvalid(f"tile {level}/{index} of the log is missing or cut short: run `yunxi audit`")
        return bytes(data[: 32 * width])


@dataclass(frozen=True, slots=True)
class EntryRow:
    """An entry with its vault row. `wrapped_key` is None and `payload` empty once the record is forgotten; `payload` is
    None when it is lost."""

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
    rows = connection.execute(_LOGS if department is None else _LOG_OF, {"of_department": department})
    return [LogRow(r.log, r.department, r.origin, r.size, r.root, r.halted) for r in rows]


def anchored_size(connection: Connection, log: int) -> int:
    """The newest size of a log that this node knows to be anchored, 0 for none."""
    return connection.scalar(select(func.max(anchors.c.size)).where(anchors.c.log == log)) or 0


def newest_checkpoint(connection: Connection, log: int) -> int:
    """The largest size of a log that a checkpoint was signed for, 0 for none."""
    return connection.scalar(select(func.max(checkpoints.c.size)).where(checkpoints.c.log == log)) or 0


def find_entry(connection: Connection, record_id: str) -> EntryRow:
    """The entry of a record. Raises RecordRefused when this node has none."""
    try:
        wanted = UUID(record_id).bytes
    except ValueError as error:
        raise RecordRefused("unknown-record", f"{record_id!r} is not a record id; it is a UUID") from error
    row = connection.execute(_ENTRIES_OF_IDS, {"ids": [wanted]}).one_or_none()
    if row is None:
        raise RecordRefused("unknown-record", f"this node has no record {record_id}: ask the node of its department")
    return _entry(row)


def find_entries(connection: Connection, record_ids: Sequence[str]) -> list[EntryRow]:
    """What `find_entry` gives for each of up to 500 ids, in their order, in one query."""
    wanted = [UUID(record_id).bytes for record_id in record_ids if _UUID.fullmatch(record_id)]
    rows = connection.execute(_ENTRIES_OF_IDS, {"ids": wanted})
    found = {entry.record_id: entry for entry in map(_entry, rows)}
    # one that is not there is looked for alone, because `find_entry` says what is wrong with it
    return [found.get(record_id) or find_entry(connection, record_id) for record_id in record_ids]


def read_positions(connection: Connection, positions: Sequence[int]) -> list[EntryRow]:
    """The entries at up to 500 positions, in their order; missing ones are simply not among them."""
    rows = {row.position: _entry(row) for row in connection.execute(_ENTRIES_AT, {"positions": positions})}
    return [rows[position] for position in positions if position in rows]


def read_entries(connection: Connection, log: int, start: int, end: int) -> Iterator[EntryRow]:
    """Entries `start` to `end` - 1 of a log, in order; missing ones are simply not among them."""
    span = entries.c.position.between(position_of(log, start), position_of(log, end) - 1)
    for row in connection.execute(_ENTRY.where(span).order_by(entries.c.position)):
        yield _entry(row)


def _bytes(column: Column[bytes]) -> Cast[bytes]:
    # SQLite keeps a text or a number in a column of bytes if someone puts it there; the audit must live to name it
    return cast(column, LargeBinary)


_TILE = select(_bytes(tiles.c.hashes)).where(
    tiles.c.log == bindparam("of_log"), tiles.c.level == bindparam("at_level"), tiles.c.tile == bindparam("at_tile")
)

_ENTRY = select(
    entries.c.position,
    _bytes(entries.c.record_id),
    entries.c.acknowledged_at,
    _bytes(entries.c.statement),
    vault.c.epoch,
    _bytes(vault.c.wrapped_key),
    _bytes(vault.c.payload),
).select_from(entries.outerjoin(vault, entries.c.position == vault.c.position))

# made once: to put a statement together takes longer than to run it
_LOGS = select(logs).order_by(logs.c.log)
_LOG_OF = _LOGS.where(logs.c.department == bindparam("of_department"))
_ENTRIES_OF_IDS = _ENTRY.where(entries.c.record_id.in_(bindparam("ids", expanding=True)))
_ENTRIES_AT = _ENTRY.where(entries.c.position.in_(bindparam("positions", expanding=True)))


def _entry(row: Any) -> EntryRow:
    position, record_id, acknowledged_at, statement, epoch, wrapped_key, payload = row
    return EntryRow(
        log=log_of(position),
        index=index_of(position),
        record_id=id_text(record_id),
        acknowledged_at=acknowledged_at,
        statement=statement,
        epoch=epoch,
        wrapped_key=wrapped_key,
        payload=payload,
    )


def id_text(raw: bytes) -> str:
    """What str(UUID(bytes=…)) gives, at a tenth of its cost; hex alone where the column holds something else."""
    text = raw.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}" if len(raw) == 16 else text
