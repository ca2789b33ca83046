"""The projector: follows every hosted log and keeps tables that can be made again from nothing but the logs.

    entries, in order ─► claims (clear) and, where asked for, the opened record ─► each projection ─► cursor ─► COMMIT

One transaction takes a batch of one log into every projection and moves the log's cursor, so each entry is applied
exactly once whatever dies. To add a projection, write a class and name it in `gateway/projections/registry.py`:

    class Example(Projection):
        name = "example"                                  # add a number when its tables' content changes: example-2
        tables = (examples,)                              # emptied by a rebuild; nobody else writes them
        types = frozenset({"disclosure.received"})        # the entries it is given; None: every entry
        opens = frozenset({"disclosure.received"})        # for which of them `entry.record` is opened
        def apply(self, connection, batch): ...           # entries of ONE log, in the log's order; never commits

Rules that make a rebuild equal the live tables byte for byte: rows come from the entries and from rows that earlier
entries *of the same log* made, never from the clock, chance or another log, because logs are replayed one after the
other; what belongs together from several logs is joined when it is read. What stands in these tables is not encrypted:
no subjects, names or texts, only what the service itself needs.

After `projector.catch_up()` whatever was durable before the call is in the tables. `projector.on_new(callback)` calls
back, in the thread that noticed and also for what other processes projected, with the departments that have news.
"""

from __future__ import annotations

import binascii
import hashlib
import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

import orjson
from sqlalchemy import Connection, Table, delete, func, select, text, update
from sqlalchemy.exc import DataError, IntegrityError

from gateway.projections.models import projection_cursors
from ledger.errors import CouldNotRun, Refusal
from ledger.records import RecordReader
from ledger.store.database import Database
from ledger.store.models import entries, index_of, logs, position_of

if TYPE_CHECKING:
    import asyncio

BATCH = 1_000
POLL_S = 0.2

_TO_STANDARD = bytes.maketrans(b"-_", b"+/")
_journal = logging.getLogger("yunxi.projections")


@dataclass(frozen=True, slots=True)
class ProjectedEntry:
    """An entry of a hosted log. `claims`: the statement's payload, not verified (the audit does that).

    `record`: the opened record where a projection opens the type, else None; also None where it cannot be opened
    (sealed at a terminal, forgotten, damaged), so every projection must live with None. `acknowledged_at`: milliseconds
    since 1970.
    """

    department: str
    log: int
    index: int
    position: int
    record_id: str
    type: str
    claims: dict[str, Any]
    record: dict[str, Any] | None
    statement: bytes
    acknowledged_at: int


class Projection(ABC):
    """See the module's text. The attributes are fixed for the life of the process."""

    name: str
    tables: tuple[Table, ...] = ()
    types: frozenset[str] | None = None
    opens: frozenset[str] = frozenset()

    @abstractmethod
    def apply(self, connection: Connection, batch: Sequence[ProjectedEntry]) -> None:
        """Takes entries of one log, in order, into the projection's tables; at least one, at most `BATCH`. The same
        rows however the entries are cut into batches. What it raises of an entry that does not fit leaves that entry
        out of this projection, alone."""


