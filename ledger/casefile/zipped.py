"""Writes the zip of a case file (`ledger.formats.zipfiles`) in one go: the same files give the same bytes.

Constant memory but for the directory, about 150 bytes a file. The size of a file is told before its bytes, because its
header says so; its CRC-32 is written into the header afterwards, so the target must be seekable.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import replace
from typing import BinaryIO

from ledger.errors import StorageFailed
from ledger.formats.zipfiles import Entry, central_header, check_path, ending, local_header, order_of


class ZipWriter:
    """Writes to `target`, which is empty, seekable, and stays the caller's to close."""

    def __init__(self, target: BinaryIO) -> None:
        self._target = target
        self._directory = bytearray()
        self._count = 0
        self._last: str | None = None
        self._offset = 0

    def add(self, path: str, chunks: Iterable[bytes], size: int) -> None:
        """One file of `size` bytes. Files come by `order_of`, each path once: ValueError otherwise, a defect of the
        caller. Raises StorageFailed when `chunks` turn out to be more or fewer bytes: the source changed meanwhile."""
        check_path(path)
        if self._last is not None and order_of(path) <= order_of(self._last):
            raise ValueError(f"{path} must stand before {self._last}")
        entry = Entry(path, size, 0, self._offset)
        self._target.write(local_header(entry))
        crc, written = 0, 0
        for chunk in chunks:
            self._target.write(chunk)
            crc, written = zlib.crc32(chunk, crc), written + len(chunk)
        if written != size:
            raise StorageFailed(
                f"{path} has {written:,} bytes where {size:,} were expected; export the case file again"
            )
        self._finish(replace(entry, crc=crc))

    def close(self) -> None:
        """Writes the directory and the end; nothing can be added afterwards."""
        self._target.write(self._directory)
        self._target.write(ending(self._count, self._offset, len(self._directory)))

    def _finish(self, entry: Entry) -> None:
        self._target.seek(entry.offset)
        self._target.write(local_header(entry))
        self._target.seek(entry.end)
        self._directory += central_header(entry)
        self._count, self._last, self._offset = self._count + 1, entry.path, entry.end
