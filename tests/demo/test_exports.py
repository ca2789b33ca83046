"""The demonstration's exports: repeatable, as good and as bad as they say, and readable through their mapping files."""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
import struct
import zlib
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from adapters.mapping import load_mapping, open_source
from adapters.source import BadRow
from adapters.transform import Transform
from demo.district import DEPARTMENTS
from demo.exports import ExportFile, Exports, generate
from ledger.errors import RecordRefused
from ledger.formats.identifiers import normalise
from ledger.record_types import BUILT_IN, RecordTypes

NOW = datetime(2025, 7, 1, tzinfo=UTC).timestamp()
TYPES = RecordTypes.load(BUILT_IN)


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Exports:
    return generate(tmp_path_factory.mktemp("exports"))


def digests(directory: Path) -> dict[str, str]:
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def records(exports: Exports, file: ExportFile) -> Iterator[dict[str, Any] | RecordRefused]:
    """What becomes of every row: a record that its type takes, or a refusal. A key is taken once, as in intake."""
    mapping = load_mapping(file.mapping)
    transform = Transform(mapping)
    known: dict[str, dict[str, Any]] = {}
    for page in open_source(mapping, environ=exports.environ).pages({}, 100):
        for row in page.rows:
            try:
                if isinstance(row, BadRow):
                    raise RecordRefused(row.reason, row.detail)
                submission = transform(transform.key(row.values), row.values).submission
                if known.setdefault(submission.key, submission.record) is not submission.record:
                    raise RecordRefused("conflict", submission.key)
                TYPES.validate(submission.record, NOW)
                yield submission.record | {"photos": submission.attachments}
            except RecordRefused as refusal:
                yield refusal


def good(exports: Exports, department: str) -> list[dict[str, Any]]:
    file = next(file for file in exports.files if file.department == department)
    return [outcome for outcome in records(exports, file) if isinstance(outcome, dict)]


# ---- the files ---------------------------------------------------------------------------------------------------


def test_same_seed_same_bytes(exports: Exports, tmp_path: Path) -> None:
    generate(tmp_path, seed=7)
    assert digests(tmp_path) == digests(exports.directory)


def test_another_seed_gives_other_rows(exports: Exports, tmp_path: Path) -> None:
    generate(tmp_path, seed=8)
    ours, theirs = digests(exports.directory), digests(tmp_path)
    assert all(ours[name] != theirs[name] for name in ours if not name.endswith(".toml") and "photos" not in name)


def test_six_departments_and_more_than_two_thousand_rows(exports: Exports) -> None:
    assert [file.department for file in exports.files] == list(DEPARTMENTS)
    assert exports.good >= 2000
    assert exports.bad == sum(len(file.bad) for file in exports.files) >= 30
    assert {file.path.suffix for file in exports.files} == {".csv", ".xlsx", ".jsonl", ".sqlite"}


def test_scale_multiplies_the_good_rows(exports: Exports, tmp_path: Path) -> None:
    double = generate(tmp_path, scale=2)
    assert double.good == 2 * exports.good
    assert double.bad == exports.bad


