"""Tables: orders with ties, NULLs, times, text that is none, and databases that are not there."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from adapters.sections import Section
from adapters.source import BadRow, Opening, Page, Row, Unusable
from adapters.sql_tables import SqlOptions
from adapters.state import AdapterState, Rejected, Settled
from ledger.errors import CouldNotRun, Malformed
from tests.fixtures.databases import fresh_database


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'source.db'}"
        return
    made, drop = fresh_database(request.param)
    yield made
    drop()


def execute(url: str, *statements: str, rows: list[dict[str, Any]] | None = None) -> None:
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        if engine.dialect.name == "mysql":
            connection.execute(text("SET SESSION sql_mode = CONCAT(@@sql_mode, ',ANSI_QUOTES,PIPES_AS_CONCAT')"))
        for statement in statements:
            connection.execute(text(statement), rows if statement is statements[-1] else None)


def opened(url: str, **extra: Any) -> Any:
    source = {"url_env": "U", "table": "t", "cursor": ["seq"], **extra}
    if "query" in source:
        del source["table"]
    options = SqlOptions.parse(Section("m.toml", "source", source))
    return options.open(Opening(Path(), frozenset({"id"}), key=("id",), environ={"U": url}))


def pages(url: str, size: int = 3, marks: dict[str, str] | None = None, **extra: Any) -> list[Page]:
    return list(opened(url, **extra).pages(marks or {}, size))


def values(found: list[Page], column: str = "id") -> list[Any]:
    return [row.values[column] for page in found for row in page.rows if isinstance(row, Row)]


def fill(url: str, pairs: list[tuple[Any, Any]], types: str = "seq INTEGER, id TEXT") -> None:
    rows = [{"seq": seq, "id": key} for seq, key in pairs]
    execute(url, "DROP TABLE IF EXISTS t", f"CREATE TABLE t ({types})")
    execute(url, "INSERT INTO t (seq, id) VALUES (:seq, :id)", rows=rows)


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_rows_with_one_cursor_value_are_ordered_by_key(url, size):
    fill(url, [(1, "b"), (1, "a"), (2, "d"), (1, "c"), (2, "a2")])
    assert values(pages(url, size)) == ["a", "b", "c", "a2", "d"]


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_rows_that_share_cursor_and_key_are_never_cut_apart(url, size):
    fill(url, [(1, "a"), (2, "b"), (2, "b"), (2, "b"), (3, "c")])
    assert values(pages(url, size)) == ["a", "b", "b", "b", "c"]


@pytest.mark.parametrize("size", [1, 2, 5])
def test_every_mark_goes_on_where_it_was(url, size):
    fill(url, [(n // 2, f"k{n}") for n in range(9)])
    found = pages(url, size)
    for number, page in enumerate(found):
        if page.mark is not None:
            rest = pages(url, size, {page.part: page.mark})
            assert values(rest) == values(found[number + 1 :])
            assert not any(page.restarted for page in rest if page.part == "t")


def test_rows_without_a_cursor_value_are_set_aside_every_time(url):
    fill(url, [(1, "a"), (None, "b"), (2, None), (None, None)])
    found = pages(url)
    assert values(found) == ["a"]
    bad = [row for page in found for row in page.rows if isinstance(row, BadRow)]
    assert [row.reason for row in bad] == ["blank-cursor"] * 3
    assert sorted(row.detail.partition("so the row")[2] for row in bad) == [
        " (id = b) has no place in the order of reading",
        " (seq = 2) has no place in the order of reading",
        " has no place in the order of reading",
    ]
    again = pages(url, marks={"t": found[-1].mark or ""})
    assert [row for page in again for row in page.rows if isinstance(row, BadRow)] == bad


def test_late_rows_are_read_again(url):
    fill(url, [(n, f"k{n}") for n in range(1, 10)])
    mark = pages(url)[-1].mark or ""
    execute(url, "INSERT INTO t (seq, id) VALUES (7, 'late')")
    assert values(pages(url, marks={"t": mark})) == []
    assert values(pages(url, marks={"t": mark}, late_rows=1)) == ["k9"]
    assert values(pages(url, marks={"t": mark}, late_rows=3)) == ["late", "k8", "k9"]
    assert values(pages(url, marks={"t": mark}, late_rows=100)) == [*[f"k{n}" for n in range(1, 8)], "late", "k8", "k9"]


def test_times_with_an_offset_as_cursor(url):
    if "mysql" in url:
        pytest.skip("MariaDB's times have no offset")
    kind = "TIMESTAMPTZ" if "postgresql" in url else "TEXT"
    start = datetime(2024, 3, 5, 23, 0, tzinfo=UTC)
    stamps = [start + timedelta(minutes=n) for n in range(7)]
    fill(
        url,
        [(s if "postgresql" in url else s.isoformat(), f"k{n}") for n, s in enumerate(stamps)],
        f"seq {kind}, id TEXT",
    )
    found = pages(url, 2)
    assert values(found) == [f"k{n}" for n in range(7)]
    assert values(pages(url, 2, {"t": found[2].mark or ""})) == [f"k{n}" for n in range(4, 7)]


def test_numbers_and_days_as_cursor(url):
    if "sqlite" in url:
        pytest.skip("SQLite has no types for these")
    fill(url, [(f"1.{n}", f"k{n}") for n in range(5)], "seq TEXT, id TEXT")
    draw, series = "gen_random_uuid()", "generate_series(1, 5) AS g(n)"
    if "mysql" in url:
        draw, series = "uuid()", "(VALUES (1), (2), (3), (4), (5)) AS g"
        execute(url, "DROP TABLE t", "CREATE TABLE t (n INTEGER)", "INSERT INTO t VALUES (1), (2), (3), (4), (5)")
        execute(url, "DROP TABLE IF EXISTS g", "CREATE TABLE g AS SELECT n FROM t")
        series = "g"
    for kind, value in (
        ("NUMERIC(9, 3)", "1.5"),
        ("DATE", "'2024-03-05'"),
        ("DOUBLE PRECISION", "0.1"),
        ("UUID", draw),
    ):
        execute(url, "DROP TABLE t", f"CREATE TABLE t (seq {kind}, id TEXT)")
        execute(url, f"INSERT INTO t SELECT {value}, 'k' || n FROM {series}")
        found = pages(url, 2)
        assert len(values(found)) == 5
        assert values(pages(url, 2, {"t": found[1].mark or ""})) == values(found[2:])


def test_a_query_with_colons_and_percent_signs(url):
    fill(url, [(1, "a:b"), (2, "a%b"), (3, "x")])
    query = "SELECT seq, id, ':word' AS c, CAST(id AS TEXT) AS d FROM t WHERE id LIKE 'a%b' ;"
    if "postgresql" in url:
        query = query.replace("CAST(id AS TEXT)", "id::text")
    if "mysql" in url:
        query = query.replace("AS TEXT", "AS CHAR")
    found = pages(url, query=query)
    assert values(found) == ["a:b", "a%b"]
    assert values(found, "c") == [":word", ":word"]


def test_a_new_order_in_the_mapping_starts_again(url):
    fill(url, [(1, "a"), (2, "b")])
    mark = pages(url)[-1].mark or ""
    again = pages(url, marks={"t": mark}, cursor=["id"])
    assert values(again) == ["a", "b"]
    assert [page.restarted for page in again if page.part == "t"] == [True]


def test_names_that_need_quotes(url):
    execute(url, 'DROP TABLE IF EXISTS "odd ""name:x"', 'CREATE TABLE "odd ""name:x" ("Seq No" INTEGER, id TEXT)')
    execute(url, "INSERT INTO \"odd \"\"name:x\" VALUES (1, 'a'), (2, 'b')".replace(":x", r"\:x"))
    assert values(pages(url, 1, table='odd "name:x', cursor=["Seq No"])) == ["a", "b"]


BAD_SETUPS = {
    "no such table": ({"table": "nowhere"}, CouldNotRun, "failed"),
    "no such cursor column": ({"cursor": ["sequence"]}, Malformed, 'column "sequence" stands nowhere'),
    "a query that is none": ({"query": "SELEC"}, CouldNotRun, "failed"),
    "a column twice": ({"query": "SELECT seq, id, id FROM t"}, Malformed, 'column "id" stands twice'),
}


@pytest.mark.parametrize("name", BAD_SETUPS)
def test_bad_setups(url, name):
    fill(url, [(1, "a")])
    if name == "a column twice" and "postgresql" not in url:
        pytest.skip("SQLite renames the second one, MariaDB refuses the query itself")
    extra, kind, sentence = BAD_SETUPS[name]
    with pytest.raises(kind, match=sentence):
        pages(url, **extra)


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_keys_that_the_database_takes_for_equal_are_read_once(url, size):
    kind = "seq INTEGER, id VARCHAR(20)" + (" COLLATE NOCASE" if "sqlite" in url else "")
    fill(url, [(1, "a"), (1, "A"), (1, "b"), (1, "B"), (2, "a"), (2, "A")], kind)
    found = values(pages(url, size))
    assert sorted(found) == ["A", "A", "B", "a", "a", "b"]


def test_a_cursor_that_does_not_equal_itself_is_refused_and_loses_nothing(url):
    if "mysql" not in url:
        pytest.skip("only MariaDB's FLOAT does so")
    fill(url, [(0.1, "a"), (0.2, "b"), (0.3, "c")], "seq FLOAT, id TEXT")
    with pytest.raises(Malformed, match="does not compare equal to its own value"):
        pages(url, 1)


def test_places_and_counts(url):
    fill(url, [(n, f"k{n}") for n in range(1, 6)])
    source = opened(url)
    assert source.count() == {"t": 5}
    (found,) = [page.rows for page in source.pages({}, 10) if page.part == "t"]
    places = [source.place(row) for row in found]
    assert [source.is_before(place, places[2]) for place in places] == [True, True, False, False, False]
    assert source.show_place(places[4]) == "5"
    assert source.place(Row("x", {"seq": Unusable("binary", "holds bytes")})) is None
    assert not source.is_before(places[0], '{"order": ["other"], "behind": [["int", "9"]]}')
    assert not source.is_before('{"order": ["seq"], "behind": [["str", "a"]]}', places[0])


def test_a_database_that_is_not_there_and_its_password():
    for url in ("postgresql+psycopg://user:hunter2@127.0.0.1:1/x", "nodriver://user:hunter2@h/x", "hunter2"):
        with pytest.raises(CouldNotRun) as caught:
            pages(url)
        assert "hunter2" not in str(caught.value)
    with pytest.raises(CouldNotRun, match="environment variable U"):
        pages("")


def test_text_that_is_not_utf_8_and_bytes_harm_only_their_column(tmp_path):
    url = f"sqlite:///{tmp_path / 'source.db'}"
    fill(url, [(1, "a"), (2, "b")], "seq INTEGER, id TEXT, note")
    execute(url, "UPDATE t SET note = CAST(x'ff41' AS TEXT) WHERE seq = 1", "UPDATE t SET note = x'00' WHERE seq = 2")
    notes = values(pages(url), "note")
    assert all(isinstance(note, Unusable) for note in notes)
    assert [note.reason for note in notes] == ["encoding", "binary"]


def test_the_state_on_this_database(url):
    """Cursors and quarantine behave the same on SQLite and PostgreSQL."""
    if "mysql" in url:
        pytest.skip("a node's own database is SQLite or PostgreSQL")
    execute(url, "DROP TABLE IF EXISTS feed_cursor", "DROP TABLE IF EXISTS feed_quarantine")
    moments = iter(datetime(2024, 3, 5, 12, n, tzinfo=UTC) for n in range(9))
    state = AdapterState(create_engine(url, poolclass=NullPool), lambda: next(moments))
    bad = Rejected("f:2", "m/a", "blank", "column x is blank", '{"a": "\\u0000"}')
    rival = Rejected("f:3", "m/b", "conflict", "key taken \0 \ud800", "{}", rival="1")
    state.settle("d/m", "f", mark="1", version=1, rejected=[bad, rival, Rejected("f:4", None, "encoding", "no", "x")])
    state.settle("d/m", "f", mark="2", version=2, rejected=[bad])
    state.settle("d/other", "f", mark="9", version=1, rejected=[bad])
    first = state.quarantine("d/m")[0]
    assert (first.mapping_version, first.first_seen[14:16], first.last_seen[14:16]) == (2, "00", "01")
    assert state.marks("d/m") == {"f": "2"}
    assert state.quarantine_counts("d/m") == {"blank": 1, "conflict": 1, "encoding": 1}
    state.settle("d/m", "f", mark=None, version=2, settled=[Settled("f:9", "m/a"), Settled("f:8", "m/b")])
    assert state.quarantine_counts("d/m") == {"conflict": 1, "encoding": 1}
    state.settle("d/m", "f", mark=None, version=2, settled=[Settled("f:3", "m/b"), Settled("f:4", "m/c")])
    assert state.quarantine_counts("d/m") == {}
    assert state.marks("d/m") == {"f": "2"}
    assert state.quarantine_counts("d/other") == {"blank": 1}
    state.settle("d/other", "f", mark="0", version=1, restarted=True)
    assert state.quarantine_counts("d/other") == {}


def odd_rows(*statements: str) -> Any:
    """What a table of MariaDB or PostgreSQL can hold and Python has no value for, read one row at a time."""
    kind = "mariadb" if "ENUM" in statements[0] else "postgresql"
    url, drop = fresh_database(kind)
    engine = create_engine(url, poolclass=NullPool)
    try:
        with engine.begin() as connection:
            if kind == "mariadb":
                connection.exec_driver_sql("SET SESSION sql_mode = ''")
            for statement in statements:
                connection.exec_driver_sql(statement)
        return [dict(row.values) for page in pages(url, size=1) for row in page.rows if isinstance(row, Row)]
    finally:
        drop()


def test_a_table_of_mariadb_as_it_is():
    zero, plain = odd_rows(
        "CREATE TABLE t (seq DATETIME, id CHAR(5), day DATE, flag TINYINT(1), kind ENUM('日常', '专项'), at TIME, "
        "bit BIT(1), shop VARCHAR(9) CHARACTER SET utf8mb3, sum DECIMAL(9, 2)) CHARACTER SET utf8mb4",
        "INSERT INTO t VALUES ('0000-00-00', 'a', '2024-00-00', 1, 'none', '-26:30:01.5', b'1', '店', -0.00)",
        "INSERT INTO t VALUES ('2024-03-05 10:00:00', 'b', '2024-03-05', 0, '专项', '09:05', b'0', NULL, 1.50)",
    )
    assert (zero["seq"], zero["day"], zero["flag"], zero["kind"]) == ("0000-00-00 00:00:00", "2024-00-00", 1, "")
    assert (zero["at"], zero["bit"].reason, zero["shop"], str(zero["sum"])) == ("-26:30:01", "binary", "店", "0.00")
    assert (plain["kind"], plain["at"], plain["shop"]) == ("专项", "09:05:00", None)


def test_a_view_of_postgresql_as_it_is():
    rows = odd_rows(
        "CREATE TABLE base (seq timestamptz, id text, day date, local timestamp, count numeric, marks text[])",
        "INSERT INTO base VALUES ('2024-03-05 10:00:00.123456+08', 'a', '0044-03-15 BC', 'infinity', 'NaN', '{x}'), "
        "('2024-03-05 10:00:00.123457+08', 'b', '-infinity', '9999-12-31', 1, NULL)",
        "INSERT INTO base VALUES ('infinity', 'c', NULL, NULL, 1, NULL)",
        "CREATE VIEW t AS SELECT * FROM base",
    )
    assert [row["id"] for row in rows] == ["a", "b", "c"]
    assert [row["day"] for row in rows] == ["0044-03-15 BC", "-infinity", None]
    assert rows[0]["local"] == rows[2]["seq"] == "infinity"


def test_a_time_to_come_does_not_hide_the_rows_behind_it(url):
    """One row of the year 9999 must not be the last that is ever read; it is read again each time, and known."""
    fill(url, [("2024-03-05", "a"), ("9999-12-31", "far")], "seq TIMESTAMP, id TEXT" if "postgres" in url else
         "seq DATETIME, id TEXT")  # fmt: skip
    first = pages(url)
    assert values(first) == ["a", "far"]
    execute(url, "INSERT INTO t (seq, id) VALUES (:seq, :id)", rows=[{"seq": "2024-03-06", "id": "b"}])
    again = pages(url, marks={"t": first[-1].mark or ""})
    assert values(again) == ["b", "far"]
    source = opened(url)
    last = again[-1].rows[-1]
    assert isinstance(last, Row) and source.place(last) is None
    fill(url, [("9999-12-31", "far")], "seq TIMESTAMP, id TEXT" if "postgres" in url else "seq DATETIME, id TEXT")
    assert [page.mark for page in pages(url)] == [None, None][: len(pages(url))]


def test_pages_of_large_rows_stay_small(tmp_path, monkeypatch):
    monkeypatch.setattr("adapters.sql_tables.PAGE_BYTES", 40_000)
    url = f"sqlite:///{tmp_path / 'source.db'}"
    execute(url, "CREATE TABLE t (seq INTEGER, id TEXT, photo BLOB)")
    sizes = [10] * 10 + [20_000] * 20 + [10] * 100
    rows = [{"seq": n, "id": f"k{n}", "photo": b"x" * size} for n, size in enumerate(sizes)]
    execute(url, "INSERT INTO t VALUES (:seq, :id, :photo)", rows=rows)
    found = pages(url, size=1000)
    assert values(found) == [row["id"] for row in rows]
    lengths = [len(page.rows) for page in found if page.part == "t"]
    assert lengths[:4] == [16, 4, 1, 1]
    assert lengths[-1] > 4
