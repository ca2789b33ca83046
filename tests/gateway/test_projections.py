"""The projector: exactly once, by any number of hands, and the same again from nothing but the logs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Table, insert, select, update

from gateway.database import metadata, prepare
from gateway.projections import projector as projector_module
from gateway.projections.models import projection_cursors, subject_entries
from gateway.projections.projector import ProjectedEntry, Projection, Projector
from gateway.projections.registry import all_projections
from gateway.projections.subjects import SubjectIndex
from ledger.crypto.blind import blind_index
from ledger.errors import CouldNotRun
from ledger.formats.identifiers import normalise
from ledger.store.models import entries, position_of, vault
from ledger.submission import Submission
from tests.fixtures.parts import Parts, SqliteFiles, Template
from tests.fixtures.records import COMPANY, report, submissions


@pytest.fixture
def ready(parts: Parts) -> Parts:
    prepare(parts.database)
    return parts


def projector(parts: Parts) -> Projector:
    return Projector(parts.database, parts.reader, all_projections())


def index_of_subject(parts: Parts, kind: str, value: str) -> bytes:
    return blind_index(parts.agent.index_key(), kind, normalise(kind, value))


def dump(parts: Parts) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every projection, and the cursors."""
    with parts.database.reading() as connection:
        return {
            table.name: sorted(map(tuple, connection.execute(select(table))), key=repr)
            for table in [*tables_of_all(), projection_cursors]
        }


def found(parts: Parts, department: str, kind: str, value: str, **options: Any) -> list[int]:
    with parts.database.reading() as connection:
        subject = index_of_subject(parts, kind, value)
        return [m.index for m in SubjectIndex.matching(connection, department, [subject], **options)]


def test_what_was_durable_before_the_call_is_found_after_it(ready: Parts) -> None:
    ready.take(submissions(0, 5))
    assert projector(ready).catch_up() == 5
    assert found(ready, "fire", COMPANY["kind"], COMPANY["value"]) == [0, 1, 2, 3, 4]
    assert found(ready, "fire", "licence", "L-3") == [3]
    assert found(ready, "health", COMPANY["kind"], COMPANY["value"]) == []
    assert projector(ready).catch_up() == 0


def test_matches_are_cut_by_type_place_and_limit(ready: Parts) -> None:
    taken = ready.take(submissions(0, 5))
    note = {
        "type": "note.added",
        "v": 1,
        "text": "t",
        "subjects": [COMPANY],
        "occurred_at": "2026-03-02T09:15:00+08:00",
    }
    ready.take([Submission("note", note)])
    projector(ready).catch_up()
    company = COMPANY["kind"], COMPANY["value"]
    assert found(ready, "fire", *company, types={"note.added"}) == [5]
    assert found(ready, "fire", *company, limit=2) == [0, 1]
    assert found(ready, "fire", *company, after_position=position_of(ready.log().number, 3)) == [4, 5]
    with ready.database.reading() as connection:
        both = [index_of_subject(ready, *company), index_of_subject(ready, "licence", "L-1")]
        matches = SubjectIndex.matching(connection, "fire", both, limit=2)
    assert [(m.index, m.record_id, m.matter) for m in matches] == [
        (n, taken[n].record_id, "330299-XF-001") for n in range(2)
    ]


def test_records_are_found_by_inspection_case_and_what_they_amend(ready: Parts) -> None:
    first = ready.take([Submission("a", report(1, inspection="J-1", case="C-1"))])[0].record_id
    ready.take([Submission("b", report(2, inspection="J-1", amends=first))])
    projector(ready).catch_up()
    with ready.database.reading() as connection:
        asked = {
            (kind, number): [m.index for m in SubjectIndex.referring(connection, "fire", kind, number)]
            for kind, number in [("inspection", "J-1"), ("case", "C-1"), ("amends", first), ("case", "J-1")]
        }
    assert list(asked.values()) == [[0, 1], [0], [1], []]


def test_departments_are_caught_up_one_by_one_if_wanted(ready: Parts) -> None:
    ready.take(submissions(0, 2))
    ready.take(submissions(0, 3), "health")
    assert projector(ready).catch_up(["health"]) == 3
    assert projector(ready).catch_up() == 2


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7])
def test_batches_have_no_seams(ready: Parts, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projector_module, "BATCH", 3)
    ready.take(submissions(0, count))
    assert projector(ready).catch_up() == count
    assert found(ready, "fire", COMPANY["kind"], COMPANY["value"]) == list(range(count))


