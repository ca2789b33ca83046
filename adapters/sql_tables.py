"""SQL tables and queries through SQLAlchemy: keyset pagination over columns that only ever grow, and the key.

    SELECT * FROM t WHERE (c, k) > (last c, last k) ORDER BY c, k LIMIT n

Values travel as the driver gives them, so any database does; the mark holds the last cursor and key values with their
types. A row without a value in a cursor or key column has no place in that order: such rows come first, as bad rows.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import (
    Connection,
    Engine,
    Select,
    and_,
    create_engine,
    event,
    func,
    literal,
    literal_column,
    or_,
    select,
)
from sqlalchemy import text as sql_text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import NullPool
from sqlalchemy.types import NullType

from adapters.conversions import Invalid, to_text
from adapters.sections import Section, nearest
from adapters.source import BadRow, Limits, Opening, Page, Row, Unusable, excerpt
from ledger.errors import CouldNotRun, Malformed

MAX_TIES = 1000
"""How many rows may share one place in the order: the same cursor and key."""
FIRST_ROWS = 16
PAGE_BYTES = 16 << 20
"""A reading begins with few rows; pages grow while they stay below this, and shrink above: photos lie in tables too."""

_POSTGRES_TIMES = (1082, 1114, 1184)  # date, timestamp, timestamptz: fixed in pg_type.dat

_READERS: dict[str, Callable[[str], Any]] = {
    "int": int,
    "str": str,
    "float": float.fromhex,
    "decimal": Decimal,
    "datetime": datetime.fromisoformat,
    "date": date.fromisoformat,
    "uuid": UUID,
}


@dataclass(frozen=True, slots=True)
class SqlOptions:
    """`[source]` with kind = "sql"."""

    url_env: str
    table: str | None
    schema: str | None
    query: str | None
    cursor: tuple[str, ...]
    late_rows: int

    @classmethod
    def parse(cls, section: Section) -> SqlOptions:
        """Takes the options of this kind from a `[source]` table."""
        if ("table" in section) == ("query" in section):
            section.refuse('"source" needs either "table" or "query"')
        if "schema" in section and "query" in section:
            section.refuse('"source.schema" goes with "table"; name the schema inside the query')
        cursor = section.texts("cursor")
        late_rows = section.get("late_rows", int, 0)
        if not cursor or not 0 <= late_rows <= 1_000_000:
            section.refuse('"source.cursor" must name a column, and "late_rows" lie between 0 and 1000000')
        return cls(
            url_env=section.require("url_env", str),
            table=section.optional("table", str),
            schema=section.optional("schema", str),
            query=section.optional("query", str),
            cursor=cursor,
            late_rows=late_rows,
        )

    def open(self, opening: Opening) -> SqlTable:
        """The table or query. Raises CouldNotRun where the environment names no database, or one we cannot speak to."""
        url = opening.environ.get(self.url_env)
        if not url:
            raise CouldNotRun(f"set the environment variable {self.url_env} to the database's SQLAlchemy URL")
        if opening.override is not None:
            raise Malformed("source", "a path was given, but this mapping reads a database")
        try:
            engine = create_engine(make_url(url), poolclass=NullPool)
        except (ArgumentError, NoSuchModuleError, ImportError) as error:
            # the URL holds a password, so it is never part of a message
            raise CouldNotRun(f"{self.url_env} is no SQLAlchemy URL of an installed driver") from error
        return SqlTable(self, engine, opening)


class SqlTable:
    """One table or query as a source. Its only part is the table's name, or `query`."""

    def __init__(self, options: SqlOptions, engine: Engine, opening: Opening) -> None:
        self._options = options
        self._engine = engine
        self._needed = opening.needed
        self._key = opening.key
        self._limits: Limits = opening.limits
        self._clock = opening.clock
        self._order = tuple(dict.fromkeys((*options.cursor, *opening.key)))
        self._part = options.table or "query"
        if engine.dialect.name == "sqlite":
            event.listen(engine, "connect", _keep_bad_text)
        elif engine.dialect.driver == "psycopg":
            event.listen(engine, "connect", _keep_odd_times)

    def pages(self, marks: Mapping[str, str], size: int) -> Generator[Page]:
        """See Source. Each page is a query of its own, so no transaction stays open at the source."""
        with self._connected() as connection:
            self._check_columns(connection)
            yield from self._placeless(connection, size)
            last = self._start(connection, marks.get(self._part))
        restarted, step = last is None, min(size, FIRST_ROWS)
        while True:
            with self._connected() as connection:
                columns, found = self._fetch(connection, last, step)
            if not found:
                return
            last = self._place(columns, found[-1])
            rows = tuple(self._row(columns, values) for values in found)
            yield Page(self._part, rows, self._mark(columns, found), restarted, columns)
            restarted, step = False, _next_step(found, step, size)

    def _mark(self, columns: Sequence[str], found: list[Any]) -> str | None:
        """Behind the last row that is not of a time to come: one row of the year 9999 would hide all that follow, so
        such rows are read again every time, and known."""
        for values in reversed(found):
            place = self._place(columns, values)
            if not self._is_to_come(place[0]):
                return _write_mark(self._order, place)
        return None

    def _is_to_come(self, value: Any) -> bool:
        tomorrow = datetime.fromtimestamp(self._clock() + 86_400, UTC)
        if isinstance(value, str):
            return value == "infinity" or (value[4:5] == "-" and value > tomorrow.strftime("%Y-%m-%d %H:%M:%S"))
        if isinstance(value, datetime):
            return value.replace(tzinfo=value.tzinfo or UTC) > tomorrow
        return isinstance(value, date) and value > tomorrow.date()

    def count(self) -> dict[str, int]:
        """See Countable."""
        with self._connected() as connection:
            found = connection.execute(self._from().with_only_columns(func.count())).scalar()
            return {self._part: found or 0}

    def place(self, row: Row) -> str | None:
        """See Ordered: the cursor's values."""
        try:
            values = [row.values[name] for name in self._options.cursor]
            return None if self._is_to_come(values[0]) else _write_mark(self._options.cursor, values)
        except (Malformed, KeyError):
            return None

    def is_before(self, a: str, b: str) -> bool:
        """See Ordered."""
        first, second = (_read_mark(self._options.cursor, place) for place in (a, b))
        try:
            return first is not None and second is not None and first < second
        except TypeError:  # values of several types in one column
            return False

    def show_place(self, place: str) -> str:
        """See Ordered."""
        return "|".join(text for _, text in json.loads(place)["behind"])

    def _fetch(
        self, connection: Connection, last: tuple[Any, ...] | None, size: int
    ) -> tuple[tuple[str, ...], list[Any]]:
        """Columns and the next rows: `size`, or a few more where the last ones share a place."""
        result = connection.execute(self._page_query(last, size))
        columns, found = tuple(result.keys()), list(result.fetchall())
        if len(found) < size:
            return columns, found
        # the next page begins behind the last place, so rows that share it must all be in this page
        place = self._place(columns, found[-1])
        query = self._from().where(
            and_(*[self._column(n) == _bound(v) for n, v in zip(self._order, place, strict=True)])
        )
        ties = list(connection.execute(query.limit(MAX_TIES + 1)).fetchall())
        if len(ties) > MAX_TIES:
            detail = f"more than {MAX_TIES:,} rows share one cursor and key; name columns that tell them apart"
            raise Malformed(self._part, detail)
        if not ties:
            detail = (
                "a cursor or key column does not compare equal to its own value; choose one that holds no fractions"
            )
            raise Malformed(self._part, detail)
        # as the database compares: to many, "A" and "a" are one place
        while found and any(_is_same(found[-1], tie) for tie in ties):
            found.pop()
        return columns, found + ties

    def _place(self, columns: Sequence[str], values: Sequence[Any]) -> tuple[Any, ...]:
        row = dict(zip(columns, values, strict=True))
        return tuple(row[name] for name in self._order)

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        try:
            with self._engine.connect() as connection:
                yield connection
        except SQLAlchemyError as error:
            # the driver's own text can carry the URL and the rows; its class says enough
            name = self._options.url_env
            raise CouldNotRun(
                f"the database in {name} failed ({type(error).__name__}); check that it runs, and the table or query"
            ) from error

    def _from(self) -> Select[Any]:
        if self._options.query is not None:
            source = f"({self._options.query.rstrip().rstrip(';')}) AS q"
        else:
            names = [name for name in (self._options.schema, self._options.table) if name]
            source = ".".join([self._quoted(name) for name in names])
        # text() takes :word for a parameter; a mapping has none
        return select(sql_text("*")).select_from(sql_text(re.sub(r"(?<!:):(?=\w)", r"\:", source)))

    def _quoted(self, name: str) -> str:
        return self._engine.dialect.identifier_preparer.quote_identifier(name)

    def _column(self, name: str) -> Any:
        return literal_column(self._quoted(name))

    def _page_query(self, last: tuple[Any, ...] | None, size: int) -> Select[Any]:
        columns = [self._column(name) for name in self._order]
        query = self._from().where(*[column.is_not(None) for column in columns])
        if last is not None:
            query = query.where(_beside(columns, last, lambda column, value: column > value))
        return query.order_by(*columns).limit(size)

    def _placeless(self, connection: Connection, size: int) -> Iterator[Page]:
        """Rows with NULL where the order needs a value; all of them, every run: behind a mark they are not found."""
        part = f"{self._part}#null"
        query = self._from().where(or_(*[self._column(name).is_(None) for name in self._order]))
        result = connection.execution_options(yield_per=size).execute(query)
        columns = tuple(result.keys())
        yield Page(part, (), None, restarted=True, columns=columns)
        for found in result.partitions(size):
            yield Page(part, tuple([self._placeless_row(columns, values) for values in found]), None, columns=columns)

    def _placeless_row(self, columns: Sequence[str], values: Sequence[Any]) -> BadRow:
        row = dict(zip(columns, values, strict=True))
        absent = next(name for name in self._order if row[name] is None)
        raw = _raw(row)
        position = f"{self._part}:null:{hashlib.sha256(raw.encode()).hexdigest()[:16]}"
        known = ", ".join(f"{name} = {str(row[name])[:60]}" for name in self._order if row[name] is not None)
        which = f" ({known})" if known else ""
        detail = f'column "{absent}" is NULL, so the row{which} has no place in the order of reading'
        return BadRow(position, excerpt(raw), "blank-cursor", detail)

    def _check_columns(self, connection: Connection) -> None:
        columns = tuple(connection.execute(self._from().limit(0)).keys())
        for name in sorted(self._needed | set(self._order)):
            if columns.count(name) != 1:
                what = "twice" if name in columns else f"nowhere{nearest(name, columns)}"
                raise Malformed(self._part, f'column "{name}" stands {what} in the table or query')

    def _start(self, connection: Connection, mark: str | None) -> tuple[Any, ...] | None:
        """The place to go on behind: the mark's, or `late_rows` rows before it; None for the start."""
        last = None if mark is None else _read_mark(self._order, mark)
        if last is None or self._options.late_rows == 0:
            return last
        columns = [self._column(name) for name in self._order]
        query = self._from().with_only_columns(*columns).where(*[column.is_not(None) for column in columns])
        query = query.where(_beside(columns, last, lambda column, value: column < value))
        query = query.order_by(*[column.desc() for column in columns]).offset(self._options.late_rows - 1).limit(1)
        found = connection.execute(query).first()
        return None if found is None else tuple(found)

    def _row(self, columns: Sequence[str], values: Sequence[Any]) -> Row | BadRow:
        row = {name: _usable(value) for name, value in zip(columns, values, strict=True)}
        named = self._key if all(_shown(row[name]).strip() for name in self._key) else self._order
        position = f"{self._part}:{'|'.join(_shown(row[name]) for name in named)}"[:500]
        if any(isinstance(value, str) and len(value) > self._limits.field_chars for value in row.values()):
            detail = f"a column has more than {self._limits.field_chars:,} characters"
            return BadRow(position, excerpt(_raw(row)), "too-long", detail)
        return Row(position, row)


