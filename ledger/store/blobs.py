"""Encrypted attachments on the local disk, one file a blob.

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
from typing import BinaryIO

from ledger.errors import PayloadInvalid, StorageFailed

CHUNK_BYTES = 1024 * 1024


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
