"""The behaviour suite: what holds for every kind of source."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine

from adapters.run import Progress, RunReport, check, preview, run
from adapters.state import AdapterState
from ledger.errors import HistoryRefused, Malformed, StorageFailed

WORKER = Path(__file__).with_name("worker.py")
BATCH = 10


def feed(harness: Any, state: Any, submit: Any, **options: Any) -> RunReport:
    report = run(harness.mapping(), harness.source(), state, submit, batch=options.pop("batch", BATCH), **options)
    assert report.read == report.sealed + report.known + report.quarantined
    assert report.quarantined == sum(report.by_reason.values())
    return report


def keys(rows: list[dict[str, str]]) -> list[str]:
    return [row["id"] for row in rows]


@pytest.mark.parametrize("count", [0, 1, BATCH - 1, BATCH, BATCH + 1, 3 * BATCH])
def test_every_row_is_sealed_once_and_in_order(harness, state, ledger, rows, count):
    harness.write(rows(count))
    report = feed(harness, state, ledger)
    assert (report.read, report.sealed, report.stopped) == (count, count, None)
    assert ledger.keys() == keys(rows(count))
    assert max(ledger.batches, default=0) <= BATCH


def test_a_second_run_adds_nothing(harness, state, ledger, rows):
    harness.write(rows(25))
    feed(harness, state, ledger)
    report = feed(harness, state, ledger)
    assert (report.read, report.sealed) == (0, 0)
    assert ledger.keys() == keys(rows(25))


def test_records_are_the_same_from_every_kind(harness, state, ledger, row):
    harness.write([row(3)])
    feed(harness, state, ledger)
    assert ledger.records() == [
        {
            "type": "inspection.report",
            "v": 1,
            "department": "market",
            "matter": "M-1",
            "occurred_at": "2024-03-05T00:00:00+08:00",
            "facility_name": "店铺 3",
            "result": "pass",
            "minor_violations": 3,
            "subjects": [{"kind": "name", "value": "店铺 3"}],
            "source": {"system": "test", "mapping": "shops", "version": "1", "row": "r00003"},
        }
    ]


def test_a_source_that_grew_is_continued(harness, state, ledger, rows):
    harness.write(rows(15))
    feed(harness, state, ledger)
    harness.append(rows(15, start=15))
    report = feed(harness, state, ledger)
    assert (report.read, report.sealed) == (15, 15)
    assert ledger.keys() == keys(rows(30))


def test_a_source_that_was_replaced_is_read_from_its_start(harness, state, ledger, rows):
    harness.write(rows(15, start=5))
    feed(harness, state, ledger)
    harness.write(rows(25))
    report = feed(harness, state, ledger)
    assert (report.read, report.sealed, report.known) == (25, 10, 15)
    assert sorted(ledger.keys()) == keys(rows(25))


BAD = {
    "blank key": ({"id": "  "}, "blank-key"),
    "blank where a value is asked for": ({"shop": ""}, "blank"),
    "not a number": ({"count": "three"}, "bad-integer"),
    "a thousands separator": ({"count": "1,200"}, "bad-integer"),
    "a float where a count is asked for": ({"count": "3.5"}, "bad-integer"),
    "below the bound": ({"count": "-1"}, "out-of-range"),
    "more than 2^53": ({"count": "9007199254740992"}, "bad-integer"),
    "a day that does not exist": ({"day": "2023-02-29"}, "bad-date"),
    "a date that could mean three days": ({"day": "02/03/04"}, "bad-date"),
    "a date without separators": ({"day": "20240305"}, "bad-date"),
    "NaN": ({"count": "NaN"}, "bad-integer"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_row_is_set_aside_and_holds_nobody_up(harness, state, ledger, rows, row, name):
    changes, reason = BAD[name]
    exported = rows(12)
    exported[4] = row(4, **changes)
    harness.write(exported)
    report = feed(harness, state, ledger)
    assert dict(report.by_reason) == {reason: 1}
    assert ledger.keys() == [key for key in keys(rows(12)) if key != "r00004"]
    (entry,) = state.quarantine("market/shops")
    assert (entry.reason, entry.mapping_version) == (reason, 1)
    assert harness.row_is_its_key or entry.position == harness.position(5)
    assert entry.detail and str(row(4, **changes)["shop"] or "r00004") in entry.raw.encode().decode("unicode_escape")


def test_a_rerun_does_not_double_the_quarantine(harness, state, ledger, rows, row):
    harness.write([*rows(5), row(5, count="x"), row(6, shop="")])
    feed(harness, state, ledger)
    harness.write([*rows(5), row(5, count="x"), row(6, shop=""), row(7)])
    feed(harness, state, ledger)
    assert state.quarantine_counts("market/shops") == {"bad-integer": 1, "blank": 1}


def test_a_row_that_goes_well_later_leaves_the_quarantine(harness, state, ledger, rows, row):
    harness.write([*rows(5), row(5, count="x"), *rows(5, start=6)])
    feed(harness, state, ledger)
    assert state.quarantine_counts("market/shops") == {"bad-integer": 1}
    harness.write(rows(11))
    report = feed(harness, state, ledger)
    assert (report.sealed, report.known) == (1, 10)
    assert state.quarantine("market/shops") == []


def test_the_same_key_again(harness, state, ledger, rows, row):
    harness.write([*rows(3), row(1), row(2, count="6"), row(2, count="5")])
    report = feed(harness, state, ledger)
    assert (report.sealed, report.known, dict(report.by_reason)) == (3, 1, {"conflict": 2})
    assert ledger.keys() == keys(rows(3))
    assert state.quarantine_counts("market/shops") == {"conflict": 2}
    harness.append([row(3), row(2)])
    report = feed(harness, state, ledger)
    assert (report.sealed, report.known) == (1, 1)
    # in a file the differing rows are still there; in a table a key is one row, and that is as it was again
    assert state.quarantine_counts("market/shops") == ({} if harness.row_is_its_key else {"conflict": 2})


def test_a_ledger_that_fails_stops_the_run_where_it_was(harness, state, ledger, rows):
    harness.write(rows(35))

    def failing(batch: Any) -> Any:
        if len(ledger.batches) == 2:
            raise StorageFailed("the disk is full; make room and run again")
        return ledger(batch)

    report = feed(harness, state, failing)
    assert (report.read, report.sealed) == (20, 20)
    assert isinstance(report.stopped, StorageFailed)
    report = feed(harness, state, ledger)
    assert (report.read, report.sealed, report.known, report.stopped) == (15, 15, 0, None)
    assert ledger.keys() == keys(rows(35))


def test_a_halted_log_is_raised_and_nothing_is_lost(harness, state, ledger, rows):
    harness.write(rows(15))

    def halted(batch: Any) -> Any:
        raise HistoryRefused("the log is halted")

    with pytest.raises(HistoryRefused):
        feed(harness, state, halted)
    assert feed(harness, state, ledger).sealed == 15


class PowerCut(BaseException):
    """Ends a run as a kill would: nothing catches it."""


@pytest.mark.parametrize("page", [0, 1, 3])
@pytest.mark.parametrize("point", ["before submit", "after submit", "after settle"])
def test_every_crash_point(harness, state, ledger, rows, row, page, point):
    exported = rows(35)
    exported[12] = row(12, count="x")
    harness.write(exported)

    def submit(batch: Any) -> Any:
        if point == "before submit" and len(ledger.batches) == page:
            raise PowerCut
        outcomes = ledger(batch)
        if point == "after submit" and len(ledger.batches) == page + 1:
            raise PowerCut
        return outcomes

    def progress(_: Progress) -> None:
        if point == "after settle" and len(ledger.batches) == page + 1:
            raise PowerCut

    with pytest.raises(PowerCut):
        feed(harness, state, submit, progress=progress)
    report = feed(harness, state, ledger)
    known = 0 if point != "after submit" else min(BATCH, 35 - page * BATCH) - (page == 1)
    if harness.offers_again:
        assert report.known == known
    else:
        # the broker may not have had the acknowledgement of the page before, and then sends that page again
        assert known <= report.known <= known + BATCH
    assert ledger.keys() == [key for key in keys(rows(35)) if key != "r00012"]
    assert state.quarantine_counts("market/shops") == {"bad-integer": 1}


def test_a_limit_ends_the_run_early_and_the_next_goes_on(harness, state, ledger, rows):
    harness.write(rows(25))
    assert feed(harness, state, ledger, limit=7).read == 7
    assert feed(harness, state, ledger).read == 18
    assert ledger.keys() == keys(rows(25))


def test_a_run_from_the_start_tries_the_quarantine_again(harness, state, ledger, rows, row):
    if not harness.offers_again:
        pytest.skip("what a broker was told to forget does not come again")
    harness.write([*rows(12), row(12, day="05.03.2024")])
    feed(harness, state, ledger)
    assert feed(harness, state, ledger).read == 0
    corrected = harness.mapping_text().replace('as = "date"', 'as = "date", format = "%d.%m.%Y"')
    harness.mapping_text = lambda: corrected
    with pytest.raises(Malformed, match='raise "version" to 2'):
        feed(harness, state, ledger, afresh=True)
    harness.mapping_text = lambda: corrected.replace("version = 1", "version = 2")
    report = feed(harness, state, ledger, afresh=True)
    # the others are wrong under the new mapping: they go to quarantine, their records stay
    assert (report.sealed, dict(report.by_reason)) == (1, {"bad-date": 12})
    assert ledger.keys() == keys(rows(13))


def test_progress_counts_up_to_the_report(harness, state, ledger, rows, row):
    harness.write([*rows(24), row(24, count="x")])
    seen: list[Progress] = []
    report = feed(harness, state, ledger, progress=seen.append)
    shown = [item for item in seen if item.read]
    assert [item.read for item in shown] == [10, 20, 25]
    assert (shown[-1].sealed, shown[-1].quarantined) == (report.sealed, report.quarantined)
    assert all(item.fraction is None or 0 <= item.fraction <= 1 for item in seen)


def test_preview_shows_rows_beside_records_and_saves_nothing(harness, state, rows, row):
    harness.write([*rows(2), row(2, count="x"), row(3)])
    shown = preview(harness.mapping(), harness.source(), 3)
    assert [item.position for item in shown] == [harness.position(n) for n in (1, 2, 3)]
    assert shown[0].record is not None and shown[0].record["facility_name"] == "店铺 0"
    assert shown[2].refusal is not None and shown[2].refusal.reason == "bad-integer"
    assert state.marks("market/shops") == {}


def test_check_is_clean_or_names_what_is_not(harness, rows, row):
    harness.write(rows(5))
    assert check(harness.mapping(), harness.source()).clean
    harness.append([row(5, count="x"), row(6, count="y"), row(7, shop="")])
    report = check(harness.mapping(), harness.source())
    assert (report.rows, report.good) == (8, 5)
    assert Counter(finding.code for finding in report.findings) == {"bad-integer": 1, "blank": 1}
    assert report.findings[0].sentence.startswith('2 of 8 rows: column "count" is "x"')


def test_pages_do_not_depend_on_their_size(harness, rows, row):
    harness.write([*rows(13), row(13, count="x")])

    def positions(size: int) -> list[str]:
        return [item.position for page in harness.source().pages({}, size) for item in page.rows]

    assert positions(1) == positions(4) == positions(1000) == [harness.position(n) for n in range(1, 15)]


@pytest.mark.parametrize(
    ("kind", "kills"),
    [
        ("csv", 4),
        *[
            pytest.param(k, 6, marks=pytest.mark.slow)
            for k in ("csv-gz", "jsonl", "xlsx", "xml", "folder", "rest", "webhook", "sqlite", "postgresql", "mariadb")
        ],
    ],
)
def test_kill_9_anywhere_ends_the_same(kind, kills, tmp_path, rows, row, request):
    harness = make(request, kind, tmp_path)
    request.addfinalizer(harness.close)
    conftest = sys.modules[type(harness).__module__]
    exported = rows(600)
    for number in (3, 77, 300, 599):
        exported[number] = row(number, count="x")
    exported.append(row(5, count="0"))
    harness.write(exported)
    mapping = tmp_path / "shops.toml"
    mapping.write_text(harness.mapping_text(), encoding="utf-8")
    environ = {**conftest.os.environ, **harness.environ}
    command = [sys.executable, str(WORKER), str(mapping), str(tmp_path / "state.db"), str(tmp_path / "ledger.db"), "7"]
    killed = [kill_during(command, environ, moment) for moment in moments(kills)]
    assert sum(killed) >= 2
    subprocess.run(command, env=environ, check=True, capture_output=True, timeout=60)

    clean = conftest.worker.SimulatedLedger()
    clean_state = AdapterState(create_engine("sqlite://"))
    report = run(harness.mapping(), harness.source(), clean_state, clean, batch=7)
    assert (report.sealed, report.quarantined) == (596, 5)
    survived = conftest.worker.SimulatedLedger(str(tmp_path / "ledger.db"))
    assert survived.content() == clean.content()
    after = AdapterState(create_engine(f"sqlite:///{tmp_path / 'state.db'}"))
    assert after.marks("market/shops") == clean_state.marks("market/shops")
    assert idents(after) == idents(clean_state)


def make(request: pytest.FixtureRequest, kind: str, directory: Path) -> Any:
    for plugin in request.config.pluginmanager.get_plugins():
        if getattr(plugin, "__file__", None) == str(WORKER.with_name("conftest.py")):
            return plugin.make_harness(kind, directory)
    raise AssertionError("the harnesses live in conftest.py")


def moments(count: int) -> list[float]:
    chosen = random.Random(20240305)
    return [chosen.uniform(0.02, 0.25) for _ in range(count)]


def kill_during(command: list[str], environ: dict[str, str], moment: float) -> bool:
    """Whether the process was still at work when the signal came."""
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"started\n"
        time.sleep(moment)
        process.send_signal(signal.SIGKILL)
        return process.wait() == -signal.SIGKILL


def idents(state: AdapterState) -> list[tuple[str, str, str | None, str, str]]:
    entries = state.quarantine("market/shops")
    return sorted((e.reason, e.position, e.key, e.detail, e.raw) for e in entries)
