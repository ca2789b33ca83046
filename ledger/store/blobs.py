"""Encrypted attachments: what a store of them offers, and the one on the local disk, one file a blob.

Trusted: no, every blob is a streaming AEAD and its digest stands in a statement. May it lose data: no. A blob is
durable before the transaction that names it commits; one that no row names is a leftover of a crash and harmless.
Writers of different blobs may run in parallel; a blob is never rewritten.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Protocol

from ledger.errors import PayloadInvalid, StorageFailed

CHUNK_BYTES = 1024 * 1024


class Blobs(Protocol):
    """A store of blobs. Names are 32 hex digits. `store.s3_blobs` has the other implementation."""

    def put(self, chunks: Iterable[bytes]) -> str:
        """Stores the chunks under a new random name, durable on return. Raises StorageFailed, and what `chunks`
        raises; then nothing is stored."""

    def get(self, name: str) -> Iterator[bytes]:
        """The blob's bytes in chunks of at most 1 MiB. Raises PayloadInvalid when it is not there or cannot be read."""

    def adopt(self, path: Path, name: str) -> None:
        """Takes a finished, durable file in as the blob `name`; the file is gone on return, the blob durable.

        May be called again after a crash, also when the file was taken already. Raises StorageFailed.
        """

    def remove(self, name: str) -> None:
        """Deletes a blob that no row names; one that is not there is no error. Raises StorageFailed."""

    def names(self) -> Iterator[tuple[str, float]]:
        """Every blob's name and when it was written (seconds since 1970), in no order; what comes or goes meanwhile may
        be among them or not. Raises StorageFailed."""


class BlobStore:
    """A directory of blobs, spread over 256 sub-directories."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def put(self, chunks: Iterable[bytes]) -> str:
        """Stores the chunks under a new random name (32 hex digits), durable on return. Raises StorageFailed."""
        name = secrets.token_hex(16)
        path = self.path(name)
        stored = False
        try:
            self._make(path.parent)
            with path.open("xb") as file:
                for chunk in chunks:
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
            sync_directory(path.parent)
            stored = True
        except OSError as error:
            raise StorageFailed(
                f"an attachment could not be stored: {error.strerror}; free space and run again"
            ) from error
        finally:
            if not stored:  # also when the chunks themselves ended in an error
                with suppress(OSError):
                    path.unlink(missing_ok=True)
        return name

    def get(self, name: str) -> Iterator[bytes]:
        """The blob's bytes in chunks of 1 MiB. Raises PayloadInvalid when it is not there or cannot be read."""
        try:
            file = self.path(name).open("rb")
        except FileNotFoundError as error:
            raise PayloadInvalid(f"attachment blob {name} is missing from the blob store") from error
        except OSError as error:
            raise PayloadInvalid(f"attachment blob {name} cannot be read: {error.strerror}") from error
        with file:
            while chunk := _read(file, name):
                yield chunk

    def adopt(self, path: Path, name: str) -> None:
        """Moves a file of the same file system to its place, whatever its size. See Blobs."""
        target = self.path(name)
        try:
            self._make(target.parent)
            with suppress(FileNotFoundError):  # a crash came between the move and the row that says so
                path.rename(target)
            if not target.is_file():
                raise StorageFailed(f"the file of blob {name} is gone; upload it again")
            sync_directory(target.parent)
            sync_directory(path.parent)
        except OSError as error:
            raise StorageFailed(f"a blob could not be moved to its place: {error.strerror}; run again") from error

    def remove(self, name: str) -> None:
        """See Blobs."""
        try:
            self.path(name).unlink(missing_ok=True)
        except OSError as error:
            raise StorageFailed(f"blob {name} cannot be deleted: {error.strerror}; run again") from error

    def names(self) -> Iterator[tuple[str, float]]:
        """See Blobs."""
        try:
            for path in self._directory.glob("??/*") if self._directory.is_dir() else ():
                with suppress(FileNotFoundError):  # deleted meanwhile
                    yield path.name, path.stat().st_mtime
        except OSError as error:
            raise StorageFailed(f"the blob store cannot be read: {error.strerror}; run again") from error

    def path(self, name: str) -> Path:
        """Where a blob lies."""
        return self._directory / name[:2] / name

    def _make(self, directory: Path) -> None:
        if not directory.is_dir():
            directory.mkdir(parents=True, exist_ok=True)
            sync_directory(self._directory)
            sync_directory(self._directory.parent)


def _read(file: BinaryIO, name: str) -> bytes:
    try:
        return file.read(CHUNK_BYTES)
    except OSError as error:
        raise PayloadInvalid(f"attachment blob {name} cannot be read: {error.strerror}") from error


def sync_directory(directory: Path) -> None:
    """Makes the names in a directory durable: a file that was synced alone can still lose its name in a power cut."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
