"""What adapters remember between runs: where each source was read to, and which rows were set aside.

| table           | trusted | may lose data                              | grows with                 |
|-----------------|---------|--------------------------------------------|----------------------------|
| feed_cursor     | no      | yes: rows come again and are recognised    | parts (files) of a feed    |
| feed_quarantine | no      | yes: comes back when the source is re-read | rows that are wrong        |

`feed_quarantine` holds rows in plaintext, so it holds personal data: it stays on the department's own node, its content
goes into no log, and a backup of it needs the same care as the source system's own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    and_,
    delete,
    func,
    or_,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError

from ledger.errors import StorageFailed

CONFLICT = "conflict"
MAX_RAW_BYTES = 64 << 10
MAX_DETAIL_CHARS = 500
_IN_CHUNK = 400

metadata = MetaData()

feed_cursor = Table(
    "feed_cursor",
    metadata,
    Column("feed", String(100), primary_key=True),
    Column("part", String(1000), primary_key=True),
    Column("mark", Text, nullable=False),
    Column("mapping_version", Integer, nullable=False),
    Column("saved_at", String(32), nullable=False),
)

feed_quarantine = Table(
    "feed_quarantine",
    metadata,
    Column("feed", String(100), primary_key=True),
    Column("ident", String(64), primary_key=True, comment="hex SHA-256 of the place: see Rejected.ident"),
    Column("part", String(1000), nullable=False),
    Column("position", String(1000), nullable=False),
    Column("row_key", String(200)),
    Column("reason", String(64), nullable=False),
    Column("detail", String(MAX_DETAIL_CHARS), nullable=False),
    Column("raw", Text, nullable=False, comment="plaintext of the row as JSON: personal data"),
    Column("mapping_version", Integer, nullable=False),
    Column("first_seen", String(32), nullable=False),
    Column("last_seen", String(32), nullable=False),
    Index("feed_quarantine_by_key", "feed", "row_key"),
    Index("feed_quarantine_by_position", "feed", "position"),
    comment="rows that were set aside; plaintext, so personal data",
)


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row on its way into quarantine. `key` is its idempotency key, None where it has none; `raw` its content.

    `rival` tells apart the contents that claim one key: the digest of the record that came too late, else empty.
    """

    position: str
    key: str | None
    reason: str
    detail: str
    raw: str
    rival: str = ""

    def ident(self) -> str:
        """An entry is a place in the source: the same row there again renews it, so a re-run does not double it."""
        digest = hashlib.sha256()
        for text in (self.position, self.key or "", self.rival):
            data = text.encode("utf-8", "surrogatepass")
            digest.update(len(data).to_bytes(8, "big") + data)
        return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Settled:
    """A row that was acknowledged: it clears what stands in quarantine at its place or under its key."""

    position: str
    key: str


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A row in quarantine, as it is shown. `raw` is plaintext. Times are RFC 3339, UTC."""

    part: str
    position: str
    key: str | None
    reason: str
    detail: str
    raw: str
    mapping_version: int
    first_seen: str
    last_seen: str


class AdapterState:
    """Cursors and quarantine in one database (SQLite or PostgreSQL); the tables are made where they are missing.

    Two runs of one feed at the same time do no harm: both read the same rows, and the ledger recognises the second.
    Every method raises StorageFailed when the database does.
    """

    def __init__(self, engine: Engine, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._engine = engine
        self._clock = clock
        with self._failing():
            metadata.create_all(engine)

    def marks(self, feed: str) -> dict[str, str]:
        """Where each part of `feed` was read to."""
        query = select(feed_cursor.c.part, feed_cursor.c.mark).where(feed_cursor.c.feed == feed)
        with self._failing(), self._engine.connect() as connection:
            return {row.part: row.mark for row in connection.execute(query)}

    def settle(
        self,
        feed: str,
        part: str,
        *,
        mark: str | None,
        version: int,
        settled: Sequence[Settled] = (),
        rejected: Sequence[Rejected] = (),
        restarted: bool = False,
    ) -> None:
        """Durably, in one transaction: quarantine what was rejected, clear what went well, save the mark.

        `restarted` clears the part's entries first: their positions mean other rows now, and all rows come again.
        Called only once the ledger has acknowledged the page.
        """
        now = self._clock().astimezone(UTC).isoformat(timespec="seconds")
        with self._failing(), self._engine.begin() as connection:
            if restarted:
                c = feed_quarantine.c
                connection.execute(delete(feed_quarantine).where(c.feed == feed, c.part == part))
            if settled and _holds(connection, feed):
                self._clear(connection, feed, settled)
            if rejected:
                self._quarantine(connection, feed, part, rejected, version, now)
            if mark is not None:
                row = {"feed": feed, "part": part, "mark": mark, "mapping_version": version, "saved_at": now}
                self._upsert(connection, feed_cursor, [row], keep=())

    def quarantine(self, feed: str, *, limit: int = 1000, offset: int = 0) -> list[Quarantined]:
        """Rows of `feed` in quarantine, oldest first."""
        c = feed_quarantine.c
        query = select(feed_quarantine).where(c.feed == feed).order_by(c.first_seen, c.part, c.position, c.ident)
        with self._failing(), self._engine.connect() as connection:
            return [
                Quarantined(
                    row.part, row.position, row.row_key, row.reason, row.detail, row.raw,
                    row.mapping_version, row.first_seen, row.last_seen,
                )
                for row in connection.execute(query.limit(limit).offset(offset))
            ]  # fmt: skip

    def quarantine_counts(self, feed: str) -> dict[str, int]:
        """How many rows of `feed` are in quarantine, by reason."""
        c = feed_quarantine.c
        query = select(c.reason, func.count()).where(c.feed == feed).group_by(c.reason).order_by(c.reason)
        with self._failing(), self._engine.connect() as connection:
            return {row[0]: row[1] for row in connection.execute(query)}

    def _quarantine(
        self, connection: Connection, feed: str, part: str, rejected: Sequence[Rejected], version: int, now: str
    ) -> None:
        rows = {
            ident: {
                "feed": feed,
                "ident": ident,
                "part": part,
                "position": row.position[:1000],
                "row_key": row.key,
                "reason": row.reason[:64],
                "detail": _storable(row.detail)[:MAX_DETAIL_CHARS],
                "raw": _storable(row.raw),
                "mapping_version": version,
                "first_seen": now,
                "last_seen": now,
            }
            for row in rejected
            for ident in (row.ident(),)
        }
        self._upsert(connection, feed_quarantine, list(rows.values()), keep=("first_seen",))

    def _clear(self, connection: Connection, feed: str, settled: Sequence[Settled]) -> None:
        c = feed_quarantine.c
        for chunk in _chunks(settled, _IN_CHUNK):
            # a rival elsewhere in the source stays a finding, although its key is known
            by_key = and_(c.row_key.in_([row.key for row in chunk]), c.reason != CONFLICT)
            at_place = c.position.in_([row.position for row in chunk])
            connection.execute(delete(feed_quarantine).where(c.feed == feed, or_(by_key, at_place)))

    def _upsert(self, connection: Connection, table: Table, rows: list[dict[str, Any]], keep: tuple[str, ...]) -> None:
        dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
        primary = [column.name for column in table.primary_key]
        statement: Any = dialect.insert(table)
        renewed = {name: statement.excluded[name] for name in rows[0] if name not in primary and name not in keep}
        connection.execute(statement.on_conflict_do_update(index_elements=primary, set_=renewed), rows)

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            # the statement's parameters are rows of the source: only the kind of error may be shown
            name = type(error).__name__
            raise StorageFailed(
                f"the node's database refused to save the feed's state ({name}); check disk and database"
            ) from error


def raw_row(values: Mapping[str, Any]) -> str:
    """A row's content as JSON of at most 64 KiB; a larger one has its longest values cut and says so."""
    text = _dump(values)
    if len(text.encode()) <= MAX_RAW_BYTES:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()
    cut = {str(name)[:100]: str(value)[:100] for name, value in list(values.items())[:100]}
    return _dump({"truncated": True, "sha256": digest, "row": cut})


def _dump(values: Mapping[str, Any]) -> str:
    # ASCII: PostgreSQL takes no NUL and no surrogate, and JSON writes both as escapes
    return json.dumps(dict(values), default=str, ensure_ascii=True).replace("\\u0000", "\\\\u0000")


def _storable(text: str) -> str:
    return text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode("utf-8")


def _holds(connection: Connection, feed: str) -> bool:
    query = select(feed_quarantine.c.ident).where(feed_quarantine.c.feed == feed).limit(1)
    return connection.execute(query).first() is not None


def _chunks(items: Sequence[Any], size: int) -> Iterable[Sequence[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))
