"""The chain's one SQLite file: py-evm's key-value pairs, and an index of logs. Does not import the EVM.

One SQLite transaction holds everything a block writes, so after `kill -9` a block is there whole or not at all.
WAL with synchronous=FULL: when `block()` returns, the block survives a power cut as far as the disk keeps its word.
The file is held with SQLite's exclusive lock for as long as it is open, so that one chain never has two writers;
the operating system drops that lock with the process, however it ends.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ledger.errors import StorageFailed

_SCHEMA = """
CREATE TABLE pairs (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE logs (
    block INTEGER NOT NULL, position INTEGER NOT NULL, tx_hash BLOB NOT NULL, block_hash BLOB NOT NULL,
    address BLOB NOT NULL, topic0 BLOB, topic1 BLOB, topic2 BLOB, topic3 BLOB, data BLOB NOT NULL,
    PRIMARY KEY (block, position)
) WITHOUT ROWID;
CREATE INDEX logs_by_topic ON logs (address, topic0, topic1, block);
CREATE TABLE chain (one INTEGER PRIMARY KEY CHECK (one = 1), chain_id INTEGER NOT NULL, created_at INTEGER NOT NULL);
"""


class Busy(StorageFailed):
    """Another process holds the chain's file."""


@dataclass(frozen=True, slots=True)
class StoredLog:
    """One event. `topics`: up to four of 32 bytes. `position` counts the logs of its block."""

    block: int
    position: int
    tx_hash: bytes
    block_hash: bytes
    address: bytes
    topics: tuple[bytes, ...]
    data: bytes


class ChainStore:
    """An open chain file. Not thread-safe: the caller holds one lock around every use."""

    def __init__(self, path: Path, *, create: bool = False) -> None:
        """Open `path` and lock it. Raises Busy if another process has it, StorageFailed if it is not a chain."""
        self.path = path
        try:
            mode = "rwc" if create else "rw"
            self._connection = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode={mode}",
                uri=True,
                isolation_level=None,
                check_same_thread=False,
                timeout=0,
            )
            self._lock_and_configure()
            if create:
                self._connection.executescript(f"BEGIN;{_SCHEMA}COMMIT;")
            self._identity = path.stat().st_ino
        except sqlite3.Error as error:
            self._close_half_open()
            if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY:
                raise Busy(f"Another process holds the chain in {path.parent}.") from error
            raise StorageFailed(f"The chain's file {path} cannot be opened: {error}.") from error

    def _lock_and_configure(self) -> None:
        self._connection.execute("PRAGMA locking_mode=EXCLUSIVE")
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=FULL")
        self._connection.execute("BEGIN EXCLUSIVE")
        self._connection.execute("COMMIT")  # in exclusive mode the lock outlives the transaction

    def _close_half_open(self) -> None:
        connection = getattr(self, "_connection", None)
        if connection is not None:
            connection.close()

    def close(self) -> None:
        self._connection.close()

    def still_in_place(self) -> bool:
        """Whether the path still names the open file; if not, the directory was removed or replaced under us."""
        try:
            return self.path.stat().st_ino == self._identity
        except FileNotFoundError:
            return False

    @contextmanager
    def block(self) -> Iterator[None]:
        """All writes inside are committed together and durable on return, or none is made. Raises StorageFailed."""
        if not self.still_in_place():
            raise StorageFailed(f"The chain's file {self.path} was removed or replaced while in use.")
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            yield
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise StorageFailed(f"The chain's file {self.path} refused a write: {error}.") from error
        finally:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    def get(self, key: bytes) -> bytes | None:
        """The value of one of py-evm's keys."""
        row = self._connection.execute("SELECT value FROM pairs WHERE key = ?", (key,)).fetchone()
        return None if row is None else bytes(row[0])

    def put(self, key: bytes, value: bytes) -> None:
        self._connection.execute("INSERT OR REPLACE INTO pairs VALUES (?, ?)", (key, value))

    def remove(self, key: bytes) -> bool:
        """Whether the key was there."""
        return self._connection.execute("DELETE FROM pairs WHERE key = ?", (key,)).rowcount > 0

    def write_identity(self, chain_id: int, created_at: int) -> None:
        self._connection.execute("INSERT INTO chain VALUES (1, ?, ?)", (chain_id, created_at))

    def read_identity(self) -> tuple[int, int]:
        """(chain id, creation time). Raises StorageFailed if the file was never finished."""
        try:
            row = self._connection.execute("SELECT chain_id, created_at FROM chain").fetchone()
        except sqlite3.Error as error:
            raise StorageFailed(f"The chain's file {self.path} is damaged: {error}.") from error
        if row is None:
            raise StorageFailed(f"The chain's file {self.path} holds no chain.")
        return int(row[0]), int(row[1])

    def add_logs(self, logs: Iterable[StoredLog]) -> None:
        rows = [
            (e.block, e.position, e.tx_hash, e.block_hash, e.address, *e.topics, *[None] * (4 - len(e.topics)), e.data)
            for e in logs
        ]
        self._connection.executemany("INSERT INTO logs VALUES (?,?,?,?,?,?,?,?,?,?)", rows)

    def find_logs(
        self, first: int, last: int, addresses: list[bytes], topics: list[list[bytes]], limit: int
    ) -> list[StoredLog]:
        """Logs of blocks first..last, oldest first, at most `limit`. An empty list of choices admits everything."""
        clauses, values = ["block BETWEEN ? AND ?"], [first, last]
        columns = ["address", "topic0", "topic1", "topic2", "topic3"]
        for column, choices in zip(columns, [addresses, *topics], strict=False):
            if choices:
                clauses.append(f"{column} IN ({','.join('?' * len(choices))})")
                values += choices  # type: ignore[arg-type]
        where = " AND ".join(clauses)
        query = f"SELECT * FROM logs WHERE {where} ORDER BY block, position LIMIT {limit:d}"  # noqa: S608
        return [_stored_log(row) for row in self._connection.execute(query, values)]


def _stored_log(row: tuple[int, int, bytes, bytes, bytes, bytes, bytes, bytes, bytes, bytes]) -> StoredLog:
    block, position, tx_hash, block_hash, address, *topics, data = row
    present = tuple(topic for topic in topics if topic is not None)
    return StoredLog(block, position, tx_hash, block_hash, address, present, data)
