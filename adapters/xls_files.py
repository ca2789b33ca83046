"""Workbooks of Excel 97-2003 and WPS (MS-XLS: BIFF records in an OLE2 compound document), .xls and .et.

xlrd reads the values. It gives a formula's last result like any value and tells merged ranges only together with all
formatting, so the sheet's records are gone through once more for just these. A sheet is held in memory, at most 65,536
rows of 256 columns, and the file is bounded (`Limits.old_workbook_bytes`).
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from typing import IO, Any, Literal

from adapters.sections import nearest
from adapters.sheets import FORMULA, Odd, Range, Sheet, error, number
from adapters.source import Limits

SIGNATURE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"

# [MS-XLS] 2.3.2; FORMULA had other numbers before BIFF5
_FORMULAS, _MERGE_CELLS, _EOF = frozenset((0x0006, 0x0206, 0x0406)), 0x00E5, 0x000A

_Epoch = Literal[0, 1]
"""1: days are counted from 1904."""


def open_xls(raw: IO[bytes], sheet: str | None, *, cached: bool, limits: Limits, stack: ExitStack) -> Sheet:
    """The sheet of that name, or the first that is not hidden; `stack` closes it.

    Raises Odd for what is refused as a whole, and for damage whatever xlrd does: its errors, and those of reading
    bytes behind an end.
    """
    import xlrd  # only old workbooks need it
    from xlrd.biffh import XLRDError
    from xlrd.compdoc import CompDocError

    data = raw.read(limits.old_workbook_bytes + 1)
    if len(data) > limits.old_workbook_bytes:
        raise Odd(f"the workbook has more than {limits.old_workbook_bytes:,} bytes; save it as .xlsx")
    try:
        book = xlrd.open_workbook(file_contents=data, on_demand=True, ragged_rows=True, logfile=io.StringIO())
        stack.callback(book.release_resources)
        place = _choose(book, sheet)
        formulas, merged = _survey(book, place, limits)
        found = book.sheet_by_index(place)
    except (XLRDError, CompDocError) as refusal:
        if "encrypt" in str(refusal).lower() or "can't find workbook" in str(refusal).lower():
            raise Odd("the workbook has a password, or is none; open it and save it without a password") from None
        raise Odd(f"the workbook is damaged ({str(refusal)[:100]}); open it and save it as .xlsx") from None
    if cached:
        formulas = set()
    return Sheet(str(found.name), _rows(found, formulas, book.datemode), merged)


def _choose(book: Any, name: str | None) -> int:
    names = [str(title) for title in book.sheet_names()]
    if name is None:
        # charts and macro sheets are not among them
        for place, hidden in enumerate(book._sheet_visibility):
            if not hidden:
                return place
        raise Odd("every sheet of the workbook is hidden; name one with sheet in the mapping")
    if name not in names:
        raise Odd(f'the workbook has no sheet "{name}"{nearest(name, names)}')
    return names.index(name)


def _survey(book: Any, place: int, limits: Limits) -> tuple[set[int], list[Range]]:
    """The cells of a sheet that hold formulas, as row << 16 | column (both from 0), and its merged ranges."""
    data, at = book.mem, book._sh_abs_posn[place]
    formulas: set[int] = set()
    merged: list[Range] = []
    depth = 0
    while at + 4 <= len(data):
        code, size = struct.unpack_from("<HH", data, at)
        at += 4
        if code in (0x0009, 0x0209, 0x0409, 0x0809):  # BOF: an embedded chart has a substream of its own
            depth += 1
        elif code == _EOF:
            depth -= 1
            if depth <= 0:
                break
        elif depth == 1 and code in _FORMULAS:
            row, column = struct.unpack_from("<HH", data, at)
            formulas.add(row << 16 | column)
        elif depth == 1 and code == _MERGE_CELLS:
            for n in range(struct.unpack_from("<H", data, at)[0]):
                top, bottom, left, right = struct.unpack_from("<4H", data, at + 2 + 8 * n)
                merged.append((top + 1, left + 1, bottom + 1, right + 1))
            if len(merged) > limits.merged_ranges:
                raise Odd(f"the sheet has more than {limits.merged_ranges:,} merged ranges")
        at += size
    return formulas, merged


def _rows(sheet: Any, formulas: set[int], datemode: _Epoch) -> Iterator[tuple[int, list[Any]]]:
    for row in range(sheet.nrows):
        kinds, values = sheet.row_types(row), sheet.row_values(row)
        yield (
            row + 1,
            [
                FORMULA if formulas and row << 16 | column in formulas else _value(kind, value, datemode)
                for column, (kind, value) in enumerate(zip(kinds, values, strict=True))
            ],
        )


def _value(kind: int, value: Any, datemode: _Epoch) -> Any:
    match kind:
        case 1:
            return value or None
        case 2:
            return number(int(value) if value.is_integer() else value, since_1904=datemode == 1)
        case 3:
            return _moment(value, datemode)
        case 4:
            return bool(value)
        case 5:
            import xlrd

            return error(xlrd.error_text_from_code.get(value, f"#{value}"))
        case _:
            return None


def _moment(value: float, datemode: _Epoch) -> Any:
    """A number that its format shows as a day, a time, or both."""
    from xlrd.xldate import xldate_as_datetime

    try:
        moment = xldate_as_datetime(value, datemode)
    except (ValueError, OverflowError):
        return error("of a day that does not exist")
    return moment.time() if 0 <= value < 1 else moment
