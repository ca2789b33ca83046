"""The CSV reader: one bad line costs that line, and no bytes whatever make it lose, double or reorder a row."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import lzma
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from adapters.csv_files import CsvOptions
from adapters.sections import Section
from adapters.source import BadRow, Limits, Opening, Page, Row
from ledger.errors import CouldNotRun, Malformed

SMALL = Limits(row_bytes=2000, field_chars=500, columns=20, quoted_lines=20)


def options(**extra: Any) -> CsvOptions:
    return CsvOptions.parse(Section("m.toml", "source", {"path": "f.csv", **extra}))


def pages(path: Path, marks: dict[str, str] | None = None, size: int = 1000, **extra: Any) -> list[Page]:
    opening = Opening(path.parent, frozenset({"a"}), override=path, limits=extra.pop("limits", SMALL))
    return list(options(**extra).open(opening).pages(marks or {}, size))


def read(path: Path, data: bytes, **extra: Any) -> list[Row | BadRow]:
    path.write_bytes(data)
    return [row for page in pages(path, **extra) for row in page.rows]


def brief(rows: list[Row | BadRow]) -> list[Any]:
    """A row as its values, a bad row as `line:reason`."""
    return [
        f"{row.position.rpartition(':')[2]}:{row.reason}" if isinstance(row, BadRow) else list(row.values.values())
        for row in rows
    ]


TABLE: dict[str, tuple[bytes, list[Any]]] = {
    "an empty file": (b"", ["1:bad-header"]),
    "only line ends": (b"\n\r\n\n", ["1:bad-header"]),
    "a header and nothing else": (b"a,b,c\n", []),
    "no line end after the last row": (b"a,b,c\n1,2,3", [["1", "2", "3"]]),
    "CR LF": (b"a,b,c\r\n1,2,3\r\n", [["1", "2", "3"]]),
    "a byte order mark": (b"\xef\xbb\xbfa,b,c\n1,2,3\n", [["1", "2", "3"]]),
    "a byte order mark before a quoted header": (b'\xef\xbb\xbf"a",b,c\n1,2,3\n', [["1", "2", "3"]]),
    "UTF-16": ("a,b,c\n1,店,3\n".encode("utf-16"), [["1", "店", "3"]]),
    "UTF-16, the other way round": (b"\xfe\xff" + "a,b,c\n1,店,3\n".encode("utf-16-be"), [["1", "店", "3"]]),
    "UTF-16 with a line break in quotes": ('a,b,c\r\n1,"x\ny",3\r\n'.encode("utf-16"), [["1", "x\ny", "3"]]),
    "UTF-16 with a lone surrogate": (
        "a,b,c\n1,\ud800,3\n4,𠮷,6\n".encode("utf-16", "surrogatepass"),
        ["2:encoding", ["4", "𠮷", "6"]],
    ),
    "UTF-16, half a character at the end": ("a,b,c\n1,2,3\n".encode("utf-16") + b"4", [["1", "2", "3"]]),
    "UTF-16 without a mark": ("a,b,c\n1,2,3\n".encode("utf-16-le"), ["1:missing-column"]),
    "a declared delimiter": (b"sep=;\r\na;b;c\r\n1;2,0;3\r\n", [["1", "2,0", "3"]]),
    "a declared delimiter behind a mark": (b'\xef\xbb\xbf"sep=;"\na;b;c\n1;"x;y";3\n', [["1", "x;y", "3"]]),
    "a declared tab in UTF-16": ("sep=\t\na\tb\tc\n1\t2\t3\n".encode("utf-16"), [["1", "2", "3"]]),
    "empty lines between rows": (b"a,b,c\n\n1,2,3\n\n\n4,5,6\n", [["1", "2", "3"], ["4", "5", "6"]]),
    "a row of commas is a row": (b"a,b,c\n,,\n", [["", "", ""]]),
    "a byte that is not UTF-8": (b"a,b,c\n1,\xff,3\n4,5,6\n", ["2:encoding", ["4", "5", "6"]]),
    "half a character at the end of a line": (b"a,b,c\n1,2,\xe5\xba\n4,5,6\n", ["2:encoding", ["4", "5", "6"]]),
    "not UTF-8 inside quotes": (b'a,b,c\n1,"\xff",3\n4,5,6\n', ["2:encoding", ["4", "5", "6"]]),
    "too few columns": (b"a,b,c\n1,2\n4,5,6\n", ["2:column-count", ["4", "5", "6"]]),
    "too many columns": (b"a,b,c\n1,2,3,4\n4,5,6\n", ["2:column-count", ["4", "5", "6"]]),
    "an unquoted comma in a name": (b'a,b,c\n"1",Miller, Inc.,3\n4,5,6\n', ["2:column-count", ["4", "5", "6"]]),
    "a NUL": (b"a,b,c\n1,\x00,3\n4,5,6\n", ["2:control-character", ["4", "5", "6"]]),
    "a lone carriage return": (b"a,b,c\n1,2\r,3\n4,5,6\n", ["2:control-character", ["4", "5", "6"]]),
    "a quoted comma": (b'a,b,c\n1,"x,y",3\n', [["1", "x,y", "3"]]),
    "a doubled quote": (b'a,b,c\n1,"say ""yes""",3\n', [["1", 'say "yes"', "3"]]),
    "an inch mark in the middle of a field": (b'a,b,c\n1,5" pipe,3\n4,5,6\n', [["1", '5" pipe', "3"], ["4", "5", "6"]]),
    "a line break inside quotes": (b'a,b,c\n1,"x\ny",3\n4,5,6\n', [["1", "x\ny", "3"], ["4", "5", "6"]]),
    "CR LF inside quotes": (b'a,b,c\r\n1,"x\r\ny",3\r\n', [["1", "x\r\ny", "3"]]),
    "a comma after a line break inside quotes": (b'a,b,c\n1,"x\ny, z",3\n', [["1", "x\ny, z", "3"]]),
    "a quote that is never closed": (
        b'a,b,c\n1,"oops,3\n4,5,6\n7,8,9\n',
        ["2:broken-quote", ["4", "5", "6"], ["7", "8", "9"]],
    ),
    "a quote that is never closed in the last row": (b'a,b,c\n4,5,6\n1,"oops,3', [["4", "5", "6"], "3:broken-quote"]),
    "a quote that another row's quote seems to close": (
        b'a,b,c\n1,"oops,3\n4,5,6\n7,"x",9\n1,2,3\n',
        ["2:broken-quote", ["4", "5", "6"], ["7", "x", "9"], ["1", "2", "3"]],
    ),
    "two broken rows, one after the other": (
        b'a,b,c\n1,"oops,3\n4,"oops,6\n7,8,9\n',
        ["2:broken-quote", "3:broken-quote", ["7", "8", "9"]],
    ),
    "two broken rows far apart swallow nothing between": (
        b'a,b,c\n1,2,"oops\n4,5,6\n7,8,oops"\n1,2,3\n',
        ["2:broken-quote", ["4", "5", "6"], ["7", "8", 'oops"'], ["1", "2", "3"]],
    ),
    "text behind a closing quote": (b'a,b,c\n1,"x"y,3\n4,5,6\n', ["2:broken-quote", ["4", "5", "6"]]),
    "a quote open longer than any field may be": (
        b'a,b,c\n1,"' + b"x\n" * 30 + b'",3\n4,5,6\n',
        ["2:broken-quote", *[f"{n}:column-count" for n in range(3, 32)], "32:broken-quote", ["4", "5", "6"]],
    ),
    "a field that is too long": (b"a,b,c\n1," + b"x" * 501 + b",3\n4,5,6\n", ["2:too-long", ["4", "5", "6"]]),
    "a line that is too long": (b"a,b,c\n1," + b"x" * 9000 + b",3\n4,5,6\n", ["2:too-long", ["4", "5", "6"]]),
    "a line that is too long and the last": (b"a,b,c\n4,5,6\n" + b"x" * 9000, [["4", "5", "6"], "3:too-long"]),
    "a needed column is missing": (b"b,c\n1,2\n", ["1:missing-column"]),
    "a needed column twice": (b"a,b,a\n1,2,3\n", ["1:duplicate-column"]),
    "another column twice": (b"a,b,b\n1,2,3\n", [["1", "3"]]),
    "a header without a closing quote": (b'a,"b,c\n1,2,3\n', ["1:bad-header"]),
    "a header with white space": (b" a , b,c\n1,2,3\n", [["1", "2", "3"]]),
    "more columns than anybody needs": (b"a" + b",x" * 30 + b"\n", ["1:bad-header"]),
}


