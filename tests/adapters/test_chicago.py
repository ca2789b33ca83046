"""All 119,432 rows of the three Chicago exports through the mappings that ship with the project."""

from __future__ import annotations

import csv
import lzma
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from adapters.mapping import load_mapping, open_source
from adapters.run import RunReport, check, run
from adapters.state import AdapterState
from ledger.errors import RecordRefused
from ledger.record_types import BUILT_IN, RecordTypes
from ledger.submission import Outcome, Refused, Submission

MAPPINGS = Path(__file__).parents[2] / "adapters" / "mappings"

EXPECTED: dict[str, dict[str, Any]] = {
    "food_inspections": {"read": 27_600, "sealed": 27_600, "known": 0, "by_reason": {}},
    "business_licences": {"read": 17_431, "sealed": 17_430, "known": 0, "by_reason": {"blank-key": 1}},
    "sanitation_complaints": {"read": 74_401, "sealed": 74_026, "known": 3, "by_reason": {"conflict": 372}},
}


def feed(directory: Path, name: str, state: AdapterState, submit: Any, **options: Any) -> RunReport:
    mapping = load_mapping(MAPPINGS / f"chicago_{name}.toml")
    source = open_source(mapping, override=directory / f"{name}.csv.xz")
    return run(mapping, source, state, submit, **options)


def source_keys(directory: Path, name: str, column: str) -> list[str]:
    with lzma.open(directory / f"{name}.csv.xz", "rt", encoding="utf-8", newline="") as stream:
        return [row[column] for row in csv.DictReader(stream)]


@pytest.mark.parametrize("name", EXPECTED)
def test_every_row_is_sealed_or_set_aside(chicago, state, ledger, name):
    types = RecordTypes.load(BUILT_IN)
    now = time.time()

    def submit(batch: Sequence[Submission]) -> list[Outcome]:
        good: list[Submission] = []
        refused: dict[str, Outcome] = {}
        for item in batch:
            try:
                types.validate(item.record, now)
                good.append(item)
            except RecordRefused as error:
                refused[item.key] = Refused(item.key, error)
        taken = iter(ledger(good))
        return [refused[item.key] if item.key in refused else next(taken) for item in batch]

    report = feed(chicago, name, state, submit)
    assert report.stopped is None and report.unmapped == ()
    assert report.read == report.sealed + report.known + report.quarantined
    expected = EXPECTED[name]
    assert {key: getattr(report, key) for key in expected} == expected
    assert state.quarantine_counts(report.feed) == expected["by_reason"]

    # the totals agree with the source, read by another reader, and the order is the source's
    mapping = load_mapping(MAPPINGS / f"chicago_{name}.toml")
    keys = source_keys(chicago, name, mapping.key[0])
    assert report.read == len(keys)
    assert ledger.keys() == [key for key in dict.fromkeys(keys) if key]

    again = feed(chicago, name, state, submit)
    assert (again.read, again.sealed) == (0, 0)
    assert state.quarantine_counts(report.feed) == expected["by_reason"]


def test_nothing_is_left_out_but_what_the_mapping_says(chicago, state, ledger):
    feed(chicago, "food_inspections", state, ledger, limit=10_000)
    records = ledger.records()
    members = Counter(name for record in records for name in record)
    always = set(members) - {"facility_kind"}
    assert {members[name] for name in always} == {len(records)}
    points = [record["place"] for record in records if "latitude" in record["place"]]
    assert all(place["datum"] == "WGS-84" and place["longitude"].startswith("-87.") for place in points)
    assert 9_900 < len(points) < 10_000


def test_check_finds_only_what_is_wrong(chicago):
    types = RecordTypes.load(BUILT_IN)
    for name, findings in (
        ("food_inspections", []),
        ("business_licences", ["blank-key"]),
        ("sanitation_complaints", []),
    ):
        mapping = load_mapping(MAPPINGS / f"chicago_{name}.toml")
        source = open_source(mapping, override=chicago / f"{name}.csv.xz")
        report = check(mapping, source, validate=lambda record: types.validate(record, time.time()))
        assert [finding.code for finding in report.findings] == findings
