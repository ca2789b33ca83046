"""Mapping files: what is refused, in which words, and what the rules make of a value."""

from __future__ import annotations

import re
import time
import tomllib
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar

import pytest

from adapters.keys import idempotency_key, row_key
from adapters.kinds import KINDS
from adapters.mapping import FeedMapping, load_mapping, open_source, parse_mapping
from adapters.run import check, preview
from adapters.source import Page, Row, Unusable
from adapters.transform import Transform
from ledger.errors import Malformed, NodeMissing, RecordRefused
from ledger.formats.identifiers import uscc_check_digit
from ledger.record_types import BUILT_IN, RecordTypes

ROOT = Path(__file__).parents[2]

HEAD = """
mapping = "m"
version = 3
department = "fire"
type = "inspection.report"
v = 1
system = "s"
key = ["k"]
zone = "Asia/Shanghai"
"""
SOURCE = '\n[source]\nkind = "csv"\npath = "f.csv"\n'
HEAD = HEAD.replace('"m"', '"mm"')


def parse(text: str, base: Path = Path()) -> FeedMapping:
    return parse_mapping(text.encode(), "m.toml", base)


def mapping(fields: str, more: str = "", head: str = "") -> FeedMapping:
    return parse(f"{HEAD}{head}{SOURCE}\n[fields]\n{fields}\n{more}")


REFUSED: dict[str, tuple[str, str]] = {
    "not TOML": ("mapping = ", "m.toml: is not TOML"),
    "an unknown member": (
        HEAD + "ignored = []\n" + SOURCE + "[fields]\n",
        '"ignored" is unknown, did you mean "ignore"?',
    ),
    "a member missing": (
        HEAD.replace("version", "versoin") + SOURCE + "[fields]\n",
        '"version" is missing, did you mean "versoin"?',
    ),
    "a version of text": (HEAD.replace("3", '"3"') + SOURCE + "[fields]\n", '"version" must be an integer'),
    "a version of true": (HEAD.replace("3", "true") + SOURCE + "[fields]\n", '"version" must be an integer'),
    "a version of nothing": (HEAD.replace("3", "0") + SOURCE + "[fields]\n", '"version" must be from 1'),
    "a name with a slash": (HEAD.replace('"mm"', '"a/b"') + SOURCE + "[fields]\n", '"mapping" must be'),
    "a department that is none": (HEAD.replace('"fire"', '"Fire"') + SOURCE + "[fields]\n", '"department" must be'),
    "a zone that is none": (HEAD.replace("Shanghai", "Peking") + SOURCE + "[fields]\n", "no IANA time zone"),
    "a zone that is a path": (
        HEAD.replace("Asia/Shanghai", "../../etc/passwd") + SOURCE + "[fields]\n",
        "no IANA time zone",
    ),
    "no key": (HEAD.replace('["k"]', "[]") + SOURCE + "[fields]\n", '"key" must name'),
    "a key twice": (HEAD.replace('["k"]', '["k", "k"]') + SOURCE + "[fields]\n", "names something twice"),
    "an unknown kind": (HEAD + '[source]\nkind = "cvs"\n[fields]\n', '"source.kind" is "cvs", did you mean "csv"?'),
    "a Chinese name without quotes": (HEAD + SOURCE + '[fields]\n单位 = "x"\n', "needs quotes"),
    "columns and a header": (
        HEAD + SOURCE + 'columns = ["k"]\nheader_row = 2\n[fields]\n',
        '"source.columns" is for a file without a header',
    ),
    "a header in row 0": (HEAD + SOURCE + "header_row = 0\n[fields]\n", '"source.header_row" must be from 1'),
    "rows to skip that are no list": (
        HEAD + SOURCE + 'skip = { k = "x" }\n[fields]\n',
        '"source.skip.k" must be a list',
    ),
    "a word like no other": (HEAD + SOURCE + "qqq = 1\n[fields]\n", '"source.qqq" is unknown; known: columns,'),
    "an option of another kind": (HEAD + SOURCE + 'sheet = "S"\n[fields]\n', '"source.sheet" is unknown'),
    "no path": (HEAD + '[source]\nkind = "csv"\n[fields]\n', "exactly one of"),
    "a pattern as path": (HEAD + '[source]\nkind = "csv"\npath = "*.csv"\n[fields]\n', 'belongs under "glob"'),
    "a table and a query": (
        HEAD + '[source]\nkind = "sql"\ntable = "t"\nquery = "q"\n[fields]\n',
        'either "table" or "query"',
    ),
    "a password in the file": (
        HEAD + '[source]\nkind = "sql"\nurl = "x"\ntable = "t"\ncursor = ["c"]\n[fields]\n',
        '"source.url_env" is missing',
    ),
    "a column both used and ignored": (
        HEAD + 'ignore = ["k"]\n' + SOURCE + "[fields]\n",
        'column "k" is used and also',
    ),
}

