"""The JSON Lines reader against lines that are not what they should be."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from adapters.jsonl_files import JsonlOptions
from adapters.sections import Section
from adapters.source import BadRow, Limits, Opening, Row

GOOD = b'{"a": "1"}\n'

BAD: dict[str, tuple[bytes, str]] = {
    "not JSON": (b"{a: 1}", "bad-json"),
    "half an object": (b'{"a": "1"', "bad-json"),
    "two objects": (b'{"a": 1} {"a": 2}', "bad-json"),
    "an array": (b'["a"]', "bad-json"),
    "a bare text": (b'"a"', "bad-json"),
    "null": (b"null", "bad-json"),
    "a member twice": (b'{"a": "1", "a": "2"}', "duplicate-column"),
    "a member twice inside": (b'{"x": {"a": 1, "a": 2}}', "duplicate-column"),
    "a column that two spellings name": (b'{"x.a": 1, "x": {"a": 2}}', "duplicate-column"),
    "NaN": (b'{"a": NaN}', "not-a-number"),
    "infinity": (b'{"a": -Infinity}', "not-a-number"),
    "a number of a thousand digits": (b'{"a": ' + b"9" * 1000 + b"}", "bad-json"),
    "an exponent that would fill the memory": (b'{"a": 1e999999999}', "bad-json"),
    "not UTF-8": (b'{"a": "\xff"}', "encoding"),
    "a lone surrogate": (b'{"a": "\\ud800"}', "encoding"),
    "nested too deep": (b'{"a":' * 9 + b"1" + b"}" * 9, "bad-json"),
    "nested to the parser's limit": (b'{"a":' * 300 + b"1" + b"}" * 300, "bad-json"),
    "arrays nested beyond the parser's limit": (b'{"a":' + b"[" * 900 + b"]" * 900 + b"}", "bad-json"),
    "too many members": (b"{" + b",".join(b'"m%d": 1' % n for n in range(30)) + b"}", "bad-json"),
    "too many members inside": (b'{"x": {' + b",".join(b'"m%d": 1' % n for n in range(30)) + b"}}", "bad-json"),
    "a line that is too long": (b'{"a": "' + b"x" * 3000 + b'"}', "too-long"),
    "a NUL byte": (b'{"a": "\x00"}', "bad-json"),
}


def read(path: Path, data: bytes) -> list[Row | BadRow]:
    path.write_bytes(data)
    parsed = JsonlOptions.parse(Section("m.toml", "source", {"path": "f.jsonl"}))
    opening = Opening(path.parent, frozenset(), override=path, limits=Limits(row_bytes=2000, columns=20))
    return [row for page in parsed.open(opening).pages({}, 3) for row in page.rows]


@pytest.mark.parametrize("name", BAD)
def test_a_bad_line_is_set_aside(tmp_path, name):
    line, reason = BAD[name]
    first, bad, last = read(tmp_path / "f.jsonl", GOOD + line + b"\n" + GOOD)
    assert isinstance(bad, BadRow)
    assert (bad.position, bad.reason) == ("f.jsonl:2", reason)
    assert len(bad.raw) <= 4096
    assert (first, last) == (Row("f.jsonl:1", {"a": "1"}), Row("f.jsonl:3", {"a": "1"}))


ROWS: dict[str, tuple[bytes, dict[str, Any]]] = {
    "nested objects become columns with dots": (b'{"a": {"b": {"c": 1}}, "d": 2}', {"d": 2, "a.b.c": 1}),
    "a fraction keeps its digits": (b'{"a": 41.9430}', {"a": Decimal("41.9430")}),
    "an exponent": (b'{"a": 1.5e3}', {"a": Decimal("1.5e3")}),
    "a big integer": (b'{"a": 9007199254740993}', {"a": 9007199254740993}),
    "a list stays a list": (b'{"a": [1, 2]}', {"a": [1, 2]}),
    "null, true": (b'{"a": null, "b": true}', {"a": None, "b": True}),
    "an escaped pair": (b'{"a": "\\ud83d\\ude00"}', {"a": "\U0001f600"}),
    "a byte order mark": (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
    "CR LF": (b'{"a": 1}\r', {"a": 1}),
}


@pytest.mark.parametrize("name", ROWS)
def test_rows(tmp_path, name):
    line, values = ROWS[name]
    assert read(tmp_path / "f.jsonl", line + b"\n\n") == [Row("f.jsonl:1", values)]


def test_utf_16_with_its_mark(tmp_path):
    rows = read(tmp_path / "f.jsonl", '{"a": 1}\n{"a": "店"}\n'.encode("utf-16"))
    assert [row.values for row in rows if isinstance(row, Row)] == [{"a": 1}, {"a": "店"}]


NO_LINES: dict[str, tuple[bytes, str]] = {
    "two objects on a line": (b'{"a": 1}{"a": 2}\n', "behind its object; write each object on a line of its own"),
    "a list of objects": (b'[{"a": 1}, {"a": 2}]\n', "not a JSON object; write each object on a line of its own"),
    "an object over several lines": (b'{\n"a": 1\n}\n', "a piece of a larger text; write each object"),
}


@pytest.mark.parametrize("name", NO_LINES)
def test_json_that_is_not_one_object_a_line_says_what_to_do(tmp_path, name):
    data, words = NO_LINES[name]
    found = read(tmp_path / "f.jsonl", data)
    assert all(isinstance(row, BadRow) and row.reason == "bad-json" for row in found)
    assert words in getattr(found[0], "detail", "")


def test_a_mark_where_a_second_file_begins(tmp_path):
    line = b'\xef\xbb\xbf{"a": 1}\n'
    rows = read(tmp_path / "f.jsonl", line + b"\r\n" + line)
    assert [row.values["a"] for row in rows if isinstance(row, Row)] == [1, 1]