@pytest.mark.parametrize("name", TABLE)
def test_bad_input(tmp_path, name):
    data, expected = TABLE[name]
    assert brief(read(tmp_path / "f.csv", data)) == expected


def test_what_is_set_aside_is_shown_with_its_sentence(tmp_path):
    (bad,) = read(tmp_path / "f.csv", b"a,b,c\n1,2\n")
    assert bad == BadRow("f.csv:2", "1,2", "column-count", "the line has 2 columns, the header has 3")


@pytest.mark.parametrize("encoding", ["gb18030", "gbk", "big5", "shift_jis", "windows-1252", "utf-8"])
def test_encodings(tmp_path, encoding):
    text = "a,b,c\n1,\u00e9,3\n" if encoding == "windows-1252" else "a,b,c\n1,\u8a3c,3\n"
    if encoding == "gb18030":
        text = "a,b,c\n1,\U00020000,3\n"  # four bytes, two of them ASCII digits
    rows = read(tmp_path / "f.csv", text.encode(encoding), encoding=encoding)
    assert brief(rows) == [["1", text.split(",")[3], "3"]]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-7", "utf-32", "cp500", "no-such-thing", "rot13", "base64"])
def test_encodings_whose_lines_cannot_be_cut_are_refused(encoding):
    with pytest.raises(Malformed, match="encoding"):
        options(encoding=encoding)


