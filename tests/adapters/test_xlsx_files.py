"""The workbook reader: cells without a value of their own, workbooks that lie, and zips that are none."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from openpyxl import Workbook
from openpyxl.worksheet.worksheet import Worksheet

from adapters.sections import Section
from adapters.source import BadRow, Limits, Opening, Row, Unusable
from adapters.xlsx_files import XlsxOptions


def book(fill: Callable[[Any], None]) -> bytes:
    workbook = Workbook()
    sheet = workbook.active
    assert isinstance(sheet, Worksheet)
    sheet.title = "S"
    fill(sheet)
    buffer = io.BytesIO()
    workbook.save(buffer)
    return buffer.getvalue()


def table(*rows: list[Any]) -> Callable[[Any], None]:
    def fill(sheet: Any) -> None:
        for row in rows:
            sheet.append(row)

    return fill


def read(path: Path, data: bytes, limits: Limits | None = None, **extra: Any) -> list[Row | BadRow]:
    path.write_bytes(data)
    parsed = XlsxOptions.parse(Section("m.toml", "source", {"path": "f.xlsx", **extra}))
    opening = Opening(path.parent, frozenset({"a"}), override=path, limits=limits or Limits())
    return [row for page in parsed.open(opening).pages({}, 2) for row in page.rows]


def brief(rows: list[Row | BadRow]) -> list[Any]:
    return [
        f"{row.position.partition(':')[2]}:{row.reason}"
        if isinstance(row, BadRow)
        else [value.reason if isinstance(value, Unusable) else value for value in row.values.values()]
        for row in rows
    ]


def edited(data: bytes, change: Callable[[str], str], member: str = "xl/worksheets/sheet1.xml") -> bytes:
    """The workbook with one part rewritten."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            text = old.read(name)
            new.writestr(name, change(text.decode()).encode() if name == member else text)
    return buffer.getvalue()


TWO = table(["a", "b"], [1, 2], [3, 4])


def test_titles_above_the_header_and_lines_that_are_no_rows(tmp_path):
    data = book(table(["ledger"], ["of today"], ["a", "b"], [1, 2], [None, 9], [" total ", 11], [5, "total"]))
    skip = {"a": ["", "total"]}
    assert brief(read(tmp_path / "f.xlsx", data, header_row=3, skip=skip)) == [[1, 2], [5, "total"]]
    (bad,) = read(tmp_path / "f.xlsx", data, header_row=3, skip={"c": [""]})
    assert isinstance(bad, BadRow) and bad.reason == "missing-column"


def merged(sheet: Any) -> None:
    TWO(sheet)
    sheet["A4"], sheet["B4"] = "x", "y"
    sheet.merge_cells("A4:B5")


def filled(sheet: Any) -> None:
    sheet.append(["a", "b", "c"])
    for row in ([1, "x", 5], [2, None, 6], [3, "y", None], [None, None, None], [9, None, None]):
        sheet.append(row)
    sheet.merge_cells("B2:B3")
    sheet.merge_cells("B4:C4")
    sheet.merge_cells("B6:C7")


def test_merged_cells_are_filled_where_the_mapping_says_so(tmp_path):
    rows = brief(read(tmp_path / "f.xlsx", book(filled), merged="fill"))
    assert rows == [[1, "x", 5], [2, "x", 6], [3, "y", "y"], [9, None, None]]
    assert brief(read(tmp_path / "f.xlsx", book(filled)))[1] == [2, "merged-cell", 6]


def test_two_rows_of_header(tmp_path):
    def fill(sheet: Any) -> None:
        for row in (["title"], ["a", "单位", None, "结论"], [None, "名称", "地址", None], [1, "店", "路", "合格"]):
            sheet.append(row)
        sheet.merge_cells("A2:A3")
        sheet.merge_cells("B2:C2")
        sheet.merge_cells("D2:D3")

    (row,) = read(tmp_path / "f.xlsx", book(fill), header_row=2, header_rows=2)
    assert isinstance(row, Row)
    assert row.values == {"a": 1, "单位.名称": "店", "单位.地址": "路", "结论": "合格"}


def test_a_hidden_sheet_is_not_the_first(tmp_path):
    workbook = Workbook()
    hidden = workbook.active
    assert isinstance(hidden, Worksheet)
    hidden.title, hidden.sheet_state = "codes", "veryHidden"
    hidden.append(["a"])
    hidden.append([0])
    TWO(workbook.create_sheet("S"))
    workbook.save(tmp_path / "w.xlsx")
    data = (tmp_path / "w.xlsx").read_bytes()
    assert brief(read(tmp_path / "f.xlsx", data)) == [[1, 2], [3, 4]]
    assert brief(read(tmp_path / "f.xlsx", data, sheet="codes")) == [[0]]
    every = edited(data, lambda text: text.replace('state="visible"', 'state="hidden"'), "xl/workbook.xml")
    (bad,) = read(tmp_path / "f.xlsx", every)
    assert isinstance(bad, BadRow) and "every sheet of the workbook is hidden" in bad.detail


