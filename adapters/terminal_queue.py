"""The queue of a terminal: what was sealed and not yet acknowledged, in one SQLite file.

An item is durable when `add` returns (WAL, synchronous=FULL): it survives a power cut, a kill, and days offline.
Nothing in the file is readable to whoever takes it: the disclosures of an item are sealed to the department's recipient
key already, and the item as a whole, which has a statement with matter and case in clear, is sealed again (AES-256-GCM)
under the queue key from the terminal's keystore. Keys of items are kept as digests under that key.

trusted: no, what is sealed is authenticated · may lose data: no, it is the only copy · grows with: waiting records;
acknowledged ones are kept for some days, should the node have to be restored from a backup, and then dropped.
"""

from __future__ import annotations

import hmac
import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ledger.errors import Conflict, CouldNotRun, RecordRefused, StorageFailed
from ledger.sealed_format import SealedBlob, SealedSubmission, decode_record, encode_record

WAITING, ACKNOWLEDGED, REFUSED = "waiting", "acknowledged", "refused"
BUSY_TIMEOUT_S = 60

# of a damaged file, SQLite's own sentence can hold the damage
_DAMAGE = (sqlite3.Error, UnicodeDecodeError)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS items (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    record_id TEXT NOT NULL UNIQUE,
    lookup BLOB NOT NULL UNIQUE,
    mark BLOB NOT NULL,
    state TEXT NOT NULL,
    size INTEGER NOT NULL,
    sealed BLOB,
    sealed_at INTEGER NOT NULL,
    reason TEXT,
    detail TEXT,
    log_index INTEGER,
    acknowledged_at INTEGER
);
CREATE INDEX IF NOT EXISTS items_by_state ON items (state, seq);
CREATE TABLE IF NOT EXISTS files (
    seq INTEGER NOT NULL,
    number INTEGER NOT NULL,
    name TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    size INTEGER NOT NULL,
    upload TEXT,
    PRIMARY KEY (seq, number)
);
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""


@dataclass(frozen=True, slots=True)
class QueuedFile:
    """A sealed attachment in the terminal's directory of files. `upload`: the id under which sending it began."""

    name: str
    sha256: str
    size: int
    upload: str | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """A sealed record in the queue. `state` is one of the three above; times in seconds since 1970 by the terminal."""

    seq: int
    record_id: str
    state: str
    mark: bytes
    sealed_at: int
    reason: str | None
    detail: str | None
    index: int | None
    acknowledged_at: int | None


