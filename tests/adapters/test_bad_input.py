"""Bad input through a whole feed: what it says, where it stands, and that the rows around it are sealed all the same.

The readers' own tests say what each of them makes of bytes; `ELSEWHERE` names those that carry an item of the list.
Here every item goes from a source to the quarantine of a real ledger.
"""

from __future__ import annotations

import io
import json
import os
import sys
import time
import zipfile
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from openpyxl import Workbook
from sqlalchemy import create_engine, text

from adapters.mapping import open_source, parse_mapping
from adapters.run import check, run
from adapters.state import AdapterState
from ledger.errors import RecordRefused
from ledger.formats import identifiers
from ledger.matter_lists import ListRow, read_list
from ledger.matters import Origin, draft, publish
from tests.fixtures.parts import Parts

http_server = sys.modules["adapters_http_server"]
HERE = Path(__file__).parent

COLUMNS = ("id", "shop", "day", "count", "code", "photo")

MAPPING = """
mapping = "bad"
version = 1
department = "fire"
type = "inspection.report"
v = 1
matter = "330299-XF-001"
system = "test"
zone = "Asia/Shanghai"
key = ["id"]
[source]
{source}
[fields]
"occurred_at" = {{ column = "day", as = "date" }}
"facility_name" = {{ column = "shop" }}
"result" = {{ constant = "pass" }}
"minor_violations" = {{ column = "count", as = "integer", min = 0 }}
[[subjects]]
kind = "uscc"
value = {{ column = "code" }}
[[attachments]]
column = "photo"
base = "photos"
blank = "omit"
"""

Row = dict[str, Any]
Found = list[tuple[str, str]]


def good(number: int, **changes: Any) -> Row:
    row = {
        "id": f"r{number}", "shop": f"店铺{number}", "day": "2024-03-05", "count": "1", "code": "91350100M000100Y43",
        "photo": "",
    }  # fmt: skip
    return {**row, **changes}


def around(**changes: Any) -> list[Row]:
    """Three rows, the one in the middle with changes."""
    return [good(1), good(2, **changes), good(3)]


def csv_of(rows: list[Row], *, header: str = ",".join(COLUMNS), encoding: str = "utf-8") -> bytes:
    return "\n".join([header, *(",".join(map(str, row.values())) for row in rows), ""]).encode(encoding)


def jsonl_of(rows: list[Row]) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


def xlsx_of(rows: list[Row], change: Callable[[Any], object] = lambda _: None) -> bytes:
    book = Workbook()
    sheet: Any = book.active
    sheet.title = "S"
    sheet.append(COLUMNS)
    for row in rows:
        sheet.append(list(row.values()))
    change(sheet)
    buffer = io.BytesIO()
    book.save(buffer)
    return buffer.getvalue()


def xml_of(rows: list[Row]) -> bytes:
    items = ["".join(f"<{name}>{value}</{name}>" for name, value in row.items()) for row in rows]
    return f"<rows>{''.join(f'<row>{item}</row>' for item in items)}</rows>".encode()


def bomb() -> bytes:
    """A workbook of 600 kB that unpacks to 600 MB."""
    buffer = io.BytesIO(xlsx_of([good(1)]))
    with (
        zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("xl/x.bin", "w") as part,
    ):
        for _ in range(600):
            part.write(bytes(1 << 20))
    return buffer.getvalue()


def marked(data: bytes) -> bytes:
    return b"\xef\xbb\xbf" + data


def broken(data: bytes, old: str = "店铺2") -> bytes:
    """The same with bytes that are not UTF-8 in the second row."""
    return data.replace(old.encode(), "店铺2".encode("gb18030"))


