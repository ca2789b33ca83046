"""What a feed says about itself, on a real ledger: numbered reports, and what an auditor finds in them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import create_engine, delete, update

from adapters.completeness import PageCount, Period, Reporter, Taken, compose
from adapters.state import AdapterState
from ledger.errors import CouldNotRun, StorageFailed
from ledger.feeds import check_feeds
from ledger.store.models import entries
from ledger.submission import Submission
from tests.fixtures.feeds import START, Desk
from tests.fixtures.records import report as other_record


@pytest.fixture(params=["csv", "sqlite"])
def desk(request, sqlite_parts, tmp_path, harness_of) -> Iterator[Desk]:
    harness = harness_of(request.param, tmp_path)
    yield Desk(sqlite_parts, harness)
    harness.close()


@pytest.fixture
def table(sqlite_parts, tmp_path, harness_of) -> Iterator[Desk]:
    harness = harness_of("sqlite", tmp_path)
    yield Desk(sqlite_parts, harness)
    harness.close()


# ---- reports -------------------------------------------------------------------------------------------------------


def test_a_report_says_what_was_read_and_fits_the_log(desk, rows, row):
    desk.harness.write([*rows(23), row(23, count="x"), row(24, shop="")])
    done = desk.run()
    assert (done.read, done.sealed, done.quarantined) == (25, 23, 2)
    (made,) = desk.records()
    assert made["counts"] == made["totals"]
    assert {name: count for name, count in made["counts"].items() if count} == {
        "read": 25, "sealed": 23, "quarantined": 2,
    }  # fmt: skip
    assert made["reasons"] == [{"reason": "bad-integer", "rows": 1}, {"reason": "blank", "rows": 1}]
    assert (made["seq"], made["log_from"], made["log_to"], made["log_rows"]) == (1, 0, 23, 23)
    assert made["reached_end"] is True and made["in_quarantine"] == 2
    assert made["source"] == {"system": "test", "mapping": "shops", "version": "1"}
    assert made["next_due"] == (desk.now + timedelta(days=1)).isoformat()
    assert made["latest"] == "2024-03-05T00:00:00+08:00"
    assert "店铺" not in json.dumps(made, ensure_ascii=False)
    assert desk.summary().good
    desk.parts.check_log(24)
    assert desk.parts.audit().good


def test_reports_follow_each_other(desk, rows):
    desk.harness.write(rows(5))
    desk.run()
    desk.harness.append(rows(7, start=5))
    desk.run()
    first, second = desk.records()
    assert (second["seq"], second["since"]) == (2, first["occurred_at"])
    assert (second["counts"]["sealed"], second["totals"]["sealed"]) == (7, 12)
    # the first report itself stands between the two spans
    assert (second["log_from"], second["log_to"]) == (5, 13)
    desk.run(afresh=True)
    third = desk.records()[2]
    assert (third["counts"]["known"], third["counts"]["sealed"], third["digest"]) == (12, 0, second["digest"])
    assert desk.summary().good and desk.summary().reports == 3


def test_a_run_that_finds_nothing_reports_only_when_it_is_time(desk, rows):
    desk.harness.write(rows(5))
    desk.run()
    desk.run()
    assert len(desk.records()) == 1
    desk.now += timedelta(hours=12)
    desk.run()
    assert [made["counts"]["read"] for made in desk.records()] == [5, 0]
    assert desk.summary().good


def test_a_feed_that_is_followed_does_not_report_every_turn(desk, rows):
    desk.head = 'report_every = "2h"'
    desk.harness.write(rows(3))
    for number in range(1, 7):
        desk.run(eager=False)
        desk.harness.append(rows(3, start=3 * number))
        desk.now += timedelta(minutes=29)
    assert [made["counts"]["sealed"] for made in desk.records()] == [3, 6, 6]
    assert desk.summary().good


def test_a_long_reading_reports_before_its_end(desk, rows):
    desk.harness.write(rows(60))

    def slow(batch: Any) -> Any:
        desk.now += timedelta(hours=5)
        return desk.parts.intake.submit("fire", batch)

    desk.run(submit=slow)
    assert [made["reached_end"] for made in desk.records()] == [False, True]
    assert sum(made["counts"]["sealed"] for made in desk.records()) == 60
    assert desk.summary().good


def test_two_feeds_of_a_department_are_counted_apart(desk, rows, harness_of, tmp_path):
    desk.harness.write(rows(5))
    desk.run()
    (tmp_path / "other").mkdir()
    harness = harness_of("jsonl", tmp_path / "other")
    harness.write(rows(4))
    text = harness.mapping_text
    harness.mapping_text = lambda: text().replace('"shops"', '"shops-two"')
    other = Desk(desk.parts, harness)
    other.now = desk.now
    other.run()
    desk.harness.append(rows(2, start=5))
    desk.run()
    with desk.parts.database.reading() as connection:
        found = check_feeds(connection, desk.parts.reader, desk.parts.log(), desk.now.timestamp())
    assert [(feed.feed, feed.reports, feed.good) for feed in found] == [("shops", 2, True), ("shops-two", 1, True)]


# ---- late rows -----------------------------------------------------------------------------------------------------


def test_a_row_inserted_behind_the_last_report_is_late(table, rows, row):
    source = table.harness.source_table
    table.harness.source_table = source + "\nlate_rows = 5"
    table.harness.write([row(n) for n in range(9)])
    table.harness.execute("UPDATE shops SET seq = seq * 10")
    table.run()
    table.harness.execute("INSERT INTO shops (seq, id, shop, day, count) VALUES (75, 'x', 'x', '2024-03-01', '1')")
    table.run()
    made = table.records()[-1]
    assert (made["counts"]["sealed"], made["counts"]["late"], made["counts"]["back_dated"]) == (1, 1, 1)
    assert made["parts"] == [{"part": "shops", "read": 5, "late": 1, "at_source": 10, "lowest": "60", "highest": "90"}]
    assert table.kinds() == [] and table.kinds(level="notice") == ["late-rows", "back-dated"]


def test_late_rows_are_found_by_reading_afresh_too(table, rows):
    table.harness.write(rows(9))
    table.harness.execute("UPDATE shops SET seq = seq * 10")
    table.run()
    table.harness.execute("INSERT INTO shops (seq, id, shop, day, count) VALUES (5, 'x', 'x', '2024-03-09', '1')")
    table.run()
    assert len(table.records()) == 1
    table.run(afresh=True)
    made = table.records()[-1]
    assert (made["counts"]["late"], made["counts"]["back_dated"], made["counts"]["known"]) == (1, 0, 9)


def test_a_source_that_shrank_is_named(table, rows):
    table.harness.write(rows(9))
    table.run()
    table.harness.execute("DELETE FROM shops WHERE id < 'r00004'")
    table.run(afresh=True)
    assert table.kinds(level="notice") == ["source-shrank"]


# ---- crashes -------------------------------------------------------------------------------------------------------


class PowerCut(BaseException):
    """Ends a run as a kill would: nothing catches it."""


@pytest.mark.parametrize("point", ["before the report", "after the report", "before it is crossed out"])
def test_a_report_is_neither_lost_nor_doubled(desk, rows, point, monkeypatch):
    desk.harness.write(rows(12))

    def submit(batch: Any) -> Any:
        is_report = batch[0].record["type"] == "feed.report"
        if is_report and point == "before the report":
            raise PowerCut
        outcomes = desk.parts.intake.submit("fire", batch)
        if is_report and point == "after the report":
            raise PowerCut
        return outcomes

    if point == "before it is crossed out":

        def cut(*_: Any) -> None:
            raise PowerCut

        monkeypatch.setattr(desk.state, "cross_out", cut)
    with pytest.raises(PowerCut):
        desk.run(submit=submit)
    monkeypatch.undo()
    desk.now += timedelta(hours=1)
    desk.harness.append(rows(3, start=12))
    desk.run()
    first, second = desk.records()
    assert (first["seq"], first["counts"]["sealed"], second["seq"], second["counts"]["sealed"]) == (1, 12, 2, 3)
    assert desk.summary().good


@pytest.mark.parametrize("page", [0, 1, 2])
@pytest.mark.parametrize("point", ["before submit", "after submit"])
def test_a_crash_between_pages_counts_no_row_twice(desk, rows, row, page, point):
    exported = rows(25)
    exported[13] = row(13, count="x")
    desk.harness.write(exported)
    seen = 0

    def submit(batch: Any) -> Any:
        nonlocal seen
        if point == "before submit" and seen == page:
            raise PowerCut
        outcomes = desk.parts.intake.submit("fire", batch)
        seen += 1
        if point == "after submit" and seen == page + 1:
            raise PowerCut
        return outcomes

    with pytest.raises(PowerCut):
        desk.run(submit=submit)
    desk.run()
    (made,) = desk.records()
    assert {name: count for name, count in made["counts"].items() if count} == {
        "read": 25, "sealed": 24, "quarantined": 1,
    }  # fmt: skip
    assert desk.summary().good


def test_a_ledger_that_fails_at_the_report_is_tried_again(desk, rows):
    desk.harness.write(rows(3))

    def submit(batch: Any) -> Any:
        if batch[0].record["type"] == "feed.report":
            raise StorageFailed("the disk is full; make room and run again")
        return desk.parts.intake.submit("fire", batch)

    assert isinstance(desk.run(submit=submit).stopped, StorageFailed)
    assert desk.run().stopped is None
    assert [made["seq"] for made in desk.records()] == [1]


def test_a_feed_that_lost_its_memory_goes_on_behind_the_ledgers_reports(desk, rows, tmp_path):
    desk.harness.write(rows(5))
    desk.run()
    desk.state = AdapterState(create_engine(f"sqlite:///{tmp_path / 'new.db'}"), lambda: desk.now)
    desk.harness.append(rows(5, start=5))
    desk.run()
    assert [made["seq"] for made in desk.records()] == [1, 2]
    assert desk.records()[1]["counts"]["sealed"] == 5
    # nobody vouches for the time between; the rows themselves all stand in reports
    assert desk.kinds() == ["period-gap", "totals-differ"]


def test_another_content_under_the_same_version_shows_where_the_node_forgot_the_first(desk, rows, tmp_path):
    desk.harness.write(rows(5))
    desk.run()
    desk.state = AdapterState(create_engine(f"sqlite:///{tmp_path / 'new.db'}"), lambda: desk.now)
    desk.head = 'report_every = "2h"'  # no part of what makes records
    desk.harness.append(rows(5, start=5))
    desk.run()
    assert "mapping-changed" not in desk.kinds()
    desk.state = AdapterState(create_engine(f"sqlite:///{tmp_path / 'newer.db'}"), lambda: desk.now)
    desk.head = 'blank_values = ["-"]'
    desk.harness.append(rows(5, start=10))
    desk.run()
    (finding,) = (f for f in desk.summary().findings if f.kind == "mapping-changed")
    assert (finding.level, finding.seq) == ("error", 3)
    assert finding.sentence == "report 3: version 1 of the mapping does not say what it said before"


# ---- what an auditor finds -----------------------------------------------------------------------------------------


def three_reports(desk: Desk, rows: Any) -> None:
    desk.harness.write(rows(5))
    desk.run()
    for number in (1, 2):
        desk.harness.append(rows(5, start=5 * number))
        desk.run()
    assert desk.summary().good


def key(name: str) -> Any:
    return entries.c.key == name


TAMPERINGS: dict[str, tuple[Callable[[Desk], Any], set[str]]] = {
    "a report hidden under another key": (
        lambda desk: desk.tamper(update(entries).where(key("yunxi:feed-report/shops/2")).values(key="x/2")),
        {"report-missing"},
    ),
    "the last report hidden": (
        lambda desk: desk.tamper(update(entries).where(key("yunxi:feed-report/shops/3")).values(key="x/3")),
        set(),
    ),
    "a report passed off as another": (
        lambda desk: desk.tamper(
            update(entries).where(key("yunxi:feed-report/shops/2")).values(key="yunxi:feed-report/shops/9")
        ),
        {"report-renamed", "report-missing"},
    ),
    "a row's key changed": (
        lambda desk: desk.tamper(update(entries).where(key("shops/r00007")).values(key="shops/r09999")),
        {"digest-differs"},
    ),
    "a row taken out of the feed": (
        lambda desk: desk.tamper(update(entries).where(key("shops/r00007")).values(key="x/r00007")),
        {"digest-differs"},
    ),
    "a row deleted": (
        lambda desk: desk.tamper(delete(entries).where(key("shops/r00001"))),
        {"digest-differs"},
    ),
}


@pytest.mark.parametrize("name", TAMPERINGS)
def test_tamperings(table, rows, name):
    three_reports(table, rows)
    tamper, expected = TAMPERINGS[name]
    tamper(table)
    found = set(table.kinds())
    assert found == expected, table.summary().findings
    if name == "the last report hidden":
        # a missing end has no gap: it shows once it is due
        assert table.kinds(table.now + timedelta(days=1)) == ["report-overdue"]


def test_a_row_that_somebody_else_sealed_in_the_feeds_name(desk, rows):
    desk.harness.write(rows(5))
    desk.run()
    desk.submit([Submission("shops/forged", other_record(1))])
    desk.harness.append(rows(5, start=5))
    desk.run()
    assert desk.kinds() == ["unaccounted"]
    assert "5 rows as sealed, the log had 6" in desk.summary().findings[0].sentence


def test_a_feeds_reports_fit_on_every_database(parts, rows, tmp_path, harness_of):
    desk = Desk(parts, harness_of("csv", tmp_path))
    three_reports(desk, rows)
    assert desk.summary().reports == 3
    with pytest.raises(PowerCut):
        desk.harness.append(rows(5, start=15))
        desk.run(submit=cut_behind(desk, "feed.report"))
    desk.run()
    assert desk.summary().good and desk.records()[-1]["totals"]["sealed"] == 20


def cut_behind(desk: Desk, kind: str) -> Callable[..., Any]:
    def submit(batch: Any) -> Any:
        outcomes = desk.parts.intake.submit("fire", batch)
        if batch[0].record["type"] == kind:
            raise PowerCut
        return outcomes

    return submit


def test_a_feed_that_stops_is_overdue_and_its_silence_stays_on_record(desk, rows):
    desk.harness.write(rows(5))
    desk.run()
    assert desk.kinds(desk.now + timedelta(hours=23)) == []
    assert desk.kinds(desk.now + timedelta(hours=25)) == ["report-overdue"]
    (standing,) = desk.state.standings()
    assert not standing.overdue(desk.now.timestamp()) and standing.overdue(desk.now.timestamp() + 90_000)
    assert standing.sentence().startswith("fire/shops: no report since 2026-03-02T08:01:00+00:00; one was due")
    desk.now += timedelta(days=3)
    desk.run()
    assert desk.kinds() == ["silent"]


def test_a_feed_that_never_came_to_its_first_report_is_overdue(desk, rows):
    desk.harness.write(rows(5))

    def failing(_: Any) -> Any:
        raise StorageFailed("no")

    assert isinstance(desk.run(submit=failing).stopped, CouldNotRun)
    (standing,) = desk.state.standings()
    assert (standing.seq, standing.reported_at) == (0, None)
    assert not standing.overdue(desk.now.timestamp() + 3600) and standing.overdue(desk.now.timestamp() + 90_000)


LIES = {
    "rows that are nowhere": ({"counts": {"read": 6}}, {"counts-differ", "totals-differ"}),
    "reasons that do not add up": ({"reasons": [{"reason": "x", "rows": 3}]}, {"counts-differ"}),
    "more at the source than came out": (
        {"parts": [{"part": "t", "read": 5, "late": 0, "at_source": 6}]},
        {"rows-missing"},
    ),
    "another digest": ({"digest": "0" * 64}, {"digest-differs"}),
    "fewer rows than the log has": ({"log_rows": 4, "counts": {"sealed": 4, "known": 1}}, {"digest-differs"}),
    "a number left out": ({"seq": 2}, {"report-missing"}),
}  # fmt: skip


@pytest.mark.parametrize("name", LIES)
def test_reports_that_do_not_fit(desk, rows, name):
    changes, expected = LIES[name]
    desk.harness.write(rows(5))

    def lying(batch: Any) -> Any:
        item = batch[0]
        if item.record["type"] == "feed.report":
            told = dict(item.record)
            for member, value in changes.items():
                told[member] = told[member] | value if isinstance(value, dict) else value
            if "counts" in changes and "read" not in changes["counts"]:
                told["totals"] = told["counts"]
            batch = [Submission(f"feed-report/shops/{told['seq']}", told, by_service=True)]
        return desk.parts.intake.submit("fire", batch)

    desk.run(submit=lying)
    assert set(desk.kinds()) == expected, desk.summary().findings


# ---- pure parts ----------------------------------------------------------------------------------------------------

PAGES = st.lists(st.tuples(st.lists(st.integers(0, 40), max_size=8), st.integers(0, 3), st.integers(0, 2)), max_size=12)


@given(PAGES)
def test_counts_always_add_up(pages):
    period = Period(0, START.isoformat(), 0, 0, "00" * 32)
    for indices, quarantined, probes in pages:
        taken = [Taken(index, START.isoformat()) for index in indices]
        reasons = {"blank": quarantined} if quarantined else {}
        period = period.plus(PageCount(len(taken) + quarantined + probes, taken, reasons, probes))
    counts = period.counts
    assert counts["read"] == sum(counts[name] for name in ("sealed", "known", "quarantined", "probes"))
    assert min(counts.values()) >= 0 and counts == period.totals
    assert counts["sealed"] <= period.covered
    assert Period.read(period.write()) == period
    after = period.following("11" * 32, START.isoformat())
    assert (after.seq, after.log_from, after.totals) == (1, period.covered, period.totals)
    assert not any(after.counts.values())


def test_many_parts_and_reasons_are_cut_and_say_so(desk, rows):
    from adapters.completeness import PartCount
    from tests.fixtures.parts import TYPES

    period = Period(0, START.isoformat(), 0, 0, "00" * 32, reasons={f"reason-{n}": n + 1 for n in range(150)})
    parts = [PartCount("  a\nname " + "x" * 300, 1), PartCount("\t", 1)]
    made = compose(
        desk.mapping, period, parts, now=START, reached_end=True, in_quarantine=0, log_rows=0, digest="00" * 32,
        further_parts=7,
    )  # fmt: skip
    TYPES.validate(made, START.timestamp(), by_service=True)
    assert len(made["reasons"]) == 100 and sum(item["rows"] for item in made["reasons"]) == sum(range(1, 151))
    assert made["parts"][0]["part"].startswith("a?name xxx") and made["parts"][1]["part"] == "?"


def test_a_reporter_that_did_not_begin_is_a_mistake(desk):
    reporter = Reporter(desk.mapping, desk.state, desk.submit, desk.book)
    with pytest.raises(AssertionError):
        reporter.is_due(reached_end=True)
