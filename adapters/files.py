"""What all kinds of files share: where they are, what is inside a compressed one, and lines with a memory.

A file's mark is JSON: how far it was read, and the SHA-256 of everything up to there. The next run reads up to
the mark again; only if the digest is the same does it go on behind it, otherwise the file was replaced and is read from
its start.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import hashlib
import io
import json
import lzma
import os
import stat
import zlib
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any, Protocol

from adapters.sections import Section, nearest
from adapters.source import EXCERPT_CHARS, BadRow, Limits, Opening, Page, Row
from ledger.errors import CouldNotRun

_GLOB_CHARS = frozenset("*?[")
_CHUNK = 1 << 16
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
    (b"\x84\x31\x95\x33", "gb18030"),
)
DAMAGE = (EOFError, lzma.LZMAError, zlib.error, OSError)
"""What reading a compressed file raises where it is cut off or broken."""


@dataclass(frozen=True, slots=True)
class FileOptions:
    """Where the files are: exactly one of the three."""

    path: str | None
    glob: str | None
    path_env: str | None

    @classmethod
    def parse(cls, section: Section) -> FileOptions:
        """Takes `path`, `glob` and `path_env` from a `[source]` table."""
        options = cls(section.optional("path", str), section.optional("glob", str), section.optional("path_env", str))
        given = [name for name in ("path", "glob", "path_env") if name in section]
        if len(given) != 1:
            section.refuse('"source" needs exactly one of "path", "glob" and "path_env"')
        if options.path is not None and _GLOB_CHARS & set(options.path):
            section.refuse('"source.path" names one file; a pattern belongs under "glob"')
        return options

    def find(self, opening: Opening) -> list[tuple[str, Path]]:
        """The files by part name, in order of their names. Raises CouldNotRun where there is none."""
        if opening.override is not None:
            return [(opening.part or opening.override.name, _existing(opening.override))]
        if self.glob is not None:
            return _matching(opening.base, self.glob)
        path = self.path
        if self.path_env is not None:
            path = opening.environ.get(self.path_env)
            if not path:
                raise CouldNotRun(f"set the environment variable {self.path_env} to the path of the source file")
        found = _existing(opening.base / str(path))
        return [(found.name, found)]


def _existing(path: Path) -> Path:
    try:
        is_there = path.is_file()
    except OSError as error:
        raise CouldNotRun(f"{path} cannot be reached ({error.strerror}); check its permissions") from error
    if not is_there:
        raise CouldNotRun(f"there is no file {path}; give the path of the source file, or set it in the mapping")
    return path


def _matching(base: Path, pattern: str) -> list[tuple[str, Path]]:
    # a pattern may lie outside the mapping's directory, so the fixed part in front is joined on first
    parts = Path(pattern).parts
    fixed = next((n for n, part in enumerate(parts) if _GLOB_CHARS & set(part)), len(parts) - 1)
    root = base.joinpath(*parts[:fixed])
    files = sorted((path for path in root.glob(str(Path(*parts[fixed:]))) if path.is_file()), key=str)
    if not files:
        raise CouldNotRun(f'no file matches "{pattern}" beside the mapping file')
    return [(path.relative_to(root).as_posix(), path) for path in files]


class FileRefused(Exception):
    """A whole file cannot be read as rows. Carries the BadRow that stands for it; the other files go on."""

    def __init__(self, bad: BadRow) -> None:
        super().__init__(bad.detail)
        self.bad = bad


@dataclass(frozen=True, slots=True)
class Overlong:
    """A line longer than the limit: its beginning; `size` and `digest` are those of the whole line."""

    head: bytes
    size: int
    digest: bytes
    ended: bool


Line = bytes | Overlong


class Tape:
    """The lines of one file, with look-ahead. Offset, line number and digest cover the lines that were taken.

    Holds the lines looked at and not yet taken, each at most `row_bytes`. `damage` is a sentence once the file turned
    out to be cut off or broken; the lines before the damage are whole. `encoding` is what a byte order mark says, the
    mark itself being gone; None where there is none. What was UTF-16 is handed out as UTF-8.
    """

    def __init__(self, stream: IO[bytes], limits: Limits) -> None:
        self.encoding, self._stream = _unmarked(stream)
        self._limits = limits
        self._ahead: deque[Line] = deque()
        self._hash = hashlib.sha256()
        self._offset = 0
        self._seen = 0
        self._ended = False
        self.number = 0
        self.damage: str | None = None

    def peek(self, ahead: int = 0) -> Line | None:
        """The line `ahead` places further on, None behind the last."""
        ahead_lines = self._ahead
        while len(ahead_lines) <= ahead:
            if self._ended:
                return None
            line = self._read()
            if line is None:
                self._ended = True
                return None
            ahead_lines.append(line)
        return ahead_lines[ahead]

    def take(self, count: int = 1) -> None:
        """Consumes `count` lines that were peeked at. An unterminated last line stays outside the mark."""
        lines = [self._ahead.popleft() for _ in range(count)]
        self.number += count
        last = lines[-1]
        # it may be half written: the next run looks at it again
        if not (last.ended if isinstance(last, Overlong) else last.endswith(b"\n")):
            return
        for line in lines:
            if isinstance(line, Overlong):
                self._hash.update(line.digest)
                self._offset += line.size
            else:
                self._hash.update(line)
                self._offset += len(line)

    def mark(self) -> str:
        """Where to go on: behind the last whole line that was taken."""
        return json.dumps({"offset": self._offset, "sha256": self._hash.hexdigest()})

    def resume(self, mark: str) -> bool:
        """Takes everything up to `mark`; False where the file holds something else there."""
        wanted = json.loads(mark)
        while self._offset < wanted["offset"]:
            before = self._offset
            if self.peek() is None:
                return False
            self.take()
            if self._offset == before:
                return False
        return self.mark() == json.dumps({"offset": wanted["offset"], "sha256": wanted["sha256"]})

    def _read(self) -> Line | None:
        limit = self._limits.row_bytes
        try:
            line = self._stream.readline(limit + 1)
            if len(line) > limit and not line.endswith(b"\n"):
                return self._skip(line)
        except DAMAGE as error:
            self.damage = f"is cut off or damaged ({error})"
            return None
        self._seen += len(line)
        if self._seen > self._limits.file_bytes:
            self.damage = f"holds more than the {self._limits.file_bytes:,} bytes allowed"
            return None
        return line or None

    def _skip(self, head: bytes) -> Overlong:
        whole, size, last = hashlib.sha256(head), len(head), head
        while not last.endswith(b"\n"):
            last = self._stream.readline(_CHUNK)
            if not last:
                break
            whole.update(last)
            size += len(last)
            if self._seen + size > self._limits.file_bytes:
                raise EOFError("one line without end")
        self._seen += size
        return Overlong(head[:_CHUNK], size, whole.digest(), last.endswith(b"\n"))


def _unmarked(stream: IO[bytes]) -> tuple[str | None, IO[bytes]]:
    """The encoding that a byte order mark says, and the bytes behind it: those of UTF-8 where the mark is UTF-16's."""
    try:
        # files and what is inside compressed ones can look ahead without taking
        head = stream.peek(4)[:4]  # type: ignore[attr-defined]
    except DAMAGE:
        return None, stream  # said by the first read
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            stream.read(len(mark))
            if encoding.startswith("utf-16"):
                return "utf-8", io.BufferedReader(_Recoded(stream, encoding))
            return encoding, stream
    return None, stream


