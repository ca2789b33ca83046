"""Workbooks (ECMA-376 SpreadsheetML, .xlsx): one sheet, one header row, rows below it.

Formulas, error cells and the covered cells of a merged range hold no value of their own: a rule that needs one refuses
its row. Rows without any value are passed over. A workbook is a zip of XML, so its sizes, its order of rows and its
freedom from document type declarations are checked before a row is read.
"""

from __future__ import annotations

import hashlib
import json
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
from adapters.files import FileOptions, FileRefused, check_columns, is_skipped, read_header_row, read_skip
from adapters.sections import Section, nearest
from adapters.source import BadRow, Limits, Opening, Page, Row, Unusable, excerpt

MAX_ROWS = 1 << 20  # of the format

_FORMULA = Unusable("formula", 'holds a formula; paste values, or set formulas = "cached" in the mapping')
_MERGED = Unusable("merged-cell", "is covered by a merged cell; unmerge it in the workbook")
# what openpyxl and the standard library raise for a zip or an XML that is not what it should be
_DAMAGE = (
    zipfile.BadZipFile, zlib.error, expat.ExpatError, SyntaxError, EOFError, OSError, RuntimeError,
    KeyError, IndexError, ValueError, TypeError, AttributeError,
)  # fmt: skip

Range = tuple[int, int, int, int]  # first row, first column, last row, last column, from 1


@dataclass(frozen=True, slots=True)
class XlsxOptions:
    """`[source]` with kind = "xlsx"."""

    files: FileOptions
    sheet: str | None
    header_row: int
    cached: bool
    skip: Mapping[str, frozenset[str]]

    @classmethod
    def parse(cls, section: Section) -> XlsxOptions:
        """Takes the options of this kind from a `[source]` table."""
        header_row, skip = read_header_row(section), read_skip(section)
        cached = section.choice("formulas", ("refuse", "cached"), "refuse") == "cached"
        return cls(FileOptions.parse(section), section.optional("sheet", str), header_row, cached, skip)

    def open(self, opening: Opening) -> XlsxFiles:
        """The workbooks; raises CouldNotRun where there is none."""
        return XlsxFiles(self, self.files.find(opening), opening.needed, opening.limits)


class XlsxFiles:
    """A source of workbooks."""

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
            check_columns(book.columns, needed, f"{part}:{book.title}!{self._options.header_row}", self._limits)
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
        self.damage: BadRow | None = None
        self._open = ExitStack()
        try:
            header, cells, merged = self._begin(path, options)
        except _Odd as odd:
            self.close()
            raise FileRefused(BadRow(f"{part}:1", "", "bad-workbook", str(odd))) from None
        except _DAMAGE as error:
            self.close()
            raise FileRefused(self._damaged(error)) from error
        self.columns = tuple(_name(cell) for cell in header)
        while self.columns and not self.columns[-1]:
            self.columns = self.columns[:-1]
        self._rows = self._read(cells, _Merged(merged))

    def _begin(self, path: Path, options: XlsxOptions) -> tuple[Any, Iterator[tuple[int, Any]], list[Range]]:
        """The header row, the numbered rows behind it, the merged ranges."""
        # opened here, not by openpyxl: it leaves the file open when it fails
        raw = self._open.enter_context(path.open("rb"))
        _check_archive(raw, self._limits)
        book = _load(raw, cached=options.cached)
        self._open.callback(book.close)
        sheet = self._choose(book.worksheets, options.sheet)
        self.title = str(sheet.title)
        with book._archive.open(sheet._worksheet_path) as stream:
            merged = _survey(stream, self._limits)
        # a workbook may understate its own extent, and rows outside it would be passed over
        sheet.reset_dimensions()
        rows = sheet.iter_rows()
        self._open.callback(rows.close)
        cells = enumerate(rows, 1)
        header = next((row for number, row in cells if number == options.header_row), ())
        return header, cells, merged

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

    def _choose(self, sheets: list[Any], name: str | None) -> Any:
        if name is None and sheets:
            return sheets[0]
        for sheet in sheets:
            if sheet.title == name:
                return sheet
        raise _Odd(f'the workbook has no sheet "{name}"{nearest(str(name), [sheet.title for sheet in sheets])}')

    def _read(self, rows: Iterator[tuple[int, Any]], merged: _Merged) -> Iterator[Row | BadRow]:
        while True:
            try:
                number, cells = next(rows)
            except StopIteration:
                return
            except _DAMAGE as error:
                self.damage = self._damaged(error)
                return
            covered = merged.columns(number)
            values = [_value(cell, place in covered) for place, cell in enumerate(cells, 1)]
            # a covered cell at the end of a row may not stand in the file at all
            missing = range(len(values) + 1, len(self.columns) + 1)
            values.extend([_MERGED if place in covered else None for place in missing])
            if all(value is None or value is _MERGED for value in values):
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
        return BadRow(f"{self._part}:{self._row + 1}", "", "bad-workbook", detail)


