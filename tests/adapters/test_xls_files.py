"""Old workbooks: every kind of cell behaves as in new ones; days counted from 1904; files that are damaged."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from datetime import datetime, time
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import xlwt
from openpyxl import Workbook
from openpyxl.utils.datetime import CALENDAR_MAC_1904

from adapters import conversions
from adapters.raw_rows import raw_row, read_raw
from adapters.sections import Section
from adapters.source import BadRow, Limits, Opening, Row, Serial1904, Unusable
from adapters.xlsx_files import XlsxOptions

DAY = xlwt.easyxf(num_format_str="yyyy-mm-dd hh:mm")
PERCENT = xlwt.easyxf(num_format_str="0.00%")
MONEY = xlwt.easyxf(num_format_str="¥#,##0.00")
WHEN = datetime(2026, 3, 5, 9, 5)  # noqa: DTZ001 - workbooks have no zones


def book(fill: Callable[[Any, Any], None], *, since_1904: bool = False) -> bytes:
    workbook = xlwt.Workbook()
    workbook.dates_1904 = since_1904
    fill(workbook, workbook.add_sheet("台账"))
    buffer = io.BytesIO()
    workbook.save(buffer)
    return buffer.getvalue()


def cells(*rows: list[Any]) -> Callable[[Any, Any], None]:
    """Rows of values, or of a value with its format."""

    def fill(_: Any, sheet: Any) -> None:
        for row, values in enumerate(rows):
            for column, value in enumerate(values):
                sheet.write(row, column, *(value if isinstance(value, tuple) else (value,)))

    return fill


def read(path: Path, data: bytes, limits: Limits | None = None, **extra: Any) -> list[Row | BadRow]:
    path.write_bytes(data)
    parsed = XlsxOptions.parse(Section("m.toml", "source", {"path": "f.xls", **extra}))
    opening = Opening(path.parent, frozenset({"a"}), override=path, limits=limits or Limits())
    return [row for page in parsed.open(opening).pages({}, 2) for row in page.rows]


def column_a(rows: list[Row | BadRow]) -> list[Any]:
    values = [row.reason if isinstance(row, BadRow) else row.values["a"] for row in rows]
    return [value.reason if isinstance(value, Unusable) else value for value in values]


TWO = book(cells(["a", "b"], [1, "二"], [3, "四"]))


@pytest.mark.parametrize("name", ["f.xls", "f.xlsx", "台账.et"])
def test_an_old_workbook_is_read_whatever_it_is_called(tmp_path, name):
    rows = read(tmp_path / name, TWO)
    assert [row.values for row in rows if isinstance(row, Row)] == [{"a": 1, "b": "二"}, {"a": 3, "b": "四"}]
    assert rows[1].position == f"{name}:台账!3"


CELLS: dict[str, tuple[Any, Any]] = {
    "a text": ("文", "文"),
    "digits that are a text": ("00012", "00012"),
    "an id that is a text": ("110105194912310000", "110105194912310000"),
    "an id that was rounded": (110105194912310000, "rounded-number"),
    "a whole number": (7, 7),
    "a fraction": (0.1, 0.1),
    "a percentage is its number": ((0.125, PERCENT), 0.125),
    "a currency is its number": ((1234.5, MONEY), 1234.5),
    "a day": ((WHEN, DAY), WHEN),
    "a time of day only": ((time(9, 5), DAY), time(9, 5)),
    "a day that does not exist": ((1e9, DAY), "error-cell"),
    "true": (True, True),
    "a formula": (xlwt.Formula("1+1"), "formula"),
    "an empty text": (("", DAY), None),
}


@pytest.mark.parametrize("name", CELLS)
def test_cells(tmp_path, name):
    value, expected = CELLS[name]
    assert column_a(read(tmp_path / "f.xls", book(cells(["a", "b"], [value, "x"])))) == [expected]


def test_errors_are_no_blanks(tmp_path):
    def fill(workbook: Any, sheet: Any) -> None:
        cells(["a", "b"], ["", "x"])(workbook, sheet)
        sheet.row(2).set_cell_error(0, 0x2A)
        sheet.write(2, 1, "y")

    rows = read(tmp_path / "f.xls", book(fill))
    assert column_a(rows) == [None, "error-cell"]
    assert isinstance(rows[1], Row) and "#N/A" in rows[1].values["a"].detail


def test_formulas_as_they_were_last_computed(tmp_path):
    data = book(cells(["a", "b"], [xlwt.Formula("1+1"), "x"]))
    assert column_a(read(tmp_path / "f.xls", data)) == ["formula"]
    # the writer computes nothing: the result that stands in the file is an empty text
    assert column_a(read(tmp_path / "f.xls", data, formulas="cached")) == [None]


def test_merged_cells_hidden_sheets_titles_and_totals(tmp_path):
    def fill(workbook: Any, sheet: Any) -> None:
        sheet.visibility = 1
        sheet.write(0, 0, "a")
        shown = workbook.add_sheet("S")
        cells(["title"], ["a", "b"])(workbook, shown)
        shown.write_merge(2, 3, 0, 0, "m")
        shown.write(2, 1, 1)
        shown.write(3, 1, 2)
        shown.write(4, 0, "合计")

    data, options = book(fill), {"header_row": 2, "skip": {"a": ["合计"]}}
    assert column_a(read(tmp_path / "f.xls", data, **options)) == ["m", "merged-cell"]
    assert column_a(read(tmp_path / "f.xls", data, merged="fill", **options)) == ["m", "m"]
    assert read(tmp_path / "f.xls", data, sheet="台账") == []
    (bad,) = read(tmp_path / "f.xls", data, sheet="T")
    assert isinstance(bad, BadRow) and 'no sheet "T"' in bad.detail


def xlsx_since_1904() -> bytes:
    workbook = Workbook()
    workbook.epoch = CALENDAR_MAC_1904
    sheet: Any = workbook.active
    for row in (["a"], [WHEN], [44624.378472222], [44624]):
        sheet.append(row)
    buffer = io.BytesIO()
    workbook.save(buffer)
    return buffer.getvalue()


def xls_since_1904() -> bytes:
    return book(cells(["a"], [(WHEN, DAY)], [44624.378472222], [44624]), since_1904=True)


@pytest.mark.parametrize("data", [xls_since_1904(), xlsx_since_1904()], ids=["xls", "xlsx"])
def test_serial_numbers_of_a_workbook_that_counts_from_1904(tmp_path, data):
    """They were read as if they counted from 1900: four years and a day too early, and nobody was told."""
    shown, serial, day = column_a(read(tmp_path / "f.xls", data))
    moment = conversions.moment(("excel",), ZoneInfo("Asia/Shanghai"))
    assert moment(shown) == moment(serial) == "2026-03-05T09:05:00+08:00"
    assert conversions.day(("excel", "%Y年%m月%d日"))(day) == "2026-03-05"
    assert conversions.midnight(("excel",), ZoneInfo("Asia/Shanghai"))(day) == "2026-03-05T00:00:00+08:00"
    # the same digits of another workbook, behind those in one cache
    assert conversions.day(("excel",))(44624) == "2022-03-04"
    # a number that is no day keeps its digits, and quarantine keeps what a replay needs
    assert conversions.to_text(serial) == "44624.378472222"
    assert conversions.integer(None, None)(day) == 44624
    kept = read_raw(raw_row({"a": day}))
    assert kept is not None and isinstance(kept["a"], Serial1904) and kept["a"] == day


def test_too_large_a_file_and_one_with_a_password(tmp_path):
    (bad,) = read(tmp_path / "f.xls", TWO, Limits(old_workbook_bytes=1000))
    assert isinstance(bad, BadRow) and "more than 1,000 bytes" in bad.detail
    # FILEPASS in the place of a record that says nothing
    spoilt = TWO.replace(b"\x42\x00\x02\x00", b"\x2f\x00\x02\x00", 1)
    (bad,) = read(tmp_path / "f.xls", spoilt)
    assert isinstance(bad, BadRow) and bad.reason == "bad-workbook" and "password" in bad.detail


@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_damaged_harms_only_its_own_file(tmp_path, seed):
    chance = random.Random(seed)
    for _ in range(60):
        spoilt = bytearray(TWO[: chance.choice((len(TWO), chance.randrange(len(TWO))))])
        for _ in range(chance.choice((1, 3, 30))):
            spoilt[chance.randrange(len(spoilt))] = chance.choice((0, 255, chance.randrange(256)))
        for row in read(tmp_path / "f.xls", bytes(spoilt)):
            assert isinstance(row, Row) or row.reason