def test_a_mark_says_the_encoding_whatever_the_mapping_says(tmp_path):
    """UTF-8 behind its mark was read as GB 18030 where the mapping said so, and other characters were sealed."""
    for encoding in ("utf-8-sig", "utf-16"):
        assert brief(read(tmp_path / "f.csv", "a,b\n1,店铺\n".encode(encoding), encoding="gb18030")) == [["1", "店铺"]]
    assert brief(read(tmp_path / "f.csv", "\ufeffa,b\n1,店铺\n".encode("gb18030"))) == [["1", "店铺"]]
    (bad,) = read(tmp_path / "f.csv", b"a,b\n1,2\n", encoding="utf-16")
    assert isinstance(bad, BadRow) and (bad.reason, "no byte order mark" in bad.detail) == ("encoding", True)


@pytest.mark.parametrize("encoding", ["gb18030", "gbk", "GB2312"])
def test_characters_outside_gbk(tmp_path, encoding):
    data = "a,b\n1,张𠮷㐀\n2,镕\n".encode("gb18030")
    assert brief(read(tmp_path / "f.csv", data, encoding=encoding)) == [["1", "张𠮷㐀"], ["2", "镕"]]


def test_a_second_byte_that_is_the_delimiter(tmp_path):
    data = 'a|b|c\n1|"x\n亅亅亅|3\n'.encode("gbk")
    assert b"|" in "亅".encode("gbk")
    assert brief(read(tmp_path / "f.csv", data + b"2|y|3\n", encoding="gbk", delimiter="|"))[-1] == ["2", "y", "3"]


