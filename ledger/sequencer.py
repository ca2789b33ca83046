"""The sequencer: sealed records get their places in the log, in one transaction.

    lock the head ─► insert entries, vault, case entries ─► grow the tree's edge ─► compare-and-swap the head ─► COMMIT

There is one commit point and therefore two states: before it nothing of the batch exists, after it every record of
the batch is in the log for good. Whoever holds the acknowledgement of a record holds it because COMMIT returned.
SQLite lets one process at a time in; on PostgreSQL the row lock on the head serialises one log, and different logs
run side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, select, text, update

from ledger.attachments import StoredBlob
from ledger.errors import HistoryRefused
from ledger.formats.tiles import Edge, TileWrite, level_count, partial_width
from ledger.seal import Sealed
from ledger.store.database import insert_rows
from ledger.store.models import attachments, case_entries, entries, logs, position_of, tiles, vault
from ledger.uploads import take_uploads

# made once: to put a statement together takes longer than to run it, which counts in small batches
_LOCK_HEAD = select(logs).where(logs.c.department == bindparam("of_department")).with_for_update()
_PUT_TILE = text(
    "INSERT INTO tiles (log, level, tile, hashes) VALUES (:log, :level, :index, :data) "
    "ON CONFLICT (log, level, tile) DO UPDATE SET hashes = excluded.hashes"
)
_SWAP_HEAD = (
    update(logs)
    .where(
        logs.c.log == bindparam("of_log"), logs.c.size == bindparam("old_size"), logs.c.root == bindparam("old_root")
    )
    .values(size=bindparam("size"), root=bindparam("root"))
)


@dataclass(frozen=True, slots=True)
class Head:
    """Where a log stands. `number` is the log's in this database."""

    number: int
    department: str
    origin: str
    size: int
    root: bytes


@dataclass(frozen=True, slots=True)
class Arrival:
    """A sealed record with what intake knows of it: its idempotency key, content mark, blobs in order."""

    sealed: Sealed
    key: str
    content_mark: bytes
    blobs: tuple[StoredBlob, ...]


class Sequencer:
    """Appends to the logs of one database. Keeps the edge of each tree between batches; the head tells if it is old."""

    def __init__(self) -> None:
        self._edges: dict[int, Edge] = {}

    def append(self, connection: Connection, head: Head, arrivals: Sequence[Arrival], now_ms: int) -> Head:
        """Appends `arrivals` after `head`, which `lock_head` returned in this same write transaction.

        `now_ms`: milliseconds since 1970, stored as the time of acknowledgement. Raises HistoryRefused when the head
        moved although it was locked (then the database is broken, and going on would fork the log), IntegrityError
        when a key or record id is taken, UploadTaken when an upload is. The caller commits.
        """
        # 1. Die here: nothing is written; the submitter, unacknowledged, comes again.
        positions = range(position_of(head.number, head.size), position_of(head.number, head.size + len(arrivals)))
        insert_rows(connection, entries, [_entry(head, p, a, now_ms) for p, a in zip(positions, arrivals, strict=True)])
        insert_rows(connection, vault, [_vault(p, a.sealed) for p, a in zip(positions, arrivals, strict=True)])
        insert_rows(
            connection,
            attachments,
            [
                (position, number, blob.name, blob.wrapped_key)
                for position, arrival in zip(positions, arrivals, strict=True)
                for number, blob in enumerate(arrival.blobs, 1)
            ],
        )
        insert_rows(
            connection,
            case_entries,
            [
                (head.number, arrival.sealed.case, position)
                for position, arrival in zip(positions, arrivals, strict=True)
                if arrival.sealed.case is not None
            ],
        )
        take_uploads(connection, [blob.upload for a in arrivals for blob in a.blobs if blob.upload is not None])
        # 2. Die here: the transaction is rolled back by the database's own recovery, as if 1.
        edge = self._edge(connection, head)
        writes = edge.append([a.sealed.leaf for a in arrivals])
        _store_tiles(connection, head.number, writes)
        grown = Head(head.number, head.department, head.origin, edge.size, edge.root())
        _swap_head(connection, head, grown)
        # 3. Die after COMMIT, before the acknowledgement arrives: the submitter comes again and its idempotency key
        #    finds the record. The edge kept here is used only if the next head has its size and root.
        self._edges[head.number] = edge
        return grown

    def _edge(self, connection: Connection, head: Head) -> Edge:
        kept = self._edges.pop(head.number, None)
        if kept is not None and kept.size == head.size and kept.root() == head.root:
            return kept
        edge = Edge.load(head.size, read_edge(connection, head))
        if edge.root() != head.root:
            raise HistoryRefused(
                f"log {head.origin} is damaged: its tiles do not lead to its root at size {head.size:,}; "
                "run `yunxi audit` and restore the tiles before anything is appended"
            )
        return edge


def lock_head(connection: Connection, department: str) -> Head:
    """The head of a department's log, locked until the transaction ends. Raises HistoryRefused when there is no such
    log or it was halted."""
    row = connection.execute(_LOCK_HEAD, {"of_department": department}).one_or_none()
    if row is None:
        raise HistoryRefused(f"there is no log of department {department!r}: run `yunxi department add {department}`")
    if row.halted is not None:
        raise HistoryRefused(f"log {row.origin} takes nothing: {row.halted}")
    return Head(row.log, row.department, row.origin, row.size, row.root)


def read_edge(connection: Connection, head: Head) -> list[bytes]:
    """The partial tile of each level of the tree that `head` names, lowest first."""
    partial = []
    for level in range(level_count(head.size)):
        width = partial_width(level, head.size)
        index = head.size >> 8 * (level + 1)
        query = select(tiles.c.hashes).where(tiles.c.log == head.number, tiles.c.level == level, tiles.c.tile == index)
        partial.append((connection.scalar(query) or b"")[: 32 * width] if width else b"")
    return partial


def _entry(head: Head, position: int, arrival: Arrival, now_ms: int) -> tuple[object, ...]:
    record_id = bytes.fromhex(arrival.sealed.record_id.replace("-", ""))
    return (position, record_id, arrival.key, arrival.content_mark, now_ms, arrival.sealed.statement, head.number)


def _vault(position: int, sealed: Sealed) -> tuple[object, ...]:
    return (position, sealed.epoch, sealed.wrapped_key, sealed.payload)


def _store_tiles(connection: Connection, log: int, writes: Sequence[TileWrite]) -> None:
    for write in writes:
        tile = {"log": log, "level": write.level, "index": write.index, "data": write.data}
        connection.execute(_PUT_TILE, tile)


def _swap_head(connection: Connection, old: Head, new: Head) -> None:
    swap = {"of_log": old.number, "old_size": old.size, "old_root": old.root, "size": new.size, "root": new.root}
    if connection.execute(_SWAP_HEAD, swap).rowcount != 1:
        raise HistoryRefused(f"log {old.origin} moved while it was locked: stop every process on this database")