BAD_FIELDS: dict[str, tuple[str, str]] = {
    "an unknown word": ('a = { column = "x", blnak = "omit" }', '"fields.a.blnak" is unknown, did you mean "blank"?'),
    "an unknown conversion": ('a = { column = "x", as = "int" }', 'is "int"'),
    "no column": ('a = { as = "integer" }', '"fields.a.column" is missing'),
    "a word that means nothing here": ('a = { column = "x", unit = "fen" }', 'has no meaning with as = "text"'),
    "no format at all": ('a = { column = "x", as = "day", format = [] }', "must name at least one form"),
    "a format of two kinds": (
        'a = { column = "x", as = "datetime", format = ["unix", "%Y"] }',
        "unix and unix-ms stand alone",
    ),
    "seconds that are a day": ('a = { column = "x", as = "day", format = "unix" }', 'with as = "datetime"'),
    "a format of another language": ('a = { column = "x", as = "day", format = "yyyy-MM-dd" }', "write it like"),
    "a format without a year": ('a = { column = "x", as = "day", format = "%m月%d日" }', "does not tell year, month"),
    "a format with half a day's hour alone": (
        'a = { column = "x", as = "datetime", format = "%Y-%m-%d %I:%M" }',
        "must have %p",
    ),
    "a format with an hour that %p does not touch": (
        'a = { column = "x", as = "datetime", format = "%Y-%m-%d %p%H:%M" }',
        "must have %p",
    ),
    "a format with 下午 in it": ('a = { column = "x", as = "datetime", format = "%Y-%m-%d 下午%H:%M" }', "write %p"),
    "a format with a zone's name": ('a = { column = "x", as = "datetime", format = "%Y-%m-%d %H:%M %Z" }', 'has "%Z"'),
    "a format with a part twice": ('a = { column = "x", as = "day", format = "%Y%m%d%m" }', "name each part once"),
    "an unknown unit": (
        'a = { column = "x", as = "money", unit = { "$" = "dollar" } }',
        '"fields.a.unit.$" is "dollar"',
    ),
    "no unit at all": ('a = { column = "x", as = "money", unit = {} }', "must name at least one unit"),
    "a point between thousands": ('a = { column = "x", as = "integer", thousands = "." }', 'thousands" is "."'),
    "rounding to no number of places": ('a = { column = "x", as = "decimal", round = -1 }', "must be from 0 to 20"),
    "money without a unit": ('a = { column = "x", as = "money" }', 'unit" is missing'),
    "blank and default": ('a = { column = "x", blank = "omit", default = "y" }', 'both "blank" and "default"'),
    "keep without a map": ('a = { column = "x", invalid = "keep" }', "only with a map"),
    "a table that is not there": (
        'a = { column = "x", map = "tabel" }\n[tables.table]\n',
        '"tables.tabel", did you mean "table"?',
    ),
    "a table that nobody uses": ('a = "x"\n[tables.t]\n', '"tables.t" is not used'),
    "a member that the adapter sets": ('department = "x"', "the adapter sets this member"),
    "a member inside one that is set": ('"source.row" = "x"', "the adapter sets this member"),
    "a member and one inside it": ('"place" = "x"\n"place.zip" = "y"', "cannot both be set"),
    "a target that is no place": ('"Place Of" = "x"', "is no place in a record"),
    "a constant that is a list": ("a = { constant = [1] }", "must be text"),
    "a float as constant": ("a = { constant = 1.5 }", "must be text"),
    "together with what is not there": ('a = "x"\n[[together]]\ntargets = ["a", "b"]', 'names "b", which is no field'),
    "a subject of an unknown kind": ('a = "x"\n[[subjects]]\nkind = "license"\nvalue = "x"', 'did you mean "licence"?'),
    "a subject without value": ('a = "x"\n[[subjects]]\nkind = "uscc"\nname = "x"', '"subjects[1].value" is missing'),
    "a list without a column": (
        'a = "x"\n[[lists.officers]]\nid = { constant = "1" }',
        "at least one member from a column",
    ),
    "a list that is set twice": ('officers = "x"\n[[lists.officers]]\nid = "y"', "set elsewhere"),
    "attachments without a base": ('a = "x"\n[[attachments]]\ncolumn = "p"', '"attachments[1].base" is missing'),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_head_is_refused_in_one_sentence(name):
    text, sentence = REFUSED[name]
    with pytest.raises(Malformed) as caught:
        parse(text)
    assert str(caught.value).startswith("m.toml: ")
    assert sentence in str(caught.value)


@pytest.mark.parametrize("name", BAD_FIELDS)
def test_a_bad_field_is_refused_in_one_sentence(name):
    text, sentence = BAD_FIELDS[name]
    with pytest.raises(Malformed) as caught:
        mapping(text)
    assert sentence in str(caught.value)


def test_files_that_are_no_mapping(tmp_path):
    with pytest.raises(NodeMissing, match="cannot be read"):
        load_mapping(tmp_path / "nowhere.toml")
    with pytest.raises(Malformed, match="not UTF-8"):
        parse_mapping(b"\xff", "m.toml", tmp_path)
    with pytest.raises(Malformed, match="larger than"):
        parse_mapping(b"#" * 2_000_000, "m.toml", tmp_path)


def record(fields: str, values: dict[str, Any], more: str = "", head: str = "") -> dict[str, Any]:
    transform = Transform(mapping(fields, more, head))
    row = {"k": "1", **values}
    made = transform(transform.key(row), row).submission.record
    for name in ("type", "v", "department", "source"):
        made.pop(name)
    return made


def convert(rule: str, value: Any) -> Any:
    return record(f"a = {{ column = 'x', {rule} }}", {"x": value}).get("a", "absent")


UNITS = "{ '' = 'yuan', '元' = 'yuan', '万元' = 'wan' }"
FORMS = "['%Y年%m月%d日', '%Y/%m/%d %H:%M']"

MADE: list[tuple[str, Any, Any]] = [
    ("as = 'text'", " x ", "x"),
    ("strip = false", " x ", " x "),
    ("as = 'text'", 7, "7"),
    ("as = 'text'", 60614.0, "60614"),
    ("as = 'text'", Decimal("1E+3"), "1000"),
    ("as = 'text'", True, "true"),
    ("as = 'integer'", " -12 ", -12),
    ("as = 'integer'", 12.0, 12),
    ("as = 'decimal'", "41.9430", "41.9430"),
    ("as = 'decimal'", 41.943359, "41.943359"),
    ("as = 'decimal'", Decimal("-0.10"), "-0.10"),
    ("as = 'decimal', multiply = '0.3048'", "10", "3.0480"),
    ("as = 'decimal', round = 6", Decimal("29.801000000000002"), "29.801000"),
    ("as = 'decimal', round = 2", "0.125", "0.13"),
    ("as = 'decimal', round = 2", "-0.125", "-0.13"),
    ("as = 'decimal', round = 6", "29.8", "29.8"),
    ("as = 'decimal', round = 20", "9" * 20 + "." + "1" * 20, "9" * 20 + "." + "1" * 20),
    ("as = 'decimal', round = 0, max = 90", "90.4", "90"),
    ("as = 'decimal', thousands = ','", "1,234,567.89", "1234567.89"),
    ("as = 'integer', thousands = ','", "12,345", 12345),
    ("as = 'integer', thousands = ','", "-1,000", -1000),
    ("as = 'integer', thousands = ','", "12345", 12345),
    ("as = 'integer', thousands = '，'", "1，000", 1000),
    ("as = 'integer', thousands = ','", "１，０００", 1000),
    ("as = 'integer'", "－１２", -12),
    ("as = 'decimal'", "１２．５０", "12.50"),
    (f"as = 'money', unit = {UNITS}, thousands = ','", "￥１，５００．００元", 150_000),
    ("as = 'money', unit = 'wan'", "1.25", 1_250_000),
    ("as = 'money', unit = 'yuan', thousands = ','", "1,500.00", 150_000),
    (f"as = 'money', unit = {UNITS}, thousands = ','", "￥8,000.00", 800_000),
    (f"as = 'money', unit = {UNITS}, thousands = ','", "1,200 元", 120_000),
    (f"as = 'money', unit = {UNITS}", "0.5万元", 500_000),
    (f"as = 'money', unit = {UNITS}", "500", 50_000),
    ("as = 'money', unit = 'yuan'", "12.5", 1250),
    ("as = 'money', unit = 'jiao'", "3", 30),
    ("as = 'money', unit = 'fen'", Decimal("7"), 7),
    ("as = 'boolean'", "TRUE", True),
    ("as = 'boolean', map = { '是' = true, '否' = false }", "否", False),
    ("as = 'date'", "2024-03-05", "2024-03-05T00:00:00+08:00"),
    ("as = 'date', zone = 'America/Chicago'", "2013-07-01", "2013-07-01T00:00:00-05:00"),
    ("as = 'date', format = '%d.%m.%Y'", "05.03.2024", "2024-03-05T00:00:00+08:00"),
    ("as = 'date'", date(2024, 3, 5), "2024-03-05T00:00:00+08:00"),
    ("as = 'day'", datetime(2024, 3, 5), "2024-03-05"),  # noqa: DTZ001 - as workbooks give it
    ("as = 'day'", "2024-03-05", "2024-03-05"),
    ("as = 'datetime'", "2024-03-05 14:30", "2024-03-05T14:30:00+08:00"),
    ("as = 'datetime'", "2024-03-05T14:30:00Z", "2024-03-05T14:30:00+00:00"),
    ("as = 'datetime', format = '%Y%m%d%H%M'", "202403051430", "2024-03-05T14:30:00+08:00"),
    (f"as = 'date', format = {FORMS}", "2024年3月5日", "2024-03-05T00:00:00+08:00"),
    (f"as = 'date', format = {FORMS}", "2024/3/5 14:30", "2024-03-05T00:00:00+08:00"),
    (f"as = 'day', format = {FORMS}", "2024/3/5 14:30", "2024-03-05"),
    (f"as = 'datetime', format = {FORMS}", "2024/3/5 14:30", "2024-03-05T14:30:00+08:00"),
    ("as = 'day', format = ['%d/%m/%Y', '%m/%d/%Y']", "05/05/2024", "2024-05-05"),
    ("as = 'datetime', format = '%Y/%m/%d %p%I:%M'", "2026/3/5 上午9:05", "2026-03-05T09:05:00+08:00"),
    ("as = 'datetime', format = '%Y/%m/%d %p%I:%M'", "2026/3/5 下午12:05", "2026-03-05T12:05:00+08:00"),
    ("as = 'datetime', format = '%Y.%m.%d %p%I:%M'", "2026.3.5 下午3:20", "2026-03-05T15:20:00+08:00"),
    ("as = 'day', format = '%Y年%m月%d日'", "二〇二六年三月五日", "2026-03-05"),
    ("as = 'day', format = '第一批 %Y年%m月%d日'", "第一批 2026年3月5日", "2026-03-05"),  # numerals of the format's own
    ("as = 'day', format = '%Y年%m月%d日'", "二零二六年十二月三十一日", "2026-12-31"),
    ("as = 'day', format = '%Y年%m月%d日'", "二○二六年十月二十日", "2026-10-20"),
    ("after = '（', before = '）'", "王建国（YF-01）", "YF-01"),
    ("before = '（'", "王建国（YF-01）", "王建国"),
    ("after = ' '", "ZJ-001 王 强", "王 强"),
    ("as = 'datetime', format = '%Y/%m/%d %p%I:%M'", "2026/3/5 上午12:05", "2026-03-05T00:05:00+08:00"),
    ("as = 'datetime', format = '%Y%m%d%H%M%S'", "20260305090501", "2026-03-05T09:05:01+08:00"),
    ("as = 'datetime', format = '%Y%m%d%H%M%S%f'", "20260305090501123", "2026-03-05T09:05:01.123000+08:00"),
    ("as = 'datetime', format = '%Y/%m/%d %H%M'", "2026/3/5 0905", "2026-03-05T09:05:00+08:00"),
    ("as = 'day', format = '%Y年%m月%d日'", "２０２６年３月５日", "2026-03-05"),
    ("as = 'day', format = 'excel'", 46086, "2026-03-05"),
    ("as = 'day', format = ['%Y年%m月%d日', 'excel']", "46086", "2026-03-05"),
    ("as = 'day', format = ['%Y%m%d', 'excel']", "20260305", "2026-03-05"),
    ("as = 'datetime', format = 'excel'", 46086.378472222219, "2026-03-05T09:05:00+08:00"),
    ("as = 'date', format = '%Y/%m/%d %H:%M'", datetime(2024, 3, 5, 1), "2024-03-05T00:00:00+08:00"),  # noqa: DTZ001
    ("as = 'day'", "2024-02-29", "2024-02-29"),
    ("exact = true", "1.23E+17", "1.23E+17"),
    ("map = {}, invalid = 'keep'", "1.23E+17", "1.23E+17"),
    ("as = 'text'", "1.2E+3", "1.2E+3"),
    ("as = 'decimal'", "-0", "-0"),
    ("as = 'integer'", "-0", 0),
    ("as = 'datetime', format = 'unix'", 1709620200, "2024-03-05T14:30:00+08:00"),
    ("as = 'datetime', format = 'unix-ms'", "1709620200500", "2024-03-05T14:30:00.500000+08:00"),
    ("as = 'datetime', format = 'unix', zone = 'UTC'", "-1", "1969-12-31T23:59:59+00:00"),
    ("one_line = true", "人民路\r\n  1号 ", "人民路 1号"),
    ("one_line = true, max_chars = 3", "a\nb", "a b"),
    ("map = { a = 'b' }", "a", "b"),
    ("map = { a = 'b' }, invalid = 'keep'", "c", "c"),
    ("map = { a = 'b' }, invalid = 'omit'", "c", "absent"),
    ("split = ';'", "a; b;;c", ["a", "b", "c"]),
    ("split = ';', as = 'integer'", "1;2", [1, 2]),
    ("blank = 'omit'", "  ", "absent"),
    ("blank = 'omit'", None, "absent"),
    ("default = 'none'", "", "none"),
    ("blank = 'omit', blank_values = ['0']", "0", "absent"),
    ("as = 'integer', invalid = 'omit'", "x", "absent"),
    ("max_chars = 3, invalid = 'omit'", "four", "absent"),
]  # fmt: skip

NOT_MADE: list[tuple[str, Any, str]] = [
    ("as = 'text'", "", "blank"),
    ("as = 'text'", [1], "nested"),
    ("as = 'text'", "1.23E+17", "rounded-number"),
    ("as = 'text'", 1.23e17, "rounded-number"),
    ("as = 'text'", Decimal("1.23E+17"), "rounded-number"),
    ("as = 'integer'", 1.1010519491231e17, "rounded-number"),
    ("as = 'day', format = '%Y%m%d'", "2026115", "bad-date"),
    ("as = 'day', format = '%Y%m%d'", "20261305", "bad-date"),
    ("as = 'day', format = '%Y%m%d'", "20230229", "bad-date"),
    ("as = 'day', format = 'excel'", "60", "bad-date"),
    ("as = 'day', format = 'excel'", "9999999", "bad-date"),
    ("as = 'day', format = 'excel'", "-46086", "bad-date"),
    ("as = 'datetime', format = '%Y/%m/%d %p%I:%M'", "2026/3/5 下午14:30", "bad-time"),
    ("as = 'day', format = '%Y年%m月%d日'", "二〇二六年十三月五日", "bad-date"),
    ("as = 'day', format = '%Y年%m月%d日'", "二〇二六年三月三十十日", "bad-date"),
    ("as = 'day', format = '%Y年%m月%d日'", "二〇二六年三月五十日", "bad-date"),
    ("as = 'integer'", "三", "bad-integer"),
    ("after = '（', before = '）'", "王建国", "unknown-value"),
    ("as = 'date'", "02/03/04", "bad-date"),
    ("as = 'date'", "0001-01-01", "bad-time"),
    ("as = 'text'", {}, "nested"),
    ("as = 'text'", float("nan"), "not-a-number"),
    ("as = 'text'", Unusable("formula", "holds a formula"), "formula"),
    ("as = 'integer'", "1.0", "bad-integer"),
    ("as = 'integer'", "١٢", "bad-integer"),
    ("as = 'integer'", "1_000", "bad-integer"),
    ("as = 'integer'", "9" * 5000, "bad-integer"),
    ("as = 'decimal'", "1e5", "bad-decimal"),
    ("as = 'decimal'", "1,5", "bad-decimal"),
    ("as = 'decimal'", "NaN", "bad-decimal"),
    ("as = 'decimal'", "Infinity", "bad-decimal"),
    ("as = 'decimal', places = 2", "1.234", "bad-decimal"),
    ("as = 'decimal', max = 90", "90.0001", "out-of-range"),
    ("as = 'money', unit = 'yuan'", "0.001", "bad-money"),
    ("as = 'decimal', round = 2, max = 90", "90.005", "out-of-range"),
    ("as = 'integer', thousands = ','", "12,00", "bad-integer"),
    ("as = 'integer', thousands = ','", "1,2345", "bad-integer"),
    ("as = 'integer', thousands = ','", ",123", "bad-integer"),
    ("as = 'decimal', thousands = ','", "1.234,5", "bad-decimal"),
    ("as = 'money', unit = 'yuan'", "￥1", "bad-decimal"),
    ("as = 'money', unit = 'wan'", "0.0000001", "bad-money"),
    (f"as = 'money', unit = {UNITS}", "1,200元", "bad-decimal"),
    (f"as = 'money', unit = {UNITS}", "5美元", "bad-money"),
    (f"as = 'money', unit = {UNITS}", "万元", "bad-money"),
    ("as = 'money', unit = { '元' = 'yuan' }", "500", "bad-money"),
    ("as = 'boolean'", "yes", "bad-boolean"),
    ("as = 'date'", "2024-W10-2", "bad-date"),
    ("as = 'date'", datetime(2024, 3, 5, 1), "bad-date"),  # noqa: DTZ001
    ("as = 'date', format = '%d/%m/%Y'", "03/13/2024", "bad-date"),
    ("as = 'datetime'", "2024-03-05", "bad-time"),
    (f"as = 'date', format = {FORMS}", "2024年2月30日", "bad-date"),
    ("as = 'day', format = ['%d/%m/%Y', '%m/%d/%Y']", "03/04/2024", "bad-date"),
    ("as = 'datetime', format = ['%d/%m/%Y %H', '%m/%d/%Y %H']", "03/04/2024 5", "bad-time"),
    ("as = 'datetime', format = 'unix'", "1.5", "bad-time"),
    ("as = 'datetime', format = 'unix'", "1709620200500", "bad-time"),
    ("one_line = true, max_chars = 2", "a\nb", "too-long"),
    ("as = 'datetime'", date(2024, 3, 5), "bad-time"),
    ("as = 'datetime', zone = 'America/Chicago'", "2013-03-10 02:30", "bad-time"),
    ("as = 'datetime', zone = 'America/Chicago'", "2013-11-03 01:30", "bad-time"),
    ("as = 'date', zone = 'Asia/Shanghai'", "1900-01-01", "bad-time"),
    ("map = { a = 'b' }", "A", "unknown-value"),
    ("max_chars = 3", "four", "too-long"),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "value", "expected"), MADE)
