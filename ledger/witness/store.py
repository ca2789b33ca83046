"""A witness's state in a database: `witness_heads`, one row a log, moved by compare-and-swap; `witness_conflicts`.

The same tables hold the state of a stand-alone witness (SQLite, WAL, synchronous=FULL) and of the witnesses that a
node runs for its departments (in the node's own database). Rows are keyed by the witness's verifier key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

from sqlalchemy import ColumnElement, Connection, Table, delete, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as insert_postgresql
from sqlalchemy.dialects.sqlite import insert as insert_sqlite

from ledger.errors import StorageFailed
from ledger.formats.merkle import EMPTY_ROOT
from ledger.formats.note import VerifierKey
from ledger.store.database import Database
from ledger.store.models import witness_conflicts as conflicts
from ledger.store.models import witness_heads as heads
from ledger.witness.core import Conflict, Head

MAX_SUSPICIONS = 100
"""Unproven conflicts kept of a log: anybody can send a log's own checkpoint with a damaged proof."""

Transactions = Callable[[], AbstractContextManager[Connection]]


class SqlStore:
    """The `core.Store` of one witness. `writing` and `reading` open transactions, as those of `Database` do."""

    def __init__(self, vkey: VerifierKey, writing: Transactions, reading: Transactions) -> None:
        self._witness = str(vkey)
        self._writing = writing
        self._reading = reading

    @classmethod
    def of(cls, vkey: VerifierKey, database: Database) -> SqlStore:
        """With transactions of its own in `database`."""
        return cls(vkey, database.writing, database.reading)

    @classmethod
    def within(cls, vkey: VerifierKey, connection: Connection) -> SqlStore:
        """Inside the caller's write transaction: durable when that commits, so nothing may leave before."""

        @contextmanager
        def current() -> Iterator[Connection]:
            yield connection

        return cls(vkey, current, current)

    @contextmanager
    def open(self, origin: str) -> Iterator[SqlSlot]:
        """See `core.Store.open`."""
        with self._writing() as connection:
            yield SqlSlot(connection, self._witness, origin)

    def head(self, origin: str) -> Head | None:
        """See `core.Store.head`."""
        with self._reading() as connection:
            return _head(connection, self._witness, origin)

    def take_over(self, earlier: Sequence[VerifierKey], origin: str) -> None:
        """Goes on where the witness stood with a log under its `earlier` keys; nothing once it has begun anew."""
        if not earlier:
            return
        with self._writing() as connection:
            if _head(connection, self._witness, origin) is None:
                before = heads.c.witness.in_([str(vkey) for vkey in earlier]) & (heads.c.origin == origin)
                newest = select(heads.c.witness).where(before, heads.c.note.is_not(None))
                found = connection.scalar(newest.order_by(heads.c.size.desc(), heads.c.time.desc()).limit(1))
                if found is not None:
                    connection.execute(delete(heads).where(_is(heads, self._witness, origin)))
                    moved = update(heads).where(_is(heads, found, origin)).values(witness=self._witness)
                    connection.execute(moved)

    def conflicts(self) -> list[Conflict]:
        """See `core.Store.conflicts`."""
        query = select(conflicts).where(conflicts.c.witness == self._witness)
        with self._reading() as connection:
            rows = connection.execute(query.order_by(conflicts.c.kept_at, conflicts.c.size)).all()
        return [Conflict(r.origin, r.size, r.root, r.note, r.head, bool(r.proven), r.kept_at) for r in rows]


class SqlSlot:
    """The `core.Slot` of one log, over one transaction. Holds the log's row from construction on."""

    def __init__(self, connection: Connection, witness: str, origin: str) -> None:
        self._connection = connection
        self._witness = witness
        self._origin = origin
        # a row to hold must be there before the first head is
        dialect = insert_sqlite if connection.dialect.name == "sqlite" else insert_postgresql
        empty = {"witness": witness, "origin": origin, "size": 0, "root": EMPTY_ROOT, "time": 0, "note": None}
        connection.execute(dialect(heads).values(empty).on_conflict_do_nothing())
        connection.execute(select(heads.c.size).where(_is(heads, witness, origin)).with_for_update())

    def head(self) -> Head | None:
        return _head(self._connection, self._witness, self._origin)

    def advance(self, old: Head | None, new: Head) -> None:
        size, root, time = (old.size, old.root, old.time) if old is not None else (0, EMPTY_ROOT, 0)
        here = _is(heads, self._witness, self._origin)
        same = (heads.c.size == size) & (heads.c.root == root) & (heads.c.time == time)
        values = {"size": new.size, "root": new.root, "time": new.time, "note": new.note}
        if self._connection.execute(update(heads).where(here & same).values(values)).rowcount != 1:
            raise StorageFailed("another process has moved this witness's head meanwhile: nothing was cosigned")
        here = _is(conflicts, self._witness, self._origin) & (conflicts.c.size == new.size) & ~conflicts.c.proven
        self._connection.execute(delete(conflicts).where(here & (conflicts.c.root == new.root)))
        self._connection.execute(update(conflicts).where(here).values(proven=True, head=new.note))

    def keep(self, conflict: Conflict) -> None:
        connection, here = self._connection, _is(conflicts, self._witness, self._origin)
        this = here & (conflicts.c.size == conflict.size) & (conflicts.c.root == conflict.root)
        if connection.scalar(select(conflicts.c.size).where(this)) is not None:
            return
        suspicions = connection.scalar(select(func.count()).select_from(conflicts).where(here & ~conflicts.c.proven))
        if not conflict.proven and (suspicions or 0) >= MAX_SUSPICIONS:
            return
        values = {"witness": self._witness, "origin": self._origin, "size": conflict.size, "root": conflict.root}
        values |= {"note": conflict.note, "head": conflict.head, "proven": conflict.proven, "kept_at": conflict.time}
        connection.execute(insert(conflicts).values(values))


def _is(table: Table, witness: str, origin: str) -> ColumnElement[bool]:
    return (table.c.witness == witness) & (table.c.origin == origin)


def _head(connection: Connection, witness: str, origin: str) -> Head | None:
    row = connection.execute(select(heads).where(_is(heads, witness, origin))).one_or_none()
    return None if row is None or row.note is None else Head(row.size, row.root, row.time, row.note)
