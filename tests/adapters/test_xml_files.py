"""The XML reader: entities and document types are refused, bounds hold, and one bad row costs that row."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters.sections import Section
from adapters.source import BadRow, Limits, Opening, Page, Row
from adapters.xml_files import XmlOptions
from ledger.errors import Malformed

SMALL = Limits(row_bytes=2000, field_chars=500, columns=20, file_bytes=1 << 20)
BILLION_LAUGHS = (
    b'<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY lol "lol">'
    + b"".join(
        b'<!ENTITY lol%d "%s">' % (n, b"&lol%s;" % (str(n - 1).encode() if n > 1 else b"") * 10) for n in range(1, 10)
    )
    + b"]><e><r><a>&lol9;</a></r></e>"
)


def options(**extra: Any) -> XmlOptions:
    return XmlOptions.parse(Section("m.toml", "source", {"path": "f.xml", "row": "r", **extra}))


def pages(path: Path, marks: dict[str, str] | None = None, size: int = 100, **extra: Any) -> list[Page]:
    opening = Opening(path.parent, frozenset({"a"}), override=path, limits=SMALL)
    return list(options(**extra).open(opening).pages(marks or {}, size))


def read(path: Path, data: bytes, **extra: Any) -> list[Row | BadRow]:
    path.write_bytes(data)
    return [row for page in pages(path, **extra) for row in page.rows]


def brief(rows: list[Row | BadRow]) -> list[Any]:
    return [
        f"{row.position.rpartition(':')[2]}:{row.reason}" if isinstance(row, BadRow) else dict(row.values)
        for row in rows
    ]


def test_elements_that_are_wanted_as_entries(tmp_path):
    """The parties of a case came as lists beside each other, and nobody said which name has which number."""
    data = (
        "<e><r><p><q t='1'><n>A</n><i>7</i></q><q t='2'><n>B</n><o><s>S</s></o></q></p><x>1</x><y>z</y></r>"
        "<r><p><q><n>C</n></q></p></r><r><x n='2'>w</x></r></e>"
    )
    (tmp_path / "f.xml").write_text(data)
    each = frozenset({"p.q", "x"})
    opening = Opening(tmp_path, frozenset(), each=each, override=tmp_path / "f.xml", limits=SMALL)
    (page,) = options().open(opening).pages({}, 10)
    assert brief(list(page.rows)) == [
        {"p.q": [{"@t": "1", "n": "A", "i": "7"}, {"@t": "2", "n": "B", "o.s": "S"}], "x": "1", "y": "z"},
        {"p.q": [{"n": "C"}]},
        {"x": [{"@n": "2", "#text": "w"}]},
    ]


GOOD: dict[str, tuple[bytes, list[Any]]] = {
    "attributes and inner elements": (
        b'<e><r no="7"><a u="m">1</a><p><s>S</s><c>C</c></p></r></e>',
        [{"@no": "7", "a.@u": "m", "a": "1", "p.s": "S", "p.c": "C"}],
    ),
    "an element that repeats": (b"<e><r><a>1</a><a>2</a><a/></r></e>", [{"a": ["1", "2", ""]}]),
    "an empty element and one that is nil": (
        b'<e xmlns:x="http://www.w3.org/2001/XMLSchema-instance"><r><a/><b x:nil="true"/></r></e>',
        [{"a": "", "b": None}],
    ),
    "namespaces": (
        b'<n:e xmlns:n="urn:1" xmlns="urn:2"><n:r><a>1</a></n:r><r><n:a>2</n:a></r></n:e>',
        [{"a": "1"}, {"a": "2"}],
    ),
    "CDATA, comments, references": (b"<e><r><a>x<![CDATA[<&]]>y<!-- c -->&lt;&#22806;</a></r></e>", [{"a": "x<&y<外"}]),
    "text of the row itself": (b"<e><r>1</r><r a='2'/></e>", [{"#text": "1"}, {"@a": "2"}]),
    "text beside inner elements": (b"<e><r><a>x<b>1</b></a></r></e>", [{"a.b": "1", "a": "x"}]),
    "a row inside a row belongs to it": (b"<e><r><r><a>1</a></r></r></e>", [{"r.a": "1"}]),
    "GB18030": ('<?xml version="1.0" encoding="GB18030"?><e><r><a>外滩</a></r></e>'.encode("gb18030"), [{"a": "外滩"}]),
    "GB2312 that is more than that": (
        '<?xml version="1.0" encoding="gb2312"?><e><r><a>朱镕㐂——</a></r></e>'.encode("gb18030"),
        [{"a": "朱镕㐂——"}],
    ),
    "UTF-16 with its mark": (
        '<?xml version="1.0" encoding="UTF-16"?><e><r><a>外</a></r></e>'.encode("utf-16"),
        [{"a": "外"}],
    ),
    "UTF-16 without": ("<e><r><a>外</a></r></e>".encode("utf-16-be"), [{"a": "外"}]),
    "a UTF-8 mark": (b"\xef\xbb\xbf<e><r><a>1</a></r></e>", [{"a": "1"}]),
    "no rows": (b"<e/>", []),
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_rows(tmp_path, name):
    data, expected = GOOD[name]
    assert brief(read(tmp_path / "f.xml", data)) == expected


def test_empty_elements_without_end_are_one_bad_row(tmp_path):
    data = b"<e><r>" + b"<a/>" * 3_000 + b"</r><r><a>1</a></r></e>"
    assert brief(read(tmp_path / "f.xml", data)) == ["1:too-long", {"a": "1"}]


ROW = b"<r><a>1</a></r>"
BAD: dict[str, tuple[bytes, list[str]]] = {
    "billion laughs": (BILLION_LAUGHS, ["1:bad-xml"]),
    "a document type, even an empty one": (b"<!DOCTYPE e><e>" + ROW + b"</e>", ["1:bad-xml"]),
    "an external entity": (
        b'<!DOCTYPE e [<!ENTITY x SYSTEM "file:///etc/hostname">]><e><r><a>&x;</a></r></e>',
        ["1:bad-xml"],
    ),
    "an entity that nobody defines": (b"<e>" + ROW + b"<r><a>&x;</a></r></e>", ["ok", "2:bad-xml"]),
    "cut off between rows": (b"<e>" + ROW, ["ok", "2:bad-xml"]),
    "cut off inside a row": (b"<e>" + ROW + b"<r><a>", ["ok", "2:bad-xml"]),
    "cut off inside a tag": (b"<e>" + ROW + b"<r><a", ["ok", "2:bad-xml"]),
    "an empty file": (b"", ["1:bad-xml"]),
    "no XML": (b"a,b\n1,2\n", ["1:bad-xml"]),
    "a tag that is not closed": (b"<e>" + ROW + b"<r><a></r></e>", ["ok", "2:bad-xml"]),
    "something behind the end": (b"<e>" + ROW + b"</e><e/>", ["ok", "2:bad-xml"]),
    "an attribute twice": (b"<e>" + ROW + b"<r a='1' a='2'/></e>", ["ok", "2:bad-xml"]),
    "a prefix that nobody defines": (b"<e>" + ROW + b"<x:r/></e>", ["ok", "2:bad-xml"]),
    "a control character": (b"<e>" + ROW + b"<r><a>\x00</a></r></e>", ["ok", "2:bad-xml"]),
    "not UTF-8": (b"<e>" + ROW + b"<r><a>\xff</a></r></e>", ["ok", "2:encoding"]),
    "not GB18030": (
        b'<?xml version="1.0" encoding="gb18030"?><e>' + ROW + b"<r><a>\xff\xff</a></r></e>",
        ["ok", "2:encoding"],
    ),
    "an encoding that is none": (b'<?xml version="1.0" encoding="rot13"?><e/>', ["1:bad-xml"]),
    "nested too deep outside rows": (b"<d>" * 70 + ROW + b"</d>" * 70, ["1:bad-xml"]),
    "a row nested too deep": (b"<e><r>" + b"<d>" * 9 + b"</d>" * 9 + b"</r>" + ROW + b"</e>", ["1:bad-xml", "ok"]),
    "a row that is too large": (b"<e><r>" + b"<a>12345</a>" * 500 + b"</r>" + ROW + b"</e>", ["1:too-long", "ok"]),
    "a field that is too large": (b"<e><r><a>" + b"x" * 501 + b"</a></r>" + ROW + b"</e>", ["1:too-long", "ok"]),
    "an attribute that is too large": (b"<e><r a='" + b"x" * 501 + b"'/>" + ROW + b"</e>", ["1:too-long", "ok"]),
    "a row with too many columns": (
        b"<e><r>" + b"".join(b"<c%d/>" % n for n in range(21)) + b"</r>" + ROW + b"</e>",
        ["1:bad-xml", "ok"],
    ),
    "a tag without end": (b"<e>" + ROW + b"<r a='" + b"x" * 900_000, ["ok", "2:bad-xml"]),
    "more than a file may hold": (b"<e>" + ROW + b" " * 2_000_000 + ROW + b"</e>", ["ok", "2:bad-xml"]),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_with_its_reason_and_place(tmp_path, name):
    data, expected = BAD[name]
    found = [item if isinstance(item, str) else "ok" for item in brief(read(tmp_path / "f.xml", data))]
    assert found == expected


def test_the_reason_for_refusing_an_entity_bomb_is_said(tmp_path):
    (bad,) = read(tmp_path / "f.xml", BILLION_LAUGHS)
    assert isinstance(bad, BadRow) and "document type declaration" in bad.detail


def test_a_compressed_bomb_and_a_compressed_file_that_is_cut_off(tmp_path):
    whole = gzip.compress(b"<e>" + ROW * 3 + b" " * 50_000_000 + b"</e>")
    assert brief(read(tmp_path / "f.xml.gz", whole))[-1] == "4:bad-xml"
    cut = gzip.compress(b"<e>" + ROW * 3000 + b"</e>")[:-6]
    assert brief(read(tmp_path / "f.xml.gz", cut))[-1] == "3001:bad-xml"


def test_rows_are_named_by_their_place_where_that_matters(tmp_path):
    data = b"<e><old><r><a>1</a></r></old><new><r><a>2</a></r></new></e>"
    assert brief(read(tmp_path / "f.xml", data, row="new/r")) == [{"a": "2"}]
    assert brief(read(tmp_path / "f.xml", data, row="e/old/r")) == [{"a": "1"}]
    for wrong in ("", "a b", "/r", "a//b", "@id"):
        with pytest.raises(Malformed, match=r"source\.row"):
            options(row=wrong)


def test_every_mark_goes_on_where_it_was_and_notices_a_change(tmp_path):
    path = tmp_path / "f.xml"
    path.write_bytes(b"<e>" + b"".join(b"<r><a>%d</a></r>" % n for n in range(7)) + b"</e>")
    whole = pages(path, size=2)
    for number, page in enumerate(whole):
        rest = pages(path, {"f.xml": page.mark or ""}, size=2)
        assert [row for p in rest for row in p.rows] == [row for p in whole[number + 1 :] for row in p.rows]
    path.write_bytes(path.read_bytes().replace(b"<a>1<", b"<a>one<"))
    assert pages(path, {"f.xml": whole[1].mark or ""})[0].restarted


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300), st.integers(1, 3))
def test_no_bytes_whatever_break_the_reader(tmp_path, data, size):
    path = tmp_path / "f.xml"
    path.write_bytes(b"<e>" + ROW + data)
    found = pages(path, size=size)
    assert found[0].rows[0] == Row("f.xml:1", {"a": "1"})
    assert isinstance(found[-1].rows[-1], BadRow) or b"</e>" in data