def test_what_a_rule_makes(rule, value, expected):
    made = convert(rule, value)
    assert made == expected
    assert type(made) is type(expected)


@pytest.mark.parametrize(("rule", "value", "reason"), NOT_MADE)
def test_what_a_rule_refuses(rule, value, reason):
    with pytest.raises(RecordRefused) as caught:
        convert(rule, value)
    assert caught.value.reason == reason
    assert str(caught.value).startswith('column "x" ')
    assert len(str(caught.value)) < 200


def test_dotted_names_with_and_without_quotes():
    values = {"x": "1", "y": "2"}
    expected = {"place": {"zip": "1", "ward": "2"}}
    assert record('"place.zip" = "x"\n"place.ward" = "y"', values) == expected
    assert record('place.zip = "x"\nplace.ward = { column = "y" }', values) == expected
    assert record('[fields.place]\nzip = "x"\nward = "y"', values) == expected


def test_joined_columns_skip_blanks():
    assert record("a = { columns = ['x', 'y', 'z'], join = ', ' }", {"x": "1", "y": " ", "z": "3"}) == {"a": "1, 3"}


def test_together_keeps_all_or_none():
    fields = """
"place.latitude" = { column = "x", as = "decimal", max = 90, blank = "omit", invalid = "omit" }
"place.datum" = { constant = "WGS-84" }
"place.zip" = "z"
"""
    more = '[[together]]\ntargets = ["place.latitude", "place.datum"]'
    whole = {"place": {"latitude": "1", "datum": "WGS-84", "zip": "9"}}
    assert record(fields, {"x": "1", "z": "9"}, more) == whole
    for value in ("", "91", "north"):
        assert record(fields, {"x": value, "z": "9"}, more) == {"place": {"zip": "9"}}