# what a file holds, and where which reason stands; the rows without one are sealed
FILES: dict[str, tuple[str, bytes | Callable[[], bytes], int, Found]] = {
    "wrong encoding, CSV": ("csv", broken(csv_of(around())), 2, [("f.csv:3", "encoding")]),
    "wrong encoding, JSONL": ("jsonl", broken(jsonl_of(around())), 2, [("f.jsonl:2", "encoding")]),
    "wrong encoding, XML": ("xml", broken(xml_of(around())), 1, [("f.xml:2", "encoding")]),
    "UTF-16, CSV": ("csv", csv_of(around(), encoding="utf-16"), 3, []),
    "UTF-16, JSONL": ("jsonl", jsonl_of(around()).decode().encode("utf-16"), 3, []),
    "a byte order mark, CSV": ("csv", marked(csv_of(around())), 3, []),
    "a byte order mark, JSONL": ("jsonl", marked(jsonl_of(around())), 3, []),
    "a byte order mark, XML": ("xml", marked(xml_of(around())), 3, []),
    "a merged cell": (
        "xlsx", xlsx_of(around(), lambda s: s.merge_cells("B2:B3")), 2, [("f.xlsx:S!3", "merged-cell")],
    ),
    "a merged header": (
        "xlsx", xlsx_of(around(), lambda s: s.merge_cells("A1:B1")), 0, [("f.xlsx:S!1", "missing-column")],
    ),
    "a formula": ("xlsx", xlsx_of(around(shop="=A1")), 2, [("f.xlsx:S!3", "formula")]),
    "an error cell": ("xlsx", xlsx_of(around(count="#DIV/0!")), 2, [("f.xlsx:S!3", "error-cell")]),
    "a header twice, CSV": (
        "csv", csv_of(around(), header="id,shop,day,count,code,id"), 0, [("f.csv:1", "missing-column")],
    ),
    "a needed header twice, CSV": (
        "csv", csv_of([good(1, x="1")], header="id,shop,day,count,code,photo,shop"), 0,
        [("f.csv:1", "duplicate-column")],
    ),
    "a header twice, XLSX": (
        "xlsx", xlsx_of(around(), lambda s: s.cell(1, 7, "shop")), 0, [("f.xlsx:S!1", "duplicate-column")],
    ),
    "a member twice, JSONL": (
        "jsonl", jsonl_of(around()).replace(b'"id": "r2"', b'"id": "r2", "id": "r9"'), 2,
        [("f.jsonl:2", "duplicate-column")],
    ),
    "an element twice, XML": ("xml", xml_of(around(shop="a</shop><shop>b")), 2, [("f.xml:2", "nested")]),
    "NaN, JSONL": ("jsonl", jsonl_of(around(count=float("nan"))), 2, [("f.jsonl:2", "not-a-number")]),
    "NaN as text, CSV": ("csv", csv_of(around(count="NaN")), 2, [("f.csv:3", "bad-integer")]),
    "NaN as text, XLSX": ("xlsx", xlsx_of(around(count="NaN")), 2, [("f.xlsx:S!3", "bad-integer")]),
    "NaN as text, XML": ("xml", xml_of(around(count="NaN")), 2, [("f.xml:2", "bad-integer")]),
    "a huge field, CSV": ("csv", csv_of(around(shop="x" * 200_000)), 2, [("f.csv:3", "too-long")]),
    "a huge field, JSONL": ("jsonl", jsonl_of(around(shop="x" * 1_100_000)), 2, [("f.jsonl:2", "too-long")]),
    "a huge field, XML": ("xml", xml_of(around(shop="x" * 200_000)), 2, [("f.xml:2", "too-long")]),
    "a field longer than the record type allows": (
        "xlsx", xlsx_of(around(shop="x" * 30_000)), 2, [("f.xlsx:S!3", "schema")],
    ),
    "a zip bomb": ("xlsx", bomb, 0, [("f.xlsx:1", "bad-workbook")]),
    "a bomb of entities": (
        "xml", b'<!DOCTYPE r [<!ENTITY a "x"><!ENTITY b "&a;&a;">]>' + xml_of(around()), 0, [("f.xml:1", "bad-xml")],
    ),
}  # fmt: skip


class Feed:
    """One feed into a real ledger."""

    def __init__(self, directory: Path, parts: Parts) -> None:
        self.directory = directory
        self.parts = parts
        self.state = AdapterState(parts.database.engine_for_writing())
        (directory / "photos").mkdir()
        (directory / "secret.txt").write_text("s")

    def run(self, source: str, **environ: str) -> Any:
        mapping = parse_mapping(MAPPING.format(source=source).encode(), "m.toml", self.directory)
        opened = open_source(mapping, environ=environ)
        return run(mapping, opened, self.state, lambda batch: self.parts.submit(batch))

    def found(self) -> Found:
        return [(entry.position, entry.reason) for entry in self.state.quarantine("fire/bad")]


@pytest.fixture
def feed(tmp_path: Path, sqlite_parts: Parts) -> Feed:
    return Feed(tmp_path, sqlite_parts)


@pytest.mark.parametrize("name", FILES)
def test_a_bad_file(feed: Feed, name: str) -> None:
    kind, data, sealed, found = FILES[name]
    (feed.directory / f"f.{kind}").write_bytes(data if isinstance(data, bytes) else data())
    row = '\nrow = "row"' if kind == "xml" else ""
    report = feed.run(f'kind = "{kind}"\npath = "f.{kind}"{row}')
    assert (report.sealed, feed.found()) == (sealed, found)
    assert report.stopped is None
    assert all(entry.detail for entry in feed.state.quarantine("fire/bad"))
    feed.parts.check_log(sealed)


