"""Intake: once in, once stored; what is refused, in which words, and that nothing else is held up by it."""

from __future__ import annotations

import copy
import datetime
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, text, update

from ledger.errors import Conflict, HistoryRefused, RecordRefused
from ledger.intake import MAX_BATCH
from ledger.store import schema
from ledger.store.models import entries, logs, tiles
from ledger.submission import Acknowledged, AttachmentSource, Refused, Submission
from tests.fixtures.parts import Parts
from tests.fixtures.records import COMPANY, attachment, report, submissions

ID = "0193510b-8c00-7abc-8def-0123456789ab"


def refused(outcome: Any) -> RecordRefused:
    assert isinstance(outcome, Refused), outcome
    return outcome.error


# ---- once in, once stored ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 255, 256, 257, 513])
def test_a_batch_of(parts: Parts, size: int) -> None:
    taken = parts.take(submissions(0, size))
    assert [outcome.index for outcome in taken] == list(range(size))
    assert all(outcome.new for outcome in taken)
    parts.check_log(size)
    assert parts.audit().good


def test_an_empty_batch(parts: Parts) -> None:
    assert parts.submit([]) == []
    parts.check_log(0)


def test_batches_over_tile_borders(parts: Parts) -> None:
    total = 0
    for size in (100, 155, 1, 1, 255, 1, 300):
        parts.take(submissions(total, size))
        total += size
        parts.check_log(total)


def test_same_key_same_content_is_the_same_record(parts: Parts) -> None:
    first = parts.take(submissions(0, 3))
    again = parts.take(submissions(0, 3))
    assert [(o.record_id, o.index) for o in again] == [(o.record_id, o.index) for o in first]
    assert not any(outcome.new for outcome in again)
    # and for an intake that knows nothing of it
    other = parts.again()
    assert [o.record_id for o in other.take(submissions(0, 3))] == [o.record_id for o in first]
    other.close()
    parts.check_log(3)


def test_same_key_other_content_is_a_conflict(parts: Parts) -> None:
    first = parts.take([Submission("k", report(1))])[0]
    error = refused(parts.submit([Submission("k", report(2))])[0])
    assert isinstance(error, Conflict)
    assert error.reason == "conflict"
    assert f"key 'k' is taken by record {first.record_id} with other content" in str(error)
    assert "amends" in str(error)
    parts.check_log(1)


SAME_CONTENT: dict[str, Callable[[], dict[str, Any]]] = {
    "members in another order": lambda: dict(reversed(report(1).items())),
    "members inside in another order": lambda: report(1, place=dict(reversed(report(1)["place"].items()))),
    "the department spelled out": lambda: report(1, department="fire"),
    "read by another mapping": lambda: report(1, source={"system": "x", "mapping": "m", "version": 2}),
    "with an id of its own": lambda: report(1, id=ID),
}


@pytest.mark.parametrize("name", SAME_CONTENT)
def test_is_the_same_content(parts: Parts, name: str) -> None:
    first = parts.take([Submission("k", report(1))])[0]
    again = parts.take([Submission("k", SAME_CONTENT[name]())])[0]
    assert (again.record_id, again.new) == (first.record_id, False)


OTHER_CONTENT: dict[str, dict[str, Any]] = {
    "another value": {"summary": "other"},
    "a member more": {"risk": "B"},
    "a subject less": {"subjects": [COMPANY]},
    "a time in another writing": {"occurred_at": "2026-03-02T01:15:00Z"},
    "a trailing space": {"summary": "summary of inspection 1 "},
    "another matter": {"matter": "330299-XF-002"},
}


@pytest.mark.parametrize("name", OTHER_CONTENT)
def test_is_other_content(parts: Parts, name: str) -> None:
    parts.take([Submission("k", report(1))])
    assert isinstance(refused(parts.submit([Submission("k", report(1, **OTHER_CONTENT[name]))])[0]), Conflict)


def test_keys_are_each_departments_own(parts: Parts) -> None:
    fire = parts.take([Submission("k", report(1))], "fire")[0]
    health = parts.take([Submission("k", report(2))], "health")[0]
    assert fire.record_id != health.record_id
    assert (fire.index, health.index) == (0, 0)