def test_utf_16_goes_on_where_it_stopped(tmp_path):
    path = tmp_path / "f.csv"
    path.write_bytes("a\tb\n1\t店\n2\t铺".encode("utf-16"))
    (page,) = pages(path, delimiter="\t")
    path.write_bytes("a\tb\n1\t店\n2\t铺子\n3\t𠮷\n".encode("utf-16"))
    (more,) = pages(path, {page.part: page.mark or ""}, delimiter="\t")
    assert (more.restarted, brief(list(more.rows))) == (False, [["2", "铺子"], ["3", "𠮷"]])


def test_another_delimiter_is_named(tmp_path):
    (bad,) = read(tmp_path / "f.csv", b"a\tb\n1\t2\n")
    assert isinstance(bad, BadRow) and 'delimiter = "\\t"' in bad.detail


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_delimiters(tmp_path, delimiter):
    data = f'a{delimiter}b\n1{delimiter}"x{delimiter}y"\n'.encode()
    assert brief(read(tmp_path / "f.csv", data, delimiter=delimiter)) == [["1", f"x{delimiter}y"]]


TITLED: dict[str, tuple[bytes, list[Any]]] = {
    "titles": (b"ledger,,\nof today\na,b,c\n1,2,3\n", [["1", "2", "3"]]),
    "a byte order mark before the title": (b"\xef\xbb\xbfledger\n\na,b,c\n1,2,3\n", [["1", "2", "3"]]),
    "titles with a broken quote and no UTF-8": (b'"ledger\n\xff\na,b,c\n1,2,3\n', [["1", "2", "3"]]),
    "an empty line before the header": (b"x\ny\n\na,b,c\n1,2,3\n", [["1", "2", "3"]]),
    "a title that is too long": (b"x" * 3000 + b"\ny\na,b,c\n1,2,3\n", [["1", "2", "3"]]),
    "titles and nothing else": (b"ledger\nof today", ["3:bad-header"]),
    "rows that are none": (
        b"x\ny\na,b,c\n,2,3\n1,2,3\n total ,,9\n,,\n2,total,4\n", [["1", "2", "3"], ["2", "total", "4"]]
    ),
    "a short line that is named": (b"x\ny\na,b,c\ntotal,9\n1,2,3\nby: Zhang, by: Li\n", [["1", "2", "3"]]),
    "a short line that is not named": (b"x\ny\na,b,c\n9,total\n,9\n", ["4:column-count", "5:column-count"]),
    "a long line, whatever it says": (b"x\ny\na,b,c\ntotal,2,3,4\n", ["4:column-count"]),
    "a broken line, whatever it says": (b'x\ny\na,b,c\ntotal,"2\n1,2,3\n', ["4:broken-quote", ["1", "2", "3"]]),
}  # fmt: skip


@pytest.mark.parametrize("name", TITLED)
def test_titles_above_the_header_and_lines_that_are_no_rows(tmp_path, name):
    data, expected = TITLED[name]
    assert brief(read(tmp_path / "f.csv", data, header_row=3, skip={"a": ["", "total", "by:*"]})) == expected


def test_two_stray_quotes_in_two_columns_swallow_nothing(tmp_path):
    lines = [f"{n},t{n}" for n in range(2, 18)]
    data = "\n".join(["a,b", '1,"x', *lines, '18,z"', "19,y", ""]).encode()
    found = brief(read(tmp_path / "f.csv", data))
    assert found == ["2:broken-quote", *[[str(n), f"t{n}"] for n in range(2, 18)], ["18", 'z"'], ["19", "y"]]
    data = b'a,b\n1,"x\ny, z\nu, v"\n2,w\n'
    assert brief(read(tmp_path / "g.csv", data)) == [["1", "x\ny, z\nu, v"], ["2", "w"]]


def test_rows_with_empty_quotes_are_not_swallowed(tmp_path):
    data = b'a,b,c\n1,"x,3\n4,"",6\n7,"",9\n8,y","z"\n'
    found = brief(read(tmp_path / "f.csv", data))
    assert found[0] == "2:broken-quote"
    assert found[1:3] == [["4", "", "6"], ["7", "", "9"]]


