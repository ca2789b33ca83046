"""The decision freeze: whatever comes in, in whatever order and from how many at once, a decision's manifest is exactly
what its case held in the log before it."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, select, text

from ledger.errors import Conflict, CouldNotRun, Malformed, NotProven, RecordRefused
from ledger.formats.manifest import Line, parse_lines
from ledger.formats.merkle import leaf_hash
from ledger.formats.tiles import tree_root
from ledger.freeze import case_lines, check_manifest
from ledger.intake import Intake
from ledger.store import schema
from ledger.store.blobs import BlobStore
from ledger.store.models import case_entries, entries, log_of
from ledger.store.reading import StoredTiles, read_logs
from ledger.submission import Acknowledged, AttachmentSource, Refused, Submission
from tests.fixtures.parts import TYPES, Parts
from tests.fixtures.records import penalty, report

CASE, OTHER = "望消立〔2026〕1号", "望消立〔2026〕2号"


def decision(**changes: Any) -> dict[str, Any]:
    return penalty(**{"case": CASE, **changes})


def evidence(number: int, case: str | None = CASE) -> dict[str, Any]:
    return report(number) if case is None else report(number, case=case)


def check_decisions(parts: Parts, department: str = "fire") -> int:
    """Holds every decision of the log against the log, with statements read and nothing else believed; how many."""
    with parts.database.reading() as connection:
        log = read_logs(connection, department)[0]
        rows = connection.execute(
            select(entries.c.position, entries.c.record_id, entries.c.statement).where(entries.c.log == log.number)
            .order_by(entries.c.position)
        ).all()  # fmt: skip
        opened = {n: parts.reader.open(connection, row.record_id.hex()).record() for n, row in enumerate(rows)}
        lines = {
            n: Line(n, record["id"], leaf_hash(rows[n].statement)) for n, record in opened.items() if "case" in record
        }
        for case in {record["case"] for record in opened.values() if "case" in record}:
            there = [line for n, line in lines.items() if opened[n]["case"] == case]
            assert list(case_lines(connection, log.number, case, log.size)) == there
        found = [n for n, record in opened.items() if record["type"] == "decision.made"]
        for n in found:
            before = [line for m, line in lines.items() if m < n and opened[m]["case"] == opened[n]["case"]]
            *_, file = opened[n]["attachments"]
            data = b"".join(parts.reader.attachment(connection, opened[n]["id"], len(opened[n]["attachments"])))
            assert (file["name"], file["size"], file["sha256"]) == (
                "manifest.txt", len(data), hashlib.sha256(data).hexdigest()
            )  # fmt: skip
            assert list(parse_lines(data.splitlines(keepends=True))) == before
            root = tree_root(n, StoredTiles(connection, log.number))
            check_manifest(opened[n]["manifest"], data.splitlines(keepends=True), n, root, before)
    return len(found)


# ---- what is frozen ----------------------------------------------------------------------------------------------


def test_a_decision_lists_what_its_case_held_before_it(parts: Parts) -> None:
    parts.take([Submission("a", evidence(1)), Submission("b", evidence(2, OTHER)), Submission("c", evidence(3, None))])
    parts.take([Submission("d", evidence(4))])
    [made] = parts.take([Submission("decision", decision())])
    parts.take([Submission("after", evidence(5))])
    with parts.database.reading() as connection:
        record = parts.reader.open(connection, made.record_id).record()
        lines = list(parse_lines(b"".join(parts.reader.attachment(connection, made.record_id, 1)).splitlines(True)))
    assert [line.index for line in lines] == [0, 3]
    assert (record["manifest"]["size"], record["manifest"]["count"]) == (4, 2)
    assert check_decisions(parts) == 1
    parts.check_log(6)
    assert parts.audit().good


def test_a_first_record_may_be_a_decision(parts: Parts) -> None:
    parts.take([Submission("decision", decision())])
    assert check_decisions(parts) == 1


def test_within_a_batch_what_stands_before_counts(parts: Parts) -> None:
    batch = [evidence(1), decision(), evidence(2), decision(decision_number="2"), evidence(3, OTHER), evidence(4)]
    batch.append(decision(case=OTHER))
    parts.take([Submission(f"k{number}", record) for number, record in enumerate(batch)])
    assert check_decisions(parts) == 3
    assert parts.audit().good


def test_the_departments_files_come_first_and_keep_their_places(parts: Parts, tmp_path: Path) -> None:
    file = tmp_path / "decision.pdf"
    file.write_bytes(b"%PDF-1.7 decision")
    [made] = parts.take([Submission("d", decision(), (AttachmentSource(file, file.name, "application/pdf"),))])
    with parts.database.reading() as connection:
        record = parts.reader.open(connection, made.record_id).record()
        assert [each["name"] for each in record["attachments"]] == ["decision.pdf", "manifest.txt"]
        assert b"".join(parts.reader.attachment(connection, made.record_id, 1)) == b"%PDF-1.7 decision"
    assert check_decisions(parts) == 1


def test_the_same_decision_again_is_the_same_record(parts: Parts) -> None:
    first = parts.take([Submission("a", evidence(1)), Submission("d", decision())])
    parts.take([Submission("b", evidence(2))])
    again = parts.take([Submission("d", decision())])
    assert (again[0].record_id, again[0].new) == (first[1].record_id, False)
    assert check_decisions(parts) == 1


REFUSALS: dict[str, tuple[Callable[[Path], Submission], str]] = {
    "a manifest of one's own": (
        lambda _: Submission("d", decision(manifest={"size": 0, "root": "0" * 64, "count": 0, "sha256": "0" * 64})),
        "manifest",
    ),
    "a manifest of one's own, by the service": (
        lambda _: Submission(
            "d", decision(manifest={"size": 0, "root": "0" * 64, "count": 0, "sha256": "0" * 64}), by_service=True
        ),
        "manifest",
    ),
    "a manifest that is none": (lambda _: Submission("d", decision(manifest=None)), "schema"),
    "fifty files, which leave no room": (
        lambda _: Submission(
            "d", decision(), tuple(AttachmentSource(b"x", f"{n}.txt", "text/plain") for n in range(50))
        ),
        "attachments",
    ),
    "no case": (lambda _: Submission("d", {k: v for k, v in decision().items() if k != "case"}), "schema"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_is_refused(parts: Parts, tmp_path: Path, name: str) -> None:
    make, reason = REFUSALS[name]
    refused, taken = parts.submit([make(tmp_path), Submission("a", evidence(1))])
    assert isinstance(refused, Refused)
    assert refused.error.reason == reason
    assert isinstance(taken, Acknowledged)
    parts.check_log(1)


def test_a_decision_waits_for_trusted_time_and_nothing_else_does(parts: Parts) -> None:
    def late(department: str) -> None:
        raise CouldNotRun(f"no time stamp of {department}")

    intake = Intake(parts.database, parts.blobs, parts.agent, parts.keks, TYPES, require_time=late)
    refused, taken = intake.submit("fire", [Submission("d", decision()), Submission("a", evidence(1))])
    assert isinstance(refused, Refused)
    assert refused.error.reason == "no-trusted-time"
    assert isinstance(taken, Acknowledged)


# ---- several at once ---------------------------------------------------------------------------------------------


class Overtaking(BlobStore):
    """A real store, beside which another intake appends something just before the first manifest lies there."""

    def __init__(self, directory: Path, act: Callable[[], object]) -> None:
        super().__init__(directory)
        self._act: Callable[[], object] | None = act

    def put(self, chunks: Iterable[bytes]) -> str:
        if self._act is not None:
            act, self._act = self._act, None
            act()
        return super().put(chunks)


OVERTAKING = {
    "evidence of the case": [evidence(7)],
    "evidence of another": [evidence(7, OTHER)],
    "another decision of the case": [evidence(7), decision(decision_number="2")],
}


@pytest.mark.parametrize("name", OVERTAKING)
def test_what_comes_while_the_manifest_is_made_is_in_it(parts: Parts, name: str) -> None:
    other = parts.again()
    act = lambda: other.take([Submission(f"o{n}", record) for n, record in enumerate(OVERTAKING[name])])  # noqa: E731
    blobs = Overtaking(parts.directory / "blobs", act)
    intake = Intake(parts.database, blobs, parts.agent, parts.keks, TYPES)
    batch = [Submission("a", evidence(1)), Submission("d", decision()), Submission("e", evidence(2))]
    outcomes = intake.submit("fire", batch)
    other.close()
    before = len(OVERTAKING[name])
    assert [outcome.index for outcome in outcomes if isinstance(outcome, Acknowledged)] == [
        before,
        before + 1,
        before + 2,
    ]
    assert check_decisions(parts) >= 1
    assert parts.audit().good


def test_what_another_took_first_moves_the_decision(parts: Parts) -> None:
    other = parts.again()
    blobs = Overtaking(parts.directory / "blobs", lambda: other.take([Submission("a", evidence(1))]))
    intake = Intake(parts.database, blobs, parts.agent, parts.keks, TYPES)
    outcomes = intake.submit("fire", [Submission("a", evidence(1)), Submission("d", decision())])
    other.close()
    assert [outcome.index for outcome in outcomes if isinstance(outcome, Acknowledged)] == [0, 1]
    assert check_decisions(parts) == 1
    parts.check_log(2)


def test_what_another_took_first_with_other_content_is_a_conflict(parts: Parts) -> None:
    # nothing of it was stored under this key: to acknowledge it would lose it
    other = parts.again()
    blobs = Overtaking(parts.directory / "blobs", lambda: other.take([Submission("a", evidence(1))]))
    intake = Intake(parts.database, blobs, parts.agent, parts.keks, TYPES)
    changed, fresh = intake.submit("fire", [Submission("a", evidence(2)), Submission("d", decision())])
    other.close()
    assert isinstance(changed, Refused)
    assert isinstance(changed.error, Conflict)
    assert isinstance(fresh, Acknowledged)
    assert fresh.index == 1
    parts.check_log(2)


def test_two_intakes_on_one_case_at_once(parts: Parts) -> None:
    turns, failures = 12, []

    def work(name: str, mine: Parts) -> None:
        try:
            for turn in range(turns):
                batch = [Submission(f"{name}{turn}-{n}", evidence(turn * 10 + n)) for n in range(3)]
                batch.insert(turn % 4, Submission(f"{name}{turn}-d", decision(decision_number=f"{name}{turn}")))
                mine.take(batch)
        except BaseException as error:  # noqa: BLE001  # the thread's own failure must reach the test
            failures.append(error)

    several = [parts.again(), parts.again()]
    threads = [threading.Thread(target=work, args=(f"w{n}-", mine)) for n, mine in enumerate(several)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for mine in several:
        mine.close()
    assert not failures
    assert check_decisions(parts) == 2 * turns
    parts.check_log(2 * turns * 4)


KINDS = st.sampled_from([(True, CASE), (True, OTHER), (False, CASE), (False, OTHER), (False, None)])


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(st.lists(KINDS, max_size=6), max_size=5))
def test_any_sequence_of_batches(parts: Parts, batches: list[list[tuple[bool, str | None]]]) -> None:
    # the log goes on growing from example to example; the invariant is of the whole log
    start = parts.log().size
    for b, batch in enumerate(batches):
        made = [
            decision(case=case) if is_decision else evidence(n, case) for n, (is_decision, case) in enumerate(batch)
        ]
        parts.take([Submission(f"{start}-{b}-{n}", record) for n, record in enumerate(made)])
    check_decisions(parts)


# ---- the index of cases, and the check -----------------------------------------------------------------------------


def test_the_migration_reads_what_is_there(parts: Parts) -> None:
    parts.take([Submission(f"k{n}", evidence(n, (CASE, OTHER, None)[n % 3])) for n in range(40)])
    parts.take([Submission("h", evidence(1))], "health")
    with parts.database.writing() as connection:
        kept = set(connection.execute(select(case_entries)).all())
        connection.execute(text("DROP TABLE case_entries"))
        connection.execute(text("UPDATE alembic_version SET version_num = '0007'"))
    schema.upgrade(parts.database)
    with parts.database.reading() as connection:
        assert {tuple(row) for row in connection.execute(select(case_entries))} == {tuple(row) for row in kept}
    assert {log_of(row.position) for row in kept} == {1, 2}
    assert len(kept) == 28


def lines_of(*indexes: int) -> list[Line]:
    return [Line(n, f"01935100-0000-7000-8000-{n:012x}", bytes([n]) * 32) for n in indexes]


def claimed_of(text_lines: list[bytes], size: int) -> dict[str, Any]:
    joined = b"".join(text_lines)
    count, digest = len(text_lines), hashlib.sha256(joined).hexdigest()
    return {"size": size, "root": "07" * 32, "count": count, "sha256": digest}


DIFFERENCES: dict[str, tuple[list[Line], list[Line], dict[str, Any], str]] = {
    "a line is left out": (lines_of(1, 5), lines_of(1, 3, 5), {}, "omits record .*3 at index 3"),
    "the last is left out": (lines_of(1, 3), lines_of(1, 3, 5), {}, "omits record .*5 at index 5"),
    "a line is invented": (lines_of(1, 3, 5), lines_of(1, 5), {}, "lists record .*3 at index 3"),
    "a line too many": (lines_of(1, 3), lines_of(1), {}, "lists record .*3 at index 3"),
    "another leaf": ([Line(1, lines_of(1)[0].record_id, bytes(32))], lines_of(1), {}, "at index 1"),
    "another size": (lines_of(1), lines_of(1), {"size": 8}, "first 9 entries"),
    "another root": (lines_of(1), lines_of(1), {"root": "00" * 32}, "first 9 entries"),
    "another count": (lines_of(1), lines_of(1), {"count": 2}, "not the one"),
    "another digest": (lines_of(1), lines_of(1), {"sha256": "00" * 32}, "not the one"),
}


@pytest.mark.parametrize("name", DIFFERENCES)
def test_a_manifest_that_is_not_the_log_s(name: str) -> None:
    said, there, changed, words = DIFFERENCES[name]
    data = [line.encode() for line in said]
    with pytest.raises(NotProven, match=words):
        check_manifest({**claimed_of(data, 9), **changed}, data, 9, b"\x07" * 32, there)


GOOD = b"1 01935100-0000-7000-8000-000000000001 " + b"01" * 32 + b"\n"
MALFORMED = {
    "no line feed": [GOOD[:-1]],
    "a carriage return": [GOOD[:-1] + b"\r\n"],
    "a leading zero": [b"0" + GOOD],
    "a sign": [b"+" + GOOD],
    "upper case": [GOOD.replace(b"01" * 32, b"AB" * 32)],
    "two spaces": [GOOD.replace(b" ", b"  ")],
    "an empty line": [b"\n"],
    "the same index twice": [GOOD, GOOD],
    "not ascending": [GOOD.replace(b"1 ", b"2 ", 1), GOOD],
    "digits of another script": ["１".encode() + GOOD[1:]],
}


@pytest.mark.parametrize("name", MALFORMED)
def test_lines_that_are_none(name: str) -> None:
    with pytest.raises(Malformed, match="manifest: line"):
        list(parse_lines(MALFORMED[name]))


@pytest.mark.parametrize("size", [1, 7, 103, 1 << 20])
def test_a_manifest_in_pieces_of_any_size(size: int) -> None:
    there = lines_of(*range(40))
    text = b"".join(line.encode() for line in there)
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    check_manifest(claimed_of([line.encode() for line in there], 50), pieces, 50, b"\x07" * 32, there)
    with pytest.raises(Malformed):
        check_manifest(claimed_of([text], 50), [*pieces, b"50 "], 50, b"\x07" * 32, there)


def test_a_lost_row_of_the_index_shows(parts: Parts) -> None:
    parts.take([Submission("a", evidence(1)), Submission("b", evidence(2))])
    with parts.database.writing() as connection:
        connection.execute(delete(case_entries).where(case_entries.c.position == case_entries.c.position))
    parts.take([Submission("d", decision())])
    with pytest.raises((AssertionError, NotProven, RecordRefused)):
        check_decisions(parts)