def test_duplicates_inside_one_batch(parts: Parts) -> None:
    batch = [Submission("a", report(1)), Submission("b", report(2)), Submission("a", report(1)),
             Submission("a", report(3)), Submission("b", report(2))]  # fmt: skip
    one, two, twin, other, again = parts.submit(batch)
    assert isinstance(one, Acknowledged)
    assert isinstance(two, Acknowledged)
    assert twin == Acknowledged("a", one.record_id, 0, new=False)
    assert isinstance(refused(other), Conflict)
    assert again == Acknowledged("b", two.record_id, 1, new=False)
    parts.check_log(2)


def test_same_content_under_other_keys_is_two_records(parts: Parts) -> None:
    one, two = parts.take([Submission("a", report(1)), Submission("b", report(1))])
    assert one.record_id != two.record_id


def test_the_submitters_record_is_left_alone(parts: Parts) -> None:
    record = report(1)
    before = copy.deepcopy(record)
    parts.take([Submission("k", record)])
    assert record == before


def test_drawn_ids_grow_with_time(parts: Parts) -> None:
    clock = iter([1_780_000_000.0, 1_780_000_000.001, 1_780_000_001.0])
    other = parts.again(lambda: next(clock))
    ids = [other.take([Submission(f"k{n}", report(n))])[0].record_id for n in range(3)]
    other.close()
    assert ids == sorted(ids)
    assert all(uuid.UUID(i).version == 7 and uuid.UUID(i).variant == uuid.RFC_4122 for i in ids)
    assert int(ids[0].replace("-", "")[:12], 16) == 1_780_000_000_000


# ---- ids ---------------------------------------------------------------------------------------------------------


def test_an_explicit_id_is_kept(parts: Parts) -> None:
    assert parts.take([Submission("k", report(1, id=ID))])[0].record_id == ID
    with parts.database.reading() as connection:
        assert parts.reader.open(connection, ID).record()["id"] == ID


def test_a_taken_id_is_a_conflict(parts: Parts) -> None:
    parts.take([Submission("k", report(1, id=ID))])
    for department in ("fire", "health"):
        error = refused(parts.submit([Submission("l", report(2, id=ID))], department)[0])
        assert isinstance(error, Conflict)
        assert str(error) == f"record id {ID} is taken by another record; leave `id` out to have one drawn"
    parts.check_log(1)


def test_an_id_twice_in_one_batch(parts: Parts) -> None:
    one, two = parts.submit([Submission("k", report(1, id=ID)), Submission("l", report(2, id=ID))])
    assert isinstance(one, Acknowledged)
    assert isinstance(refused(two), Conflict)


def test_a_refused_record_takes_no_id(parts: Parts) -> None:
    one, two = parts.submit([Submission("k", report(1, id=ID, risk=1)), Submission("l", report(2, id=ID))])
    assert refused(one).reason == "schema"
    assert isinstance(two, Acknowledged)


# ---- one bad record among good ones ------------------------------------------------------------------------------


def cycle() -> dict[str, Any]:
    record = report(1)
    record["place"] = record
    return record


def deep() -> dict[str, Any]:
    value: Any = "x"
    for _ in range(600):
        value = [value]
    return report(1, summary=value)