class _Recoded(io.RawIOBase):
    """UTF-16 as UTF-8. A lone surrogate comes out as bytes that are no UTF-8, so only its line is refused; half a
    character at the end may still be completed, and is left out."""

    def __init__(self, stream: IO[bytes], encoding: str) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder(encoding)("surrogatepass")
        self._waiting = b""

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """See io.RawIOBase."""
        while not self._waiting and (piece := self._stream.read(_CHUNK)):
            self._waiting = self._decoder.decode(piece).encode("utf-8", "surrogatepass")
        size = min(len(buffer), len(self._waiting))
        buffer[:size], self._waiting = self._waiting[:size], self._waiting[size:]
        return size


class LineReading(Protocol):
    """One file of lines on its way: its columns and the rows behind the header."""

    @property
    def columns(self) -> tuple[str, ...] | None:
        """The names in the header; None where every row carries its own."""

    def rows(self) -> Iterator[Row | BadRow]:
        """Each row is taken from the tape before it is yielded."""


class LineFormat(Protocol):
    """How a kind of file is read: the header is taken when the reading begins."""

    def begin(self, tape: Tape, part: str) -> LineReading:
        """Raises FileRefused where the file cannot be read as rows at all."""


def line_pages(
    files: list[tuple[str, Path]], how: LineFormat, limits: Limits, marks: Mapping[str, str], size: int
) -> Generator[Page]:
    """The pages of files of lines, one file after the other, each from its mark or from its start."""
    for part, path in files:
        yield from _read_file(part, path, how, limits, marks.get(part), size)