# ---- what every kind of source can deliver -----------------------------------------------------------------------

VALUES = {
    "a unified social credit code with a wrong check digit": ({"code": "91350100M000100Y44"}, "bad-identifier"),
    "a unified social credit code one short": ({"code": "91350100M000100Y4"}, "bad-identifier"),
    "a day that could be three": ({"day": "02/03/04"}, "bad-date"),
    "a day with a two-digit year": ({"day": "24-03-05"}, "bad-date"),
    "a path out of the directory": ({"photo": "../secret.txt"}, "attachment-outside"),
    "a path out of the directory, as Windows writes it": ({"photo": "..\\secret.txt"}, "attachment-outside"),
    "an absolute path": ({"photo": "/etc/passwd"}, "attachment-outside"),
    "a name without end": ({"photo": "x" * 2000}, "bad-attachment"),
    "a name that no file system takes": ({"photo": "x" * 300}, "attachment-missing"),
    "a URL where a path is wanted": ({"photo": "http://127.0.0.1/x.jpg"}, "bad-attachment"),
    "a URL of a local file": ({"photo": "file:///etc/passwd"}, "attachment-missing"),
    "a number that a spreadsheet program rounded": ({"shop": "1.23E+17"}, "rounded-number"),
    "a code that a spreadsheet program rounded": ({"code": "9.13501E+17"}, "rounded-number"),
    "29 February of another year": ({"day": "2023-02-29"}, "bad-date"),
    "the year 1": ({"day": "0001-01-01"}, "bad-time"),
    "the year 9999": ({"day": "9999-12-31"}, "bad-time"),
    "a number with an exponent": ({"count": "1e3"}, "bad-integer"),
}

WRITERS: dict[str, Callable[[list[Row]], bytes]] = {"csv": csv_of, "jsonl": jsonl_of, "xlsx": xlsx_of, "xml": xml_of}
PLACES = {
    "csv": "f.csv:3",
    "jsonl": "f.jsonl:2",
    "xlsx": "f.xlsx:S!3",
    "xml": "f.xml:2",
    "rest": "/rows:r2",
    "sql": "t:r2",
}


def deliver(feed: Feed, kind: str, rows: list[Row]) -> Any:
    """Runs the feed over rows in a source of any kind."""
    if kind in WRITERS:
        (feed.directory / f"f.{kind}").write_bytes(WRITERS[kind](rows))
        row = '\nrow = "row"' if kind == "xml" else ""
        return feed.run(f'kind = "{kind}"\npath = "f.{kind}"{row}')
    if kind == "rest":
        server = http_server.Server(lambda _: http_server.Said(rows))
        try:
            return feed.run(f'kind = "rest"\nurl = "{server.url}/rows"\npages = "none"')
        finally:
            server.close()
    url = f"sqlite:///{feed.directory / 'source.db'}"
    engine = create_engine(url)
    with engine.begin() as connection:
        columns = ", ".join(f"{name} TEXT" for name in COLUMNS)
        connection.execute(text(f"CREATE TABLE t (seq INTEGER PRIMARY KEY, {columns})"))
        names, marks = ", ".join(COLUMNS), ", ".join(f":{name}" for name in COLUMNS)
        connection.execute(text(f"INSERT INTO t ({names}) VALUES ({marks})"), rows)
    engine.dispose()
    return feed.run('kind = "sql"\nurl_env = "SOURCE"\ntable = "t"\ncursor = ["seq"]', SOURCE=url)


@pytest.mark.parametrize("kind", PLACES)
def test_bad_values_of_every_kind(feed: Feed, kind: str) -> None:
    bad = [good(2, id=f"r{number}", **changes) for number, (changes, _) in enumerate(VALUES.values(), 2)]
    last = len(bad) + 2
    report = deliver(feed, kind, [good(1), *bad, good(last)])
    expected = []
    for number, (_, reason) in enumerate(VALUES.values(), 2):
        name, separator, place = PLACES[kind].rpartition("!" if kind == "xlsx" else ":")
        step = number - 2
        moved = f"r{number}" if place.startswith("r") else str(int(place) + step)
        expected.append((f"{name}{separator}{moved}", reason))
    assert (report.sealed, feed.found()) == (2, expected)
    feed.parts.check_log(2)


