"""CSV (RFC 4180) as departments export it: any delimiter, any ASCII-compatible encoding, compressed or not.

A line that is no row costs that line and nothing else. See `_CsvReading` for what is done about a broken quote.
"""

from __future__ import annotations

import codecs
import csv
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from adapters.files import (
    FileOptions,
    FileRefused,
    Line,
    Overlong,
    Tape,
    check_columns,
    is_ascii_compatible,
    is_skipped,
    line_pages,
    read_header_row,
    read_skip,
)
from adapters.sections import Section
from adapters.source import BadRow, Limits, Opening, Page, Row, excerpt

_HEADER_LINES = 20
_UTF8_BOM = codecs.BOM_UTF8
_UTF16_BOMS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True, slots=True)
class CsvOptions:
    """`[source]` with kind = "csv"."""

    files: FileOptions
    encoding: str
    delimiter: str
    columns: tuple[str, ...] | None
    header_row: int
    skip: Mapping[str, frozenset[str]]

    @classmethod
    def parse(cls, section: Section) -> CsvOptions:
        """Takes the options of this kind from a `[source]` table."""
        encoding = section.get("encoding", str, "utf-8")
        if not is_ascii_compatible(encoding):
            section.refuse(f'"source.encoding" is "{encoding}"; it must keep ASCII as it is, e.g. utf-8 or gb18030')
        delimiter = section.get("delimiter", str, ",")
        if len(delimiter) != 1 or delimiter in '"\r\n' or not delimiter.isascii():
            section.refuse('"source.delimiter" must be one ASCII character, not a quote or a line end')
        columns = section.texts("columns", ())
        if columns and "header_row" in section:
            section.refuse('"source.columns" is for a file without a header; take it or "header_row" out')
        header_row, skip = read_header_row(section), read_skip(section)
        return cls(FileOptions.parse(section), encoding, delimiter, columns or None, header_row, skip)

    def open(self, opening: Opening) -> CsvFiles:
        """The files; raises CouldNotRun where there is none."""
        return CsvFiles(self, self.files.find(opening), opening.needed, opening.limits)


class CsvFiles:
    """A source of CSV files."""

    def __init__(
        self, options: CsvOptions, files: list[tuple[str, Path]], needed: frozenset[str], limits: Limits
    ) -> None:
        self._options = options
        self._files = files
        self._needed = needed
        self._limits = limits

    def pages(self, marks: Mapping[str, str], size: int) -> Generator[Page]:
        """See Source."""
        return line_pages(self._files, self, self._limits, marks, size)

    def begin(self, tape: Tape, part: str) -> _CsvReading:
        """Takes the header, or nothing where the mapping names the columns."""
        options = self._options
        reading = _CsvReading(tape, part, options, self._limits, options.columns or ())
        if options.columns is None:
            reading.columns = reading.header(options.header_row)
        check_columns(reading.columns, self._needed | options.skip.keys(), f"{part}:{options.header_row}", self._limits)
        return reading