def _bound(value: Any) -> Any:
    # without a type of ours: a cast that SQLAlchemy adds would drop the offset of a PostgreSQL timestamptz
    return literal(value, NullType())


def _beside(columns: Sequence[Any], last: Sequence[Any], strictly: Callable[[Any, Any], Any]) -> Any:
    """Rows strictly on one side of `last`. Written out: not every database compares row values."""
    choices = []
    for place, column in enumerate(columns):
        equal = [columns[n] == _bound(last[n]) for n in range(place)]
        choices.append(and_(*equal, strictly(column, _bound(last[place]))))
    return or_(*choices)


def _keep_bad_text(connection: Any, _record: Any) -> None:
    # SQLite stores any bytes as text; the driver would stop at the first row that is not UTF-8
    connection.text_factory = lambda data: data.decode("utf-8", "surrogateescape")


def _keep_odd_times(connection: Any, _record: Any) -> None:
    """Times that Python has none for (infinity, years before Christ) come as text; the driver would stop at them."""
    from psycopg import DataError
    from psycopg.abc import AdaptContext, Buffer
    from psycopg.adapt import Loader
    from psycopg.pq import Format

    plain = {oid: connection.adapters.get_loader(oid, Format.TEXT) for oid in _POSTGRES_TIMES}

    class Lenient(Loader):
        def __init__(self, oid: int, context: AdaptContext | None = None) -> None:
            super().__init__(oid, context)
            self._plain = plain[oid](oid, context)

        def load(self, data: Buffer) -> Any:
            try:
                return self._plain.load(data)
            except DataError:
                return bytes(data).decode("ascii")

    for oid in _POSTGRES_TIMES:
        connection.adapters.register_loader(oid, Lenient)


