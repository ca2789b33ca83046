"""Resumable uploads: a file arrives in pieces, survives every cut, and becomes a record's attachment as it lies.

    begin ─► append, append, … (each from the offset that is durable) ─► finished ─► a record takes it

Where the bytes lie: in `uploads/<id>` of the node until the last has come, then in the blob store under the same name.
Bytes that arrive in the clear are sealed before they touch the disk, under a key drawn for the upload (`crypto.stream`,
suite 2), which stands in the upload's row wrapped by the department's KEK; the last, unfinished segment lies sealed in
the row. A record that takes the upload wraps that key with its own data key, so not one byte is written again. Bytes
that a terminal has sealed (`sealed`) are stored as they come, and the digest is the ciphertext's.

A row is trusted for nothing but progress: size and digest are compared with what the record says, and the audit opens
every attachment again. Rows are updated by compare-and-swap on the offset under a lock on the file, so of two
appends at once one wins and the other is told the offset. Any number of processes of one machine may take part.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import secrets
import shutil
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from ledger.attachments import upload_context
from ledger.crypto.envelope import KEY_BYTES, unwrap_data_key, wrap_data_key
from ledger.crypto.stream import ARRIVING_PREFIX, MAGIC, ArrivingStream, open_stream
from ledger.errors import RecordRefused, StorageFailed
from ledger.keks import KekRing
from ledger.store.blobs import CHUNK_BYTES, Blobs, sync_directory
from ledger.store.database import Database
from ledger.store.models import uploads
from ledger.store.reading import read_logs
from ledger.submission import UploadedSource

RUN_BYTES = 16 * 1024 * 1024
"""Held in memory by an append before it is made durable: what a cut of power can cost."""

_ID = re.compile(r"[0-9a-f]{32}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_HASHERS = 256


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """What one department may have under way, and for how long: `lifetime_s` counts from the last byte that came."""

    open_uploads: int = 200
    file_bytes: int = 64 << 30
    open_bytes: int = 512 << 30
    lifetime_s: int = 7 * 86_400
    free_bytes: int = 1 << 30  # what must stay free on the node's disk


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload as it stands. `received` bytes of `size` are durable; `sha256` is known once all are and were checked.
    `sealed`: the bytes are a terminal's ciphertext, and the digest is the ciphertext's."""

    id: str
    department: str
    size: int
    received: int
    sealed: bool
    sha256: str | None
    expires_at: int


@dataclass(frozen=True, slots=True)
class Finished:
    """An upload that a record may take. `key` is its stream key, 32 bytes; None for a terminal's ciphertext."""

    size: int
    sha256: str
    key: bytes | None


@dataclass(frozen=True, slots=True)
class Claim:
    """An upload that came in the clear, as one record of a batch takes it."""

    upload: str
    key: bytes


class UploadTaken(Exception):
    """An upload went to another record, or expired, since it was looked up: look again. Never reaches a user."""