@pytest.mark.parametrize(
    ("kind", "value", "valid"),
    [
        ("resident-id", "110105194912310021", "11010519491231002X"),
        ("resident-id", "11010519490231002X", "11010519491231002X"),
        ("plate", "浙I12345", "浙B12345"),
        ("uscc", "91350100m000100y4O", "91350100M000100Y43"),
    ],
)
def test_identifiers_by_their_own_rules(
    feed: Feed, monkeypatch: pytest.MonkeyPatch, kind: str, value: str, valid: str
) -> None:
    monkeypatch.setitem(globals(), "MAPPING", MAPPING.replace('kind = "uscc"', f'kind = "{kind}"'))
    rows = [good(1, code=valid), good(2, code=value), good(3, code=valid)]
    report = deliver(feed, "csv", rows)
    assert (report.sealed, feed.found()) == (2, [("f.csv:3", "bad-identifier")])
    (entry,) = feed.state.quarantine("fire/bad")
    assert value not in entry.detail, "a sentence that may travel into a log repeats no identity number"


KEYS: dict[str, tuple[str, str | None]] = {
    "in upper case": ("R1", None),
    "in full width": ("ｒ１", None),
    "composed": ("caf\u00e9", None),
    "decomposed": ("cafe\u0301", None),
    "with a space behind": ("r1 ", "conflict"),
    "with a wide space behind": ("r1\u3000", "conflict"),
    "with a space of no width": ("r1\u200b", "control-character"),
    "with a byte order mark": ("\ufeffr1", "control-character"),
    "rounded by a spreadsheet program": ("1.23E+17", "rounded-number"),
}


def test_keys_that_look_alike(feed: Feed) -> None:
    """Texts that differ are rows of their own, and `check` says so; what cannot be seen is not sealed twice."""
    rows = [good(1), *[good(n, id=key) for n, (key, _) in enumerate(KEYS.values(), 2)]]
    report = deliver(feed, "jsonl", rows)
    expected = [(f"f.jsonl:{n}", reason) for n, (_, reason) in enumerate(KEYS.values(), 2) if reason is not None]
    assert (report.sealed, feed.found()) == (len(rows) - len(expected), expected)
    assert report.read == report.sealed + report.known + report.quarantined == len(rows)
    mapping = parse_mapping(
        MAPPING.format(source='kind = "jsonl"\npath = "f.jsonl"').encode(), "m.toml", feed.directory
    )
    found = [finding for finding in check(mapping, open_source(mapping)).findings if finding.code == "keys-alike"]
    assert [finding.position for finding in found] == ["f.jsonl:2"]
    assert 'the keys "r1" and "R1" differ only in case, width or spaces' in found[0].sentence
    feed.parts.check_log(report.sealed)


def test_keys_that_all_end_in_zeros_are_doubtful(feed: Feed) -> None:
    rows = [good(n, id=f"33029500{n:07}000") for n in range(1, 4)]
    for extra, doubts in (([], 1), ([good(9, id="330295000000001234")], 0)):
        (feed.directory / "f.csv").write_bytes(csv_of([*rows, *extra]))
        mapping = parse_mapping(
            MAPPING.format(source='kind = "csv"\npath = "f.csv"').encode(), "m.toml", feed.directory
        )
        codes = [finding.code for finding in check(mapping, open_source(mapping)).findings]
        assert codes.count("rounded-keys") == doubts