def test_numbers_that_a_spreadsheet_program_rounded(tmp_path):
    values = [110105194912310000, 999_999_999_999_999, 1.10105194912310e17, "110105194912310000", 10**15, 0.1]
    rows = brief(read(tmp_path / "f.xlsx", book(table(["a"], *[[value] for value in values]))))
    lost = ["rounded-number"]
    assert rows == [lost, [999_999_999_999_999], lost, ["110105194912310000"], lost, [0.1]]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "damaged"),
        (b"\r\n<HTML><table><tr><td>a</td></tr></table>", "an HTML page"),
        (b'<?xml version="1.0"?><?mso-application progid="Excel.Sheet"?><Workbook/>', "XML"),
        (b"a,b\n1,2\n", 'kind = "csv"'),
        (b"PK\x03\x04" + bytes(600), "damaged"),
    ],
)
def test_what_only_has_the_name_of_a_workbook(tmp_path, data, words):
    (bad,) = read(tmp_path / "f.xlsx", data)
    assert isinstance(bad, BadRow)
    assert bad.reason == "bad-workbook"
    assert words in bad.detail


def test_values_keep_their_kind(tmp_path):
    when = datetime(2024, 3, 5)  # noqa: DTZ001 - workbooks have no zones
    rows = read(tmp_path / "f.xlsx", book(table(["a", "b", "c"], ["x", 7, when], [True, 41.5, None])))
    assert brief(rows) == [["x", 7, when], [True, 41.5, None]]
    assert rows[0].position == "f.xlsx:S!2"