class Uploads:
    """The uploads of a node. Safe to share between threads."""

    def __init__(
        self,
        database: Database,
        blobs: Blobs,
        keks: KekRing,
        directory: Path,
        clock: Callable[[], float] = time.time,
        limits: UploadLimits | None = None,
    ) -> None:
        """`directory` is made when needed; it must lie on the file system of a local blob store."""
        self._database = database
        self._blobs = blobs
        self._keks = keks
        self._directory = directory
        self._clock = clock
        self.limits = limits or UploadLimits()
        self._hashers: OrderedDict[str, tuple[int, Any]] = OrderedDict()
        self._guard = threading.Lock()

    def begin(self, department: str, size: int, *, sealed: bool = False, sha256: str | None = None) -> Upload:
        """A new upload of `size` bytes; `sha256` (hex), where known, is checked when the last byte has come.

        Raises RecordRefused (`upload-size`, `upload-digest`, `upload-limit`, `department`), StorageFailed.
        """
        _check_begin(size, sha256, self.limits)
        self.sweep()
        name = secrets.token_hex(16)
        self._create_file(name, sealed=sealed, size=size)
        # Die here: a file without a row; `sweep` deletes it.
        begun = False
        try:
            self._insert(name, department, size, sealed=sealed, sha256=sha256)
            begun = True
        finally:
            if not begun:
                self._path(name).unlink(missing_ok=True)
        return self.find(department, name)

    def _insert(self, name: str, department: str, size: int, *, sealed: bool, sha256: str | None) -> None:
        now = int(self._clock())
        with self._database.writing() as connection:
            self._check_room(connection, department, size)
            epoch, wrapped = (None, None) if sealed else self._wrap_new_key(connection, department)
            row = {"id": name, "department": department, "size": size, "received": 0, "epoch": epoch, "rest": None}
            row |= {"wrapped_key": wrapped, "declared": sha256, "created_at": now}
            connection.execute(insert(uploads).values(**row, expires_at=now + self.limits.lifetime_s))

    def find(self, department: str, name: str) -> Upload:
        """The upload as it stands; one whose last step was cut off is finished first. Raises as `append`."""
        row = self._row(department, name)
        if row.received == row.size and row.sha256 is None:
            self._finish(row)
            row = self._row(department, name)
        return _upload(row)

    def append(self, department: str, name: str, offset: int, chunks: Iterable[bytes]) -> Upload:
        """Appends `chunks` from `offset`, which must be what is durable; what came before an error of `chunks` is kept.

        Raises RecordRefused: `unknown-upload`, `upload-offset` (the sentence says where it stands), `upload-size` (more
        than was declared; nothing of the last run is kept), `upload-digest` (the whole is not what was declared, and
        was thrown away), `upload-not-sealed` (plaintext where ciphertext was announced). Raises StorageFailed.
        """
        receiver = self.receive(department, name, offset)
        try:
            for chunk in chunks:
                if receiver.take(chunk):
                    receiver.store()
        finally:
            receiver.store()
        return self.find(department, name)

    def receive(self, department: str, name: str, offset: int) -> Receiver:
        """The same piece by piece, for a caller who must wait for the pieces. Raises as `append`."""
        row = self._row(department, name)
        if row.received != offset:
            raise _offset_differs(row.received)
        return Receiver(self, department, name, offset, row.size)

    def cancel(self, department: str, name: str) -> None:
        """Throws an upload away. Raises RecordRefused (`unknown-upload`), StorageFailed."""
        self._row(department, name)
        self._discard(name)

    def sweep(self) -> int:
        """Throws away what has expired, and files that a crash left without a row; how many uploads went."""
        now = int(self._clock())
        with self._database.reading() as connection:
            expired = connection.scalars(select(uploads.c.id).where(uploads.c.expires_at <= now)).all()
        gone = sum(self._discard(name) for name in expired)
        self._sweep_files()
        return gone

    # -- one run of bytes --

    def store(self, department: str, name: str, offset: int, run: bytes) -> None:
        """Makes one run durable; `Receiver` calls this."""
        with self._locked(department, name) as descriptor:
            row = self._row(department, name)
            if row.received != offset:
                raise _offset_differs(row.received)
            rest = self._write(descriptor, row, run)
            os.fsync(descriptor)
            # Die here: bytes behind `received` in the file; the client sends them again, and they are written over.
            here = (uploads.c.id == name) & (uploads.c.received == offset)
            values = {"received": offset + len(run), "rest": rest}
            values["expires_at"] = int(self._clock()) + self.limits.lifetime_s
            with self._database.writing() as connection:
                if connection.execute(update(uploads).where(here).values(**values)).rowcount != 1:
                    raise _unknown(name)
            # Die here: the client asks for the offset and goes on behind the run.
            self._hash(name, offset, run)

    def _write(self, descriptor: int, row: Row[Any], run: bytes) -> bytes | None:
        """Writes what makes whole segments; gives the sealed rest for the row."""
        if row.wrapped_key is None:
            expected = MAGIC[row.received : row.received + len(run)]
            if not run.startswith(expected):
                raise RecordRefused(
                    "upload-not-sealed", "what a terminal uploads is sealed: this begins like no stream"
                )
            _write_at(descriptor, run, row.received)
            return None
        stream = ArrivingStream(self._key(row), upload_context(row.id))
        index, size = row.received // stream.PLAIN_BYTES, stream.PLAIN_BYTES
        data = memoryview(stream.open_rest(index, row.rest) + run if row.rest else run)
        complete = row.received + len(run) == row.size
        while len(data) >= size or (complete and len(data)):
            last = complete and len(data) <= size
            _write_at(descriptor, stream.seal(index, data[:size], last=last), stream.place_of(index))
            data, index = data[size:], index + 1
        return stream.seal_rest(index, data) if len(data) else None

    # -- the end --

    def _finish(self, row: Row[Any]) -> None:
        digest = self._digest(row)
        if row.declared is not None and digest != row.declared:
            self._discard(row.id)
            raise RecordRefused("upload-digest", "the file that came is not the one that was declared; upload it again")
        self._blobs.adopt(self._path(row.id), row.id)
        # Die here: the blob is in its place and the row does not say so; `find` comes here again.
        with self._database.writing() as connection:
            connection.execute(update(uploads).where(uploads.c.id == row.id).values(sha256=digest))
        with self._guard:
            self._hashers.pop(row.id, None)

    def _digest(self, row: Row[Any]) -> str:
        """Kept while the bytes came, where one process took them all; else they are read once more."""
        with self._guard:
            received, kept = self._hashers.get(row.id, (0, None))
        if kept is not None and received == row.size:
            return str(kept.hexdigest())
        digest = hashlib.sha256()
        path = self._path(row.id)
        pieces = _read(path) if path.exists() else self._blobs.get(row.id)
        if row.wrapped_key is not None:
            pieces = open_stream(self._key(row), pieces, upload_context(row.id))
        for piece in pieces:
            digest.update(piece)
        return digest.hexdigest()

    def _hash(self, name: str, offset: int, run: bytes) -> None:
        with self._guard:
            received, digest = self._hashers.pop(name, (0, None))
        if received != offset or (digest is None and offset):
            return  # another process took a part of it: `_digest` reads it all
        digest = digest or hashlib.sha256()
        digest.update(run)
        with self._guard:
            self._hashers[name] = (offset + len(run), digest)
            while len(self._hashers) > _HASHERS:
                self._hashers.popitem(last=False)

    # -- files and rows --

    def _path(self, name: str) -> Path:
        return self._directory / name

    def _create_file(self, name: str, *, sealed: bool, size: int) -> None:
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            if shutil.disk_usage(self._directory).free < self._expected() + size + self.limits.free_bytes:
                raise StorageFailed("the node's disk has no room for this upload: free some space and begin it again")
            with self._path(name).open("xb") as file:
                file.write(b"" if sealed else ARRIVING_PREFIX)
                file.flush()
                os.fsync(file.fileno())
            sync_directory(self._directory)
        except OSError as error:
            raise StorageFailed(f"an upload cannot begin: {error.strerror}; free space and begin it again") from error

    def _expected(self) -> int:
        """Bytes that uploads under way have still to bring."""
        with self._database.reading() as connection:
            return int(connection.scalar(select(func.sum(uploads.c.size - uploads.c.received))) or 0)

    @contextmanager
    def _locked(self, department: str, name: str) -> Iterator[int]:
        try:
            with self._path(name).open("r+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                yield file.fileno()
        except FileNotFoundError as error:
            row = self._row(department, name)
            if row.received < row.size:  # whoever is told to go on from there comes back for ever
                raise StorageFailed(f"the file of upload {name} is gone: cancel it and begin again") from error
            raise _offset_differs(row.received) from None  # it was whole, and has moved
        except OSError as error:
            raise StorageFailed(f"an upload cannot be stored: {error.strerror}; free space and go on") from error

    def _discard(self, name: str) -> bool:
        with self._database.writing() as connection:
            gone = connection.execute(delete(uploads).where(uploads.c.id == name)).rowcount == 1
        if gone:  # else a record took it meanwhile, and the blob is the record's
            # Die here: the key is destroyed; what is left opens for nobody.
            self._path(name).unlink(missing_ok=True)
            self._blobs.remove(name)
        return gone

    def _sweep_files(self) -> None:
        with self._database.reading() as connection:
            known = set(connection.scalars(select(uploads.c.id)))
        old = self._clock() - 3600
        for path in self._directory.iterdir() if self._directory.is_dir() else ():
            with suppress(FileNotFoundError):  # another process begins and ends uploads meanwhile
                if path.name not in known and path.stat().st_mtime < old:
                    path.unlink()

    def _row(self, department: str, name: str) -> Row[Any]:
        if not _ID.fullmatch(name):
            raise _unknown(name)
        here = (uploads.c.id == name) & (uploads.c.department == department)
        with self._database.reading() as connection:
            row = connection.execute(select(uploads).where(here)).one_or_none()
        if row is None or row.expires_at <= self._clock():
            raise _unknown(name)
        return row

    def _check_room(self, connection: Connection, department: str, size: int) -> None:
        query = select(func.count(), func.coalesce(func.sum(uploads.c.size), 0))
        count, total = connection.execute(query.where(uploads.c.department == department)).one()
        if count >= self.limits.open_uploads or total + size > self.limits.open_bytes:
            raise RecordRefused(
                "upload-limit",
                f"department {department} has {count:,} uploads of {total:,} bytes under way, which is all it may: "
                "submit their records or cancel some",
            )

    def _wrap_new_key(self, connection: Connection, department: str) -> tuple[int, bytes]:
        kek = self._keks.current(connection, _log_of(connection, department), department)
        return kek.epoch, wrap_data_key(kek.key, os.urandom(KEY_BYTES))

    def _key(self, row: Row[Any]) -> bytes:
        with self._database.reading() as connection:
            return _stream_key(connection, self._keks, row)


class Receiver:
    """Takes the pieces of one append and makes them durable run by run. For one thread at a time."""

    def __init__(self, uploads: Uploads, department: str, name: str, offset: int, size: int) -> None:
        self._uploads = uploads
        self._department = department
        self._name = name
        self._offset = offset
        self._size = size
        self._buffer = bytearray()

    def take(self, chunk: bytes) -> bool:
        """Keeps a piece in memory; True when it is time to `store`. Raises RecordRefused (`upload-size`)."""
        self._buffer += chunk
        if self._offset + len(self._buffer) > self._size:
            self._buffer.clear()
            raise RecordRefused("upload-size", f"more came than the {self._size:,} bytes that were declared")
        return len(self._buffer) >= RUN_BYTES

    def store(self) -> None:
        """Makes everything taken so far durable. Raises as `Uploads.append`."""
        run, self._buffer = bytes(self._buffer), bytearray()
        if run:
            self._uploads.store(self._department, self._name, self._offset, run)
            self._offset += len(run)


def find_finished(
    connection: Connection, keks: KekRing, department: str, names: Sequence[str], now: float
) -> dict[str, Finished]:
    """Those of `names` that a record of the department may take, by id; the others are not there, or not whole."""
    found: dict[str, Finished] = {}
    wanted = [name for name in names if isinstance(name, str) and _ID.fullmatch(name)]
    for start in range(0, len(wanted), 500):
        here = uploads.c.id.in_(wanted[start : start + 500]) & (uploads.c.department == department)
        rows = connection.execute(
            select(uploads).where(here, uploads.c.sha256.is_not(None), uploads.c.expires_at > now)
        ).all()
        for row in rows:
            key = None if row.wrapped_key is None else _stream_key(connection, keks, row)
            found[row.id] = Finished(row.size, row.sha256, key)
    return found


def claim_uploads(sources: Sequence[UploadedSource], finished: dict[str, Finished]) -> tuple[Claim, ...]:
    """What a record takes out of `finished`. Raises RecordRefused (`unknown-upload`, `upload-digest`) and takes nothing
    where one is not there, not whole, or not the file that the record describes."""
    names = [source.upload for source in sources]
    claims = []
    for source in sources:
        found = finished.get(source.upload)
        if found is None or names.count(source.upload) > 1:
            raise RecordRefused(
                "unknown-upload",
                f"upload {str(source.upload)[:32]!r} cannot be taken: it is not whole, taken, cancelled or expired",
            )
        if found.key is None:
            raise RecordRefused("unknown-upload", "a terminal sealed this upload: only its own sealed record takes it")
        if (found.size, found.sha256) != (source.size, source.sha256):
            raise RecordRefused("upload-digest", f"upload {source.upload} is not the file that the record describes")
        claims.append(Claim(source.upload, found.key))
    for name in names:
        del finished[name]
    return tuple(claims)


def take_uploads(connection: Connection, names: Sequence[str]) -> None:
    """Deletes the rows, and with them the keys under the KEK, in the transaction in which a record takes the uploads.

    Raises UploadTaken where one is gone; then nothing may be committed.
    """
    for start in range(0, len(names), 500):
        some = names[start : start + 500]
        if connection.execute(delete(uploads).where(uploads.c.id.in_(some))).rowcount != len(some):
            raise UploadTaken


def _stream_key(connection: Connection, keks: KekRing, row: Row[Any]) -> bytes:
    log = _log_of(connection, row.department)
    return unwrap_data_key(keks.key(connection, log, row.department, row.epoch), row.wrapped_key)


def _log_of(connection: Connection, department: str) -> int:
    found = read_logs(connection, department)
    if not found:
        raise RecordRefused("department", f"there is no log of department {department!r} on this node")
    return found[0].number


def _upload(row: Row[Any]) -> Upload:
    sealed = row.wrapped_key is None
    return Upload(row.id, row.department, row.size, row.received, sealed, row.sha256, row.expires_at)


def _check_begin(size: int, sha256: str | None, limits: UploadLimits) -> None:
    if not 1 <= size <= limits.file_bytes:
        raise RecordRefused("upload-size", f"an upload has 1 to {limits.file_bytes:,} bytes")
    if sha256 is not None and not _SHA256.fullmatch(sha256):
        raise RecordRefused("upload-digest", "a SHA-256 digest is 64 hexadecimal digits in lower case")


def _offset_differs(received: int) -> RecordRefused:
    return RecordRefused("upload-offset", f"the upload stands at byte {received}; go on from there")


def _unknown(name: str) -> RecordRefused:
    return RecordRefused(
        "unknown-upload", f"there is no upload {name[:32]!r}: it was taken by a record, was cancelled or has expired"
    )


def _write_at(descriptor: int, data: bytes, place: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, place)
        view, place = view[written:], place + written


def _read(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk
    except OSError as error:
        raise StorageFailed(f"an upload cannot be read back: {error.strerror}; go on with it later") from error