def _read_file(part: str, path: Path, how: LineFormat, limits: Limits, mark: str | None, size: int) -> Iterator[Page]:
    with _open_tape(path, limits) as (tape, fraction):
        try:
            reading = how.begin(tape, part)
        except FileRefused as refused:
            _check_whole(tape, path)
            yield Page(part, (refused.bad,), None)
            return
        if mark is None or tape.resume(mark):
            rows, restarted = reading.rows(), mark is None
            while chunk := tuple(islice(rows, size)):
                yield Page(part, chunk, tape.mark(), restarted, reading.columns, fraction())
                restarted = False
            _check_whole(tape, path)
            return
    # what was read before is no longer what the file begins with: it was replaced
    yield from _read_file(part, path, how, limits, None, size)


def _check_whole(tape: Tape, path: Path) -> None:
    if tape.damage is not None:
        raise CouldNotRun(f"{path.name} {tape.damage}; rows before that are done; give the whole file, run again")


@contextmanager
def _open_tape(path: Path, limits: Limits) -> Iterator[tuple[Tape, Callable[[], float]]]:
    with open_stream(path) as (stream, fraction):
        yield Tape(stream, limits), fraction


@contextmanager
def open_stream(path: Path) -> Iterator[tuple[IO[bytes], Callable[[], float]]]:
    """A file, or what is inside a compressed one, and how much of it is read. Raises CouldNotRun where it cannot be."""
    with open_regular(path) as raw:
        whole = max(os.fstat(raw.fileno()).st_size, 1)
        with decompressed(raw, path.name) as stream:
            yield stream, lambda: min(raw.tell() / whole, 1.0)


def open_regular(path: Path) -> IO[bytes]:
    """A file for reading. Raises CouldNotRun where it cannot be read, or is a pipe or a device, which may stand there
    since a moment ago: nothing waits for who might write into it."""
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            raise CouldNotRun(f"{path.name} is no file but a pipe, a device or a directory; put a file in its place")
        return os.fdopen(handle, "rb")
    except OSError as error:
        raise CouldNotRun(f"{path.name} cannot be read ({error.strerror}); check its permissions") from error


def decompressed(raw: IO[bytes], name: str) -> IO[bytes]:
    """`raw`, or what is inside it, by the suffix of `name`."""
    if name.endswith(".xz"):
        return lzma.open(raw, "rb")
    if name.endswith(".gz"):
        return gzip.open(raw, "rb")  # type: ignore[return-value]
    if name.endswith(".bz2"):
        return bz2.open(raw, "rb")
    return raw


def check_columns(columns: tuple[str, ...], needed: frozenset[str], position: str, limits: Limits) -> None:
    """Refuses a header in which a needed column is absent or stands twice. Other repeated names do no harm."""
    raw = ", ".join(columns)[:EXCERPT_CHARS]
    if len(columns) > limits.columns:
        raise FileRefused(BadRow(position, raw, "bad-header", f"has more than {limits.columns} columns"))
    absent = sorted(needed - set(columns))
    if absent:
        hint = (
            nearest(absent[0], columns) or f": it begins {_listed(columns)}; where titles stand above, set header_row"
        )
        detail = f'the header has no column "{absent[0]}"{hint}; nothing of this file was read'
        raise FileRefused(BadRow(position, raw, "missing-column", detail))
    twice = sorted(name for name in needed if columns.count(name) > 1)
    if twice:
        detail = f'the header names column "{twice[0]}" twice; nothing of this file was read'
        raise FileRefused(BadRow(position, raw, "duplicate-column", detail))