def test_subjects_are_checked():
    body = "91330106MA2XXXXXX".replace("X", "C")
    good = body + uscc_check_digit(body)
    wrong = body + ("0" if good[-1] != "0" else "1")
    more = "[[subjects]]\nkind = 'uscc'\nvalue = {{ column = 'x', blank = 'omit'{0} }}\nname = 'n'"
    values = {"n": "a shop"}
    expected = {"a": "1", "subjects": [{"kind": "uscc", "value": good, "name": "a shop"}]}
    assert record("a = 'k'", {**values, "x": good}, more.format("")) == expected
    assert record("a = 'k'", {**values, "x": ""}, more.format("")) == {"a": "1"}
    with pytest.raises(RecordRefused, match="check digit") as caught:
        record("a = 'k'", {**values, "x": wrong}, more.format(""))
    assert caught.value.reason == "bad-identifier"
    assert wrong not in str(caught.value)
    assert record("a = 'k'", {**values, "x": wrong}, more.format(", invalid = 'omit'")) == {"a": "1"}


def test_lists_leave_out_entries_without_a_value():
    more = "".join(
        f"[[lists.officers]]\nid = {{ column = 'o{n}', blank = 'omit' }}\nrank = {{ constant = 'r' }}\n" for n in (1, 2)
    )
    assert record("a = 'k'", {"o1": "7", "o2": ""}, more) == {"a": "1", "officers": [{"id": "7", "rank": "r"}]}
    assert record("a = 'k'", {"o1": "", "o2": ""}, more) == {"a": "1"}