def test_a_mark_where_a_second_file_begins(tmp_path):
    mark = b"\xef\xbb\xbf"
    data = mark + b"a,b,c\n1,2,3\n" + mark + b"a,b,c\n" + mark + b'"4",5,6\n'
    assert brief(read(tmp_path / "f.csv", data, skip={"a": ["a"]})) == [["1", "2", "3"], ["4", "5", "6"]]


def test_what_is_set_aside_is_readable(tmp_path):
    data = "a,b,c\n单位,2\n\n".encode("gb18030") + b"\xff\xff,2,3\n"
    short, odd = read(tmp_path / "f.csv", data, encoding="gb18030")
    assert isinstance(short, BadRow) and short.raw == "单位,2"
    assert isinstance(odd, BadRow) and odd.raw == "\\xff\\xff,2,3"


def test_two_rows_of_header(tmp_path):
    data = "台账,,,\na,单位,,结论\n,名称,地址,\n1,店,路,合格\n".encode()
    (row,) = read(tmp_path / "f.csv", data, header_row=2, header_rows=2)
    assert row.values == {"a": "1", "单位.名称": "店", "单位.地址": "路", "结论": "合格"}
    assert row.position == "f.csv:4"


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        ('="0012"', "0012"),
        ('"=""0012"""', "0012"),
        ("'0012", "0012"),
        ("0012\t", "0012\t"),
        ("=1+1", "=1+1"),
        ("'", ""),
    ],
)
def test_texts_that_are_kept_from_a_spreadsheet_program(tmp_path, cell, text):
    data = f"a,b,c\n1,{cell},3\n".encode()
    assert brief(read(tmp_path / "f.csv", data, excel_text=True)) == [["1", text, "3"]]
    assert brief(read(tmp_path / "g.csv", data)) != [["1", "0012", "3"]]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"PK\x03\x04rest", 'kind = "xlsx"'),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1rest", "an old workbook"),
        (b"<html><table><tr><td>a</td></tr></table>", "an HTML page"),
        (b"<?xml version='1.0'?><a/>", 'kind = "xml"'),
    ],
)
def test_a_file_of_another_kind_is_named(tmp_path, data, words):
    (bad,) = read(tmp_path / "f.csv", data)
    assert bad.reason == "bad-header"
    assert words in bad.detail


def test_reading_goes_on_behind_lines_that_are_no_rows(tmp_path):
    path, more = tmp_path / "f.csv", {"header_row": 2, "skip": {"a": ["total"]}}
    path.write_bytes(b"title\na,b,c\n1,2,3\ntotal,,\n")
    (page,) = pages(path, **more)
    path.write_bytes(path.read_bytes() + b"4,5,6\ntotal,,\n")
    (after,) = pages(path, {"f.csv": str(page.mark)}, **more)
    assert not after.restarted and brief(list(after.rows)) == [["4", "5", "6"]]


def test_a_column_by_which_lines_are_passed_over_must_be_there(tmp_path):
    (bad,) = read(tmp_path / "f.csv", b"a,b,c\n1,2,3\n", skip={"d": [""]})
    assert isinstance(bad, BadRow) and bad.reason == "missing-column"


def test_refusals_say_what_to_set(tmp_path):
    (bad,) = read(tmp_path / "f.csv", "台账,,\na,b,c\n".encode())
    assert isinstance(bad, BadRow) and "where titles stand above, set header_row" in bad.detail
    (bad,) = read(tmp_path / "f.csv", "a,b,c\n台账,,\n".encode("gb18030"))
    assert isinstance(bad, BadRow) and 'try encoding = "gb18030"' in bad.detail


def test_a_file_without_a_header(tmp_path):
    assert brief(read(tmp_path / "f.csv", b"1,2\n3,4\n", columns=["a", "b"])) == [["1", "2"], ["3", "4"]]