class Queue:
    """The queue in one file. Any number of processes may open it; SQLite lets one write at a time."""

    def __init__(self, path: Path, key: bytes, *, make: bool = True) -> None:
        """Opens it; `key`: 32 bytes; `make`: a queue that is not there is a new one. Raises StorageFailed."""
        if not make and not (path.is_file() and path.stat().st_size):
            raise StorageFailed(
                f"the terminal's queue {path} is gone, and with it what waited there: put it back from a copy; without "
                "one, revoke this terminal and enrol a new one"
            )
        self._aead = AESGCM(key)
        self._key = key
        try:
            self._connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
            for pragma in ("journal_mode=WAL", "synchronous=FULL", "secure_delete=ON"):
                self._connection.execute(f"PRAGMA {pragma}")
            self._connection.executescript(_SCHEMA)
            ((found,),) = self._connection.execute("PRAGMA quick_check(1)")
            if found != "ok":
                raise sqlite3.DatabaseError(f"it is damaged: {found}")
        except _DAMAGE as error:
            raise StorageFailed(
                f"the terminal's queue {path} cannot be opened ({_why(error)}): put it back from a copy"
            ) from error

    def close(self) -> None:
        """Closes the file."""
        self._connection.close()

    def add(self, submission: SealedSubmission, record_id: str, files: list[QueuedFile], sealed_at: int) -> None:
        """Adds an item, durable on return. Raises Conflict where the key or the record id is in the queue already, and
        StorageFailed; then nothing was added."""
        sealed = self._seal(json.dumps(encode_record(submission)).encode(), record_id)
        with self._writing() as connection:
            row = (
                record_id,
                self._digest(submission.key),
                submission.mark,
                WAITING,
                submission.size(),
                sealed,
                sealed_at,
            )
            names = "record_id, lookup, mark, state, size, sealed, sealed_at"
            cursor = connection.execute(f"INSERT INTO items ({names}) VALUES (?, ?, ?, ?, ?, ?, ?)", row)  # noqa: S608
            rows = [(cursor.lastrowid, n, f.name, f.sha256, f.size, None) for n, f in enumerate(files, 1)]
            connection.executemany("INSERT INTO files VALUES (?, ?, ?, ?, ?, ?)", rows)

    def find(self, key: str) -> Item | None:
        """The item under an idempotency key."""
        return next(self._items("WHERE lookup = ?", self._digest(key)), None)

    def items(self, state: str) -> list[Item]:
        """All items in a state, oldest first."""
        return list(self._items("WHERE state = ? ORDER BY seq", state))

    def counts(self) -> dict[str, int]:
        """How many items there are in each state."""
        found = dict(self._read("SELECT state, count(*) FROM items GROUP BY state"))
        if found.keys() - {WAITING, ACKNOWLEDGED, REFUSED}:
            # such an item would wait for ever, and nobody would see it
            raise StorageFailed("the terminal's queue is damaged: a record is in no known state; restore its file")
        return {state: found.get(state, 0) for state in (WAITING, ACKNOWLEDGED, REFUSED)}

    def waiting(self, after: int, most: int, most_bytes: int) -> list[int]:
        """The numbers of the next waiting items behind `after`: as many as fit a batch, but one at least."""
        rows = self._read(
            "SELECT seq, size FROM items WHERE state = ? AND seq > ? ORDER BY seq LIMIT ?", WAITING, after, most
        )
        taken: list[int] = []
        for seq, size in rows:
            most_bytes -= size
            if taken and most_bytes < 0:
                break
            taken.append(seq)
        return taken

    def files(self, seq: int) -> list[QueuedFile]:
        """The sealed attachments of an item, in order."""
        query = "SELECT name, sha256, size, upload FROM files WHERE seq = ? ORDER BY number"
        return [QueuedFile(*row) for row in self._read(query, seq)]

    def all_files(self) -> set[str]:
        """The names of every item's files."""
        return {name for (name,) in self._read("SELECT name FROM files")}

    def submission(self, seq: int) -> SealedSubmission:
        """The item as it is submitted, its attachments by the uploads that are known so far.

        Raises RecordRefused (`queue-damaged`) when it was changed on the disk.
        """
        ((record_id, sealed),) = self._read("SELECT record_id, sealed FROM items WHERE seq = ?", seq)
        found = decode_record(json.loads(self._open(sealed, record_id)))
        blobs = tuple(SealedBlob(f.upload or "-", f.sha256, f.size) for f in self.files(seq))
        return replace(found, blobs=blobs)

    def set_upload(self, seq: int, sha256: str, upload: str | None) -> None:
        """Keeps or forgets under which id an attachment is being sent."""
        with self._writing() as connection:
            connection.execute("UPDATE files SET upload = ? WHERE seq = ? AND sha256 = ?", (upload, seq, sha256))

    def acknowledge(self, seq: int, index: int, now: int) -> None:
        """The node has the item for good."""
        with self._writing() as connection:
            connection.execute(
                "UPDATE items SET state = ?, log_index = ?, acknowledged_at = ?, reason = NULL, detail = NULL"
                " WHERE seq = ?",
                (ACKNOWLEDGED, index, now, seq),
            )

    def refuse(self, seq: int, reason: str, detail: str, *, final: bool) -> None:
        """The node has refused the item: for good, or to be submitted again."""
        with self._writing() as connection:
            state = REFUSED if final else WAITING
            connection.execute(
                "UPDATE items SET state = ?, reason = ?, detail = ? WHERE seq = ?", (state, reason, detail, seq)
            )

    def revive(self, state: str) -> int:
        """Puts the items of a state, as far as they were not dropped, back to waiting; how many."""
        with self._writing() as connection:
            found = connection.execute(
                "UPDATE items SET state = ? WHERE state = ? AND sealed IS NOT NULL", (WAITING, state)
            )
            connection.execute(
                "UPDATE files SET upload = NULL WHERE seq IN (SELECT seq FROM items WHERE state = ?)", (WAITING,)
            )
            return int(found.rowcount)

    def drop(self, before: int) -> list[str]:
        """Drops the content of what was acknowledged before a time; returns the files that nothing needs any more."""
        gone = "SELECT seq FROM items WHERE state = ? AND acknowledged_at < ?"
        with self._writing() as connection:
            here = (ACKNOWLEDGED, before)
            names = [name for (name,) in connection.execute(f"SELECT name FROM files WHERE seq IN ({gone})", here)]  # noqa: S608
            connection.execute(f"DELETE FROM files WHERE seq IN ({gone})", here)  # noqa: S608
            connection.execute("UPDATE items SET sealed = NULL WHERE state = ? AND acknowledged_at < ?", here)
        return names

    # -- facts: small things that must survive a restart --

    def fact(self, name: str) -> Any:
        """A fact, or None."""
        rows = self._read("SELECT value FROM facts WHERE name = ?", name)
        return json.loads(rows[0][0]) if rows else None

    def set_fact(self, name: str, value: Any) -> None:
        """Keeps a fact, JSON, durable on return."""
        with self._writing() as connection:
            connection.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, json.dumps(value)))

    # -- inside --

    def _items(self, where: str, *values: Any) -> Iterator[Item]:
        names = "seq, record_id, state, mark, sealed_at, reason, detail, log_index, acknowledged_at"
        for row in self._read(f"SELECT {names} FROM items {where}", *values):  # noqa: S608
            yield Item(*row)

    def _read(self, query: str, *values: Any) -> list[Any]:
        try:
            return self._connection.execute(query, values).fetchall()
        except _DAMAGE as error:
            raise StorageFailed(f"the terminal's queue cannot be read ({_why(error)}): restore its file") from error

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            with self._connection:
                yield self._connection
        except sqlite3.IntegrityError as error:
            raise Conflict(
                "conflict", "the queue has a record of that key or id: seal it again to see which"
            ) from error
        except _DAMAGE as error:
            raise StorageFailed(
                f"the terminal's queue takes nothing ({_why(error)}); free space, and do it again"
            ) from error

    def _digest(self, key: str) -> bytes:
        return hmac.digest(self._key, b"yunxi queue key v1\x1f" + key.encode(), "sha256")

    def _seal(self, plaintext: bytes, record_id: str) -> bytes:
        nonce = os.urandom(12)
        return nonce + self._aead.encrypt(nonce, plaintext, record_id.encode())

    def _open(self, sealed: bytes | None, record_id: str) -> bytes:
        if sealed is None:
            raise CouldNotRun(f"record {record_id} was acknowledged long ago and is kept no longer")
        try:
            return self._aead.decrypt(sealed[:12], sealed[12:], record_id.encode())
        except (InvalidTag, ValueError) as error:  # ValueError: cut to less than a nonce
            raise RecordRefused(
                "queue-damaged", f"record {record_id} was changed in the terminal's queue: restore the queue's file"
            ) from error


def _why(error: Exception) -> str:
    return "it is damaged" if isinstance(error, UnicodeDecodeError) else str(error)