def test_many_threads_apply_each_entry_once(ready: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projector_module, "BATCH", 2)
    counted: list[int] = []
    start = threading.Barrier(4)

    def work() -> None:
        mine = projector(ready)
        start.wait()
        counted.extend(mine.catch_up() for _ in range(5))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(6):
        ready.take(submissions(number * 3, 3), ("fire", "health")[number % 2])
    for thread in threads:
        thread.join()
    assert sum(counted) + projector(ready).catch_up() == 18  # an entry applied twice would break a primary key
    assert len(found(ready, "fire", COMPANY["kind"], COMPANY["value"])) == 9


events = st.lists(st.tuples(st.sampled_from(["fire", "health"]), st.integers(1, 4), st.booleans()), max_size=8)


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(events=events, batch=st.integers(1, 5))
def test_a_rebuild_gives_the_live_tables_byte_for_byte(
    template: Template, tmp_path_factory: pytest.TempPathFactory, events: list[tuple[str, int, bool]], batch: int
) -> None:
    directory = tmp_path_factory.mktemp("rebuild")
    parts = Parts.open(directory, SqliteFiles(template).new(directory), template.agent)
    prepare(parts.database)
    live, number = projector(parts), 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(projector_module, "BATCH", batch)
        for department, count, follow in events:
            parts.take(submissions(number, count), department)
            number += count
            if follow:
                live.catch_up([department])
        live.catch_up()
    before = dump(parts)
    assert projector(parts).rebuild() == number
    assert dump(parts) == before
    assert len(before["subject_entries"]) == 2 * number
    parts.close()


# ---- everything that the service projects, in any order ----

SUBJECTS = [COMPANY, {"kind": "licence", "value": "L-1"}]
WHEN = {"v": 1, "occurred_at": "2026-03-02T09:15:00+08:00"}
NAMED = {"requester": "health", "owner": "health", "lead": "fire", "purpose": "joint-inspection"}
PAGE = {"sha256": "0" * 64, "owner_log": {"size": 1, "root": "A"}}


def service_record(department: str, kind: str, number: int, ids: list[str]) -> dict[str, Any]:
    """A record of a type that the service writes, about one of two inspections and earlier records."""
    extraction = {"fire": "f" * 32, "health": "a" * 32}[department]
    inspection, earlier = f"J-{number % 2}", ids[number % len(ids)]
    records = [
        {"id": each, "index": 0, "type": "inspection.report", "units": ["result"]} for each in {earlier, ids[-1]}
    ]
    opening = {"kind": "joint", "purpose": "joint-inspection", "participants": ["health"][number % 2 :]}
    own: dict[str, dict[str, Any]] = {
        "inspection.opened": opening | {"subjects": SUBJECTS} | ({"amends": earlier} if number % 3 else {}),
        "inspection.closed": {"outcome": "completed", "request": f"r-{number}"},
        "record.attached": {"record": earlier, "owner": "health", "leaf": "ab" * 32},
        "disclosure.received": {
            **{name: NAMED[name] for name in ("owner", "lead", "purpose")}, **PAGE,
            "extraction": extraction, "page": number + 1, "reference": earlier, "records": records,
        },
        "disclosure.made": {
            **{name: NAMED[name] for name in ("requester", "lead", "purpose")}, "extraction": extraction,
            "sha256": PAGE["sha256"], "page": number % 4 + 1, "reference": earlier, "records": records,
            "grants": [{"id": 1, "types": ["inspection.report"]}],
        },
        "disclosure.refused": {"role": "owner", "code": "no-grant", "detail": "d", "reference": earlier},
        "record.read": {
            "reader_kind": "person", "reader": "a", "roles": ["officer"], "records": [earlier], "part": "content",
        },
        "duplicate.checked": {
            "requester": "health", "indexes": ["A" * 22], "matters": ["M-1"], "days": 1, "found": [],
        },
        "tracker.searched": {"subjects": SUBJECTS, "account": "a", "roles": ["auditor"]},
    }  # fmt: skip
    return {"type": kind, **WHEN, "inspection": inspection, **own[kind]}


