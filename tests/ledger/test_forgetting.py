"""Forgetting: one transaction, a certificate, nothing that a hold covers; and copies from before that open nothing."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, func, insert, select, update

from ledger.errors import RecordRefused
from ledger.forgetting import Forgetting, find_destruction
from ledger.formats.merkle import leaf_hash
from ledger.holds import Holds, list_holds, subject_index
from ledger.store.models import attachments, destructions, holds, position_of, vault
from ledger.store.reading import find_entry
from ledger.submission import Acknowledged, Submission
from tests.fixtures.parts import Parts
from tests.fixtures.records import attachment, report, submissions

OFFICERS = ({"id": "33020001", "name": "陈一"}, {"id": "33020002", "name": "李二"})
BASIS = "个人信息保护法第四十七条"


def forgetting(parts: Parts) -> Forgetting:
    return Forgetting(parts.database, parts.blobs, parts.intake, parts.reader, time.time)


def placing(parts: Parts) -> Holds:
    return Holds(parts.intake, time.time)


def take_with_file(parts: Parts, tmp_path: Path, number: int = 900) -> Acknowledged:
    source = attachment(tmp_path / f"{number}.png", b"\x89PNG not really" * 9)
    return parts.take([Submission(f"with-file-{number}", report(number), (source,))])[0]


def blob_count(parts: Parts) -> int:
    return sum(1 for _ in parts.blobs.names())


def forget(parts: Parts, record_id: str) -> Any:
    return forgetting(parts).forget(record_id, "subject-request", BASIS, OFFICERS)


# -- the main job --


def test_a_forgotten_record_leaves_its_statement_and_a_certificate(parts: Parts, tmp_path: Path) -> None:
    parts.take(submissions(0, 3))
    gone = take_with_file(parts, tmp_path)
    with parts.database.reading() as connection:
        before = find_entry(connection, gone.record_id)
    done = forget(parts, gone.record_id)
    assert (done.new, done.blobs, blob_count(parts), done.index, done.by_index) == (True, 1, 0, 3, 4)
    with parts.database.reading() as connection:
        after = find_entry(connection, gone.record_id)
        certificate = parts.reader.open(connection, done.by_record).record()
        assert connection.scalar(select(func.count()).select_from(attachments)) == 0
        with pytest.raises(RecordRefused) as caught:
            parts.reader.open(connection, gone.record_id)
    assert caught.value.reason == "forgotten"
    assert (after.statement, after.wrapped_key, after.payload) == (before.statement, None, b"")
    assert certificate["record"] == gone.record_id
    assert certificate["leaf"] == leaf_hash(before.statement).hex()
    assert (certificate["reason_kind"], certificate["basis"]) == ("subject-request", BASIS)
    assert [officer["id"] for officer in certificate["officers"]] == ["33020001", "33020002"]
    assert [file["number"] for file in certificate["files"]] == [1]
    found = parts.audit()
    assert (found.good, found.forgotten, found.payloads, found.records) == (True, 1, 4, 5), found.findings


def test_forgetting_again_says_how_it_was_forgotten(parts: Parts) -> None:
    gone = parts.take(submissions(0, 1))[0]
    first = forget(parts, gone.record_id)
    again = forgetting(parts).forget(gone.record_id, "retention", "another")
    assert (again.new, again.by_record, again.by_index) == (False, first.by_record, first.by_index)
    assert parts.log().size == 2


def test_the_same_key_submitted_again_does_not_bring_it_back(parts: Parts) -> None:
    batch = submissions(0, 2)
    gone = parts.take(batch)[0]
    forget(parts, gone.record_id)
    again = parts.take(batch)
    assert [(a.new, a.record_id == b) for a, b in zip(again, [gone.record_id], strict=False)] == [(False, True)]
    with parts.database.reading() as connection:
        assert find_entry(connection, gone.record_id).wrapped_key is None


def test_two_officers_decide(parts: Parts) -> None:
    gone = parts.take(submissions(0, 1))[0]
    for officers in ((), OFFICERS[:1], (OFFICERS[0], OFFICERS[0])):
        with pytest.raises(RecordRefused) as caught:
            forgetting(parts).forget(gone.record_id, "unlawful", BASIS, officers)
        assert caught.value.reason == "officers"
    assert parts.log().size == 1


def test_a_hold_on_nothing_is_refused(parts: Parts) -> None:
    for scope, value in (("case", ""), ("everything", "甲-1"), ("", "甲-1")):
        with pytest.raises(RecordRefused) as caught:
            placing(parts).place("fire", scope, value, "复议", OFFICERS[:1])
        assert caught.value.reason == "bad-hold"
    assert parts.log().size == 0


def test_what_is_no_hold_is_not_lifted(parts: Parts) -> None:
    other = parts.take(submissions(0, 1))[0]
    with parts.database.reading() as connection, pytest.raises(RecordRefused) as caught:
        placing(parts).lift(connection, other.record_id, "复议结束", OFFICERS[:1])
    assert caught.value.reason == "unknown-hold"
    assert parts.log().size == 1


def test_a_subject_that_cannot_be_one_is_not_held() -> None:
    with pytest.raises(RecordRefused) as caught:
        subject_index(bytes(32), "uscc", "91350100M000100Y44")
    assert caught.value.reason == "bad-identifier"


def test_what_the_log_is_read_with_is_kept(parts: Parts) -> None:
    gone = parts.take(submissions(0, 1))[0]
    done = forget(parts, gone.record_id)
    hold = placing(parts).place("fire", "case", "甲-1", "复议", OFFICERS[:1])
    for record_id in (done.by_record, hold):
        with pytest.raises(RecordRefused) as caught:
            forget(parts, record_id)
        assert caught.value.reason == "kept"


def test_nobody_hands_a_certificate_in(parts: Parts) -> None:
    gone = parts.take(submissions(0, 1))[0]
    with parts.database.reading() as connection:
        done = find_entry(connection, forget(parts, gone.record_id).by_record)
        certificate = parts.reader.open(connection, done.record_id).record()
    del certificate["id"]
    outcome = parts.submit([Submission("mine", certificate)])[0]
    assert not isinstance(outcome, Acknowledged)
    assert outcome.error.reason == "reserved-type"


# -- holds --


def test_nothing_under_a_hold_is_forgotten(parts: Parts) -> None:
    plain = report(1)
    batch = [
        Submission("by-record", report(2)),
        Submission("by-case", report(3, case="甲罚字〔2026〕7号")),
        Submission("by-inspection", report(4, inspection="检-77")),
        Submission("free", report(5, case="甲罚字〔2026〕8号")),
    ]
    by_record, by_case, by_inspection, free = parts.take(batch)
    subject = plain["subjects"][0]
    by_subject = parts.take([Submission("by-subject", plain)])[0]
    index = subject_index(parts.agent.index_key(), subject["kind"], subject["value"])
    scopes = {
        "record": (by_record, by_record.record_id),
        "case": (by_case, "甲罚字〔2026〕7号"),
        "inspection": (by_inspection, "检-77"),
        "subject": (by_subject, index),
    }
    for scope, (record, value) in scopes.items():
        size = parts.log().size
        hold = placing(parts).place("fire", scope, value, "行政诉讼", OFFICERS[:1])
        with pytest.raises(RecordRefused) as caught:
            forget(parts, record.record_id)
        assert caught.value.reason == "on-hold", scope
        assert hold in str(caught.value)
        assert parts.log().size == size + 1
        with parts.database.reading() as connection:
            parts.reader.open(connection, record.record_id)
            assert [h.record_id for h in list_holds(connection, "fire")] == [hold]
            placing(parts).lift(connection, hold, "结案", OFFICERS[:1])
        with parts.database.reading() as connection:
            assert list_holds(connection, "fire") == []
            placing(parts).lift(connection, hold, "结案", OFFICERS[:1])  # once is enough
        assert forget(parts, record.record_id).new
    forget(parts, free.record_id)
    assert parts.audit().good


def test_a_hold_of_another_department_does_not_count(parts: Parts) -> None:
    gone = parts.take([Submission("a", report(1, case="共同"))])[0]
    placing(parts).place("health", "case", "共同", "诉讼", OFFICERS[:1])
    assert forget(parts, gone.record_id).new


# -- the audit --


def wiped(parts: Parts, index: int) -> None:
    """What somebody does who wants a record gone, and no trace of it."""
    with parts.database.writing() as connection:
        here = vault.c.position == position_of(1, index)
        connection.execute(update(vault).where(here).values(wrapped_key=None, payload=b""))


def kinds(parts: Parts) -> dict[str, int]:
    return dict(parts.audit().counts)


def test_a_key_that_is_gone_without_a_certificate_is_found(parts: Parts) -> None:
    parts.take(submissions(0, 3))
    wiped(parts, 1)
    found = parts.audit()
    assert (dict(found.counts), found.findings[0].index, found.forgotten) == ({"payload-missing": 1}, 1, 0)


def test_a_certificate_of_another_record_does_not_cover_it(parts: Parts) -> None:
    taken = parts.take(submissions(0, 3))
    done = forget(parts, taken[0].record_id)
    wiped(parts, 1)
    with parts.database.writing() as connection:
        row = {"position": position_of(1, 1), "by_position": position_of(1, done.by_index)}
        connection.execute(insert(destructions).values(row))
    assert kinds(parts) == {"payload-missing": 1, "destruction-differs": 1}


@pytest.mark.parametrize("by", [0, 2, 77], ids=["an earlier record", "an ordinary record", "no record"])
def test_what_is_no_certificate_does_not_cover_it(parts: Parts, by: int) -> None:
    parts.take(submissions(0, 3))
    wiped(parts, 1)
    with parts.database.writing() as connection:
        connection.execute(insert(destructions).values(position=position_of(1, 1), by_position=position_of(1, by)))
    assert kinds(parts) == {"payload-missing": 1, "destruction-differs": 1}


def test_a_destroyed_record_whose_key_came_back_is_found(parts: Parts) -> None:
    gone = parts.take(submissions(0, 2))[0]
    with parts.database.reading() as connection:
        before = find_entry(connection, gone.record_id)
    forget(parts, gone.record_id)
    with parts.database.writing() as connection:
        here = vault.c.position == position_of(1, 0)
        connection.execute(update(vault).where(here).values(wrapped_key=before.wrapped_key, payload=before.payload))
    assert kinds(parts) == {"not-destroyed": 1}


def test_a_certificate_without_its_row_in_the_table_is_found(parts: Parts) -> None:
    gone = parts.take(submissions(0, 2))[0]
    forget(parts, gone.record_id)
    with parts.database.writing() as connection:
        connection.execute(delete(destructions))
    assert kinds(parts) == {"payload-missing": 1}


def test_a_record_destroyed_under_a_hold_is_found(parts: Parts) -> None:
    gone = parts.take([Submission("a", report(1, case="甲-1"))])[0]
    hold = placing(parts).place("fire", "case", "甲-1", "诉讼", OFFICERS[:1])
    with parts.database.writing() as connection:
        connection.execute(delete(holds))
    forget(parts, gone.record_id)
    found = parts.audit()
    assert dict(found.counts) == {"destroyed-on-hold": 1, "holds-differ": 1}  # the table of holds was emptied for it
    assert any(hold in finding.sentence for finding in found.findings)


# -- blobs --


def test_the_sweep_deletes_what_no_row_names(parts: Parts, tmp_path: Path) -> None:
    kept = take_with_file(parts, tmp_path)
    lost = parts.blobs.put([b"left by a batch that was overtaken"])
    assert forgetting(parts).sweep() == 0, "a young blob may belong to a record on its way"
    assert forgetting(parts).sweep(-60) == 1
    assert lost not in {name for name, _ in parts.blobs.names()}
    with parts.database.reading() as connection:
        assert b"".join(parts.reader.attachment(connection, kept.record_id, 1)).startswith(b"\x89PNG")


def test_a_death_between_commit_and_deletion_is_made_good(parts: Parts, tmp_path: Path) -> None:
    gone = take_with_file(parts, tmp_path)

    class Dead(Exception):
        pass

    class DyingBlobs(type(parts.blobs)):  # type: ignore[misc]
        def remove(self, name: str) -> None:
            raise Dead

    dying = Forgetting(parts.database, DyingBlobs(parts.directory / "blobs"), parts.intake, parts.reader, time.time)
    with pytest.raises(Dead):
        dying.forget(gone.record_id, "subject-request", BASIS, OFFICERS)
    assert blob_count(parts) == 1
    assert not forget(parts, gone.record_id).new
    assert forgetting(parts).sweep(-60) == 1
    assert (blob_count(parts), parts.audit().good) == (0, True)


def test_the_table_names_the_certificate(parts: Parts) -> None:
    gone, other = parts.take(submissions(0, 2))
    done = forget(parts, gone.record_id)
    with parts.database.reading() as connection:
        found = find_destruction(connection, find_entry(connection, gone.record_id))
        assert found is not None
        assert (found.by_record, found.department) == (done.by_record, "fire")
        assert find_destruction(connection, find_entry(connection, other.record_id)) is None