def _listed(columns: tuple[str, ...]) -> str:
    return ", ".join(f'"{name[:30]}"' for name in columns[:4])


def other_format(head: bytes) -> str | None:
    """What a file is that begins with `head`, and is certainly neither CSV nor a workbook; ends a sentence."""
    if head.startswith(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"):
        return 'an old workbook, or one with a password; set kind = "xls", and save it without a password'
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if start.startswith((b"<html", b"<!doctype html", b"<table", b"<meta", b"<style", b"<head")):
        return "an HTML page, as some systems export under the name of a workbook; open it and save it as .xlsx"
    if start.startswith(b"<?xml"):
        return 'XML; save it as .xlsx, or set kind = "xml"'
    return None


def read_skip(section: Section) -> Mapping[str, frozenset[str]]:
    """Takes `skip` from a `[source]` table: by column, the texts that show that a line is no row."""
    if "skip" not in section:
        return {}
    table = section.table("skip")
    return {column: frozenset(table.texts(column)) for column in table.rest()}


def is_skipped(skip: Mapping[str, frozenset[str]], row: Row | BadRow) -> bool:
    """Whether the row carries one of the texts, or begins with one that ends in `*`; white space around them does not
    count, no value is an empty text."""
    return isinstance(row, Row) and any(_is_named(row.values.get(column), texts) for column, texts in skip.items())


def is_skipped_short(skip: Mapping[str, frozenset[str]], columns: tuple[str, ...], fields: list[str]) -> bool:
    """The same of a line with fewer fields than the header; what it lacks is not taken for an empty text."""
    cells = dict(zip(columns, fields, strict=False))
    return len(fields) < len(columns) and any(
        column in cells and _is_named(cells[column], texts - {""}) for column, texts in skip.items()
    )


def _is_named(cell: Any, texts: frozenset[str]) -> bool:
    text = "" if cell is None else str(cell).strip()
    return text in texts or any(name.endswith("*") and text.startswith(name[:-1]) for name in texts)


@dataclass(frozen=True, slots=True)
class Header:
    """Where the names are: `count` rows from `row` (from 1) on."""

    row: int = 1
    count: int = 1


def read_header(section: Section) -> Header:
    """Takes `header_row` and `header_rows` from a `[source]` table."""
    header = Header(section.get("header_row", int, 1), section.get("header_rows", int, 1))
    if not 1 <= header.row <= 1000:
        section.refuse('"source.header_row" must be from 1 to 1000')
    if not 1 <= header.count <= 3:
        section.refuse('"source.header_rows" must be from 1 to 3')
    return header


def join_header(rows: list[tuple[str, ...]]) -> tuple[str, ...]:
    """One name a column: that of the row above and that below with a dot between. A name above without one of its own
    beside it goes on to the right, as in a merged cell, over every column that has a name below."""
    if not rows:
        return ()
    above, *rest = rows
    if not rest:
        return above
    below = join_header(rest)
    width = max(len(above), len(below))
    above, below = (names + ("",) * (width - len(names)) for names in (above, below))
    names, last = [], ""
    for upper, lower in zip(above, below, strict=True):
        last = upper or (last if lower else "")
        names.append(".".join(filter(None, (last, lower))))
    return tuple(names)


def is_ascii_compatible(encoding: str) -> bool:
    """Whether lines may be cut at byte 0x0A, and quotes counted, before decoding."""
    ascii_text = "".join(map(chr, range(128)))
    try:
        if codecs.lookup(encoding).name in ("utf-7", "hz", "iso2022_jp", "iso2022_kr"):
            return False
        # in Shift JIS, Big5 and GBK a second byte is never a quote or a line end; UTF-16 and EBCDIC fail here
        return ascii_text.encode(encoding) == ascii_text.encode("ascii")
    except (LookupError, UnicodeError, ValueError):
        return False


def file_digest(path: Path) -> str:
    """The file's SHA-256, hex, in constant memory. Raises OSError."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
