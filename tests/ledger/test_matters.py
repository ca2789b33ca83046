"""Matters: reading a delivered list, merging it into the one before, publishing it, deciding by it."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from datetime import date, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import delete, func, select, update

from ledger.errors import Conflict, HistoryRefused, Malformed, MattersRefused, RecordRefused, StorageFailed
from ledger.matter_lists import (
    HEADINGS,
    OPEN,
    Delivered,
    ListRow,
    Matter,
    MatterList,
    column_of,
    diff,
    merge,
    parse_day,
    parse_list,
    read_list,
)
from ledger.matters import (
    Draft,
    Origin,
    changes_between,
    draft,
    held_matters,
    newest_list,
    publish,
    published_list,
    rebuild,
)
from ledger.store.models import matter_lists, matters
from ledger.submission import Refused, Submission
from tests.fixtures.parts import Parts
from tests.fixtures.records import report

CHINESE = ("事项编码", "事项名称", "事项类型", "法律依据", "实施主体", "行使层级", "生效日期", "有效期至")
NAMES = {"fire": "fire", "health": "health", "区消防救援大队": "fire", "区卫生健康局": "health"}
TODAY = date(2025, 6, 1)
ORIGIN = Origin("清单.xlsx", bytes(32))


def row(number: int = 2, **changes: str) -> ListRow:
    cells = {
        "code": "330299-XF-001",
        "name": "对消防设施不符合标准的处罚",
        "kind": "行政处罚",
        "legal_basis": "《中华人民共和国消防法》第六十条",
        "department": "区消防救援大队",
        "level": "县级",
        "effective_from": "2024-01-01",
        "effective_to": "",
        **changes,
    }
    headings = dict(zip(("code", "name", "kind", "legal_basis", "department", "level"), CHINESE, strict=False))
    headings |= {"effective_from": "生效日期", "effective_to": "有效期至", "void_from": "废止日期"}
    return ListRow(f"list.csv:{number}", {headings[name]: value for name, value in cells.items()})


def read(*rows: ListRow, department: str | None = None, headings: Sequence[str] = (), **options: Any) -> Delivered:
    given = headings or (*CHINESE, *(["废止日期"] if any("废止日期" in row.cells for row in rows) else []))
    return read_list(given, rows, department=department, departments=NAMES, **options)


# ---- reading -----------------------------------------------------------------------------------------------------


def test_a_list_of_several_departments() -> None:
    found = read(row(2), row(3, code="B-2", department="区卫生健康局", kind="inspection", effective_to="2025-12-31"))
    assert not found.faults
    assert list(found.rows) == ["fire", "health"]
    ((position, first),) = found.rows["fire"]
    assert (position, first.code, first.kind, first.level) == ("list.csv:2", "330299-XF-001", "penalty", "县级")
    assert (first.effective_from, first.effective_to) == (date(2024, 1, 1), OPEN)
    assert found.rows["health"][0][1].effective_to == date(2025, 12, 31)


def test_every_heading_names_one_column() -> None:
    for column, headings in HEADINGS.items():
        for heading in headings.split():
            assert column_of(heading) == column
            if not heading.isascii():
                assert column_of(f" *{heading}\n（必填）") == column
    assert column_of("Legal Basis") == "legal_basis"
    assert column_of("备注") is None


def test_headings_that_nobody_asked_for_are_said() -> None:
    assert read(row(), headings=(*CHINESE, "备注", "")).unused == ("备注",)


DAYS = {
    "2024-03-05": date(2024, 3, 5),
    "2024/3/5": date(2024, 3, 5),
    "2024.03.05": date(2024, 3, 5),
    "2024年3月5日": date(2024, 3, 5),
    "20240305": date(2024, 3, 5),
    "2024-03-05T00:00:00": date(2024, 3, 5),
    "2024-03-05 00:00:00": date(2024, 3, 5),
}


@pytest.mark.parametrize("text", DAYS)
def test_a_day(text: str) -> None:
    assert parse_day(text) == DAYS[text]


@pytest.mark.parametrize(
    "text",
    ["", "02/03/04", "02-03-2004", "2024-02-30", "2024-13-01", "2024-3/5", "2024", "45356", "2024-03-05T08:00:00",
     "２０２４-03-05", "1899-12-31", "9999-12-31", "2024-03-05x", "二〇二四年"],
)  # fmt: skip
def test_no_day(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no day|\"\""):
        parse_day(text)


FAULTY: dict[str, tuple[dict[str, str], str]] = {
    "a code with spaces": ({"code": "33 02"}, 'code "33 02" must be 1 to 64'),
    "a code with Chinese": ({"code": "处罚-01"}, 'code "处罚-01" must be'),
    "no code": ({"code": ""}, 'code "" must be'),
    "no name": ({"name": ""}, "the name is blank"),
    "no law": ({"legal_basis": ""}, "the legal_basis is blank"),
    "a name without end": ({"name": "x" * 501}, "the name has 501 characters"),
    "a kind that is none": ({"kind": "行政命令"}, 'kind "行政命令" is none of: 行政许可'),
    "a department nobody knows": ({"department": "区文化局"}, 'no department of this node is called "区文化局"'),
    "no department": ({"department": ""}, "the row names no department"),
    "a date like 02/03/04": ({"effective_from": "02/03/04"}, '"02/03/04" is no day'),
    "a day that does not exist": ({"effective_to": "2025-02-29"}, '"2025-02-29" is no day'),
    "no first day": ({"effective_from": ""}, "the first day in force is blank"),
    "an end before the beginning": (
        {"effective_to": "2023-12-31"},
        "the last day in force, 2023-12-31, lies before the first, 2024-01-01",
    ),
    "void from the day it begins": ({"void_from": "2024-01-01"}, "lies before the first"),
    "two ends": ({"effective_to": "2025-01-01", "void_from": "2025-01-02"}, "keep one"),
}


@pytest.mark.parametrize("name", FAULTY)
def test_a_row_that_is_not_right_is_named_and_refuses_the_list(parts: Parts, name: str) -> None:
    changes, sentence = FAULTY[name]
    found = read(row(2, code="GOOD"), row(3, **changes))
    assert len(found.faults) == 1
    assert found.faults[0].startswith("list.csv:3: ")
    assert sentence in found.faults[0]
    with pytest.raises(MattersRefused, match="nothing of the list was published"):
        draft(parts.database, found, as_of=TODAY, today=TODAY)


def test_all_faults_are_named_at_once() -> None:
    found = read(row(2, code="", kind="x"), row(3), row(4, department="区文化局"), row(5))
    assert [fault.split(":")[1] for fault in found.faults] == ["2", "2", "4", "5"]
    assert (
        found.faults[3]
        == "list.csv:5: matter 330299-XF-001 is there twice for 2024-01-01; it stands at list.csv:3 already"
    )


@pytest.mark.parametrize(
    ("headings", "sentence"),
    [
        (("编码", "名称"), "no heading gives the kind"),
        (("编码", "权力编码", *CHINESE[1:]), 'headings "编码" and "权力编码" both give the code'),
        (CHINESE[:4], "name the department with --department"),
        (CHINESE[:6], "no heading gives the effective_from"),
    ],
)
def test_headings_that_do_not_suffice(headings: tuple[str, ...], sentence: str) -> None:
    assert any(sentence in fault for fault in read(headings=headings).faults)


def test_a_list_without_rows_is_refused() -> None:
    assert read().faults == ("the list has no rows; nothing can be published from it",)


def test_rows_of_another_department_are_refused() -> None:
    (fault,) = read(row(2, department="区卫生健康局"), department="fire").faults
    assert 'the row belongs to "区卫生健康局", not to fire' in fault


def test_days_for_rows_that_give_none() -> None:
    found = read(row(2, effective_from="", effective_to="长期"), effective_from=date(2020, 1, 1))
    assert found.rows["fire"][0][1].effective_from == date(2020, 1, 1)


def test_the_first_day_out_of_force_is_not_the_last_in_force() -> None:
    found = read(row(2, void_from="2025-01-01"))
    assert found.rows["fire"][0][1].effective_to == date(2024, 12, 31)


# ---- merging -----------------------------------------------------------------------------------------------------


def matter(first: str, last: str = "", code: str = "M", **changes: str) -> Matter:
    given = {"name": "n", "kind": "penalty", "legal_basis": "b", "level": "", **changes}
    end = date.fromisoformat(last) if last else OPEN
    return Matter(code=code, effective_from=date.fromisoformat(first), effective_to=end, **given)


def spans(rows: Sequence[Matter]) -> list[str]:
    return [f"{r.code} {r.effective_from} {'' if r.effective_to == OPEN else r.effective_to}".strip() for r in rows]


OTHER = matter("2020-01-01", code="Z")

MERGES: dict[str, tuple[list[Matter], list[Matter], list[str]]] = {
    "the same": ([matter("2020-01-01")], [matter("2020-01-01")], ["M 2020-01-01"]),
    "left out, it ends the day before": (
        [matter("2020-01-01"), OTHER], [OTHER], ["M 2020-01-01 2025-05-31", "Z 2020-01-01"],
    ),
    "left out and not begun, it never was": ([matter("2025-07-01"), OTHER], [OTHER], ["Z 2020-01-01"]),
    "left out and over long since": (
        [matter("2020-01-01", "2021-01-01"), OTHER], [OTHER], ["M 2020-01-01 2021-01-01", "Z 2020-01-01"],
    ),
    "only its newest days are listed": (
        [matter("2020-01-01")], [matter("2025-06-01", name="new")], ["M 2020-01-01 2025-05-31", "M 2025-06-01"],
    ),
    "only its newest days, nothing else new": ([matter("2020-01-01")], [matter("2025-06-01")], ["M 2020-01-01"]),
    "it will end": ([matter("2020-01-01")], [matter("2020-01-01", "2025-12-31")], ["M 2020-01-01 2025-12-31"]),
    "it will not end after all": ([matter("2020-01-01", "2025-12-31")], [matter("2020-01-01")], ["M 2020-01-01"]),
    "it begins earlier": ([matter("2020-01-01")], [matter("2019-01-01")], ["M 2019-01-01"]),
    "two stretches": (
        [], [matter("2020-01-01", "2022-12-31"), matter("2023-01-01", name="new")],
        ["M 2020-01-01 2022-12-31", "M 2023-01-01"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MERGES)
def test_merge(name: str) -> None:
    before, delivered, expected = MERGES[name]
    merged = merge(before, [("p:1", row) for row in delivered], as_of=TODAY, today=TODAY)
    assert (merged.faults, merged.retracted) == ((), ())
    assert spans(merged.matters) == expected


def test_days_that_have_passed_are_never_taken_back_silently() -> None:
    before = [matter("2020-01-01"), matter("2020-01-01", code="N")]
    delivered = [("p:7", matter("2020-01-01", "2025-01-31"))]
    refused = merge(before, delivered, as_of=date(2025, 5, 1), today=TODAY)
    back = "and this would take it back; if so, say --retroactive"
    assert refused.faults == (
        f"p:7: matter M was published as held on 2025-02-01 to 2025-05-31, {back}",
        f"matter N was published as held on 2025-05-01 to 2025-05-31, {back}",
    )
    said = merge(before, delivered, as_of=date(2025, 5, 1), today=TODAY, retroactive=True)
    assert (said.faults, said.retracted) == ((), ("M", "N"))
    assert spans(said.matters) == ["M 2020-01-01 2025-01-31", "N 2020-01-01 2025-04-30"]


def test_days_that_are_won_in_the_past_are_named() -> None:
    merged = merge([OTHER], [("p:1", OTHER), ("p:2", matter("2024-01-01"))], as_of=TODAY, today=TODAY)
    assert merged.backdated == ("M",)
    assert [(change.code, change.what) for change in merged.changes] == [("M", "added")]


def test_a_gap_is_named_once() -> None:
    delivered = [("p:1", matter("2020-01-01", "2021-12-31")), ("p:2", matter("2022-02-01"))]
    refused = merge([], delivered, as_of=TODAY, today=TODAY)
    assert refused.faults == ("p:1: nobody would hold matter M from 2022-01-01 to 2022-01-31; if so, say --allow-gaps",)
    accepted = merge([], delivered, as_of=TODAY, today=TODAY, allow_gaps=True)
    assert accepted.faults == merge(accepted.matters, delivered, as_of=TODAY, today=TODAY).faults == ()


CHANGES = {
    "nothing": ([matter("2020-01-01")], [matter("2020-01-01")], []),
    "added": ([], [matter("2020-01-01")], ["added"]),
    "removed": ([matter("2020-01-01")], [], ["removed"]),
    "ended": ([matter("2020-01-01")], [matter("2020-01-01", "2025-01-01")], ["ended"]),
    "prolonged": ([matter("2020-01-01", "2025-01-01")], [matter("2020-01-01")], ["changed"]),
    "reworded": ([matter("2020-01-01")], [matter("2020-01-01", name="new")], ["changed"]),
    "reworded and ended": ([matter("2020-01-01")], [matter("2020-01-01", "2025-01-01", name="new")], ["changed"]),
}


@pytest.mark.parametrize("name", CHANGES)
def test_diff(name: str) -> None:
    before, after, expected = CHANGES[name]
    assert [change.what for change in diff(before, after)] == expected


BASE = date(2020, 1, 1)
stretches = st.lists(
    st.tuples(st.integers(0, 300), st.integers(1, 300), st.booleans(), st.sampled_from("ab")), max_size=4
)


def _rows(drawn: list[tuple[int, int, bool, str]]) -> list[Matter]:
    """Stretches of one matter that do not overlap; the last may be open."""
    rows, day = [], BASE
    for number, (rest, length, is_open, name) in enumerate(drawn):
        first = day + timedelta(rest)
        last = OPEN if is_open and number == len(drawn) - 1 else first + timedelta(length)
        rows.append(Matter("M", name, "penalty", "b", "", first, last))
        day = first + timedelta(length + 1)
    return rows


@given(stretches, stretches, st.integers(0, 900), st.integers(0, 900))
def test_merge_keeps_every_day_that_has_passed(old: Any, new: Any, as_of: int, today: int) -> None:
    def days(rows: Sequence[Matter]) -> set[int]:
        return {n for n in range(1500) for r in rows if r.effective_from <= BASE + timedelta(n) <= r.effective_to}

    before, delivered = _rows(old), _rows(new)
    merged = merge(
        before, [("p", row) for row in delivered], as_of=BASE + timedelta(as_of), today=BASE + timedelta(today),
        allow_gaps=True,
    )  # fmt: skip
    after = days(merged.matters)
    assert days(delivered) <= after <= days(before) | days(delivered)
    lost = {day for day in days(before) - after if day < today}
    assert bool(lost) == bool(merged.faults) == bool(merged.retracted)
    # what the newest list says of a day is said once
    ends = [(r.effective_from, r.effective_to) for r in merged.matters]
    assert ends == sorted(ends) and all(one[1] < other[0] for one, other in pairwise(ends))
    # the same list once more changes nothing
    again = merge(merged.matters, [("p", row) for row in delivered], as_of=BASE + timedelta(as_of),
                  today=BASE + timedelta(today), allow_gaps=True)  # fmt: skip
    assert again.matters == merged.matters and not again.changes


def test_a_list_in_canonical_bytes() -> None:
    made = MatterList("fire", 3, TODAY, (matter("2020-01-01", "2020-12-31"), matter("2021-01-01")))
    data = made.serialize()
    assert parse_list(data) == made
    assert data.startswith(b'{"as_of":"2025-06-01","department":"fire","matters":[{"code":"M","effective_from":')
    assert b'"effective_to":null' in data
    for broken in (data + b" ", data[:-1], data.replace(b'"version":3', b'"version":3.0'), b"[]", b"\xff", b""):
        with pytest.raises(Malformed):
            parse_list(broken)


# ---- publishing and deciding -------------------------------------------------------------------------------------


def drafted(parts: Parts, *rows: ListRow, as_of: date = TODAY, **options: Any) -> list[Draft]:
    return draft(parts.database, read(*rows), as_of=as_of, today=TODAY, **options)


def published(parts: Parts, *rows: ListRow, **options: Any) -> None:
    for made in drafted(parts, *rows, **options):
        publish(parts.intake, made, ORIGIN, time.time())


def reason(parts: Parts, key: str, at: str = "2024-05-06T10:00:00+08:00", **changes: Any) -> str | None:
    (outcome,) = parts.submit([Submission(key, report(1, occurred_at=at, **changes))])
    return outcome.error.reason if isinstance(outcome, Refused) else None


def test_a_department_without_a_list_is_not_restricted(parts: Parts) -> None:
    published(parts, row(2, department="区卫生健康局"))
    assert reason(parts, "k") is None


def test_intake_decides_by_the_day_on_which_it_occurred(parts: Parts) -> None:
    published(parts, row(2, effective_to="2024-12-31"))
    assert reason(parts, "first day", "2024-01-01T00:00:00+08:00") is None
    assert reason(parts, "last day", "2024-12-31T23:59:59+08:00") is None
    assert reason(parts, "day before", "2023-12-31T23:59:59+08:00") == "matter-not-held"
    assert reason(parts, "day after", "2025-01-01T00:00:00+08:00") == "matter-not-held"
    assert reason(parts, "another", matter="M-2") == "matter-not-held"


def test_the_sentence_names_matter_department_day_and_what_to_do(parts: Parts) -> None:
    published(parts, row(2))
    late, unknown = parts.submit(
        [
            Submission("a", report(1, occurred_at="2023-05-06T10:00:00+08:00")),
            Submission("b", report(1, matter="M-2")),
        ]
    )
    assert isinstance(late, Refused) and isinstance(unknown, Refused)
    assert str(late.error) == (
        "department fire did not hold matter 330299-XF-001 on 2023-05-06: its list (version 1) has it from 2024-01-01; "
        "correct the matter or the date, or publish the list that has it with `yunxi matters import`"
    )
    assert "matter M-2 on 2026-03-02: its list (version 1) does not have it; correct" in str(unknown.error)


def test_records_without_a_matter_and_known_records_pass(parts: Parts) -> None:
    early = "2023-05-06T10:00:00+08:00"
    assert reason(parts, "before", early) is None
    published(parts, row(2))
    note = {"type": "note.added", "v": 1, "text": "x", "occurred_at": "2023-05-06T10:00:00+08:00"}
    parts.take([Submission("note", note)])
    assert reason(parts, "before", early) is None
    assert reason(parts, "new", early) == "matter-not-held"


def test_other_processes_see_the_newest_list_with_the_next_batch(parts: Parts) -> None:
    other = parts.again()
    assert reason(other, "a", matter="M-2") is None
    published(parts, row(2))
    assert reason(other, "b", matter="M-2") == "matter-not-held"
    published(parts, row(2), row(3, code="M-2"))
    assert reason(other, "c", matter="M-2") is None
    other.close()


def test_the_past_keeps_its_version(parts: Parts) -> None:
    published(parts, row(2), row(3, code="M-2"))
    published(parts, row(3, code="M-2"))
    assert reason(parts, "then", "2025-05-31T10:00:00+08:00") is None
    assert reason(parts, "now", "2025-06-01T10:00:00+08:00") == "matter-not-held"
    with parts.database.reading() as connection:
        first, second = (published_list(connection, parts.reader, "fire", version) for version in (1, 2))
        changes = changes_between(connection, parts.reader, "fire", 1, 2)
    assert spans(first.matters) == ["330299-XF-001 2024-01-01", "M-2 2024-01-01"]
    assert spans(second.matters) == ["330299-XF-001 2024-01-01 2025-05-31", "M-2 2024-01-01"]
    assert [(change.code, change.what) for change in changes] == [("330299-XF-001", "ended")]


def test_a_version_is_a_record_of_the_log(parts: Parts) -> None:
    published(parts, row(2))
    published(parts, row(2), row(3, code="M-2"))
    with parts.database.reading() as connection:
        log = parts.log().number
        head = newest_list(connection, log)
        assert head is not None and head.version == 2
        data = published_list(connection, parts.reader, "fire", 2).serialize()
        assert connection.scalar(select(func.count()).select_from(matter_lists)) == 2
    assert parts.audit().good
    parts.check_log(2)
    assert head.sha256 == hashlib.sha256(data).digest()


def test_nothing_changed_is_seen_before_anything_is_sealed(parts: Parts) -> None:
    published(parts, row(2))
    (again,) = drafted(parts, row(2))
    assert again.merged.changes == ()


def test_two_who_publish_at_once(parts: Parts) -> None:
    (one,), (two,) = drafted(parts, row(2)), drafted(parts, row(2), row(3, code="M-2"))
    publish(parts.intake, one, ORIGIN, time.time())
    with pytest.raises(Conflict):
        publish(parts.intake, two, ORIGIN, time.time())
    with parts.database.reading() as connection:
        assert len(held_matters(connection, parts.log().number)) == 1
    parts.check_log(1)


def test_record_and_tables_come_in_one_transaction(parts: Parts) -> None:
    def dies(connection: Any) -> None:
        connection.execute(delete(matters))
        raise StorageFailed("the disk is full")

    published(parts, row(2))
    with pytest.raises(StorageFailed):
        parts.intake.submit("fire", [Submission("k", report(1))], beside=dies)
    parts.check_log(1)
    with parts.database.reading() as connection:
        assert len(held_matters(connection, parts.log().number)) == 1


def test_a_list_of_thousands_and_hundreds_of_changes(parts: Parts) -> None:
    rows = [row(n, code=f"M-{n}") for n in range(3000)]
    published(parts, *rows)
    published(parts, *rows[300:], *(row(n, code=f"N-{n}") for n in range(200)))
    with parts.database.reading() as connection:
        found = changes_between(connection, parts.reader, "fire", 1, 2)
    assert [sum(change.what == what for change in found) for what in ("added", "ended")] == [200, 300]
    assert reason(parts, "k", matter="M-2999") is None


# ---- the tables are only copies ----------------------------------------------------------------------------------


def test_the_tables_are_rebuilt_from_the_log(parts: Parts) -> None:
    published(parts, row(2), row(3, department="区卫生健康局"))
    published(parts, row(2), row(3, code="M-2"))
    log = parts.log().number
    assert not rebuild(parts.database, parts.reader, "fire").differed
    with parts.database.writing() as connection:
        before = held_matters(connection, log)
        connection.execute(update(matters).values(effective_to="2024-02-01"))
        connection.execute(delete(matter_lists).where(matter_lists.c.version == 2))
    made = rebuild(parts.database, parts.reader, "fire")
    assert (made.versions, made.matters, made.differed) == (2, 2, True)
    with parts.database.reading() as connection:
        assert held_matters(connection, log) == before
        assert connection.scalar(select(func.count()).select_from(matter_lists)) == 3


def test_a_record_that_only_pretends_to_be_a_list_stops_the_rebuilding(parts: Parts) -> None:
    published(parts, row(2))
    parts.take([Submission("matters.published:2", report(1), by_service=True)])
    with pytest.raises(Malformed, match="does not hold list 2 of fire"):
        rebuild(parts.database, parts.reader, "fire")
    with parts.database.reading() as connection:
        assert len(held_matters(connection, parts.log().number)) == 1


def test_a_list_that_does_not_follow_the_one_before_stops_the_rebuilding(parts: Parts) -> None:
    published(parts, row(2))
    with parts.database.writing() as connection:
        connection.execute(update(matter_lists).values(sha256=bytes(32)))
    published(parts, row(2), row(3, code="M-2"))
    with pytest.raises(HistoryRefused, match="list 2 of fire does not follow"):
        rebuild(parts.database, parts.reader, "fire")


def test_a_version_that_was_never_published(parts: Parts) -> None:
    with parts.database.reading() as connection, pytest.raises(RecordRefused, match="published no list of matters 1"):
        published_list(connection, parts.reader, "fire", 1)