EACH: dict[str, tuple[Any, list[dict[str, Any]] | str]] = {
    "a list of objects": (
        [{"no": "7", "name": "张"}, {"no": "8", "name": ""}],
        [{"id": "7", "name": "张"}, {"id": "8"}],
    ),
    "an empty list": ([], []),
    "nothing": (None, []),
    "a blank text": (" ", []),
    "an entry without the member": ([{"name": "张"}], "blank"),
    "texts where objects are wanted": (["7"], "blank"),
    "an object": ({"no": "7"}, "nested"),
    "a number": (7, "nested"),
    "an entry that is a list": ([{"no": ["7"]}], "nested"),
}


@pytest.mark.parametrize("name", EACH)
def test_a_column_that_holds_a_list_gives_an_object_for_each_entry(name):
    value, expected = EACH[name]
    more = "[[lists.officers]]\neach = 'o'\nid = 'no'\nname = { column = 'name', blank = 'omit' }\n"
    if isinstance(expected, str):
        with pytest.raises(RecordRefused) as caught:
            record("a = 'k'", {"o": value}, more)
        assert caught.value.reason == expected
    else:
        assert record("a = 'k'", {"o": value}, more).get("officers", []) == expected


def test_texts_of_a_list_and_parts_of_a_text_are_entries_too():
    more = "[[lists.violations]]\neach = 'v'\nsplit = '；'\ntext = '#text'\n"
    expected = [{"text": "软管老化"}, {"text": "未装报警器"}]
    for value in ("软管老化； 未装报警器；", ["软管老化", "未装报警器"]):
        assert record("a = 'k'", {"v": value}, more)["violations"] == expected
    feed = mapping("a = 'k'", more)
    assert feed.columns == {"k", "v"}
    with pytest.raises(Malformed, match="split"):
        mapping("a = 'k'", "[[lists.violations]]\nsplit = ';'\ntext = 'v'\n")