class _CsvReading:
    """One file. A row is usually one line; a quoted field may hold line breaks, so a row may be several.

    A quote that is never closed would swallow everything up to the next quote, rows included. So lines are joined only
    into something that parses strictly and has as many fields as the header, over at most `quoted_lines` lines and
    `row_bytes` bytes, and never across a line that is a whole row by itself (three columns or more: free text with line
    breaks seldom has just as many delimiters). Where that fails, the line on which the quote opened is set aside, and
    reading goes on at the very next line: no row behind a broken quote is lost, and none is taken twice.
    """

    def __init__(self, tape: Tape, part: str, options: CsvOptions, limits: Limits, columns: tuple[str, ...]) -> None:
        self._tape = tape
        self._part = part
        self._encoding = options.encoding
        self._delimiter = options.delimiter
        self._skip = options.skip
        self._limits = limits
        self.columns: tuple[str, ...] = columns

    def header(self, number: int) -> tuple[str, ...]:
        """The names on the first line from `number` on that is not empty, white space around them removed."""
        tape = self._tape
        position = f"{self._part}:{number}"
        for _ in range(number - 1):
            if tape.peek() is not None:
                tape.take()
        while (line := tape.peek()) is not None and not isinstance(line, Overlong) and not line.strip():
            tape.take()
        if line is None or isinstance(line, Overlong):
            raise FileRefused(BadRow(position, "", "bad-header", "the file has no header line"))
        if line.startswith(_UTF16_BOMS):
            detail = "the file is UTF-16; save it as UTF-8 and run again"
            raise FileRefused(BadRow(position, excerpt(line), "encoding", detail))
        for count in range(1, _HEADER_LINES):
            names = self._parse(tape, count)
            if names is not None:
                tape.take(count)
                return tuple(name.strip() for name in names)
            if tape.peek(count) is None:
                break
        detail = f"the header is not {self._encoding} text with whole quotes; nothing of this file was read"
        raise FileRefused(BadRow(position, excerpt(line), "bad-header", detail))

    def rows(self) -> Iterator[Row | BadRow]:
        """See LineReading."""
        rows = self._all_rows()
        return (row for row in rows if not is_skipped(self._skip, row)) if self._skip else rows

    def _all_rows(self) -> Iterator[Row | BadRow]:
        tape, delimiter, encoding, columns = self._tape, self._delimiter, self._encoding, self.columns
        part, width = self._part, len(columns)
        while (line := tape.peek()) is not None:
            if isinstance(line, Overlong) or b'"' in line or len(line) > self._limits.field_chars:
                yield self._careful(line)
                continue
            tape.take()
            body = line.rstrip(b"\r\n")
            if not body:
                continue
            position = f"{part}:{tape.number}"
            if tape.number == 1 and body.startswith(_UTF8_BOM):
                body = body[3:]
            try:
                fields = body.decode(encoding).split(delimiter)
            except UnicodeDecodeError as error:
                yield BadRow(position, excerpt(line), "encoding", _not_encoding(encoding, error))
                continue
            if len(fields) == width and b"\0" not in body and b"\r" not in body:
                yield Row(position, dict(zip(columns, fields, strict=True)))
            else:
                yield self._misfit(position, line, len(fields))

    def _careful(self, line: Line) -> Row | BadRow:
        """The row that begins at the next line, which has quotes or is very long."""
        tape = self._tape
        position = f"{self._part}:{tape.number + 1}"
        if isinstance(line, Overlong):
            tape.take()
            detail = f"the line has {line.size:,} bytes, more than the {self._limits.row_bytes:,} allowed"
            return BadRow(position, excerpt(line.head), "too-long", detail)
        count, fields = self._gather()
        if fields is not None:
            tape.take(count)
            if b"\0" in line:
                return self._misfit(position, line, len(fields))
            # the csv module has such a limit too, but one for the whole process
            if max(map(len, fields)) > self._limits.field_chars:
                return self._too_long(position, line)
            return Row(position, dict(zip(self.columns, fields, strict=True)))
        return self._why(position, line)

    def _gather(self) -> tuple[int, list[str] | None]:
        """How many lines make the next row, and its fields; None where no number of lines does."""
        tape, width = self._tape, len(self.columns)
        size = quotes = count = 0
        while count < self._limits.quoted_lines:
            line = tape.peek(count)
            if line is None or isinstance(line, Overlong):
                break
            if count and width >= 3 and b'"' not in line and line.count(self._delimiter.encode()) == width - 1:
                break
            count += 1
            size += len(line)
            quotes += line.count(b'"')
            if size > self._limits.row_bytes:
                break
            # a single line is tried in any case: a quote in the middle of a field (5" pipe) needs no partner
            if count == 1 or quotes % 2 == 0:
                fields = self._parse(tape, count)
                if fields is not None and len(fields) == width:
                    return count, fields
                if quotes % 2 == 0:
                    break
        return 0, None

    def _parse(self, tape: Tape, count: int) -> list[str] | None:
        """The fields of the next `count` lines, None where they are not one whole record."""
        lines = [line for ahead in range(count) if isinstance(line := tape.peek(ahead), bytes)]
        data = b"".join(lines)
        if tape.number == 0 and data.startswith(_UTF8_BOM):
            data = data[3:]
        try:
            records = list(csv.reader([data.decode(self._encoding)], delimiter=self._delimiter, strict=True))
        except (csv.Error, UnicodeDecodeError):
            return None
        return records[0] if len(records) == 1 else None

    def _why(self, position: str, line: bytes) -> BadRow:
        """Sets the next line aside and says why it is no row."""
        fields = self._parse(self._tape, 1)
        self._tape.take()
        if fields is not None:
            return self._misfit(position, line, len(fields))
        try:
            text = line.decode(self._encoding)
        except UnicodeDecodeError as error:
            return BadRow(position, excerpt(line), "encoding", _not_encoding(self._encoding, error))
        if max(map(len, text.split(self._delimiter))) > self._limits.field_chars:
            return self._too_long(position, line)
        detail = "a quote is not closed, or text follows a closing quote"
        return BadRow(position, excerpt(line), "broken-quote", detail)

    def _too_long(self, position: str, line: bytes) -> BadRow:
        detail = f"a field has more than {self._limits.field_chars:,} characters"
        return BadRow(position, excerpt(line), "too-long", detail)

    def _misfit(self, position: str, line: bytes, width: int) -> BadRow:
        if b"\0" in line or (b"\r" in line.rstrip(b"\r\n") and b'"' not in line):
            detail = "a NUL or a carriage return stands inside the line"
            return BadRow(position, excerpt(line), "control-character", detail)
        detail = f"the line has {width} columns, the header has {len(self.columns)}"
        return BadRow(position, excerpt(line), "column-count", detail)


def _not_encoding(encoding: str, error: UnicodeDecodeError) -> str:
    other = "gb18030" if encoding.lower() in ("utf-8", "utf8") else "utf-8"
    return f'the line is not {encoding} at byte {error.start}; try encoding = "{other}" in the mapping'
