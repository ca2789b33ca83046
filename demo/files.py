"""Writing rows as the files that department systems export. A row that is bytes already is written as it stands."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
import zipfile
from collections.abc import Sequence
from contextlib import closing
from datetime import date
from typing import Any
from xml.sax.saxutils import escape

Row = dict[str, Any]

_EXCEL_EPOCH = date(1899, 12, 30)


def write_csv(rows: Sequence[Row | bytes], encoding: str) -> bytes:
    """RFC 4180 with the first row's names as header; `utf-8-sig` puts a byte order mark in front."""
    columns = list(next(row for row in rows if isinstance(row, dict)))
    out = io.BytesIO()
    if encoding == "utf-8-sig":
        out.write("\ufeff".encode())
        encoding = "utf-8"
    for row in [dict(zip(columns, columns, strict=True)), *rows]:
        out.write(row + b"\r\n" if isinstance(row, bytes) else _csv_line(list(row.values())).encode(encoding))
    return out.getvalue()


def _csv_line(values: list[str]) -> str:
    line = io.StringIO()
    csv.writer(line).writerow(values)
    return line.getvalue()


def json_text(row: Row) -> str:
    """A row as JSON without line breaks."""
    return json.dumps(row, ensure_ascii=False, separators=(",", ":"))


def json_line(row: Row) -> bytes:
    """`json_text` in UTF-8, without the line end."""
    return json_text(row).encode()


def write_jsonl(rows: Sequence[Row | bytes]) -> bytes:
    """One JSON object a line, UTF-8."""
    return b"".join((row if isinstance(row, bytes) else json_line(row)) + b"\n" for row in rows)


def write_sqlite(rows: Sequence[Row | bytes], name: str) -> bytes:
    """A database with one table `name`: a growing integer `id`, every other column text."""
    table = [row for row in rows if isinstance(row, dict)]
    # the order of the numbers is the order of the rows, as in a table that only grows
    table = [row | {"id": place} for place, row in enumerate(table, 1)]
    columns = list(table[0])
    with closing(sqlite3.connect(":memory:")) as database:
        types = ", ".join(f"{column} TEXT" for column in columns[1:])
        database.execute(f"CREATE TABLE {name} (id INTEGER PRIMARY KEY, {types})")
        marks = ", ".join(f":{column}" for column in columns)
        database.executemany(f"INSERT INTO {name} VALUES ({marks})", table)  # noqa: S608 - our own column names
        database.commit()
        return bytes(database.serialize())


def write_xlsx(rows: Sequence[Row | bytes], title: str) -> bytes:
    """A workbook with a title above the header, as offices keep them; text inline, days as numbers with a style.

    Written by hand because a library stamps the time of writing into it.
    """
    table = [row for row in rows if isinstance(row, dict)]
    lines: list[list[Any]] = [[title], list(table[0]), *[list(row.values()) for row in table]]
    body = "".join(_xlsx_row(number, cells) for number, cells in enumerate(lines, 1))
    sheet = f'<worksheet xmlns="{_SPREADSHEET}"><sheetData>{body}</sheetData></worksheet>'
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, text in {**_WORKBOOK, "xl/worksheets/sheet1.xml": sheet}.items():
            member = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            member.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(member, f'<?xml version="1.0" encoding="UTF-8" standalone="yes"?>{text}')
    return out.getvalue()


def _xlsx_row(number: int, cells: Sequence[Any]) -> str:
    inner = "".join(_xlsx_cell(f"{chr(ord('A') + place)}{number}", cell) for place, cell in enumerate(cells))
    return f'<row r="{number}">{inner}</row>'


def _xlsx_cell(reference: str, value: Any) -> str:
    if value is None or value == "":
        return ""
    if isinstance(value, date):
        return f'<c r="{reference}" s="1"><v>{(value - _EXCEL_EPOCH).days}</v></c>'
    if isinstance(value, int):
        return f'<c r="{reference}"><v>{value}</v></c>'
    return f'<c r="{reference}" t="inlineStr"><is><t>{escape(value)}</t></is></c>'


_SPREADSHEET = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_CONTENT = "application/vnd.openxmlformats-officedocument.spreadsheetml"
_WORKBOOK = {
    "[Content_Types].xml": f'<Types xmlns="{_PACKAGE}/content-types">'
    '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    f'<Override PartName="/xl/workbook.xml" ContentType="{_CONTENT}.sheet.main+xml"/>'
    f'<Override PartName="/xl/styles.xml" ContentType="{_CONTENT}.styles+xml"/>'
    f'<Override PartName="/xl/worksheets/sheet1.xml" ContentType="{_CONTENT}.worksheet+xml"/></Types>',
    "_rels/.rels": f'<Relationships xmlns="{_PACKAGE}/relationships">'
    f'<Relationship Id="rId1" Type="{_OFFICE}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
    "xl/workbook.xml": f'<workbook xmlns="{_SPREADSHEET}" xmlns:r="{_OFFICE}">'
    '<sheets><sheet name="检查台账" sheetId="1" r:id="rId1"/></sheets></workbook>',
    "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{_PACKAGE}/relationships">'
    f'<Relationship Id="rId1" Type="{_OFFICE}/worksheet" Target="worksheets/sheet1.xml"/>'
    f'<Relationship Id="rId2" Type="{_OFFICE}/styles" Target="styles.xml"/></Relationships>',
    "xl/styles.xml": f'<styleSheet xmlns="{_SPREADSHEET}"><fonts count="1"><font/></fonts>'
    '<fills count="1"><fill><patternFill patternType="none"/></fill></fills><borders count="1"><border/></borders>'
    '<cellStyleXfs count="1"><xf/></cellStyleXfs>'
    '<cellXfs count="2"><xf/><xf numFmtId="14" applyNumberFormat="1"/></cellXfs>'
    '<cellStyles count="1"><cellStyle name="Normal" xfId="0" builtinId="0"/></cellStyles></styleSheet>',
}