PARTIES = """
[[subjects]]
each  = "parties"
where = { "type" = ["企业"] }
kind  = "uscc"
value = "no"
[[subjects]]
each  = "parties"
where = { "type" = ["个人", ""] }
kind  = "name"
value = "name.full"
"""


def test_the_kind_of_a_subject_may_stand_in_the_row():
    """With `invalid = "omit"` for each kind, a company whose number is wrong went without a word."""
    parties = [{"type": "企业", "no": "91350100M000100Y43"}, {"name": {"full": "张三"}}, {"type": "其他", "no": "x"}]
    made = record("a = 'k'", {"k": "1", "parties": parties}, PARTIES)
    assert [(subject["kind"], subject["value"]) for subject in made["subjects"]] == [
        ("uscc", "91350100M000100Y43"), ("name", "张三"),
    ]  # fmt: skip
    with pytest.raises(RecordRefused, match="check digit"):
        record("a = 'k'", {"k": "1", "parties": [{"type": "企业", "no": "91350100M000100Y44"}]}, PARTIES)


def test_a_column_that_leads_into_a_list():
    """Of a list with one entry nothing could be taken but by `each`, and what was said was that the column is blank."""
    fields = "a = { columns = ['o.at.town', 'o.at.road'], join = '' }\nb = 'o.name'"
    one = {"k": "1", "o": [{"name": "店", "at": {"town": "海曙", "road": "中山路"}}]}
    assert {name: record(fields, one)[name] for name in "ab"} == {"a": "海曙中山路", "b": "店"}
    with pytest.raises(RecordRefused, match="not a single value"):
        record("b = 'o.name'", {"k": "1", "o": [{"name": "a"}, {"name": "b"}]})


def test_every_record_names_mapping_version_and_row():
    transform = Transform(mapping("a = 'k'"))
    made = transform(transform.key({"k": "7"}), {"k": "7"}).submission
    assert made.key == "mm/7"
    assert made.record["source"] == {"system": "s", "mapping": "mm", "version": "3", "row": "7"}