class _Odd(Exception):
    """The workbook is refused as a whole; the text says why."""


class _Merged:
    """Which cells of a row are covered. Rows are asked for in rising order."""

    def __init__(self, ranges: list[Range]) -> None:
        self._waiting = deque(sorted(ranges))
        self._open: list[Range] = []

    def columns(self, row: int) -> set[int]:
        """The covered columns of `row`: the first cell of a range keeps its value."""
        while self._waiting and self._waiting[0][0] <= row:
            self._open.append(self._waiting.popleft())
        if not self._open:
            return set()
        self._open = [area for area in self._open if area[2] >= row]
        covered = {column for area in self._open for column in range(area[1], area[3] + 1)}
        return covered - {area[1] for area in self._open if area[0] == row}


def _check_archive(raw: IO[bytes], limits: Limits) -> None:
    # the zip module reads no more of a member than its directory says, so the directory's sizes bind
    with zipfile.ZipFile(raw) as archive:
        members = archive.infolist()
    if len(members) > limits.workbook_parts:
        raise _Odd(f"the workbook has more than {limits.workbook_parts:,} parts")
    if sum(member.file_size for member in members) > limits.workbook_bytes:
        raise _Odd(f"the workbook unpacks to more than {limits.workbook_bytes:,} bytes; export CSV instead")
    held = [member for member in members if not member.filename.startswith("xl/worksheets/")]
    xml = sum(member.file_size for member in held if member.filename.endswith((".xml", ".rels")))
    if xml > limits.workbook_texts_bytes:
        raise _Odd(f"the workbook's texts take more than {limits.workbook_texts_bytes:,} bytes; export CSV instead")


def _load(raw: IO[bytes], *, cached: bool) -> Any:
    from openpyxl import load_workbook  # slow to import, and only this kind needs it

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return load_workbook(raw, read_only=True, data_only=cached, keep_links=False)


def _survey(stream: IO[bytes], limits: Limits) -> list[Range]:
    """The merged ranges of a sheet. Raises _Odd for what would make openpyxl pass rows or cells over silently."""
    merged: list[Range] = []
    last_row, last_cell = 0, (0, "")

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal last_row, last_cell
        tag = name.rpartition(":")[2]
        if tag == "c" and "r" in attributes:
            cell = (len(attributes["r"]), attributes["r"])
            if cell <= last_cell:
                raise _Odd("the cells of a row are not in order; save the workbook again in a spreadsheet program")
            last_cell = cell
        elif tag == "row":
            row = int(attributes.get("r", last_row + 1))
            if not last_row < row <= MAX_ROWS:
                raise _Odd("the rows are not in order; save the workbook again in a spreadsheet program")
            last_row, last_cell = row, (0, "")
        elif tag == "mergeCell":
            merged.append(_range(attributes["ref"]))
            if len(merged) > limits.merged_ranges:
                raise _Odd(f"the sheet has more than {limits.merged_ranges:,} merged ranges")

    def doctype(*_: Any) -> None:
        raise _Odd("the sheet carries a document type declaration, which no spreadsheet program writes")

    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    parser.StartDoctypeDeclHandler = doctype
    parser.ParseFile(stream)
    return merged


def _range(reference: str) -> Range:
    from openpyxl.utils.cell import range_boundaries

    left, top, right, bottom = range_boundaries(reference)
    return (int(top), int(left), int(bottom), int(right))


def _name(cell: Any) -> str:
    try:
        return "" if cell.value is None else to_text(cell.value).strip()
    except Invalid:
        return ""


def _value(cell: Any, covered: bool) -> Any:
    if covered:
        return _MERGED
    if cell.data_type == "f":
        return _FORMULA
    if cell.data_type == "e":
        return Unusable("error-cell", f"holds the error {cell.value}")
    return cell.value
