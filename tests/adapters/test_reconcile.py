"""Source and ledger side by side: what differs is named, what changed is amended, what is gone is said once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from adapters.changes import find_newest
from adapters.keys import idempotency_key
from adapters.run import run
from ledger.errors import CouldNotRun, Malformed, StorageFailed
from ledger.feeds import version_key
from ledger.submission import MAX_KEY_CHARS
from tests.fixtures.feeds import Desk

WHOLE = ["csv", "csv-gz", "jsonl", "xlsx", "xml", "folder", "rest", "sqlite", "postgresql", "mariadb"]


@pytest.fixture(params=WHOLE)
def desk(request, sqlite_parts, tmp_path, harness_of) -> Iterator[Desk]:
    harness = harness_of(request.param, tmp_path)
    yield Desk(sqlite_parts, harness)
    harness.close()


@pytest.fixture
def one(sqlite_parts, tmp_path, harness_of) -> Iterator[Desk]:
    harness = harness_of("csv", tmp_path)
    yield Desk(sqlite_parts, harness)
    harness.close()


def facility(record: dict[str, Any]) -> tuple[str, int, bool]:
    return record["facility_name"], record["minor_violations"], "amends" in record


# ---- reconcile -----------------------------------------------------------------------------------------------------


def test_a_feed_that_ran_fits(desk, rows, row):
    desk.harness.write([*rows(23), row(23, count="x")])
    desk.run()
    found = desk.reconcile()
    assert found.fits and found.differences == ()
    assert (found.at_source, found.fitting, found.in_quarantine, found.in_ledger) == (24, 23, 1, 23)


def test_every_planted_difference_is_named(desk, rows, row):
    desk.harness.write([*rows(20), row(20, shop="")])
    desk.run()
    exported = [*rows(20), row(20, shop="")]
    exported[3] = row(3, count="6", shop="changed")
    del exported[7]
    desk.harness.write([*exported, row(40), row(41, count="x")])
    size = desk.parts.log().size
    found = desk.reconcile()
    assert not found.fits and desk.parts.log().size == size
    assert (found.at_source, found.fitting, found.in_quarantine) == (22, 18, 1)
    assert (found.missing, found.changed, found.gone, found.in_ledger) == (2, 1, 1, 20)
    named = {(item.kind, item.key) for item in found.differences}
    assert named == {
        ("missing", "shops/r00040"),
        ("missing", "shops/r00041"),
        ("changed", "shops/r00003"),
        ("gone", "shops/r00007"),
    }
    assert all((item.position is None) == (item.kind == "gone") for item in found.differences)
    assert all((item.record_id is None) == (item.kind == "missing") for item in found.differences)


def test_rows_add_up(desk, rows, row):
    exported = [*rows(9), row(2), row(3, count="0", shop="rival"), row(9, day="?")]
    desk.harness.write(exported)
    desk.run()
    found = desk.reconcile()
    assert found.at_source == 12 == found.fitting + found.in_quarantine + found.missing + found.changed
    assert found.fits and (found.fitting, found.in_quarantine) == (10, 2)


def test_only_the_first_of_each_kind_are_named(one, rows):
    one.harness.write(rows(50))
    found = one.reconcile(shown=3)
    assert found.missing == 50 and len(found.differences) == 3
    assert one.reconcile(shown=0).differences == ()


def test_a_rival_that_nobody_set_aside_is_missing(one, rows, row):
    one.harness.write(rows(3))
    one.run()
    one.harness.append([row(1, count="0", shop="rival")])
    found = one.reconcile()
    assert (found.missing, found.changed, found.fitting) == (1, 0, 3)
    one.run()
    assert one.reconcile().fits


def test_a_row_in_the_ledger_that_is_refused_now_is_not_called_missing(desk, rows, row):
    desk.harness.write(rows(3))
    desk.run()
    desk.harness.write([row(0), row(1, count="x"), row(2), row(7, count="x")])
    found = desk.reconcile()
    assert (found.refused, found.missing, found.fitting) == (1, 1, 2) and not found.fits
    assert [(item.kind, item.key) for item in found.differences] == [
        ("missing", "shops/r00007"),
        ("refused", "shops/r00001"),
    ]


@pytest.mark.parametrize("kind", ["webhook"])
def test_a_source_that_gives_messages_once_cannot_be_compared(kind, sqlite_parts, tmp_path, harness_of):
    harness = harness_of(kind, tmp_path)
    desk = Desk(sqlite_parts, harness)
    with pytest.raises(Malformed, match="once"):
        desk.reconcile()
    desk.head = 'deletes = "report"'
    with pytest.raises(Malformed, match='"deletes" needs a source that can be read as a whole'):
        _ = desk.mapping
    harness.close()


# ---- changed rows --------------------------------------------------------------------------------------------------


def test_a_changed_row_stays_in_quarantine_unless_the_mapping_says_otherwise(desk, rows, row):
    desk.harness.write(rows(3))
    desk.run()
    desk.harness.write([row(0), row(1, shop="changed"), row(2)])
    done = desk.run()
    assert dict(done.by_reason) == {"conflict": 1}
    assert desk.reconcile().changed == 1


def test_a_changed_row_becomes_a_record_that_amends_the_one_before(desk, rows, row):
    desk.head = 'changes = "amend"'
    desk.harness.write(rows(3))
    desk.run()
    for shop in ("B", "A", "B", "B", "A"):
        desk.harness.write([row(0), row(1, shop=shop), row(2)])
        done = desk.run()
        # a file that is as it was is not read again
        assert done.read in (0, 3) and done.quarantined == 0
    history = [made for made in desk.records("inspection.report") if made["source"]["row"] == "r00001"]
    assert [made["facility_name"] for made in history] == ["店铺 1", "B", "A", "B", "A"]
    assert [made.get("amends") for made in history] == [None, *[made["id"] for made in history[:-1]]]
    assert [key for key in desk.log_keys() if "r00001" in key] == [
        "shops/r00001", "shops~2/r00001", "shops~3/r00001", "shops~4/r00001", "shops~5/r00001",
    ]  # fmt: skip
    found = desk.reconcile()
    assert found.fits and (found.fitting, found.in_ledger, found.amendments) == (3, 3, 4)
    assert desk.summary().good
    assert desk.records()[-1]["totals"]["sealed"] == 7


def test_content_that_comes_back_is_a_version_of_its_own(one, row):
    one.head = 'changes = "amend"'
    for shop in ("A", "B", "A"):
        one.harness.write([row(1, shop=shop)])
        one.run()
        one.run(afresh=True)
    assert [made["facility_name"] for made in one.records("inspection.report")] == ["A", "B", "A"]


class PowerCut(BaseException):
    """Ends a run as a kill would: nothing catches it."""


@pytest.mark.parametrize("call", [1, 2])
def test_a_crash_doubles_no_amendment(desk, rows, row, call):
    desk.head = 'changes = "amend"'
    desk.harness.write(rows(8))
    desk.run()
    desk.harness.write([row(n, shop="changed") for n in range(8)])
    calls = 0

    def submit(batch: Any) -> Any:
        nonlocal calls
        outcomes = desk.parts.intake.submit("fire", batch)
        calls += 1
        if calls == call:
            raise PowerCut
        return outcomes

    with pytest.raises(PowerCut):
        desk.run(submit=submit)
    done = desk.run()
    assert done.quarantined == 0 and done.sealed + done.known == 8
    assert len(desk.log_keys()) == 16
    assert desk.reconcile().fits and desk.summary().good
    assert desk.records()[-1]["totals"]["sealed"] == 16


def test_two_rows_under_one_key_are_no_change(one, rows, row):
    one.head = 'changes = "amend"'
    one.harness.write([*rows(3), row(1, shop="rival"), row(1)])
    done = one.run()
    assert (done.sealed, done.known, dict(done.by_reason)) == (3, 1, {"conflict": 1})
    assert one.log_keys() == ["shops/r00000", "shops/r00001", "shops/r00002"]


def test_a_row_that_is_corrected_leaves_the_quarantine(one, rows, row):
    one.harness.write(rows(3))
    one.run()
    one.harness.write([row(0), row(1, shop="changed"), row(2)])
    one.run()
    assert one.state.quarantine_counts("fire/shops") == {"conflict": 1}
    one.head = 'changes = "amend"'
    one.version = 2
    done = one.run(afresh=True)
    assert (done.sealed, done.quarantined) == (1, 0)
    assert one.state.quarantine_counts("fire/shops") == {}


def test_a_mapping_that_sets_amends_itself_cannot_amend(one):
    one.head = 'changes = "amend"'
    text = one.harness.mapping_text().replace("[fields]", '[fields]\n"amends" = "shop"')
    one.harness.mapping_text = lambda: text
    with pytest.raises(Malformed, match='"changes" is "amend"'):
        _ = one.mapping


def test_amending_needs_the_ledger(one, rows):
    one.head = 'changes = "amend"'
    one.harness.write(rows(1))
    with pytest.raises(CouldNotRun, match="amends or withdraws"):
        run(one.mapping, one.harness.open(one.mapping), one.state, one.submit)


def test_keys_of_versions_are_fit_and_never_those_of_another_row():
    long, longer = "x" * 200, "x" * 194
    keys = [idempotency_key("shops", row) for row in ("a", "a~2", "~2/a", long, longer, "2/a", "sha256:00")]
    made = [version_key(key, number) for key in keys for number in (1, 2, 3, 10_000)]
    assert len(set(made)) == len(made)
    assert all(len(key) <= MAX_KEY_CHARS and key.isprintable() for key in made)


def test_newest_versions_are_found_page_wise(one, rows, row):
    one.head = 'changes = "amend"'
    for number in range(4):
        one.harness.write([row(n, shop=f"{min(n, number)}") for n in range(5)])
        one.run()
    transform = __import__("adapters.transform", fromlist=["Transform"]).Transform(one.mapping)
    values = [row(n, shop=f"{min(n, 3)}") for n in range(6)]
    found = find_newest(one.book.look_up, [transform(transform.key(v), v).submission for v in values])
    assert [None if item is None else (item.version, item.held.same) for item in found] == [
        (1, True), (2, True), (3, True), (4, True), (4, True), None,
    ]  # fmt: skip


# ---- deleted rows --------------------------------------------------------------------------------------------------


def test_a_row_that_is_gone_is_said_once(desk, rows, row):
    desk.head = 'deletes = "report"'
    desk.harness.write(rows(9))
    assert desk.run().withdrawn == 0
    first = desk.records("inspection.report")
    desk.harness.write([row(n) for n in (0, 1, 2, 5, 6, 7, 8)])
    assert desk.run(afresh=True).withdrawn == 2
    made = desk.records("feed.withdrawn")
    assert [item["record"] for item in made] == [first[3]["id"], first[4]["id"]]
    assert [item["source"]["row"] for item in made] == ["r00003", "r00004"]
    assert desk.run(afresh=True).withdrawn == 0
    found = desk.reconcile()
    assert found.fits and (found.gone, found.withdrawn) == (2, 2)
    desk.harness.write(rows(9))
    assert desk.run(afresh=True).withdrawn == 0
    assert desk.reconcile().gone == 0 and desk.summary().good


def test_nothing_is_withdrawn_while_rows_could_be_unreadable(one, rows, row):
    one.head = 'deletes = "report"'
    one.harness.write(rows(9))
    one.run()
    one.harness.write([])
    assert one.run(afresh=True).withdrawn == 0
    path = one.harness.directory / "shops.csv"
    path.write_bytes(path.read_bytes() + b'r00001,"a,2024-03-05,1\n')
    one.run(afresh=True)
    assert one.records("feed.withdrawn") == []
    one.harness.write(rows(5))
    assert one.run(afresh=True).withdrawn == 4


def test_a_withdrawal_that_was_cut_off_is_made_the_next_time(one, rows, row):
    one.head = 'deletes = "report"'
    one.harness.write(rows(9))
    one.run()
    one.harness.write(rows(5))

    def submit(batch: Any) -> Any:
        if batch[0].record["type"] == "feed.withdrawn":
            one.parts.intake.submit("fire", batch[:2])
            raise StorageFailed("the disk is full; make room and run again")
        return one.parts.intake.submit("fire", batch)

    assert isinstance(one.run(submit=submit, afresh=True).stopped, StorageFailed)
    assert one.run(afresh=True).withdrawn == 2
    assert len(one.records("feed.withdrawn")) == 4


def test_a_deleted_row_of_a_table_is_noticed_without_reading_afresh(sqlite_parts, tmp_path, harness_of, rows):
    desk = Desk(sqlite_parts, harness_of("sqlite", tmp_path))
    desk.head = 'deletes = "report"\nreport_every = "2min"'
    desk.harness.write(rows(9))
    desk.run()
    desk.harness.execute("DELETE FROM shops WHERE id = 'r00004'")
    desk.run()
    assert desk.run().withdrawn + len(desk.records("feed.withdrawn")) >= 1
    assert [made["source"]["row"] for made in desk.records("feed.withdrawn")] == ["r00004"]