def test_keys_are_unambiguous_and_bounded():
    both = ("a", "b")
    seen = {
        row_key(both, {"a": a, "b": b}, frozenset({""}))
        for a in ("x", "x|", "x\\", "|")
        for b in ("y", "|y", "\\y", "|")
    }
    assert len(seen) == 16
    assert idempotency_key("m", "k") == "m/k"
    for odd in ("k" * 300, "two\nlines", "sha256:" + "0" * 64):
        key = idempotency_key("m", odd)
        assert re.fullmatch(r"m/sha256:[0-9a-f]{64}", key)
        assert key != idempotency_key("m", odd + "x")


class TestAttachments:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        (tmp_path / "photos" / "deep").mkdir(parents=True)
        for name in ("a.jpg", "deep/b.PDF", "c.bin"):
            (tmp_path / "photos" / name).write_bytes(b"x")
        (tmp_path / "secret.txt").write_bytes(b"x")
        (tmp_path / "photos-other").mkdir()
        (tmp_path / "photos-other" / "d.jpg").write_bytes(b"x")
        (tmp_path / "photos" / "link.txt").symlink_to(tmp_path / "secret.txt")
        (tmp_path / "photos" / "loop").symlink_to(tmp_path / "photos" / "loop")
        return tmp_path

    def find(self, folder: Path, value: str, rule: str = "") -> list[tuple[str, str]]:
        text = f"{HEAD}{SOURCE}[fields]\na = 'k'\n[[attachments]]\ncolumn = 'p'\nbase = 'photos'\nsplit = ';'\n{rule}"
        made = Transform(parse(text, folder))("mm/1", {"k": "1", "p": value})
        return [(item.name, item.media_type) for item in made.submission.attachments]

    def test_files_are_found_below_their_base(self, folder):
        found = self.find(folder, "a.jpg; deep/b.PDF;deep\\b.PDF;c.bin;deep/../a.jpg")
        pdf = ("b.PDF", "application/pdf")
        jpeg = ("a.jpg", "image/jpeg")
        assert found == [jpeg, pdf, pdf, ("c.bin", "application/octet-stream"), jpeg]
        assert self.find(folder, "a.jpg", "media_type = 'image/png'") == [("a.jpg", "image/png")]
        assert self.find(folder, "", "blank = 'omit'") == []

    ATTACKS: ClassVar = {
        "a parent": ("../secret.txt", "attachment-outside"),
        "a parent behind a directory": ("deep/../../secret.txt", "attachment-outside"),
        "a Windows parent": ("..\\secret.txt", "attachment-outside"),
        "an absolute path": ("/etc/passwd", "attachment-outside"),
        "a sibling whose name begins the same": ("../photos-other/d.jpg", "attachment-outside"),
        "a symbolic link out": ("link.txt", "attachment-outside"),
        "the base itself": (".", "attachment-outside"),
        "a symbolic link to itself": ("loop", "attachment-missing"),
        "a directory": ("deep", "attachment-missing"),
        "a file that is not there": ("nowhere.jpg", "attachment-missing"),
        "a NUL": ("a.jpg\0.png", "bad-attachment"),
        "a name without end": ("x/" * 5000, "bad-attachment"),
        "a name longer than the file system takes": ("x" * 900, "attachment-missing"),
        "more than a record holds": (";".join(["a.jpg"] * 51), "too-many-attachments"),
        "nothing where a file is asked for": ("", "blank"),
    }

    @pytest.mark.parametrize("name", ATTACKS)
    def test_attacks(self, folder, name):
        value, reason = self.ATTACKS[name]
        with pytest.raises(RecordRefused) as caught:
            self.find(folder, value)
        assert caught.value.reason == reason


class Rows:
    """A source of the rows it was given."""

    def __init__(self, *rows: dict[str, Any]) -> None:
        self._rows = rows

    def pages(self, marks: Any, size: int) -> Any:
        rows = tuple(Row(str(n), row) for n, row in enumerate(self._rows))
        yield Page("p", rows, None, columns=tuple(self._rows[0]) if self._rows else ())


def test_check_names_what_is_not_mapped_and_what_is_doubtful():
    feed = mapping("occurred_at = { column = 'd', as = 'date', format = '%d/%m/%y' }", head='ignore = ["gone"]\n')
    report = check(feed, Rows({"k": "1", "d": "05/03/24", "extra": "x"}))
    assert [(finding.level, finding.code) for finding in report.findings] == [
        ("error", "unmapped-column"),
        ("warning", "unknown-ignore"),
        ("warning", "two-digit-year"),
    ]
    assert [finding.code for finding in check(mapping("a = 'k'"), Rows()).findings] == ["empty"]


def test_columns_that_order_a_source_need_not_be_mapped():
    sources = (
        'kind = "sql"\nurl_env = "DB"\ntable = "t"\ncursor = ["at"]\n',
        'kind = "rest"\nurl = "https://api.example/"\npages = "none"\nsince = "at"\nsince_param = "after"\n',
    )
    for source in sources:
        feed = parse(f"{HEAD}[source]\n{source}[fields]\na = 'k'\n")
        assert check(feed, Rows({"k": "1", "at": "2"})).clean


def test_check_names_a_column_that_no_row_has(tmp_path):
    (tmp_path / "f.jsonl").write_text('{"k": "1", "shop": "a"}\n')
    text = HEAD + '\n[source]\nkind = "jsonl"\npath = "f.jsonl"\n[fields]\na = "shpo"\n'
    made = parse(text + "[[lists.officers]]\neach = 'people'\nid = '#text'\n", tmp_path)
    sentences = [finding.sentence for finding in check(made, open_source(made)).findings]
    assert 'no row of the sample has a column "people"' in sentences
    assert 'no row of the sample has a column "shpo", did you mean "shop"?' in sentences


