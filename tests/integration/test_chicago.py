"""All rows of three departments' real exports through the command: sealed or quarantined, and nothing twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fixtures.command import Yunxi, made_node, row_count
from tests.integration.test_kill_and_restart import CHICAGO, MAPPINGS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHICAGO.is_dir(), reason="../shared/data/chicago is not here"),
]

# rows of each source, counted with the csv module
FEEDS = {
    "chicago_food_inspections": ("public-health", 27_600),
    "chicago_business_licences": ("licensing", 17_431),
    "chicago_sanitation_complaints": ("streets", 74_401),
}


def _run_all(yunxi: Yunxi, *options: str) -> dict[str, dict[str, int]]:
    return {feed: yunxi.good("adapter", "run", MAPPINGS / f"{feed}.toml", *options, "--json").json() for feed in FEEDS}


def test_every_row_is_sealed_known_or_quarantined_and_a_second_run_adds_nothing(tmp_path: Path) -> None:
    with made_node(tmp_path, *(department for department, _ in FEEDS.values())) as chicago:
        _check_all(chicago)


def _check_all(chicago: Yunxi) -> None:
    first = _run_all(chicago)
    for feed, (_, rows) in FEEDS.items():
        report = first[feed]
        assert report["read"] == rows
        assert report["sealed"] + report["known"] + report["quarantined"] == rows
        assert report["stopped"] is None
        assert report["unmapped"] == []
    assert sum(report["read"] for report in first.values()) == 119_432
    # which of two differing rows under one number is right only the department can say; nothing else is wrong there
    assert set(first["chicago_sanitation_complaints"]["by_reason"]) == {"conflict"}  # type: ignore[call-overload]

    sealed = {FEEDS[feed][0]: report["sealed"] for feed, report in first.items()}
    assert _rows(chicago) == sealed

    assert all(report["read"] == 0 for report in _run_all(chicago).values())
    for feed, report in _run_all(chicago, "--afresh").items():
        assert (report["read"], report["sealed"]) == (FEEDS[feed][1], 0)
        assert report["quarantined"] == first[feed]["quarantined"]
        assert report["in_quarantine"] == first[feed]["in_quarantine"]
    assert _rows(chicago) == sealed

    audit = chicago.good("audit", "--json").json()
    assert audit["good"]
    # a report of the first run and one of the reading afresh
    assert {log["department"]: log["payloads"] - 2 for log in audit["logs"]} == sealed
    reports = chicago.good("adapter", "reports", "--json").json()["feeds"]
    assert {feed["department"]: feed["last"]["totals"]["sealed"] for feed in reports} == sealed
    for feed, (_, rows) in FEEDS.items():
        found = chicago.good("adapter", "reconcile", MAPPINGS / f"{feed}.toml", "--json").json()
        assert (found["at_source"], found["in_ledger"]) == (rows, sealed[FEEDS[feed][0]])
    assert all(log["anchored_size"] == log["size"] for log in audit["logs"])


def _rows(yunxi: Yunxi) -> dict[str, int]:
    return {department: row_count(yunxi.directory / "node", department) for department, _ in FEEDS.values()}


def test_every_mapping_checks_clean_or_names_what_the_source_has_wrong(tmp_path: Path) -> None:
    for feed in FEEDS:
        checked = Yunxi(tmp_path)("adapter", "check", MAPPINGS / f"{feed}.toml", "--json").json()
        assert checked["rows"] >= 1000
        assert not [finding for finding in checked["findings"] if finding["code"] == "unmapped-column"]
