"""Pieces of a case file that wait on the disk between being gathered and being written, in the order of their paths."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import BinaryIO

CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Piece:
    """Where a piece lies, in bytes."""

    offset: int
    size: int


class Spool:
    """Grows at its end; what was put stays. `file` is empty, seekable, and stays the caller's to close."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._end = 0

    def put(self, chunks: Iterable[bytes]) -> Piece:
        """Keeps the joined `chunks`. They may be made of earlier pieces while this one is written."""
        start, size = self._end, 0
        for chunk in chunks:
            self._file.seek(start + size)
            self._file.write(chunk)
            size += len(chunk)
        self._end = start + size
        return Piece(start, size)

    def write(self, writer: Callable[[Callable[[int], BinaryIO]], None]) -> list[Piece]:
        """Keeps what `writer` writes, in pieces: it is handed a function that gives the stream of the next. Meanwhile
        nothing else is put or read."""
        starts: list[int] = []

        def begin(_: int) -> BinaryIO:
            starts.append(self._file.tell())
            return self._file

        self._file.seek(self._end)
        writer(begin)
        self._end = self._file.tell()
        return [Piece(start, end - start) for start, end in pairwise([*starts, self._end])]

    def get(self, piece: Piece) -> bytes:
        """A piece, whole."""
        return b"".join(self.read(piece))

    def read(self, piece: Piece) -> Iterator[bytes]:
        """A piece of any size, 1 MiB at a time."""
        for start in range(0, piece.size, CHUNK_BYTES):
            self._file.seek(piece.offset + start)
            yield self._file.read(min(CHUNK_BYTES, piece.size - start))
