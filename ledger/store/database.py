"""One way to a node's database, SQLite or PostgreSQL: transactions, and rows in bulk.

A transaction opened with `writing()` is durable when the block ends without an exception (SQLite: WAL with
`synchronous=FULL`; PostgreSQL: its default `synchronous_commit`), and nothing of it remains otherwise. Any number of
processes may open the same database; SQLite lets one write at a time, PostgreSQL one per log (see `sequencer`).
"""

from __future__ import annotations

import functools
import math
import select
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Dialect, Engine, Table, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, InvalidatePoolError, SQLAlchemyError

from ledger.errors import CouldNotRun, StorageFailed

BUSY_TIMEOUT_S = 60
RESTED_S = 5
"""A connection to PostgreSQL that was not used for so long is asked whether it lives before it is used again."""
_WRITING = "yunxi_writing"
_BUSY = f"another process has held the database for {BUSY_TIMEOUT_S} s: wait for it, or stop it, and run again"


class Database:
    """An engine with the durability this ledger needs. `engine` is for reading and for other packages' tables.

    Raises CouldNotRun for a URL of another database than SQLite and PostgreSQL; connects only when used.
    """

    def __init__(self, url: str | URL) -> None:
        self.url = _known_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self._writing: dict[str, Any] = {_WRITING: True}
        self._reading: dict[str, Any] = {}
        self._turns = threading.Lock()
        if self.is_sqlite:
            self.engine = create_engine(self.url, connect_args={"timeout": BUSY_TIMEOUT_S})
            event.listen(self.engine, "connect", _configure_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)
        else:
            self.engine = _postgresql(self.url)
            # said outright, because a server may have other defaults: a writer sees what was committed while it waited
            # for the head's lock, a reader sees one moment only
            self._writing |= {"isolation_level": "READ COMMITTED"}
            self._reading |= {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A write transaction. Raises StorageFailed when the database cannot take it; IntegrityError passes through,
        because it is an answer about the rows and not about the database."""
        try:
            with (
                self._turn(),
                self.engine.connect().execution_options(**self._writing) as connection,
                connection.begin(),
            ):
                yield connection
        except IntegrityError:
            raise
        except DBAPIError as error:
            raise StorageFailed(_explain(error)) from error

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Threads of this process write to SQLite in turn: left to itself, one that finds it busy looks again
        only after sleeping ever longer, up to 100 ms."""
        if not self.is_sqlite:
            yield
        elif self._turns.acquire(timeout=BUSY_TIMEOUT_S):
            try:
                yield
            finally:
                self._turns.release()
        else:
            raise StorageFailed(_BUSY)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A read transaction: one consistent snapshot, never blocking a writer."""
        try:
            with self.engine.connect().execution_options(**self._reading) as connection, connection.begin():
                yield connection
        except SQLAlchemyError as error:
            raise StorageFailed(_explain(error)) from error

    def engine_for_writing(self) -> Engine:
        """The same engine for packages that keep tables of their own here: every transaction may write from its start
        (on SQLite one that begins by reading and then writes would be refused while another process writes)."""
        return self.engine.execution_options(**{_WRITING: True})

    def close(self) -> None:
        """Closes pooled connections."""
        self.engine.dispose()


def _known_url(url: str | URL) -> URL:
    try:
        known = make_url(url)
    except ArgumentError as error:
        raise CouldNotRun("the database must be given as a SQLAlchemy URL, such as sqlite:///ledger.sqlite") from error
    if known.get_backend_name() not in ("sqlite", "postgresql"):
        raise CouldNotRun(f"the database must be SQLite or PostgreSQL, not {known.get_backend_name()}")
    return known


def _postgresql(url: URL) -> Engine:
    try:
        engine = create_engine(url.set(drivername="postgresql+psycopg"))
    except ImportError as error:
        raise CouldNotRun("PostgreSQL needs its driver: run `pip install 'yunxi[postgresql]'`") from error
    event.listen(engine, "checkin", _note_use)
    event.listen(engine, "checkout", functools.partial(_require_alive, engine.dialect))
    return engine


def _note_use(_connection: Any, record: Any) -> None:
    record.info["used"] = time.monotonic()


def _require_alive(dialect: Dialect, connection: Any, record: Any, _fairy: Any) -> None:
    """Has the pool open another connection instead of one that has ended, before anything is sent on it.

    An end that the server announced is seen without asking: on a connection at rest nothing else can have come. One
    that it could not (its machine is gone, a firewall has forgotten) shows only when asked, a round trip, so after a
    rest. Until then whoever meets it is told StorageFailed, and everybody gets another connection.
    """
    try:
        came = select.poll()
        came.register(connection.fileno(), select.POLLIN)
        ended = bool(came.poll(0))
        if not ended and time.monotonic() - record.info.get("used", math.inf) > RESTED_S:
            dialect.do_ping(connection)
    except connection.Error as error:
        raise InvalidatePoolError from error
    if ended:
        raise InvalidatePoolError


def insert_rows(connection: Connection, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
    """Inserts `rows`, each with the table's columns in their order, by the driver's own bulk path.

    SQLAlchemy's insert costs as much again as SQLite itself, and PostgreSQL's COPY is twice as fast as its INSERT.
    """
    if not rows:
        return
    names = [column.name for column in table.columns]
    if connection.dialect.name == "sqlite":
        marks = ",".join("?" * len(names))
        columns = ",".join(f'"{name}"' for name in names)
        connection.exec_driver_sql(f'INSERT INTO "{table.name}" ({columns}) VALUES ({marks})', list(rows))  # noqa: S608
    else:
        _copy_rows(connection, table, rows)


def _copy_rows(connection: Connection, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
    import psycopg  # only where PostgreSQL is used: it is an optional dependency
    from psycopg import sql

    driver = connection.connection.driver_connection
    assert driver is not None
    names = sql.SQL(",").join(sql.Identifier(column.name) for column in table.columns)
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(sql.Identifier(table.name), names)
    try:
        with driver.cursor() as cursor, cursor.copy(statement) as copy:
            copy.set_types([_PG_TYPES[type(column.type).__name__] for column in table.columns])
            for row in rows:
                copy.write_row(row)
    except psycopg.IntegrityError as error:  # the driver is called past SQLAlchemy, which would have translated these
        raise IntegrityError(f"COPY {table.name}", None, error) from error
    except psycopg.Error as error:
        raise DBAPIError(f"COPY {table.name}", None, error) from error


_PG_TYPES = {"BigInteger": "int8", "Integer": "int4", "LargeBinary": "bytea", "String": "varchar", "Text": "text"}


def _configure_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # the driver's own BEGIN comes too late and is never IMMEDIATE
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA secure_delete=ON")
    connection.execute("PRAGMA cache_size=-65536")
    connection.execute("PRAGMA wal_autocheckpoint=4000")


def _begin_sqlite(connection: Connection) -> None:
    writing = connection.get_execution_options().get(_WRITING)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")


def _explain(error: SQLAlchemyError) -> str:
    cause = str(getattr(error, "orig", None) or error).splitlines()[0]
    if "full" in cause or "No space" in cause:
        return "the disk is full: nothing of this batch was acknowledged; free some space and run the same again"
    if "locked" in cause:
        return _BUSY
    return f"the database refused: {cause}; nothing of this batch was acknowledged"