KINDS = [
    "inspection.opened", "inspection.closed", "record.attached", "disclosure.received", "disclosure.made",
    "disclosure.refused", "record.read", "duplicate.checked", "tracker.searched",
]  # fmt: skip
steps = st.lists(
    st.tuples(st.sampled_from(["fire", "health"]), st.sampled_from(KINDS), st.integers(0, 5), st.booleans()),
    max_size=25,
)


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=steps, batch=st.integers(1, 6))
def test_a_rebuild_of_whatever_the_service_sealed_is_the_same(
    template: Template, tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str, int, bool]], batch: int
) -> None:
    directory = tmp_path_factory.mktemp("rebuild")
    parts = Parts.open(directory, SqliteFiles(template).new(directory), template.agent)
    prepare(parts.database)
    live = projector(parts)
    ids = [each.record_id for each in parts.take(submissions(0, 2))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(projector_module, "BATCH", batch)
        for place, (department, kind, number, follow) in enumerate(steps):
            record = service_record(department, kind, number, ids)
            ids.append(parts.take([Submission(f"s{place}", record, by_service=True)], department)[0].record_id)
            if follow:
                live.catch_up([department])
        live.catch_up()
    before = dump(parts)
    assert projector(parts).rebuild() == len(ids)
    assert dump(parts) == before
    if any(kind == "inspection.opened" and number % 3 == 0 for _, kind, number, _ in steps):
        assert before["proceedings"]
    parts.close()


# ---- opening ----


class Opened(Projection):
    """A projection that keeps what it was given."""

    name = "opened"
    types = frozenset({"inspection.report", "note.added"})
    opens = frozenset({"inspection.report"})

    def __init__(self) -> None:
        self.given: list[ProjectedEntry] = []

    def apply(self, connection: Connection, batch: Sequence[ProjectedEntry]) -> None:
        self.given += batch


def test_the_migrations_give_the_tables_of_the_projections(ready: Parts) -> None:
    names = {table.name for table in [*tables_of_all(), projection_cursors]}
    with ready.database.reading() as connection:
        options = {"compare_type": True, "include_name": lambda name, kind, _: kind != "table" or name in names}
        context = MigrationContext.configure(connection, opts=options)
        differences = [each for each in compare_metadata(context, metadata) if _names_one_of(each, names)]
    assert differences == []


def tables_of_all() -> list[Table]:
    return [table for projection in all_projections() for table in projection.tables]


def _names_one_of(difference: Any, names: set[str]) -> bool:
    return any(f"'{name}'" in repr(difference) for name in names)


def test_only_asked_for_types_are_given_and_opened(ready: Parts) -> None:
    when = {"occurred_at": "2026-03-02T09:15:00+08:00"}
    ready.take([Submission("a", report(1)), Submission("b", {"type": "note.added", "v": 1, "text": "t", **when})])
    ready.take([Submission("c", {"type": "complaint.received", "v": 1, "complaint_number": "1", **when})])
    kept = Opened()
    assert Projector(ready.database, ready.reader, [kept]).catch_up() == 3
    assert [(e.type, e.record is not None) for e in kept.given] == [("inspection.report", True), ("note.added", False)]
    assert kept.given[0].record["facility_name"] == "第1餐饮店"  # type: ignore[index]


CLOSED_VAULTS = {
    "forgotten: its key is destroyed": {"wrapped_key": None},
    "damaged: the payload does not open": {"payload": b"x" * 64},
}


@pytest.mark.parametrize("damage", CLOSED_VAULTS.values(), ids=CLOSED_VAULTS)
def test_a_record_that_cannot_be_opened_is_given_closed_and_holds_nothing_up(
    ready: Parts, damage: dict[str, Any]
) -> None:
    ready.take(submissions(0, 3))
    with ready.database.writing() as connection:
        here = vault.c.position == position_of(ready.log().number, 1)
        connection.execute(update(vault).where(here).values(**damage))
    kept = Opened()
    assert Projector(ready.database, ready.reader, [kept]).catch_up() == 3
    assert [e.record is not None for e in kept.given] == [True, False, True]
    assert kept.given[1].claims["matter"] == "330299-XF-001"


@pytest.mark.parametrize("statement", [b"", b"no dots", b"a.!!!.c", b"a.MTIz.c", b"a.e30.c"])
def test_an_unreadable_statement_is_passed_over(ready: Parts, statement: bytes) -> None:
    ready.take(submissions(0, 3))
    with ready.database.writing() as connection:
        here = entries.c.position == position_of(ready.log().number, 1)
        connection.execute(update(entries).where(here).values(statement=statement))
    assert projector(ready).catch_up() == 3
    assert found(ready, "fire", COMPANY["kind"], COMPANY["value"]) == [0, 2]


# ---- dying, and other versions ----


class Breaks(Projection):
    """A projection that dies at its second batch."""

    name = "breaks"

    def __init__(self) -> None:
        self.calls = 0

    def apply(self, connection: Connection, batch: Sequence[ProjectedEntry]) -> None:
        self.calls += 1
        if self.calls == 2:
            raise RuntimeError("died")


def test_rows_and_cursor_move_together_or_not_at_all(ready: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projector_module, "BATCH", 2)
    ready.take(submissions(0, 5))
    dies = Projector(ready.database, ready.reader, [SubjectIndex(), Breaks()])
    with pytest.raises(RuntimeError):
        dies.catch_up()
    assert len(found(ready, "fire", COMPANY["kind"], COMPANY["value"])) == 2
    assert dies.catch_up() == 3
    assert found(ready, "fire", COMPANY["kind"], COMPANY["value"]) == [0, 1, 2, 3, 4]


class Picky(Projection):
    """A projection that some entries do not fit into."""

    name, tables = "picky", (subject_entries,)

    def apply(self, connection: Connection, batch: Sequence[ProjectedEntry]) -> None:
        for entry in batch:
            row = {"subject": b"s" * 16, "position": entry.position, "type": "t", "issued_at": 0}
            connection.execute(insert(subject_entries).values(row))
            if entry.index % 3 == 1:
                raise KeyError("member")
            if entry.index % 3 == 2:
                connection.execute(insert(subject_entries).values(row))


@pytest.mark.parametrize("batch", [1, 4, 100])
def test_an_entry_that_does_not_fit_is_left_out_alone(
    ready: Parts, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projector_module, "BATCH", batch)
    ready.take(submissions(0, 7))
    assert Projector(ready.database, ready.reader, [Picky()]).catch_up() == 7
    with ready.database.reading() as connection:
        rows = connection.scalars(select(subject_entries.c.position).order_by(subject_entries.c.position)).all()
    assert [position & 0xFF for position in rows] == [0, 3, 6]


def test_tables_of_another_set_of_projections_ask_for_a_rebuild(ready: Parts) -> None:
    ready.take(submissions(0, 2))
    Projector(ready.database, ready.reader, [SubjectIndex(), Opened()]).catch_up()
    ready.take(submissions(2, 1))
    with pytest.raises(CouldNotRun, match="yunxi rebuild"):
        projector(ready).catch_up()
    assert projector(ready).rebuild() == 3
    assert projector(ready).catch_up() == 0


# ---- news ----


def test_callbacks_tell_which_departments_have_news_whoever_projected_it(ready: Parts) -> None:
    heard: list[frozenset[str]] = []
    mine, other = projector(ready), projector(ready)
    mine.on_new(heard.append)
    ready.take(submissions(0, 1))
    mine.catch_up()
    mine.catch_up()
    ready.take(submissions(0, 1), "health")
    other.catch_up()
    mine.catch_up()
    assert heard == [{"fire"}, {"health"}]


def _tell(loop: asyncio.AbstractEventLoop, news: asyncio.Queue[Any], departments: frozenset[str]) -> None:
    loop.call_soon_threadsafe(news.put_nowait, departments)


def test_the_worker_follows_what_comes_by_other_ways_and_stops(ready: Parts) -> None:
    async def story() -> None:
        stop, mine = asyncio.Event(), projector(ready)
        news = asyncio.Queue[frozenset[str]]()
        loop = asyncio.get_running_loop()
        mine.on_new(lambda departments: _tell(loop, news, departments))
        task = asyncio.create_task(mine.run(stop))
        ready.take(submissions(0, 2))
        assert await asyncio.wait_for(news.get(), 20) == {"fire"}
        stop.set()
        await asyncio.wait_for(task, 20)

    asyncio.run(story())
    assert found(ready, "fire", COMPANY["kind"], COMPANY["value"]) == [0, 1]


# ---- hostile claims ----

CLAIMS = {
    "subjects that are no list": {"subj": "x"},
    "subjects that are no texts": {"subj": [1, None, {}]},
    "a subject of the wrong length": {"subj": ["AAAA"]},
    "a subject twice": {"subj": ["AAAAAAAAAAAAAAAAAAAAAA", "AAAAAAAAAAAAAAAAAAAAAA"]},
    "a reference that is no text": {"case": 7, "inspection": [], "amends": {}},
    "a reference of a thousand characters": {"case": "c" * 1000},
    "a time that is no number": {"iat": "now", "subj": ["AAAAAAAAAAAAAAAAAAAAAA"]},
}


@pytest.mark.parametrize("claims", CLAIMS.values(), ids=CLAIMS)
def test_the_index_takes_whatever_a_terminal_may_say(ready: Parts, claims: dict[str, Any]) -> None:
    entry = ProjectedEntry("fire", 1, 0, position_of(1, 0), "id", "t.t", claims, None, b"", 1000)
    with ready.database.writing() as connection:
        SubjectIndex().apply(connection, [entry])