def _is_same(a: Any, b: Any) -> bool:
    # a NaN in a row is not equal to itself, and the row is the same all the same
    return bool(a == b) or repr(a) == repr(b)


def _next_step(found: list[Any], step: int, size: int) -> int:
    """How many rows the next page has."""
    weight = sum(len(value) for values in found for value in values if isinstance(value, (str, bytes, memoryview)))
    return max(1, step // 4) if weight > PAGE_BYTES else min(size, step * 4) if weight < PAGE_BYTES // 4 else step


def _clock_text(value: timedelta) -> str:
    sign, rest = ("-", -value) if value < timedelta(0) else ("", value)
    minutes, seconds = divmod(rest.days * 86_400 + rest.seconds, 60)
    fraction = f".{rest.microseconds:06}" if rest.microseconds else ""
    return f"{sign}{minutes // 60:02}:{minutes % 60:02}:{seconds:02}{fraction}"


def _usable(value: Any) -> Any:
    if isinstance(value, str) and not value.isascii() and any("\ud800" <= c <= "\udfff" for c in value):
        return Unusable("encoding", "is not UTF-8 text")
    if isinstance(value, str) and "\0" in value:
        return Unusable("control-character", "holds a NUL")
    if isinstance(value, (bytes, memoryview)):
        return Unusable("binary", "holds bytes, not text; cast it in a query, e.g. CAST(x AS UNSIGNED) for a bit")
    if isinstance(value, timedelta):  # TIME of MySQL
        return _clock_text(value)
    return str(value) if isinstance(value, UUID) else value


def _shown(value: Any) -> str:
    try:
        return to_text(value)
    except Invalid:
        return "?"


def _raw(row: Mapping[str, Any]) -> str:
    return json.dumps(dict(row), default=str, ensure_ascii=True)


def _write_mark(order: Sequence[str], values: Sequence[Any]) -> str:
    return json.dumps({"order": list(order), "behind": [_tagged(value) for value in values]})


def _tagged(value: Any) -> list[str]:
    if isinstance(value, datetime):
        return ["datetime", value.isoformat()]
    if isinstance(value, date):
        return ["date", value.isoformat()]
    if isinstance(value, float):
        return ["float", value.hex()]
    if isinstance(value, (int, str, Decimal, UUID)) and not isinstance(value, bool):
        return [type(value).__name__.lower(), str(value)]
    raise Malformed("source", f"a cursor column holds {type(value).__name__}, which has no order; choose another")


def _read_mark(order: Sequence[str], mark: str) -> tuple[Any, ...] | None:
    """The values behind which to go on; None where the mapping has another order by now."""
    saved = json.loads(mark)
    if saved["order"] != list(order):
        return None
    return tuple(_READERS[kind](text) for kind, text in saved["behind"])
