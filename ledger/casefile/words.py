"""The department's own words about items: the numbered evidence list as a court asks for it, from CSV or JSON.

CSV   a header with `record_id` and any of name, purpose, source, date, page; UTF-8, with or without a BOM
JSON  [{"record_id": …, "name": …, …}, …]
"""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass
from typing import Any

import orjson

from ledger.errors import Malformed
from ledger.formats.casefile import MAX_TEXT_CHARS
from ledger.formats.texts import is_blank

MAX_LIST_BYTES = 16 << 20

_WHAT = "evidence list"
_MEMBERS = ("name", "purpose", "source", "date", "page")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_DATE = re.compile(r"(?:19|20)[0-9]{2}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])")


@dataclass(frozen=True, slots=True)
class Words:
    """What the department says of one item; None: nothing. `date` is YYYY-MM-DD."""

    name: str | None = None
    purpose: str | None = None
    source: str | None = None
    date: str | None = None
    page: str | None = None


def parse_list(data: bytes) -> dict[str, Words]:
    """Words by record id. Raises Malformed naming the row: another form, unknown members, a record twice, a text that
    is longer than a line may be or has control characters, a date that is none."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Malformed(_WHAT, f"is not UTF-8 at byte {error.start}; save it as UTF-8") from error
    rows = _json_rows(text) if text.lstrip().startswith("[") else _csv_rows(text)
    found: dict[str, Words] = {}
    for number, row in enumerate(rows, 1):
        record_id = row.pop("record_id", None)
        if not isinstance(record_id, str) or not record_id:
            raise Malformed(_WHAT, f"row {number} names no record_id")
        if record_id in found:
            raise Malformed(_WHAT, f"row {number} names record {record_id[:64]} a second time")
        found[record_id] = Words(**{name: _value(row[name], name, number) for name in _MEMBERS if name in row})
    return found


def is_line(text: str) -> bool:
    """Whether case.json takes this as a text: a line of 1 to 2,000 characters."""
    return 0 < len(text) <= MAX_TEXT_CHARS and not _CONTROL.search(text)


def is_date(text: str) -> bool:
    """Whether case.json takes this as a date: YYYY-MM-DD."""
    return _DATE.fullmatch(text) is not None


def _json_rows(text: str) -> list[dict[str, Any]]:
    try:
        rows = orjson.loads(text)  # the standard library's follows any depth, until the process dies of it
    except ValueError as error:
        raise Malformed(_WHAT, "is not JSON") from error
    if not all(isinstance(row, dict) and row.keys() <= {"record_id", *_MEMBERS} for row in rows):
        raise Malformed(_WHAT, f"is a list of objects with record_id and any of {', '.join(_MEMBERS)}")
    return list(rows)


def _csv_rows(text: str) -> list[dict[str, Any]]:
    try:
        reader = csv.DictReader(io.StringIO(text), strict=True)
        rows = list(reader)
    except csv.Error as error:
        raise Malformed(_WHAT, f"is not CSV: {error}") from error
    names = reader.fieldnames or []
    if "record_id" not in names or not set(names) <= {"record_id", *_MEMBERS} or len(set(names)) < len(names):
        raise Malformed(_WHAT, f"its header must be record_id and any of {', '.join(_MEMBERS)}, each once")
    for number, row in enumerate(rows, 1):
        if None in row or None in row.values():
            raise Malformed(_WHAT, f"row {number} has not as many values as the header")
    return rows


def _value(value: Any, name: str, number: int) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str) or not is_line(value):
        raise Malformed(_WHAT, f"{name} of row {number} must be one line of at most {MAX_TEXT_CHARS:,} characters")
    if is_blank(value):
        raise Malformed(_WHAT, f"{name} of row {number} holds nothing that anybody would see: leave it empty")
    if name == "date" and not is_date(value):
        raise Malformed(_WHAT, f"date of row {number} must be written YYYY-MM-DD")
    return value
