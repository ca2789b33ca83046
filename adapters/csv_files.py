"""CSV (RFC 4180) as departments export it: any delimiter, any ASCII-compatible encoding, compressed or not.

A line that is no row costs that line and nothing else. See `_CsvReading` for what is done about a broken quote.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from adapters.files import (
    FileOptions,
    FileRefused,
    Header,
    Line,
    Overlong,
    Tape,
    check_columns,
    is_ascii_compatible,
    is_skipped,
    is_skipped_short,
    join_header,
    line_pages,
    other_format,
    read_header,
    read_skip,
)
from adapters.sections import Section
from adapters.source import EXCERPT_CHARS, BadRow, Limits, Opening, Page, Row, excerpt

_HEADER_LINES = 20
_WHOLE_LINES = 3
_UTF8_BOM = codecs.BOM_UTF8
_DELIMITERS = ("\t", ";", ",", "|")
_DECLARED = re.compile(rb'"?sep=([^"\r\n])"?[\t;,|]*\r?\n', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class CsvOptions:
    """`[source]` with kind = "csv"."""

    files: FileOptions
    encoding: str
    delimiter: str
    columns: tuple[str, ...] | None
    header: Header
    skip: Mapping[str, frozenset[str]]
    excel_text: bool

    @classmethod
    def parse(cls, section: Section) -> CsvOptions:
        """Takes the options of this kind from a `[source]` table."""
        encoding = _read_encoding(section)
        delimiter = section.get("delimiter", str, ",")
        if len(delimiter) != 1 or delimiter in '"\r\n' or not delimiter.isascii():
            section.refuse('"source.delimiter" must be one ASCII character, not a quote or a line end')
        columns = section.texts("columns", ())
        if columns and ("header_row" in section or "header_rows" in section):
            section.refuse('"source.columns" is for a file without a header; take it or "header_row" out')
        header, skip, excel_text = read_header(section), read_skip(section), section.get("excel_text", bool, False)
        return cls(FileOptions.parse(section), encoding, delimiter, columns or None, header, skip, excel_text)

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
        first = tape.peek()
        if isinstance(first, bytes):
            _check_text(first, part)
        if tape.encoding is not None:
            # what the file says of itself is certain: read otherwise, its texts would be silently others
            options = replace(options, encoding=tape.encoding)
        elif options.encoding == "utf-16":
            detail = "the file has no byte order mark, so it is not what is saved as UTF-16; correct encoding"
            raise FileRefused(BadRow(f"{part}:1", "", "encoding", detail))
        if isinstance(first, bytes) and (declared := _DECLARED.fullmatch(first)):
            tape.take()
            options = replace(options, delimiter=declared[1].decode("latin-1"))
        reading = _CsvReading(tape, part, options, self._limits, options.columns or ())
        needed = self._needed | options.skip.keys()
        try:
            if options.columns is None:
                starts = (options.header.row, *[1] * (options.header.count - 1))
                reading.columns = join_header([reading.header(start) for start in starts])
            check_columns(reading.columns, needed, f"{part}:{options.header.row}", self._limits)
        except FileRefused as refused:
            refused = _with_delimiter(refused, reading.columns, needed, options.delimiter)
            told = codecs.lookup(options.encoding).name
            likely = (name for name in ("utf-8", "gb18030") if name != told)
            other = next((name for name in likely if _names(reading.raw_header, name, needed)), None)
            if other is None or tape.encoding is not None:
                raise refused from None
            detail = f"the header is not {options.encoding}; as {other} it has a column that is needed: set encoding"
            raise FileRefused(replace(refused.bad, reason="encoding", detail=f'{detail} = "{other}"')) from None
        return reading


class _CsvReading:
    """One file. A row is usually one line; a quoted field may hold line breaks, so a row may be several.

    A quote that is never closed would swallow everything up to the next quote, rows included. So lines are joined only
    into something that parses strictly and has as many fields as the header, over at most `quoted_lines` lines and
    `row_bytes` bytes, and never across a line that is a whole row by itself: free text with line breaks seldom has just
    as many delimiters (with two columns it may, so a few such lines are let pass). Where that fails, the line on which
    the quote opened is set aside, and reading goes on at the very next line: no row behind a broken quote is lost, and
    none is taken twice.
    """

    def __init__(self, tape: Tape, part: str, options: CsvOptions, limits: Limits, columns: tuple[str, ...]) -> None:
        self._tape = tape
        self._part = part
        self._encoding = options.encoding
        self._utf8 = codecs.lookup(options.encoding).name == "utf-8"
        self._delimiter = options.delimiter
        self._skip = options.skip
        self._excel_text = options.excel_text
        self._limits = limits
        self.columns: tuple[str, ...] = columns
        self.raw_header = b""

    def header(self, number: int) -> tuple[str, ...]:
        """The names on the first line that is not empty, from the `number`-th of those not taken on, white space around
        them removed."""
        tape = self._tape
        position = f"{self._part}:{tape.number + number}"
        for _ in range(number - 1):
            if tape.peek() is not None:
                tape.take()
        while (line := tape.peek()) is not None and not isinstance(line, Overlong) and not line.strip():
            tape.take()
        if line is None or isinstance(line, Overlong):
            raise FileRefused(BadRow(position, "", "bad-header", "the file has no header line"))
        self.raw_header += line
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
        rows = map(self._unwrapped, self._all_rows()) if self._excel_text else self._all_rows()
        return (row for row in rows if not self._is_skipped(row)) if self._skip else rows

    def _is_skipped(self, row: Row | BadRow) -> bool:
        if isinstance(row, Row):
            return is_skipped(self._skip, row)
        if row.reason != "column-count":
            return False
        # totals and signatures at the end have fewer fields than a row
        fields = next(csv.reader([row.raw], delimiter=self._delimiter), [])
        return is_skipped_short(self._skip, self.columns, fields)

    def _unwrapped(self, row: Row | BadRow) -> Row | BadRow:
        if isinstance(row, BadRow):
            return row
        return replace(row, values={name: _unwrapped(value) for name, value in row.values.items()})

    def _all_rows(self) -> Iterator[Row | BadRow]:
        tape, delimiter, encoding, columns = self._tape, self._delimiter, self._encoding, self.columns
        part, width, utf8 = self._part, len(columns), self._utf8
        while (line := tape.peek()) is not None:
            if isinstance(line, Overlong) or b'"' in line or len(line) > self._limits.field_chars:
                yield self._careful(line)
                continue
            tape.take()
            body = line.rstrip(b"\r\n")
            if not body:
                continue
            position = f"{part}:{tape.number}"
            if utf8 and body.startswith(_UTF8_BOM):
                body = body[3:]  # files put together carry a byte order mark where the second begins
            try:
                fields = body.decode(encoding).split(delimiter)
            except UnicodeDecodeError as error:
                yield BadRow(position, self._shown(line), "encoding", _not_encoding(encoding, error))
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
            return BadRow(position, self._shown(line.head), "too-long", detail)
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
        size = quotes = count = whole = 0
        while count < self._limits.quoted_lines:
            line = tape.peek(count)
            if line is None or isinstance(line, Overlong):
                break
            whole += bool(count) and self._is_whole(line, count)
            if whole > (0 if width >= 3 else _WHOLE_LINES):
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

    def _is_whole(self, line: bytes, ahead: int) -> bool:
        """Whether the line, `ahead` of the next one, is a row by itself."""
        width, quotes = len(self.columns), line.count(b'"')
        if not quotes:
            # decoded first: in GB 18030 the second byte of a character may be a |
            return line.decode(self._encoding, "replace").count(self._delimiter) == width - 1
        return quotes % 2 == 0 and len(self._parse(self._tape, 1, ahead) or ()) == width

    def _parse(self, tape: Tape, count: int, start: int = 0) -> list[str] | None:
        """The fields of `count` lines from the `start`-th ahead on, None where they are not one whole record."""
        lines = [line for ahead in range(start, start + count) if isinstance(line := tape.peek(ahead), bytes)]
        data = b"".join(lines)
        if self._utf8 and data.startswith(_UTF8_BOM):
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
            return BadRow(position, self._shown(line), "encoding", _not_encoding(self._encoding, error))
        if max(map(len, text.split(self._delimiter))) > self._limits.field_chars:
            return self._too_long(position, line)
        detail = "a quote is not closed, or text follows a closing quote"
        return BadRow(position, self._shown(line), "broken-quote", detail)

    def _shown(self, line: bytes) -> str:
        """The line as people read it."""
        return excerpt(line[: 4 * EXCERPT_CHARS].decode(self._encoding, "backslashreplace"))

    def _too_long(self, position: str, line: bytes) -> BadRow:
        detail = f"a field has more than {self._limits.field_chars:,} characters"
        return BadRow(position, self._shown(line), "too-long", detail)

    def _misfit(self, position: str, line: bytes, width: int) -> BadRow:
        if b"\0" in line or (b"\r" in line.rstrip(b"\r\n") and b'"' not in line):
            detail = "a NUL or a carriage return stands inside the line"
            return BadRow(position, self._shown(line), "control-character", detail)
        detail = f"the line has {width} columns, the header has {len(self.columns)}"
        return BadRow(position, self._shown(line), "column-count", detail)


def _read_encoding(section: Section) -> str:
    """The encoding; GBK and GB 2312 are parts of GB 18030, which the programs that say so really write."""
    encoding = section.get("encoding", str, "utf-8")
    if encoding.lower() in ("utf-16", "utf16"):
        return "utf-16"
    if not is_ascii_compatible(encoding):
        section.refuse(f'"source.encoding" is "{encoding}"; known: utf-8, gb18030, utf-16, and what keeps ASCII')
    return "gb18030" if codecs.lookup(encoding).name in ("gbk", "gb2312") else encoding


def _with_delimiter(
    refused: FileRefused, columns: tuple[str, ...], needed: frozenset[str], delimiter: str
) -> FileRefused:
    """The refusal, with the delimiter named where the header is one name that another delimiter cuts as is needed."""
    for other in _DELIMITERS if len(columns) == 1 else ():
        if other != delimiter and needed <= {name.strip().strip('"') for name in columns[0].split(other)}:
            shown = other.replace("\t", "\\t")
            detail = f'the header is one column; with delimiter = "{shown}" it has those that are needed'
            return FileRefused(replace(refused.bad, detail=f"{detail}; nothing of this file was read"))
    return refused


def _check_text(first: bytes, part: str) -> None:
    """Refuses a file whose first line shows that it is no CSV, or one whose lines cannot be found."""
    if first.startswith(b"PK\x03\x04"):
        detail = 'the file is a zip, such as a workbook; set kind = "xlsx", or unpack it'
        raise FileRefused(BadRow(f"{part}:1", excerpt(first), "bad-header", detail))
    if other := other_format(first):
        raise FileRefused(BadRow(f"{part}:1", excerpt(first), "bad-header", f"the file is {other}"))


def _unwrapped(text: str) -> str:
    """Without what programs put around digits so that a spreadsheet program keeps them: ="0012", '0012."""
    bare = text.strip()
    if len(bare) >= 3 and bare.startswith('="') and bare.endswith('"'):
        return bare[2:-1]
    return bare[1:] if bare.startswith("'") else text


def _other_encoding(encoding: str) -> str:
    return "gb18030" if codecs.lookup(encoding).name in ("utf-8", "gbk", "gb2312") else "utf-8"


def _names(header: bytes, encoding: str, needed: frozenset[str]) -> bool:
    """Whether the header, read in another encoding, has a needed column that is not ASCII."""
    text = header.decode(encoding, "replace")
    return any(name in text for name in needed if not name.isascii())


def _not_encoding(encoding: str, error: UnicodeDecodeError) -> str:
    other = _other_encoding(encoding)
    return f'the line is not {encoding} at byte {error.start}; try encoding = "{other}" in the mapping'