def test_resident_ids_cut_to_15_digits(feed: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one of eleven the check digit fits by chance: a wrong person's number must not be sealed."""
    whole = next(f"1101051949{n:05}000" for n in range(12000, 12400) if _fits(f"1101051949{n:05}000"))
    rows = [good(1, code="11010519491231002X"), good(2, code=whole), good(3, code="110105194912310000")]
    monkeypatch.setitem(globals(), "MAPPING", MAPPING.replace('kind = "uscc"', 'kind = "resident-id"'))
    report = deliver(feed, "csv", rows)
    assert (report.sealed, feed.found()) == (1, [("f.csv:3", "rounded-number"), ("f.csv:4", "rounded-number")])
    assert all(whole not in entry.detail for entry in feed.state.quarantine("fire/bad"))
    rule = '{ column = "code", exact = true }'
    exact = MAPPING.replace('{{ column = "code" }}', f"{{{rule}}}").replace("version = 1", "version = 2")
    monkeypatch.setitem(globals(), "MAPPING", exact)
    report = deliver(feed, "csv", [*rows, good(4, code=whole)])
    assert (report.sealed, report.quarantined) == (1, 0)


def _fits(value: str) -> bool:
    try:
        identifiers.check("resident-id", value)
    except RecordRefused:
        return False
    return True


def test_a_pipe_a_device_and_a_link_to_itself_are_no_files(feed: Feed) -> None:
    photos = feed.directory / "photos"
    os.mkfifo(photos / "pipe")
    (photos / "device").symlink_to("/dev/zero")
    (photos / "loop").symlink_to("loop")
    (photos / "directory").mkdir()
    names = {"pipe": "missing", "device": "outside", "loop": "missing", "directory": "missing", ".": "outside"}
    report = deliver(feed, "csv", [good(n, photo=name) for n, name in enumerate(names, 1)])
    expected = [(f"f.csv:{n}", f"attachment-{reason}") for n, reason in enumerate(names.values(), 2)]
    assert (report.sealed, feed.found()) == (0, expected)


def test_a_link_out_of_the_directory(feed: Feed) -> None:
    (feed.directory / "photos" / "link.txt").symlink_to(feed.directory / "secret.txt")
    report = deliver(feed, "csv", around(photo="link.txt"))
    assert (report.sealed, feed.found()) == (2, [("f.csv:3", "attachment-outside")])


def test_a_matter_that_the_department_did_not_hold(feed: Feed) -> None:
    cells = {"code": "330299-XF-001", "name": "n", "kind": "penalty", "legal_basis": "b"}
    cells |= {"effective_from": "2024-03-05", "effective_to": "2024-03-05"}
    delivered = read_list(list(cells), [ListRow("l:2", cells)], department="fire", departments={})
    (made,) = draft(feed.parts.database, delivered, as_of=date(2024, 1, 1), today=date(2024, 1, 1))
    publish(feed.parts.intake, made, Origin("l.csv", bytes(32)), time.time())
    report = deliver(feed, "csv", around(day="2024-03-06"))
    assert (report.sealed, feed.found()) == (2, [("f.csv:3", "matter-not-held")])
    (entry,) = feed.state.quarantine("fire/bad")
    assert "department fire did not hold matter 330299-XF-001 on 2024-03-06" in entry.detail


def test_a_server_that_loops_its_cursor(feed: Feed) -> None:
    """There is no row to set aside: the run stops, what came before is sealed, and nothing is doubled."""

    def answer(asked: Any) -> Any:
        page = int(asked.params.get("cursor", "0") or 0)
        return http_server.Said({"rows": [good(page)], "next": str((page + 1) % 3)})

    server = http_server.Server(answer)
    source = f'kind = "rest"\nurl = "{server.url}/rows"\nrows = "rows"\npages = "cursor"\nnext = "next"'
    for sealed in (3, 0):
        report = feed.run(source)
        assert report.sealed == sealed
        assert "in a circle" in str(report.stopped)
    server.close()
    assert feed.found() == []
    feed.parts.check_log(3)


# ---- items that the readers' own tests carry ---------------------------------------------------------------------

ELSEWHERE = {
    "a compressed CSV that unpacks without end": ("test_csv_files.py", "def test_a_bomb_ends_at_the_limit"),
    "compressed XML that unpacks without end": ("test_xml_files.py", "def test_a_compressed_bomb"),
    "a compressed answer without end": ("test_rest_api.py", '"a bomb"'),
    "a flood of MQTT messages": ("test_mqtt_topics.py", "def test_a_flood_stays_with_the_broker"),
    "MQTT messages that are no rows": ("test_mqtt_topics.py", "def test_bad_messages_are_set_aside"),
    "webhooks that are no rows": ("test_webhook.py", "def test_a_body_that_is_no_json_is_taken_and_set_aside"),
    "a flood of webhooks": ("test_webhook.py", "def test_a_full_inbox_says_so_until_it_was_read"),
    "objects that cannot be read": ("test_s3_buckets.py", "def test_an_object_that_cannot_be_read_holds_nobody_up"),
    "text in a database that is not UTF-8": ("test_sql_tables.py", "def test_text_that_is_not_utf_8_and_bytes"),
    "attachments out of a drop folder": ("test_folder.py", '"attachment-outside"'),
    "dates and numbers of every kind of source": (
        "test_sources.py",
        "def test_a_bad_row_is_set_aside_and_holds_nobody_up",
    ),
}


@pytest.mark.parametrize("item", ELSEWHERE)
def test_the_item_is_still_tested_there(item: str) -> None:
    file, words = ELSEWHERE[item]
    assert words in (HERE / file).read_text("utf-8")