def test_scale_must_be_positive(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        generate(tmp_path, scale=0)


def test_each_file_is_what_it_is_called(exports: Exports) -> None:
    folder = exports.directory
    assert "案件编号" in (folder / "fire/fire-lanes.csv").read_bytes().decode("gb18030", "replace")
    assert (folder / "traffic/dangerous-goods.csv").read_bytes().startswith("\ufeff处罚编号".encode())
    lines = (folder / "environment/discharges.jsonl").read_bytes().splitlines()
    assert json.loads(lines[0])["位置"]["坐标"].keys() == {"北纬", "东经"}
    sheet = openpyxl.load_workbook(folder / "housing/housing-quality.xlsx").active
    assert (sheet["A1"].value, sheet["A2"].value, sheet.max_row) == ("商品房品质检查台账", "记录编号", 2 + 366)
    assert sheet["B3"].value == datetime(2024, 7, 1)  # noqa: DTZ001
    with closing(sqlite3.connect(folder / "market/licences.sqlite")) as database:
        assert database.execute("SELECT count(*), max(id) FROM licences").fetchone() == (426, 426)
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_photos_are_whole_pngs(exports: Exports) -> None:
    photos = list(exports.directory.glob("*/photos/*.png"))
    assert len(photos) > 200
    for photo in photos:
        data = photo.read_bytes()
        assert data.startswith(b"\x89PNG\r\n\x1a\n")
        chunks = dict(png_chunks(data[8:]))
        width, height = struct.unpack(">II", chunks[b"IHDR"][:8])
        assert len(zlib.decompress(chunks[b"IDAT"])) == height * (width + 1)


def png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    while data:
        size, kind = struct.unpack(">I4s", data[:8])
        body, (checksum,) = data[8 : 8 + size], struct.unpack(">I", data[8 + size : 12 + size])
        assert zlib.crc32(kind + body) == checksum
        yield kind, body
        data = data[12 + size :]


# ---- through the mappings ----------------------------------------------------------------------------------------

REASONS = {
    "fire": ["encoding", "attachment-missing", "bad-identifier", "bad-time", "blank", "unknown-value"],
    "housing": ["bad-date", "bad-identifier", "bad-time", "blank", "schema", "unknown-value"],
    "environment": ["bad-json", "bad-time", "blank", "duplicate-column", "encoding", "unknown-value"],
    "market": ["bad-date", "bad-identifier", "bad-identifier", "bad-time", "bad-time", "blank"],
    "traffic": ["bad-identifier", "bad-decimal", "bad-time", "bad-time", "column-count", "encoding", "schema"],
    "urban": ["bad-identifier", "bad-json", "bad-json", "bad-time", "blank-key", "conflict"],
}


@pytest.mark.parametrize("department", DEPARTMENTS)
def test_the_mapping_takes_the_good_rows_and_refuses_the_bad(exports: Exports, department: str) -> None:
    file = next(file for file in exports.files if file.department == department)
    outcomes = list(records(exports, file))
    refusals = [outcome for outcome in outcomes if isinstance(outcome, RecordRefused)]
    assert len(outcomes) == file.rows
    assert len(outcomes) - len(refusals) == file.good
    assert sorted(refusal.reason for refusal in refusals) == sorted(REASONS[department]), list(map(str, refusals))


@pytest.mark.parametrize("department", DEPARTMENTS)
def test_no_column_is_forgotten(exports: Exports, department: str) -> None:
    file = next(file for file in exports.files if file.department == department)
    mapping = load_mapping(file.mapping)
    pages = list(open_source(mapping, environ=exports.environ).pages({}, 1000))
    rows = [row for page in pages for row in page.rows if not isinstance(row, BadRow)]
    seen = {name for row in rows for name in row.values}
    # a JSON null is a column without content
    assert seen == set(mapping.columns | mapping.ignore)


def test_departments_meet_in_the_same_subjects(exports: Exports) -> None:
    found = {department: subjects(good(exports, department)) for department in DEPARTMENTS}
    plates, companies, addresses = (
        {department: {value for kind, value in pairs if kind == wanted} for department, pairs in found.items()}
        for wanted in ("plate", "uscc", "address")
    )
    assert len(plates["fire"] & plates["traffic"]) > 10
    assert len(plates["fire"] & plates["urban"]) > 10
    for left, right in [("housing", "market"), ("environment", "market"), ("traffic", "market"), ("urban", "market")]:
        assert len(companies[left] & companies[right]) > 5
    assert len(addresses["housing"] & addresses["market"]) > 5
    assert len(addresses["urban"] & addresses["market"]) > 5


def subjects(found: list[dict[str, Any]]) -> set[tuple[str, str]]:
    return {(s["kind"], normalise(s["kind"], s["value"])) for record in found for s in record["subjects"]}


def test_the_same_plate_is_written_in_several_ways(exports: Exports) -> None:
    raw = {
        department: {
            s["value"] for record in good(exports, department) for s in record["subjects"] if s["kind"] == "plate"
        }
        for department in ("fire", "traffic", "urban")
    }
    assert not raw["fire"] & raw["traffic"]
    assert not raw["traffic"] & raw["urban"]


def test_photos_are_attached(exports: Exports) -> None:
    counts = {department: [len(r["photos"]) for r in good(exports, department)] for department in DEPARTMENTS}
    assert sum(counts["fire"]) == 115
    assert sum(counts["traffic"]) == 76
    assert max(counts["housing"]) == 2


def test_every_name_and_code_is_fictitious(exports: Exports) -> None:
    found = [record for department in DEPARTMENTS for record in good(exports, department)]
    for kind, value in subjects(found):
        if kind == "uscc":
            assert value[2:8] == "330299"
        if kind == "resident-id":
            assert value.startswith("330299")
        if kind == "plate":
            assert value.startswith("浙Y")
    names = {officer["name"] for record in found for officer in record.get("officers", ())}
    assert all(re.fullmatch("[赵钱孙李周吴郑王冯陈][甲-癸].", name) or len(name) == 3 for name in names)
