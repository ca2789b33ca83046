"""The database: transactions, what its refusals are called, what readers see; on SQLite and PostgreSQL."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, insert, inspect, select, text, update
from sqlalchemy.exc import IntegrityError

from ledger.admission import find_known
from ledger.errors import CouldNotRun, StorageFailed
from ledger.sequencer import lock_head
from ledger.store import schema
from ledger.store.database import Database, insert_rows
from ledger.store.models import checkpoints, entries, index_of, log_of, logs, metadata, position_of, tiles, vault
from ledger.store.reading import read_logs
from tests.fixtures.parts import Parts
from tests.fixtures.records import submissions


@pytest.mark.skipif(
    not os.environ.get("YUNXI_TEST_POSTGRES"),
    reason="YUNXI_TEST_POSTGRES is not set: the SQLAlchemy URL of a PostgreSQL server where databases may be created",
)
def test_postgresql_is_among_the_databases() -> None:
    assert os.environ["YUNXI_TEST_POSTGRES"].startswith("postgresql")


# ---- transactions ------------------------------------------------------------------------------------------------


def test_an_error_inside_leaves_nothing(parts: Parts) -> None:
    with pytest.raises(ZeroDivisionError), parts.database.writing() as connection:
        connection.execute(update(logs).values(halted="x"))
        raise ZeroDivisionError
    assert parts.log().halted is None


ROW = (1 << 40, bytes(16), "k", bytes(16), 0, b"s", 1)


@pytest.mark.parametrize("twice", [0, 1, 2], ids=["position", "record_id", "key"])
def test_a_row_twice_is_an_integrity_error_and_no_other(parts: Parts, twice: int) -> None:
    other = ((1 << 40) + 1, b"1" * 16, "l", bytes(16), 0, b"s", 1)
    clash = (*other[:twice], ROW[twice], *other[twice + 1 :])
    with parts.database.writing() as connection:
        insert_rows(connection, entries, [ROW])
    with pytest.raises(IntegrityError), parts.database.writing() as connection:
        insert_rows(connection, entries, [clash])
    with parts.database.reading() as connection:
        assert len(connection.execute(select(entries)).all()) == 1


def test_a_refusal_of_the_database_is_storage_failed(parts: Parts) -> None:
    with parts.database.writing() as connection:
        connection.execute(text("DROP TABLE vault"))
    with pytest.raises(StorageFailed, match=r"the database refused: .*vault.*; nothing of this batch was acknowledged"):
        parts.take(submissions(0, 1))
    assert parts.log().size == 0
    with pytest.raises(StorageFailed), parts.database.reading() as connection:
        connection.execute(select(vault))


def test_bulk_rows_keep_every_type(parts: Parts) -> None:
    note = bytes(range(256)) * 300
    rows = [(1, size, note[:size], 2**62 + size) for size in (0, 1, 255, 70_000)]
    with parts.database.writing() as connection:
        insert_rows(connection, checkpoints, rows)
        insert_rows(connection, vault, [(2**62, 2**31 - 1, None, b"")])
        insert_rows(connection, vault, [])
    with parts.database.reading() as connection:
        assert [tuple(row) for row in connection.execute(select(checkpoints).order_by(checkpoints.c.size))] == rows
        assert tuple(connection.execute(select(vault)).one()) == (2**62, 2**31 - 1, None, b"")


def test_a_reader_sees_one_moment(parts: Parts) -> None:
    parts.take(submissions(0, 3))
    with parts.database.reading() as connection:
        assert read_logs(connection, "fire")[0].size == 3
        parts.take(submissions(3, 300))
        assert read_logs(connection, "fire")[0].size == 3
        assert len(connection.execute(select(entries.c.position)).all()) == 3
        tile = connection.scalar(select(tiles.c.hashes).where(tiles.c.level == 0, tiles.c.tile == 0))
        assert tile is not None
        assert len(tile) == 3 * 32
    assert parts.log().size == 303


def test_a_reader_does_not_hold_up_a_writer(parts: Parts) -> None:
    with parts.database.reading() as connection:
        read_logs(connection)
        parts.take(submissions(0, 2))
    assert parts.log().size == 2


def test_a_connection_that_the_server_ended_is_replaced_before_it_is_used(parts: Parts) -> None:
    if parts.database.is_sqlite:
        pytest.skip("SQLite has no server")
    with parts.database.engine.connect() as asking:
        with parts.database.engine.connect() as resting:
            ended = resting.scalar(text("SELECT pg_backend_pid()"))
        asking.execute(text("SELECT pg_terminate_backend(:ended, 5000)"), {"ended": ended})
    parts.take(submissions(0, 1))
    for _ in range(4):
        with parts.database.reading() as connection:
            assert read_logs(connection, "fire")[0].size == 1


def test_a_connection_is_asked_after_a_rest(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ledger.store.database.RESTED_S", -1)
    for size in (1, 2):
        parts.take(submissions(size - 1, 1))
        assert parts.log().size == size


def test_known_keys_are_looked_up_one_by_one_in_a_log_without_figures(parts: Parts) -> None:
    # a plan that is made while the log is young is kept: one that reads all keys of the log would cost ever more
    asked: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, given: Any, *_: Any) -> None:
        asked.append((statement, given))

    parts.take(submissions(0, 3))
    event.listen(parts.database.engine, "before_cursor_execute", note)
    with parts.database.reading() as connection:
        assert find_known(connection, 1, ["k0", "k2", "none"]).keys() == {"k0", "k2"}
        (statement, given) = asked[-1]
        if not parts.database.is_sqlite:
            connection.exec_driver_sql("SET LOCAL plan_cache_mode = force_generic_plan")
        words = "EXPLAIN QUERY PLAN" if parts.database.is_sqlite else "EXPLAIN"
        plan = " ".join(str(row) for row in connection.exec_driver_sql(f"{words} {statement}", given))
    assert "key=?" in plan if parts.database.is_sqlite else "Filter" not in plan, plan


def test_writers_of_one_log_take_turns(parts: Parts) -> None:
    # a second writer, in another thread with its own connection, waits for the first to commit
    seen: list[int] = []
    held = threading.Event()

    def second() -> None:
        other = parts.again()
        held.wait(10)
        with other.database.writing() as connection:
            seen.append(lock_head(connection, "fire").size)
        other.close()

    thread = threading.Thread(target=second)
    thread.start()
    with parts.database.writing() as connection:
        lock_head(connection, "fire")
        held.set()
        thread.join(0.2)
        assert thread.is_alive(), "the second writer did not wait"
        connection.execute(update(logs).where(logs.c.department == "fire").values(size=7))
    thread.join(20)
    assert seen == [7]


def test_both_halves_of_a_batch_or_none(parts: Parts) -> None:
    # the tiles cannot be written, so neither may the entries remain
    with parts.database.writing() as connection:
        connection.execute(text("ALTER TABLE tiles RENAME TO elsewhere"))
    with pytest.raises(StorageFailed):
        parts.submit(submissions(0, 5))
    with parts.database.writing() as connection:
        connection.execute(text("ALTER TABLE elsewhere RENAME TO tiles"))
    parts.check_log(0)
    parts.take(submissions(0, 5))
    parts.check_log(5)


# ---- URLs, files -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["nonsense", "", "sqlite", "://", "ledger.sqlite"])
def test_a_url_that_is_none(url: str) -> None:
    with pytest.raises(CouldNotRun, match=r"SQLAlchemy URL, such as sqlite:///ledger.sqlite"):
        Database(url)


def test_another_kind_of_database() -> None:
    with pytest.raises(CouldNotRun, match="must be SQLite or PostgreSQL, not mysql") as caught:
        Database("mysql://user:secret@host/db")
    assert "secret" not in str(caught.value)


def test_a_database_in_a_directory_that_is_not_there(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/no/where.sqlite")
    with pytest.raises(StorageFailed, match="unable to open database file"), database.reading() as connection:
        read_logs(connection)
    database.close()


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "a.sqlite").write_bytes(b"not a database, but long enough to look like one" * 100)
    database = Database(f"sqlite:///{tmp_path}/a.sqlite")
    with pytest.raises(StorageFailed, match="not a database"), database.reading() as connection:
        read_logs(connection)
    database.close()


def test_a_server_that_does_not_answer() -> None:
    database = Database("postgresql://nobody:secret@127.0.0.1:1/none")
    with pytest.raises(StorageFailed, match="the database refused") as caught, database.writing() as connection:
        read_logs(connection)
    assert "secret" not in str(caught.value)
    database.close()


def test_sqlite_is_as_durable_as_it_says(sqlite_parts: Parts) -> None:
    with sqlite_parts.database.reading() as connection:
        pragmas = {name: connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in
                   ("journal_mode", "synchronous", "secure_delete")}  # fmt: skip
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "secure_delete": 1}


# ---- schema ------------------------------------------------------------------------------------------------------


def test_upgrading_twice_changes_nothing(parts: Parts) -> None:
    parts.take(submissions(0, 2))
    schema.upgrade(parts.database)
    schema.require_current(parts.database)
    parts.check_log(2)


def test_the_migrations_make_the_models_tables(parts: Parts) -> None:
    with parts.database.reading() as connection:
        found = inspect(connection)
        for table in metadata.sorted_tables:
            columns = {column["name"]: column["nullable"] for column in found.get_columns(table.name)}
            assert columns == {column.name: column.nullable for column in table.columns}
            indexes = {index["name"] for index in found.get_indexes(table.name)}
            assert indexes >= {index.name for index in table.indexes}


def test_an_empty_database_is_not_current(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/empty.sqlite")
    with pytest.raises(CouldNotRun, match=r"at schema none, this version needs .*: run `yunxi upgrade`"):
        schema.require_current(database)
    database.close()


def test_a_database_of_a_later_version_is_not_current(parts: Parts) -> None:
    with parts.database.writing() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(CouldNotRun, match="at schema 9999"):
        schema.require_current(parts.database)


def test_log_numbers_and_departments_are_unique(parts: Parts) -> None:
    row = {"log": 3, "department": "fire", "origin": "x", "size": 0, "root": bytes(32)}
    with pytest.raises(IntegrityError), parts.database.writing() as connection:
        connection.execute(insert(logs).values(row))


@pytest.mark.parametrize(("log", "index"), [(1, 0), (1, 2**40 - 1), (2, 0), (8_388_607, 2**40 - 1)])
def test_positions(log: int, index: int) -> None:
    position = position_of(log, index)
    assert (log_of(position), index_of(position)) == (log, index)
    assert position < 2**63
