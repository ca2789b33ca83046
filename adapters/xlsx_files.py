"""Workbooks (ECMA-376 SpreadsheetML, .xlsx; old ones: xls_files): one sheet, its header, rows below it.

Formulas, error cells and the covered cells of a merged range hold no value of their own: a rule that needs one refuses
its row. Rows without any value are passed over. A workbook is a zip of XML, so its sizes, its order of rows and its
freedom from document type declarations are checked before a row is read.
"""

from __future__ import annotations

import hashlib
import json
import struct
import warnings
import zipfile
import zlib
from collections import deque
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any
from xml.parsers import expat

from adapters.conversions import Invalid, to_text
from adapters.files import (
    FileOptions,
    FileRefused,
    Header,
    check_columns,
    is_skipped,
    join_header,
    open_regular,
    other_format,
    read_header,
    read_skip,
)
from adapters.sections import Section, nearest
from adapters.sheets import FORMULA, MERGED, Odd, Range, Sheet, error, number
from adapters.source import BadRow, Limits, Opening, Page, Row, excerpt
from adapters.xls_files import SIGNATURE, open_xls

MAX_ROWS, MAX_CELLS = 1 << 20, 1 << 14  # of the format

# what openpyxl, xlrd and the standard library raise for bytes that are not what they should be
_DAMAGE = (
    zipfile.BadZipFile, zlib.error, expat.ExpatError, SyntaxError, EOFError, OSError, RuntimeError,
    LookupError, ValueError, TypeError, AttributeError, AssertionError, ArithmeticError, struct.error,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class XlsxOptions:
    """`[source]` with kind = "xlsx" or "xls", which are one: a file's content says what it is."""

    files: FileOptions
    sheet: str | None
    header: Header
    cached: bool
    fill_merged: bool
    skip: Mapping[str, frozenset[str]]

    @classmethod
    def parse(cls, section: Section) -> XlsxOptions:
        """Takes the options of this kind from a `[source]` table."""
        header, skip = read_header(section), read_skip(section)
        cached = section.choice("formulas", ("refuse", "cached"), "refuse") == "cached"
        fill = section.choice("merged", ("refuse", "fill"), "refuse") == "fill"
        return cls(FileOptions.parse(section), section.optional("sheet", str), header, cached, fill, skip)

    def open(self, opening: Opening) -> XlsxFiles:
        """The workbooks; raises CouldNotRun where there is none."""
        return XlsxFiles(self, self.files.find(opening), opening.needed, opening.limits)


class XlsxFiles:
    """A source of workbooks, new and old."""

    def __init__(
        self, options: XlsxOptions, files: list[tuple[str, Path]], needed: frozenset[str], limits: Limits
    ) -> None:
        self._options = options
        self._files = files
        self._needed = needed
        self._limits = limits

    def pages(self, marks: Mapping[str, str], size: int) -> Generator[Page]:
        """See Source. A workbook that turns out to be damaged behind some rows ends there with a BadRow."""
        for part, path in self._files:
            try:
                yield from self._read(part, path, marks.get(part), size)
            except FileRefused as refused:
                yield Page(part, (refused.bad,), None)

    def _read(self, part: str, path: Path, mark: str | None, size: int) -> Iterator[Page]:
        with closing(_Workbook(part, path, self._options, self._limits)) as book:
            needed = self._needed | self._options.skip.keys()
            check_columns(book.columns, needed, f"{part}:{book.title}!{self._options.header.row}", self._limits)
            if mark is None or book.resume(mark):
                restarted = mark is None
                while chunk := book.take(size):
                    yield Page(part, chunk, book.mark(), restarted, book.columns)
                    restarted = False
                if book.damage is not None:
                    raise FileRefused(book.damage)
                return
        yield from self._read(part, path, None, size)


class _Workbook:
    """One sheet on its way. The digest covers number and values of every row that was taken."""

    def __init__(self, part: str, path: Path, options: XlsxOptions, limits: Limits) -> None:
        self._part = part
        self._limits = limits
        self._skip = options.skip
        self._hash = hashlib.sha256()
        self._row = 0
        self._head = b""
        self.damage: BadRow | None = None
        self._open = ExitStack()
        try:
            # opened here, not by a library: they leave the file open when they fail
            raw = self._open.enter_context(open_regular(path))
            sheet = self._choose(raw, options)
            behind = options.header.row + options.header.count
            titles = list(islice(sheet.rows, behind - 1))
        except Odd as odd:
            self.close()
            raise FileRefused(BadRow(f"{part}:1", "", "bad-workbook", str(odd))) from None
        except _DAMAGE as error:
            self.close()
            raise FileRefused(self._damaged(error)) from error
        self.title = sheet.title
        header = [row for number, row in titles if number >= options.header.row]
        self.columns = join_header([tuple(_name(value) for value in row) for row in header])
        while self.columns and not self.columns[-1]:
            self.columns = self.columns[:-1]
        self._rows = self._read(sheet.rows, _Merged(sheet.merged, fill=options.fill_merged))

    def _choose(self, raw: IO[bytes], options: XlsxOptions) -> Sheet:
        """The sheet, by what the file is and not by its name: many an old workbook is called .xlsx."""
        self._head = raw.read(512)
        raw.seek(0)
        opens = open_xls if self._head.startswith(SIGNATURE) else open_xlsx
        return opens(raw, options.sheet, cached=options.cached, limits=self._limits, stack=self._open)

    def close(self) -> None:
        """Closes the workbook; may be called more than once."""
        self._open.close()

    def take(self, size: int) -> tuple[Row | BadRow, ...]:
        """The next rows, at most `size`; fewer and `damage` where the rest cannot be read."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # openpyxl's remarks on styles and dates; bad dates become error cells
            return tuple(islice(self._rows, size))

    def mark(self) -> str:
        """Where to go on: behind the last row that was taken."""
        return json.dumps({"row": self._row, "sha256": self._hash.hexdigest()})

    def resume(self, mark: str) -> bool:
        """Takes every row up to `mark`; False where the sheet holds something else there."""
        wanted = json.loads(mark)
        while self._row < wanted["row"] and self.take(1):
            pass
        return bool(json.loads(self.mark()) == wanted)

    def _read(self, rows: Iterator[tuple[int, list[Any]]], merged: _Merged) -> Iterator[Row | BadRow]:
        while True:
            try:
                number, cells = next(rows)
            except StopIteration:
                return
            except _DAMAGE as error:
                self.damage = self._damaged(error)
                return
            covered = merged.columns(number)
            values = [MERGED if place in covered else value for place, value in enumerate(cells, 1)]
            # a covered cell at the end of a row may not stand in the file at all
            missing = range(len(values) + 1, len(self.columns) + 1)
            values.extend([MERGED if place in covered else None for place in missing])
            empty = all(value is None or value is MERGED for value in values)
            merged.fill(number, values)
            if empty:
                continue
            self._row = number
            self._hash.update(repr((number, values)).encode("utf-8", "surrogatepass"))
            row = self._row_of(number, values)
            if not is_skipped(self._skip, row):
                yield row

    def _row_of(self, number: int, values: list[Any]) -> Row | BadRow:
        position = f"{self._part}:{self.title}!{number}"
        width = len(self.columns)
        if any(value is not None for value in values[width:]):
            detail = f"the row has {len(values)} columns, the header has {width}"
            return BadRow(position, excerpt(repr(values)), "column-count", detail)
        if any(isinstance(value, str) and len(value) > self._limits.field_chars for value in values):
            detail = f"a cell has more than {self._limits.field_chars:,} characters"
            return BadRow(position, excerpt(repr(values)[:10_000]), "too-long", detail)
        return Row(position, dict(zip(self.columns, values[:width], strict=True)))

    def _damaged(self, error: BaseException) -> BadRow:
        detail = f"the workbook is damaged or no .xlsx ({type(error).__name__}); save it again as .xlsx"
        if self._head.startswith(SIGNATURE):
            detail = f"the workbook is damaged, or has a password ({type(error).__name__}); save it again as .xlsx"
        elif other := other_format(self._head):
            detail = f"the file is {other}"
        elif self._head[:2] not in (b"PK", b""):
            detail = 'the file is no workbook, whatever its name; is it CSV? then set kind = "csv"'
        return BadRow(f"{self._part}:{self._row + 1}", "", "bad-workbook", detail)


class _Merged:
    """Which cells of a row are covered, and with `fill` what they show. Rows are asked for in rising order."""

    def __init__(self, ranges: list[Range], *, fill: bool) -> None:
        self._waiting = deque(sorted(ranges))
        self._open: list[Range] = []
        self._shown: dict[Range, Any] | None = {} if fill else None

    def columns(self, row: int) -> set[int]:
        """The covered columns of `row`: the first cell of a range keeps its value."""
        while self._waiting and self._waiting[0][0] <= row:
            self._open.append(self._waiting.popleft())
        if not self._open:
            return set()
        self._open = [area for area in self._open if area[2] >= row]
        covered = {column for area in self._open for column in range(area[1], area[3] + 1)}
        return covered - {area[1] for area in self._open if area[0] == row}

    def fill(self, row: int, values: list[Any]) -> None:
        """Gives the covered cells of `row` the value of their range's first cell, where that is wanted."""
        if self._shown is None:
            return
        for area in self._open:
            if area[0] == row:
                self._shown[area] = values[area[1] - 1] if area[1] <= len(values) else None
            for column in range(area[1], min(area[3], len(values)) + 1):
                # a range that begins above the first row has shown nothing
                values[column - 1] = self._shown.get(area, MERGED)
        self._shown = {area: self._shown[area] for area in self._open if area in self._shown}


def open_xlsx(raw: IO[bytes], name: str | None, *, cached: bool, limits: Limits, stack: ExitStack) -> Sheet:
    """The sheet of that name, or the first that is not hidden; `stack` closes it. Raises Odd and `_DAMAGE`."""
    _check_archive(raw, limits)
    book = _load(raw, cached=cached)
    stack.callback(book.close)
    sheet = _choose_sheet(book.worksheets, name)
    with book._archive.open(sheet._worksheet_path) as stream:
        merged, last = _survey(stream, limits)
    # a workbook may understate its own extent, and rows outside it would be passed over
    sheet.reset_dimensions()
    rows = sheet.iter_rows()
    stack.callback(rows.close)
    since_1904 = book.epoch.year == 1904
    # behind the last value there may be a million formatted rows, and openpyxl keeps something of each
    numbered = islice(enumerate(rows, 1), last)
    values = ((number, [_value(cell, since_1904) for cell in cells]) for number, cells in numbered)
    return Sheet(str(sheet.title), values, merged)


def _choose_sheet(sheets: list[Any], name: str | None) -> Any:
    if name is None:
        # a hidden sheet is none that people mean by the first
        for sheet in sheets:
            if sheet.sheet_state == "visible":
                return sheet
        raise Odd("every sheet of the workbook is hidden; name one with sheet in the mapping")
    for sheet in sheets:
        if sheet.title == name:
            return sheet
    raise Odd(f'the workbook has no sheet "{name}"{nearest(str(name), [sheet.title for sheet in sheets])}')


def _check_archive(raw: IO[bytes], limits: Limits) -> None:
    # the zip module reads no more of a member than its directory says, so the directory's sizes bind
    archive = zipfile.ZipFile(raw)
    members = archive.infolist()
    if len(members) > limits.workbook_parts:
        raise Odd(f"the workbook has more than {limits.workbook_parts:,} parts")
    if sum(member.file_size for member in members) > limits.workbook_bytes:
        raise Odd(f"the workbook unpacks to more than {limits.workbook_bytes:,} bytes; export CSV instead")
    held = [member for member in members if not member.filename.startswith("xl/worksheets/")]
    parts = [member for member in held if member.filename.endswith((".xml", ".rels"))]
    if sum(member.file_size for member in parts) > limits.workbook_texts_bytes:
        raise Odd(f"the workbook's texts take more than {limits.workbook_texts_bytes:,} bytes; export CSV instead")
    left = limits.workbook_elements
    for member in parts:
        with archive.open(member) as stream:
            left = _count_down(stream, left)


def _count_down(stream: IO[bytes], left: int) -> int:
    """`left` less the elements of a part. Refuses one with a document type declaration, so that there are no entities,
    and more elements than are left: openpyxl holds something of each."""

    def start(*_: Any) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise Odd("the workbook has too many texts or styles; export CSV instead")

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = _refuse_doctype
    parser.StartElementHandler = start
    parser.ParseFile(stream)
    return left


def _refuse_doctype(*_: Any) -> None:
    raise Odd("the workbook carries a document type declaration, which no spreadsheet program writes")


def _load(raw: IO[bytes], *, cached: bool) -> Any:
    from openpyxl import load_workbook  # slow to import, and only this kind needs it

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return load_workbook(raw, read_only=True, data_only=cached, keep_links=False)


def _survey(stream: IO[bytes], limits: Limits) -> tuple[list[Range], int]:
    """The merged ranges of a sheet, and its last row with a value.

    Raises Odd for what would make openpyxl pass rows or cells over silently, or hold without end: it has a whole row
    at once, and what stands outside rows.
    """
    merged: list[Range] = []
    last_row, last_filled, last_cell = 0, 0, (0, "")
    cells = others = characters = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal last_row, last_filled, last_cell, cells, others, characters
        tag = name.rpartition(":")[2]
        if tag == "c":
            cells, others = cells + 1, 0
            if cells > MAX_CELLS:
                raise Odd(f"row {last_row} has more than {MAX_CELLS:,} cells; export CSV instead")
            cell = (len(attributes.get("r", "")), attributes.get("r", ""))
            if "r" in attributes and cell <= last_cell:
                raise Odd("the cells of a row are not in order; save the workbook again in a spreadsheet program")
            last_cell = max(cell, last_cell)
            return
        others += 1
        if others > limits.merged_ranges * 2:
            raise Odd(f"the sheet has more than {others:,} elements outside its cells; export CSV instead")
        if tag == "row":
            row = int(attributes.get("r", last_row + 1))
            if not last_row < row <= MAX_ROWS:
                raise Odd("the rows are not in order; save the workbook again in a spreadsheet program")
            last_row, last_cell = row, (0, "")
            cells = others = characters = 0
        elif tag in ("v", "is", "f"):
            last_filled = last_row
        elif tag == "mergeCell":
            merged.append(_range(attributes["ref"]))
            if len(merged) > limits.merged_ranges:
                raise Odd(f"the sheet has more than {limits.merged_ranges:,} merged ranges")

    def text(data: str) -> None:
        nonlocal characters
        characters += len(data)
        if characters > limits.row_bytes * 16:
            raise Odd(f"row {last_row} has more than {limits.row_bytes * 16:,} characters; export CSV instead")

    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = start
    parser.CharacterDataHandler = text
    parser.StartDoctypeDeclHandler = _refuse_doctype
    parser.ParseFile(stream)
    return merged, last_filled


def _range(reference: str) -> Range:
    from openpyxl.utils.cell import range_boundaries

    left, top, right, bottom = range_boundaries(reference)
    return (int(top), int(left), int(bottom), int(right))


def _name(value: Any) -> str:
    try:
        return "" if value is None else to_text(value).strip()
    except Invalid:
        return ""


def _value(cell: Any, since_1904: bool) -> Any:
    if cell.data_type == "f":
        return FORMULA
    if cell.data_type == "e":
        return error(cell.value)
    value = cell.value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return number(value, since_1904=since_1904)
    return value