class Projector:
    """Keeps projections up with the logs. Any number of projectors, in any number of threads and processes, may work
    on one database: the cursor's row (on SQLite the write transaction) is the lock."""

    name = "projector"

    def __init__(self, database: Database, reader: RecordReader, projections: Sequence[Projection]) -> None:
        self._database = database
        self._reader = reader
        self._projections = tuple(projections)
        self._opens = frozenset(name for projection in projections for name in projection.opens)
        self._one = threading.Lock()
        self._callbacks: list[Callable[[frozenset[str]], None]] = []
        self._noticed: dict[int, int] = {}

    @property
    def made_by(self) -> str:
        """What tells tables of these projections from those of others: a digest of their names."""
        return hashlib.sha256(" ".join(sorted(p.name for p in self._projections)).encode()).hexdigest()

    def on_new(self, callback: Callable[[frozenset[str]], None]) -> None:
        """Calls `callback(departments)` whenever entries of these departments came into the projections. It must be
        quick and may not raise."""
        self._callbacks.append(callback)

    def catch_up(self, departments: Collection[str] | None = None) -> int:
        """Applies what is durable by now and was not applied yet; returns how many entries. Two small reads when there
        is nothing. Raises StorageFailed, and CouldNotRun when the tables were made by other projections."""
        applied = 0
        for log in self._behind(departments):
            count = BATCH
            while count == BATCH:  # a smaller batch reached the log's end
                count = self._step(log)
                applied += count
        self._notice()
        return applied

    def rebuild(self) -> int:
        """Empties every projection and replays all logs; returns how many entries. What is cut off goes on with the
        next `catch_up`; meanwhile readers see less than there is."""
        with self._one, self._database.writing() as connection:
            for table in self._tables():
                connection.execute(delete(table))
            connection.execute(delete(projection_cursors))
        return self.catch_up()

    async def run(self, stop: asyncio.Event) -> None:
        """Catches up five times a second until `stop`, for records that other ways brought. Belongs into every process:
        the callbacks of each tell only what its own loop noticed."""
        import asyncio

        while not stop.is_set():
            try:
                await asyncio.to_thread(self.catch_up)
            except CouldNotRun as error:
                _journal.error("projections are behind: %s", error)
            try:
                await asyncio.wait_for(stop.wait(), POLL_S)
            except TimeoutError:
                continue

    # -- one batch --

    def _behind(self, departments: Collection[str] | None) -> list[Any]:
        query = (
            select(logs.c.log, logs.c.department, logs.c.size, projection_cursors.c.made_by)
            .select_from(logs.outerjoin(projection_cursors, logs.c.log == projection_cursors.c.log))
            .where(logs.c.size > func.coalesce(projection_cursors.c.applied, 0))
            .order_by(logs.c.log)
        )
        with self._database.reading() as connection:
            return [r for r in connection.execute(query) if departments is None or r.department in departments]

    def _step(self, log: Any) -> int:
        # Die anywhere in here: rows and cursor are both as before, and the next one takes the same batch.
        with self._one, self._database.writing() as connection:
            applied = self._lock_cursor(connection, log.log)
            size = connection.scalar(select(logs.c.size).where(logs.c.log == log.log)) or 0
            end = min(applied + BATCH, size)
            if end <= applied:
                return 0
            batch = list(self._read(connection, log, applied, end))
            for projection in self._projections:
                given = [e for e in batch if projection.types is None or e.type in projection.types]
                apply_entries(connection, projection, given)
            here = projection_cursors.c.log == log.log
            connection.execute(update(projection_cursors).where(here).values(applied=end))
            return end - applied

    def _lock_cursor(self, connection: Connection, log: int) -> int:
        fresh = text("INSERT INTO projection_cursors (log, applied, made_by) VALUES (:l, 0, :m) ON CONFLICT DO NOTHING")
        connection.execute(fresh, {"l": log, "m": self.made_by})
        query = select(projection_cursors).where(projection_cursors.c.log == log).with_for_update()
        row = connection.execute(query).one()
        if row.made_by != self.made_by:
            raise CouldNotRun("the service's tables were made by another version: run `yunxi rebuild`")
        return int(row.applied)

    def _read(self, connection: Connection, log: Any, start: int, end: int) -> Iterable[ProjectedEntry]:
        query = (
            select(entries.c.position, entries.c.record_id, entries.c.statement, entries.c.acknowledged_at)
            .where(entries.c.position.between(position_of(log.log, start), position_of(log.log, end) - 1))
            .order_by(entries.c.position)
        )
        for position, record_id, statement, acknowledged_at in connection.execute(query).all():
            claims = read_claims(statement)
            if claims is None:
                # somebody changed the row; the audit says so, and it must not hold up the others
                _journal.error(
                    "entry %d of log %s cannot be read: run `yunxi audit`", index_of(position), log.department
                )
                continue
            name = str(UUID(bytes=record_id))
            opened = self._open(connection, name) if claims["type"] in self._opens else None
            yield ProjectedEntry(
                department=log.department,
                log=log.log,
                index=index_of(position),
                position=position,
                record_id=name,
                type=claims["type"],
                claims=claims,
                record=opened,
                statement=statement,
                acknowledged_at=acknowledged_at,
            )

    def _open(self, connection: Connection, record_id: str) -> dict[str, Any] | None:
        try:
            return self._reader.open(connection, record_id).record()
        except Refusal as refusal:
            _journal.warning("record %s cannot be opened: %s", record_id, refusal.code)
            return None

    def _tables(self) -> list[Table]:
        return [table for projection in self._projections for table in projection.tables]

    # -- who wants to know --

    def _notice(self) -> None:
        """Compares the cursors with those seen last; another process may have moved them."""
        query = select(logs.c.department, logs.c.log, projection_cursors.c.applied).join_from(
            projection_cursors, logs, projection_cursors.c.log == logs.c.log
        )
        with self._database.reading() as connection:
            rows = connection.execute(query).all()
        moved = frozenset(row.department for row in rows if self._noticed.get(row.log) != row.applied)
        self._noticed = {row.log: row.applied for row in rows}
        if moved:
            for callback in self._callbacks:
                callback(moved)


def apply_entries(connection: Connection, projection: Projection, given: Sequence[ProjectedEntry]) -> None:
    """Applies entries; one that does not fit, because whoever sealed it did as they liked, must not stop the others."""
    if not given:
        return
    try:
        with connection.begin_nested():
            projection.apply(connection, given)
    except (IntegrityError, DataError, LookupError, TypeError, ValueError, Refusal) as error:
        if len(given) > 1:
            for entry in given:
                apply_entries(connection, projection, [entry])
            return
        kind = type(error).__name__
        _journal.error("record %s does not fit into %s (%s): left out", given[0].record_id, projection.name, kind)


def read_claims(statement: bytes) -> dict[str, Any] | None:
    """The payload of a stored statement, None when it has none with a type. The signature is not looked at."""
    try:
        claims = orjson.loads(binascii.a2b_base64(statement.split(b".")[1].translate(_TO_STANDARD) + b"=="))
    except (ValueError, IndexError):
        return None
    return claims if isinstance(claims, dict) and isinstance(claims.get("type"), str) else None