BAD_RECORDS: dict[str, tuple[Callable[[], Any], str, str]] = {
    "nothing": (lambda: {}, "unknown-type", "no record type 'None'"),
    "None": (lambda: None, "not-json", "a record is a JSON object"),
    "a list": (lambda: [1], "not-json", "a record is a JSON object"),
    "a text": (lambda: "{}", "not-json", "a record is a JSON object"),
    "an unknown type": (lambda: report(1, type="weather.report"), "unknown-type", "near it are"),
    "a record of the service's own": (lambda: report(1, type="disclosure.made"), "reserved-type", "only the service"),
    "an unknown version": (lambda: report(1, v=2), "unknown-type", "version 2"),
    "a missing member": (lambda: {k: v for k, v in report(1).items() if k != "result"}, "schema", "'result'"),
    "an unknown member": (lambda: report(1, colour="red"), "schema", "'colour'"),
    "another department": (lambda: report(1, department="health"), "department", "'health', not 'fire'"),
    "a department that is a list": (lambda: report(1, department=["fire"]), "department", "not 'fire'"),
    "a department of a megabyte": (lambda: report(1, department="x" * 10**6), "department", "not 'fire'"),
    "an id that is a list": (lambda: report(1, id=[]), "schema", "$.id must be text"),
    "an id that is an object": (lambda: report(1, id={}), "schema", "$.id must be text"),
    "an id that is None": (lambda: report(1, id=None), "schema", "$.id must be text"),
    "an id in upper case": (lambda: report(1, id=ID.upper()), "schema", "$.id must be a UUIDv7"),
    "an id with a line break": (lambda: report(1, id=ID + "\n"), "schema", "$.id must"),
    "attachments described by hand": (lambda: report(1, attachments=[]), "attachments", "leave them out"),
    "20 MB": (lambda: report(1, summary="x" * 20_000_000), "too-large", "20,000,4"),
    "20 MB of lists": (lambda: report(1, violations=[{"text": "x" * 4000}] * 5_000), "too-large", "move bulk into"),
    "a lone surrogate": (lambda: report(1, summary="a\ud800"), "not-json", "surrogates not allowed"),
    "a lone surrogate as a name": (lambda: report(1) | {"\udfff": 1}, "not-json", "is not JSON"),
    "an integer of 2^53": (lambda: report(1, minor_violations=2**53), "schema", "$.minor_violations must be at most"),
    "an integer of 2^64": (lambda: report(1, minor_violations=2**64), "not-json", "64-bit"),
    "an integer of 2^200": (lambda: report(1, minor_violations=2**200), "not-json", "64-bit"),
    "NaN": (lambda: report(1, minor_violations=float("nan")), "schema", "$.minor_violations"),
    "infinity": (lambda: report(1, minor_violations=float("inf")), "schema", "$.minor_violations"),
    "a float": (lambda: report(1, minor_violations=1.5), "schema", "floating-point"),
    "a float that is whole": (lambda: report(1, minor_violations=1.0), "schema", "floating-point"),
    "a float deep inside": (lambda: report(1, violations=[{"text": "x", "code": 1e0}]), "schema", "$.violations[0]"),
    "bytes": (lambda: report(1, summary=b"x"), "not-json", "bytes"),
    "a set": (lambda: report(1, summary={1}), "not-json", "set"),
    "a function": (lambda: report(1, summary=print), "not-json", "not JSON"),
    "a datetime": (lambda: report(1, occurred_at=datetime.datetime(2026, 1, 1)), "schema", "not JSON"),  # noqa: DTZ001
    "a UUID": (lambda: report(1, case=uuid.UUID(ID)), "schema", "not JSON"),
    "names that are numbers": (lambda: report(1) | {1: 2}, "not-json", "key must be str"),
    "itself inside itself": (cycle, "not-json", "Recursion"),
    "600 levels": (deep, "not-json", "Recursion"),
    "a NUL": (lambda: report(1, summary="a\x00b"), "schema", "$.summary"),
    "a wrong check digit": (
        lambda: report(1, subjects=[COMPANY | {"value": "91350100M000100Y44"}]), "bad-identifier", "wrong check digit"),
    "a day in the future": (lambda: report(1, occurred_at="2999-01-01T00:00:00Z"), "bad-time", "lies in the future"),
    "a day in the past": (lambda: report(1, occurred_at="1900-01-01T00:00:00Z"), "bad-time", "is absurd"),
    "the year 0": (lambda: report(1, occurred_at="0000-01-01T00:00:00Z"), "bad-time", "a time that exists"),
    "30 February": (lambda: report(1, occurred_at="2026-02-30T00:00:00Z"), "bad-time", "a time that exists"),
    "a time without offset": (lambda: report(1, occurred_at="2026-02-03T00:00:00"), "bad-time", "with offset"),
    "a date": (lambda: report(1, occurred_at="2026-02-03"), "bad-time", "with offset"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_RECORDS)
def test_one_bad_record_among_good_ones(parts: Parts, name: str) -> None:
    make, reason, words = BAD_RECORDS[name]
    before, bad, after = parts.submit([Submission("a", report(1)), Submission("x", make()), Submission("b", report(2))])
    assert isinstance(before, Acknowledged)
    assert isinstance(after, Acknowledged)
    assert (before.index, after.index) == (0, 1)
    error = refused(bad)
    assert (error.reason, error.exit_code) == (reason, 1)
    assert words in str(error)
    assert len(str(error)) < 400
    assert "\n" not in str(error)
    parts.check_log(2)


BAD_KEYS: dict[str, Any] = {
    "empty": "", "201 characters": "k" * 201, "a line break": "a\nb", "a NUL": "a\x00", "a lone surrogate": "a\ud800",
    "None": None, "a number": 7, "bytes": b"k", "a right-to-left mark": "a\u200f",
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_KEYS)
def test_a_bad_key_among_good_ones(parts: Parts, name: str) -> None:
    outcomes = parts.submit([Submission("a", report(1)), Submission(BAD_KEYS[name], report(3))])
    assert isinstance(outcomes[0], Acknowledged)
    assert refused(outcomes[1]).reason == "bad-key"
    assert str(refused(outcomes[1])) == "an idempotency key is 1 to 200 printable characters"


def test_keys_of_the_service_and_keys_that_are_handed_in_never_meet(parts: Parts) -> None:
    taken = Submission("disclosure/e/1", report(1))
    own = Submission("disclosure/e/1", report(2), by_service=True)
    assert [outcome.new for outcome in parts.take([taken, own, taken, own])] == [True, True, False, False]
    (held,) = parts.intake.look_up("fire", [own])
    assert held is not None
    assert (held.index, held.same) == (1, True)
    forged = parts.submit([Submission("yunxi:disclosure/e/1", report(2)), Submission("yunxi:x", report(3))])
    assert [str(refused(each)) for each in forged] == [
        "keys that begin with yunxi: are the service's own: choose another"
    ] * 2
    assert {refused(each).reason for each in forged} == {"bad-key"}
    parts.check_log(2)


def test_logs_from_before_keep_what_the_service_sealed_under_its_keys(parts: Parts) -> None:
    hold = {"type": "hold.lifted", "v": 1, "hold": ID, "reason": "x", "occurred_at": "2026-03-02T09:15:00+08:00"}
    hold["officers"] = [{"id": "330299-0001", "name": "甲"}]
    own, other = Submission("hold/1", hold, by_service=True), Submission("hold/2", report(1))
    parts.take([own, other])
    with parts.database.writing() as connection:  # as they were stored before
        connection.execute(update(entries).where(entries.c.key == "yunxi:hold/1").values(key="hold/1"))
        connection.execute(text("UPDATE alembic_version SET version_num = '0008'"))
    schema.upgrade(parts.database)
    assert [outcome.new for outcome in parts.take([own, other])] == [False, False]
    assert parts.audit().good


@pytest.mark.parametrize("key", ["k" * 200, "表/第 1 行", "a'; DROP TABLE entries; --", "%", "🚒", "\\N"])
def test_keys_may_be_any_printable_text(parts: Parts, key: str) -> None:
    first = parts.take([Submission(key, report(1))])[0]
    assert parts.take([Submission(key, report(1))])[0] == Acknowledged(key, first.record_id, 0, new=False)


def test_a_batch_of_bad_records_only(parts: Parts) -> None:
    outcomes = parts.submit([Submission(f"k{n}", {}) for n in range(3)])
    assert all(isinstance(outcome, Refused) for outcome in outcomes)
    parts.check_log(0)


def test_an_unknown_department(parts: Parts) -> None:
    with pytest.raises(HistoryRefused, match="no log of department 'police': run `yunxi department add police`"):
        parts.submit(submissions(0, 1), "police")


def test_a_batch_too_large(parts: Parts) -> None:
    with pytest.raises(RecordRefused, match="a batch holds at most 10,000 records; split it"):
        parts.submit([Submission("k", {})] * (MAX_BATCH + 1))


def test_a_record_of_a_mebibyte_less_a_little(parts: Parts) -> None:
    # the largest that the size limit allows goes the whole way
    violations = [{"text": "x" * 4000}] * 100
    taken = parts.take([Submission("k", report(1, violations=violations, summary="y" * 4000))])[0]
    with parts.database.reading() as connection:
        assert parts.reader.open(connection, taken.record_id).record()["violations"] == violations


def test_a_halted_log_takes_nothing(parts: Parts) -> None:
    with parts.database.writing() as connection:
        connection.execute(update(logs).where(logs.c.department == "fire").values(halted="the chain says otherwise"))
    with pytest.raises(HistoryRefused, match=r"log test.example/fire takes nothing: the chain says otherwise"):
        parts.submit(submissions(0, 1))
    parts.take(submissions(0, 1), "health")


def test_a_damaged_tile_stops_appending(parts: Parts) -> None:
    parts.take(submissions(0, 5))
    with parts.database.writing() as connection:
        connection.execute(update(tiles).where(tiles.c.log == 1).values(hashes=bytes(32 * 5)))
    other = parts.again()
    with pytest.raises(HistoryRefused, match="is damaged: its tiles do not lead to its root at size 5"):
        other.submit(submissions(5, 1))
    other.close()


# ---- attachments -------------------------------------------------------------------------------------------------

MIB = 1024 * 1024
FIRST = MIB - 56


@pytest.mark.parametrize("size", [0, 1, FIRST - 1, FIRST, FIRST + 1, MIB, FIRST + MIB - 16, FIRST + MIB - 15])
def test_an_attachment_of(sqlite_parts: Parts, tmp_path: Path, size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    source = attachment(tmp_path / "photo.png", data[:size])
    taken = sqlite_parts.take([Submission("k", report(1), (source,))])[0]
    with sqlite_parts.database.reading() as connection:
        described = sqlite_parts.reader.open(connection, taken.record_id).record()["attachments"]
        stored = b"".join(sqlite_parts.reader.attachment(connection, taken.record_id, 1))
    assert (described[0]["size"], described[0]["name"]) == (size, "photo.png")
    assert stored == data[:size]
    audited = sqlite_parts.audit()
    assert (audited.good, audited.attachments) == (True, 1)


def test_attachments_keep_their_order(parts: Parts, tmp_path: Path) -> None:
    sources = tuple(attachment(tmp_path / f"{n}.png", bytes([n]) * n) for n in range(12))
    taken = parts.take([Submission("k", report(1), sources)])[0]
    with parts.database.reading() as connection:
        described = parts.reader.open(connection, taken.record_id).record()["attachments"]
        assert [entry["name"] for entry in described] == [f"{n}.png" for n in range(12)]
        for number in range(1, 13):
            data = b"".join(parts.reader.attachment(connection, taken.record_id, number))
            assert data == bytes([number - 1]) * (number - 1)
        with pytest.raises(RecordRefused, match="has no attachment 13"):
            parts.reader.attachment(connection, taken.record_id, 13)


def test_other_bytes_are_other_content(parts: Parts, tmp_path: Path) -> None:
    source = attachment(tmp_path / "a.png", b"one")
    parts.take([Submission("k", report(1), (source,))])
    assert not parts.take([Submission("k", report(1), (source,))])[0].new
    attachment(tmp_path / "a.png", b"two")
    assert isinstance(refused(parts.submit([Submission("k", report(1), (source,))])[0]), Conflict)
    assert isinstance(refused(parts.submit([Submission("k", report(1))])[0]), Conflict)


def no_leftovers(parts: Parts, count: int) -> None:
    assert len([path for path in (parts.directory / "blobs").rglob("*") if path.is_file()]) == count


def test_a_missing_file_among_good_ones(parts: Parts, tmp_path: Path) -> None:
    good = attachment(tmp_path / "a.png", b"abc")
    (tmp_path / "gone.png").unlink(missing_ok=True)
    gone = attachment(tmp_path / "gone.png", b"x")
    gone.path.unlink()
    outcomes = parts.submit([
        Submission("a", report(1), (good,)),
        Submission("b", report(2), (good, gone)),
        Submission("c", report(3), (good,)),
    ])  # fmt: skip
    error = refused(outcomes[1])
    assert (error.reason, str(error)) == (
        "attachments", "attachment gone.png cannot be read: No such file or directory",
    )  # fmt: skip
    assert [outcomes[0].index, outcomes[2].index] == [0, 1]  # type: ignore[union-attr]
    no_leftovers(parts, 2)
    assert parts.audit().attachments == 2


def test_a_directory_as_attachment(parts: Parts, tmp_path: Path) -> None:
    source = attachment(tmp_path / "a.png", b"")
    source.path.unlink()
    source.path.mkdir()
    assert "Is a directory" in str(refused(parts.submit([Submission("k", report(1), (source,))])[0]))


def test_a_media_type_that_is_none(parts: Parts, tmp_path: Path) -> None:
    source = attachment(tmp_path / "a.png", b"abc", "picture")
    error = refused(parts.submit([Submission("k", report(1), (source,))])[0])
    assert "$.attachments[0].media_type must be a media type such as image/png" in str(error)
    no_leftovers(parts, 0)


ALWAYS_OTHER = Path("/proc/sys/kernel/random/uuid")
"""A file whose content, though not its size, is another one at every reading."""


@pytest.mark.skipif(not ALWAYS_OTHER.exists(), reason="needs Linux's /proc/sys/kernel/random/uuid")
def test_a_file_that_changes_between_its_two_readings(parts: Parts) -> None:
    source = AttachmentSource(ALWAYS_OTHER, "a.txt", "text/plain")
    outcomes = parts.submit([Submission("a", report(1)), Submission("k", report(2), (source,))])
    assert isinstance(outcomes[0], Acknowledged)
    assert str(refused(outcomes[1])) == "attachment a.txt changed while it was read; submit the record again"
    no_leftovers(parts, 0)
    parts.check_log(1)


def test_51_attachments(parts: Parts, tmp_path: Path) -> None:
    source = attachment(tmp_path / "a.png", b"abc")
    error = refused(parts.submit([Submission("k", report(1), (source,) * 51)])[0])
    assert "$.attachments must have at most 50 entries" in str(error)
    no_leftovers(parts, 0)


# ---- reading back ------------------------------------------------------------------------------------------------


def test_every_record_reads_back(parts: Parts) -> None:
    taken = parts.take(submissions(0, 30))
    with parts.database.reading() as connection:
        for number, outcome in enumerate(taken):
            found = parts.reader.open(connection, outcome.record_id).record()
            assert found == {"id": outcome.record_id, "department": "fire", **report(number)}


def test_what_is_not_there(parts: Parts) -> None:
    taken = parts.take(submissions(0, 1))[0]
    with parts.database.reading() as connection:
        with pytest.raises(RecordRefused, match="'x' is not a record id; it is a UUID"):
            parts.reader.open(connection, "x")
        with pytest.raises(RecordRefused, match=f"this node has no record {ID}"):
            parts.reader.open(connection, ID)
        with pytest.raises(RecordRefused, match="has no unit 'colour'; it has: when, place,"):
            parts.reader.present(connection, taken.record_id, ["result", "colour"])


def test_nothing_readable_lies_in_the_database(sqlite_parts: Parts, tmp_path: Path) -> None:
    source = attachment(tmp_path / "a.png", b"secret words of an attachment" * 100)
    sqlite_parts.take([Submission("k", report(77, summary="secret words of a record"), (source,))])
    sqlite_parts.close()
    files = [*tmp_path.glob("ledger-*"), *(path for path in sqlite_parts.directory.rglob("*") if path.is_file())]
    stored = b"".join(path.read_bytes() for path in files)
    for word in (b"secret words", "第77餐饮店".encode(), b"91350100M000100Y43", b"L-77"):
        assert word not in stored
    assert b"330299-XF-001" not in stored  # in clear, but inside the statement's base64


def test_the_same_subject_is_found_in_two_departments(parts: Parts) -> None:
    parts.take([Submission("k", report(1, subjects=[COMPANY]))], "fire")
    parts.take([Submission("k", report(2, subjects=[COMPANY | {"value": "9135 0100 M000 100Y 43"}]))], "health")
    with parts.database.reading() as connection:
        assert connection.scalar(select(func.count()).select_from(entries)) == 2
        ids = connection.scalars(select(entries.c.record_id)).all()
        subjects = [parts.reader.open(connection, str(uuid.UUID(bytes=i))).statement.payload["subj"] for i in ids]
    assert subjects[0] == subjects[1]
    assert len(subjects[0]) == 1