GOOD_AND_BAD: dict[str, tuple[bytes, list[Any]]] = {
    "a formula": (book(table(["a", "b"], ["=1+1", 2])), [["formula", 2]]),
    "an error": (book(table(["a", "b"], ["#N/A", 2])), [["error-cell", 2]]),
    "a merged cell": (book(merged), [[1, 2], [3, 4], ["x", "merged-cell"]]),
    "empty rows": (book(table(["a", "b"], [], [None, None], [1, 2], [])), [[1, 2]]),
    "a row that is shorter": (book(table(["a", "b"], [1])), [[1, None]]),
    "a row that is longer": (book(table(["a", "b"], [1, 2, 3], [4, 5])), ["S!2:column-count", [4, 5]]),
    "a column without a name behind the table": (book(table(["a", "b", None], [1, 2])), [[1, 2]]),
    "a needed column twice": (book(table(["a", "a"], [1, 2])), ["S!1:duplicate-column"]),
    "a needed column missing": (book(table(["b"], [1])), ["S!1:missing-column"]),
    "an empty sheet": (book(table()), ["S!1:missing-column"]),
    "no zip": (b"a,b\n1,2\n", ["1:bad-workbook"]),
    "an empty file": (b"", ["1:bad-workbook"]),
    "half a zip": (book(TWO)[:2000], ["1:bad-workbook"]),
    "a zip that is no workbook": (edited(book(TWO), lambda _: "<x/>", "xl/workbook.xml"), ["1:bad-workbook"]),
    "a sheet that is no XML": (edited(book(TWO), lambda text: text[: len(text) // 2]), ["1:bad-workbook"]),
    "an extent that understates the sheet": (
        edited(book(TWO), lambda text: re.sub(r'<dimension ref="[^"]*"', '<dimension ref="A1:A2"', text)),
        [[1, 2], [3, 4]],
    ),
    "rows out of order": (edited(book(TWO), lambda text: text.replace('<row r="3"', '<row r="1"')), ["1:bad-workbook"]),
    "a row number that would make a billion empty rows": (
        edited(book(TWO), lambda text: text.replace('<row r="3"', '<row r="999999999"')),
        ["1:bad-workbook"],
    ),
    "cells out of order": (edited(book(TWO), lambda text: text.replace('r="B3"', 'r="A3"')), ["1:bad-workbook"]),
    "a document type": (
        edited(book(TWO), lambda text: '<!DOCTYPE x [<!ENTITY e "eeee">]>' + text.partition("?>")[2]),
        ["1:bad-workbook"],
    ),
}


DOCTYPE = '<!DOCTYPE x [<!ENTITY e "eeee"><!ENTITY f SYSTEM "file:///etc/hostname">]>'


@pytest.mark.parametrize(
    "part", ["xl/workbook.xml", "xl/styles.xml", "[Content_Types].xml", "xl/_rels/workbook.xml.rels"]
)
def test_a_document_type_in_any_part(tmp_path, part):
    """Whatever else is installed: without defusedxml, openpyxl would expand what is declared there."""
    data = edited(book(TWO), lambda text: "<!-- " + "x" * 9000 + " -->" + DOCTYPE + text.rpartition("?>")[2], part)
    (bad,) = read(tmp_path / "f.xlsx", data)
    assert isinstance(bad, BadRow) and "document type" in bad.detail


def repeated(what: str, place: str, count: int) -> Callable[[str], str]:
    return lambda text: text.replace(place, what * count + place, 1)


WITHOUT_END: dict[str, tuple[str, Callable[[str], str], str]] = {
    "cells in a row": ("xl/worksheets/sheet1.xml", repeated("<c/>", "</row></sheetData>", 17_000), "cells"),
    "elements outside cells": (
        "xl/worksheets/sheet1.xml",
        repeated("<x/>", "</sheetData>", 2_100),
        "outside its cells",
    ),
    "elements in a cell": ("xl/worksheets/sheet1.xml", repeated("<x/>", "</c></row></sheetData>", 2_100), "outside"),
    "text in a cell": ("xl/worksheets/sheet1.xml", repeated("x" * 99, "</c></row></sheetData>", 200), "characters"),
    "styles": ("xl/styles.xml", repeated("<x/>", "</styleSheet>", 3_000), "too many texts or styles"),
}


@pytest.mark.parametrize("name", WITHOUT_END)
def test_what_would_be_held_without_end(tmp_path, name):
    part, change, words = WITHOUT_END[name]
    limits = Limits(workbook_elements=2_000, merged_ranges=1_000, row_bytes=1_000)
    (bad,) = read(tmp_path / "f.xlsx", edited(book(TWO), change, part), limits)
    assert isinstance(bad, BadRow) and bad.reason == "bad-workbook"
    assert words in bad.detail


def test_formatted_rows_behind_the_last_value_are_not_read(tmp_path, monkeypatch):
    rows = "".join(f'<row r="{n}" s="1" customFormat="1"><c r="A{n}" s="0"/></row>' for n in range(4, 3000))
    data = edited(book(TWO), lambda text: text.replace("</sheetData>", rows + "</sheetData>"))
    seen = []
    monkeypatch.setattr("adapters.xlsx_files._value", lambda cell, _: seen.append(cell) or cell.value)
    assert brief(read(tmp_path / "f.xlsx", data)) == [[1, 2], [3, 4]]
    assert len(seen) == 6


@pytest.mark.parametrize("name", GOOD_AND_BAD)
def test_bad_input(tmp_path, name):
    data, expected = GOOD_AND_BAD[name]
    assert brief(read(tmp_path / "f.xlsx", data)) == expected


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path):
    bomb = edited(book(TWO), lambda text: text + " " * 30_000_000)
    assert len(bomb) < 100_000
    (bad,) = read(tmp_path / "f.xlsx", bomb, Limits(workbook_bytes=20_000_000))
    assert isinstance(bad, BadRow)
    assert "unpacks to more than" in bad.detail
    (bad,) = read(tmp_path / "f.xlsx", book(TWO), Limits(workbook_texts_bytes=100))
    assert isinstance(bad, BadRow) and "texts" in bad.detail
    (bad,) = read(tmp_path / "f.xlsx", book(TWO), Limits(workbook_parts=3))
    assert isinstance(bad, BadRow) and "parts" in bad.detail


def test_cached_formulas_are_taken_where_the_mapping_says_so(tmp_path):
    data = edited(
        book(table(["a", "b"], ["=1+1", 2])),
        lambda text: text.replace("<v></v>", "<v>2</v>").replace("<v/>", "<v>2</v>").replace("<v />", "<v>2</v>"),
    )
    assert brief(read(tmp_path / "f.xlsx", data, formulas="cached")) == [[2, 2]]


def test_sheets_and_header_rows(tmp_path):
    def fill(sheet: Any) -> None:
        sheet.append(["a title"])
        sheet.merge_cells("A1:B1")
        sheet.append(["a", "b"])
        sheet.append([1, 2])

    assert brief(read(tmp_path / "f.xlsx", book(fill), sheet="S", header_row=2)) == [[1, 2]]
    (bad,) = read(tmp_path / "f.xlsx", book(fill), sheet="s")
    assert isinstance(bad, BadRow)
    assert bad.reason == "bad-workbook"
    assert "no sheet" in bad.detail