@pytest.mark.parametrize(
    ("suffix", "compress"), [(".xz", lzma.compress), (".gz", gzip.compress), (".bz2", bz2.compress)]
)
def test_compressed_files(tmp_path, suffix, compress):
    plain = b"a,b\n" + b"".join(b"%d,x%d\n" % (n, n * 7919) for n in range(3000))
    path = tmp_path / f"f.csv{suffix}"
    assert len(read(path, compress(plain))) == 3000
    whole = compress(plain)
    path.write_bytes(whole[: len(whole) * 2 // 3])
    seen: list[Row | BadRow] = []
    source = options().open(Opening(tmp_path, frozenset("a"), override=path))
    marks: dict[str, str] = {}
    with pytest.raises(CouldNotRun, match="cut off or damaged"):
        for page in source.pages({}, 100):
            seen.extend(page.rows)
            marks = {page.part: page.mark or ""}
    # what came before the damage was handed out, and the whole file goes on behind it
    assert not any(isinstance(row, BadRow) for row in seen)
    path.write_bytes(whole)
    rest = [row for page in pages(path, marks) for row in page.rows]
    assert brief(seen + rest) == brief(read(tmp_path / "f.csv", plain))


def test_a_bomb_ends_at_the_limit(tmp_path):
    path = tmp_path / "f.csv.gz"
    path.write_bytes(gzip.compress(b"a,b\n1,2\n" + b"0" * 5_000_000))
    limits = Limits(row_bytes=2000, file_bytes=1_000_000)
    seen = []
    with pytest.raises(CouldNotRun, match=r"damaged|more than"):
        for page in options().open(Opening(tmp_path, frozenset("a"), override=path, limits=limits)).pages({}, 1):
            seen.extend(page.rows)
    assert brief(seen) == [["1", "2"]]


def test_a_half_written_last_line_is_looked_at_again(tmp_path):
    path = tmp_path / "f.csv"
    path.write_bytes(b"a,b\n1,2\n3,")
    first = pages(path)
    assert brief([row for page in first for row in page.rows]) == [["1", "2"], ["3", ""]]
    path.write_bytes(b"a,b\n1,2\n3,4\n5,6\n")
    again = pages(path, {"f.csv": first[-1].mark or ""})
    assert brief([row for page in again for row in page.rows]) == [["3", "4"], ["5", "6"]]
    assert not again[0].restarted


def test_a_changed_prefix_is_read_from_the_start(tmp_path):
    path = tmp_path / "f.csv"
    path.write_bytes(b"a,b\n1,2\n3,4\n")
    mark = pages(path)[-1].mark or ""
    for data in (b"a,b\n1,9\n3,4\n5,6\n", b"a,b\n1,2\n", b"a,c\n1,2\n3,4\n", b"a,b\n1,2\n3,45,6\n"):
        path.write_bytes(data)
        again = pages(path, {"f.csv": mark})
        assert again[0].restarted
        assert sum(len(page.rows) for page in again) == data.count(b"\n") - 1


def test_a_glob_reads_files_by_name_and_one_bad_file_harms_no_other(tmp_path):
    folder = tmp_path / "in" / "deep"
    folder.mkdir(parents=True)
    for name, data in (("b.csv", b"a\n2\n"), ("a.csv", b"a\n1\n"), ("c.csv", b"x\n9\n"), ("d.csv", b"a\n4\n")):
        (folder / name).write_bytes(data)
    (folder / "e.txt").write_bytes(b"a\n5\n")
    parsed = CsvOptions.parse(Section("m.toml", "source", {"glob": "in/*/*.csv"}))
    found = list(parsed.open(Opening(tmp_path, frozenset("a"))).pages({}, 10))
    assert [page.part for page in found] == ["deep/a.csv", "deep/b.csv", "deep/c.csv", "deep/d.csv"]
    assert [brief(list(page.rows)) for page in found] == [[["1"]], [["2"]], ["1:missing-column"], [["4"]]]
    assert found[2].mark is None


FIELD = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\n"), max_size=8)
BROKEN = st.text(st.sampled_from('xy"\n z'), max_size=8)  # line breaks, but no delimiter beside them
RECORDS = st.lists(st.lists(st.one_of(FIELD, BROKEN), min_size=3, max_size=3), max_size=8)
anywhere = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)


@anywhere
@given(records=RECORDS, end=st.sampled_from(["\n", "\r\n"]))
def test_what_a_csv_writer_wrote_is_read_back(tmp_path, records, end):
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator=end)
    writer.writerow(["a", "b", "c"])
    writer.writerows(records)
    assert brief(read(tmp_path / "f.csv", buffer.getvalue().encode(), limits=Limits())) == records


