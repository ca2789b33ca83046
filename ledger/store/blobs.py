"""Encrypted attachments on the local disk, one file a blob.

Trusted: no, every blob is a streaming AEAD and its digest stands in a statement. May it lose data: no. A blob is
durable before the transaction that names it commits; one that no row names is a leftover of a crash and harmless.
Writers of different blobs may run in parallel; a blob is never rewritten.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path

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
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as file:
                for chunk in chunks:
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
            _sync_directory(path.parent)
        except OSError as error:
            path.unlink(missing_ok=True)
            raise StorageFailed(
                f"an attachment could not be stored: {error.strerror}; free space and run again"
            ) from error
        return name

    def get(self, name: str) -> Iterator[bytes]:
        """The blob's bytes in chunks of 1 MiB. Raises PayloadInvalid when it is not there."""
        try:
            file = self.path(name).open("rb")
        except FileNotFoundError as error:
            raise PayloadInvalid(f"attachment blob {name} is missing from the blob store") from error
        with file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk

    def path(self, name: str) -> Path:
        """Where a blob lies."""
        return self._directory / name[:2] / name


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