def test_check_groups_what_has_one_cause():
    feed = mapping("a = 'k'", "[[attachments]]\ncolumn = 'f'\nbase = 'photos'\n")
    report = check(feed, Rows({"k": "1", "f": "1.jpg"}, {"k": "2", "f": "2.jpg"}))
    (finding,) = report.findings
    assert finding.sentence.startswith('2 of 2 rows: attachment "1.jpg" is not there')
    assert 'below "photos", beside the mapping file' in finding.sentence


def examples() -> list[str]:
    text = (ROOT / "docs" / "mappings.md").read_text(encoding="utf-8")
    return re.findall(r"```toml\n(.*?)```", text, re.DOTALL)


def test_the_example_in_the_documentation_makes_a_record_of_its_type(tmp_path):
    feed = parse(examples()[0], tmp_path)
    (tmp_path / "exports" / "photos").mkdir(parents=True)
    (tmp_path / "exports" / "photos" / "1.jpg").write_bytes(b"x")
    body = "91330106MA2CCCCCC"
    row = {
        "report_no": "7", "date": "2024/03/05", "result": "合格", "shop_name": "店", "address": "路 1", "lat": "30.1",
        "lon": "120.2", "findings": "无", "credit_code": body + uscc_check_digit(body), "photo_files": "1.jpg",
        "internal_note": "x",
    }  # fmt: skip
    types = RecordTypes.load(BUILT_IN)
    assert check(feed, Rows(row), validate=lambda made: types.validate(made, time.time())).clean


def test_the_other_examples_in_the_documentation_are_read():
    rest = [text for text in examples()[1:] if not text.startswith("[source]") or "[tables" in text]
    (files,) = (text for text in rest if "[attachments.url]" in text)
    parties, each, officers, table = (text for text in rest if text != files)
    assert mapping("a = 'k'", parties).subjects[0].where == {"@type": {"企业"}}
    assert mapping("a = 'k'", each).lists.keys() == {"officers", "violations"}
    assert parse(f"{HEAD}{SOURCE}[fields]\na = 'k'\n{files}").attachments[0].url is not None
    assert mapping("a = 'k'", officers).lists.keys() == {"officers"}
    assert parse(HEAD + table).fields["result"].table == {"合格": "pass", "不合格": "fail"}
    sources = [text for text in examples() if text.startswith("[source]") and "[fields]" not in text]
    kinds = {tomllib.loads(text)["source"]["kind"] for text in sources}
    assert kinds == set(KINDS) - {"csv", "jsonl", "xlsx", "xls", "sql"}
    for text in sources:
        parse(f"{HEAD}{text}\n[fields]\na = 'k'\n")


def test_the_export_in_the_documentation_is_read_as_it_is(tmp_path):
    text = (ROOT / "docs" / "mappings.md").read_text(encoding="utf-8")
    (export,) = re.findall(r"```csv\n(.*?)```", text, re.DOTALL)
    (tmp_path / "台账.csv").write_text(export, encoding="gb18030")
    (example,) = (found for found in examples() if "header_row" in found)
    (more,) = re.findall(r"```text\n(skip.*?)```", text, re.DOTALL)
    head = HEAD.replace('["k"]', '["编号"]') + 'ignore = ["罚款"]\n'
    feed = parse(head + example, tmp_path)
    shown = preview(feed, open_source(feed), 10)
    made = [row.record for row in shown if row.record is not None]
    assert [row.position for row in shown] == ["台账.csv:4", "台账.csv:6", "台账.csv:8"]
    assert [(row["occurred_at"][:10], row["place"]["address"]) for row in made] == [
        ("2026-03-04", "人民路 1号"), ("2026-03-05", "人民路2号"), ("2026-03-06", "人民路3号"),
    ]  # fmt: skip
    assert [len(row["subjects"]) for row in made] == [2, 2, 1]
    skip, fine = more.splitlines()
    text = re.sub(r"(?m)^skip .*$", skip, example).replace("[fields]\n", f"[fields]\n{fine}\n")
    fined = parse(head.replace('ignore = ["罚款"]\n', "") + text, tmp_path)
    assert [row.record["fine_fen"] for row in preview(fined, open_source(fined), 10) if row.record] == [
        150_000,
        1_200_000,
    ]


def test_every_reason_is_documented():
    documented = set(re.findall(r"`([a-z-]+)`", (ROOT / "docs" / "mappings.md").read_text(encoding="utf-8")))
    raised = r'(?:RecordRefused|Invalid|Unusable|BadJson|_spoil|_end_with)\(\s*"([a-z-]+)"'
    pattern = raised + r'|BadRow\([^"\n]*(?:"[^"\n]*"[^"\n]*)?, "([a-z]+-[a-z-]+)", detail'
    used = {
        reason
        for file in (ROOT / "adapters").glob("*.py")
        if not file.name.startswith("terminal")  # a terminal has no rows and no quarantine
        for found in re.findall(pattern, file.read_text(encoding="utf-8"))
        for reason in found
        if reason
    }
    assert {"blank", "bad-date", "broken-quote", "merged-cell", "attachment-outside", "blank-cursor"} <= used
    assert used <= documented