PLAIN = st.text(st.sampled_from("xyz 19-"), min_size=1, max_size=5).filter(lambda text: text.strip())


@anywhere
@given(before=st.lists(PLAIN, max_size=5), after=st.lists(PLAIN, max_size=30), place=st.integers(0, 2))
def test_one_broken_quote_costs_one_row(tmp_path, before, after, place):
    broken = ["1", "2", "3"]
    broken[place] = '"oops'
    lines = ["a,b,c", *[f"k,{v},v" for v in before], ",".join(broken), *[f"k,{v},v" for v in after]]
    rows = read(tmp_path / "f.csv", "\n".join(lines).encode() + b"\n")
    good = [["k", v, "v"] for v in before], [["k", v, "v"] for v in after]
    assert brief(rows) == [*good[0], f"{len(before) + 2}:broken-quote", *good[1]]


ALMOST_CSV = st.lists(
    st.sampled_from([b'"', b",", b"\n", b"\r\n", b"x", b"1,2,3\n", b"\xff", b"\0", b'""']), max_size=40
)


@anywhere
@given(body=st.one_of(ALMOST_CSV.map(b"".join), st.binary(max_size=60)), size=st.integers(1, 4), cut=st.integers(0, 9))
@example(body=b'"\n"', size=1, cut=0)
def test_any_bytes_every_line_once_and_any_mark_goes_on(tmp_path, body, size, cut):
    path = tmp_path / "f.csv"
    path.write_bytes(b"a,b,c\n" + body)
    found = pages(path, size=size)
    rows = [row for page in found for row in page.rows]
    numbers = [int(row.position.rpartition(":")[2]) for row in rows]
    assert numbers == sorted(set(numbers))
    assert rows == [row for page in pages(path) for row in page.rows]
    # every line that is not empty is the start of a row, or stands inside the quotes of the row before it
    lines = body.split(b"\n")
    for number, line in enumerate(lines, 2):
        if line.rstrip(b"\r") and number not in numbers:
            start = max(n for n in numbers if n < number)
            assert body.count(b'"', len(b"\n".join(lines[: start - 2]))) > 0
    if cut < len(found):
        mark = found[cut].mark or ""
        rest = [row for page in pages(path, {"f.csv": mark}, size=size) for row in page.rows]
        expected = [row for page in found[cut + 1 :] for row in page.rows]
        assert rest[-len(expected) :] == expected if expected else len(rest) <= len(found[cut].rows)


@pytest.mark.parametrize(("written", "told"), [("gb18030", "utf-8"), ("utf-8", "gb18030"), ("utf-8", "gbk")])
def test_a_header_in_another_encoding_is_told_so(tmp_path, written, told):
    path = tmp_path / "f.csv"
    path.write_bytes("编号,单位,结论\n1,店,合格\n".encode(written))
    opening = Opening(tmp_path, frozenset({"编号", "单位"}), override=path)
    (page,) = options(encoding=told).open(opening).pages({}, 10)
    (bad,) = page.rows
    assert isinstance(bad, BadRow)
    assert bad.reason == "encoding"
    assert bad.detail.endswith(f'set encoding = "{written}"')
