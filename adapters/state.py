"""What adapters remember between runs: where each source was read to, and which rows were set aside.

| table           | trusted | may lose data                              | grows with                 |
|-----------------|---------|--------------------------------------------|----------------------------|
| feed_cursor     | no      | yes: rows come again and are recognised    | parts (files) of a feed    |
| feed_quarantine | no      | yes: comes back when the source is re-read | rows that are wrong        |
| feed_period     | no      | yes: the reports say that counting began anew | feeds                   |
| feed_part       | no      | yes: what came late is not noticed once    | parts (files) of a feed    |
| feed_mapping    | no      | yes: a version that changed is not noticed | feeds                      |
| feed_probe      | no      | yes: a probe that arrives is in the log    | probes planted             |

`feed_quarantine` holds rows in plaintext, so it holds personal data: it stays on the department's own node, its content
goes into no log, and a backup of it needs the same care as the source system's own.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
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
    inspect,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError

from adapters.completeness import PageCount, PartCount, Period, Standing, higher, lower
from ledger.errors import StorageFailed

CONFLICT = "conflict"
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

feed_period = Table(
    "feed_period",
    metadata,
    Column("feed", String(100), primary_key=True),
    Column("version", Integer, nullable=False, comment="counts every change, so that a report misses none"),
    Column("period", Text, nullable=False),
    Column("pending", Text, comment="a report that is written down and not yet acknowledged, as JSON"),
    Column("reported_at", String(32)),
    Column("next_due", String(32), nullable=False),
)

feed_part = Table(
    "feed_part",
    metadata,
    Column("feed", String(100), primary_key=True),
    Column("part", String(1000), primary_key=True),
    Column("read", BigInteger, nullable=False),
    Column("late", BigInteger, nullable=False),
    Column("lowest", Text),
    Column("highest", Text),
    Column("high_before", Text),
)

feed_mapping = Table(
    "feed_mapping",
    metadata,
    Column("feed", String(100), primary_key=True),
    Column("version", Integer, nullable=False, comment="the highest that made records"),
    Column("digest", String(64), nullable=False),
    Column("row_key", Text, nullable=False, comment="the columns of the key, as JSON"),
)

feed_probe = Table(
    "feed_probe",
    metadata,
    Column("feed", String(100), primary_key=True),
    Column("token_sha256", String(64), primary_key=True),
    Column("planted_at", String(32), nullable=False),
    Column("due", String(32), nullable=False),
    Column("arrived_at", String(32)),
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
    ident: str


@dataclass(frozen=True, slots=True)
class SavedPeriod:
    """A feed's counts. `version` changes with each of them; `pending` is a report that was not acknowledged yet."""

    version: int
    period: Period
    pending: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Planted:
    """A probe that was planted here. Times are RFC 3339, UTC; `arrived_at` None: it has not come out yet."""

    feed: str
    token_sha256: str
    planted_at: str
    due: str
    arrived_at: str | None

    def overdue(self, now: float) -> bool:
        """Whether it should have come out before `now`, seconds since 1970."""
        return self.arrived_at is None and datetime.fromisoformat(self.due).timestamp() < now


@dataclass(frozen=True, slots=True)
class Held:
    """The newest mapping that made records of a feed. `digest` is that of its content, `key` its columns."""

    version: int
    digest: str
    key: tuple[str, ...]


IsBefore = Callable[[str, str], bool]


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

    def held(self, feed: str) -> Held | None:
        """The mapping that made the feed's newest records here; None before the first."""
        with self._failing(), self._engine.connect() as connection:
            row = connection.execute(select(feed_mapping).where(feed_mapping.c.feed == feed)).one_or_none()
        return None if row is None else Held(row.version, row.digest, tuple(json.loads(row.row_key)))

    def hold(self, feed: str, mapping: Held) -> Held:
        """Durably: `mapping` makes records from now on, unless one of its version or a higher one does. Returns the one
        that stands."""
        row = {
            "feed": feed, "version": mapping.version, "digest": mapping.digest, "row_key": json.dumps(mapping.key),
        }  # fmt: skip
        with self._failing(), self._engine.begin() as connection:
            dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
            statement: Any = dialect.insert(feed_mapping).values(row)
            new = {name: statement.excluded[name] for name in ("version", "digest", "row_key")}
            newer = feed_mapping.c.version < statement.excluded.version
            connection.execute(statement.on_conflict_do_update(index_elements=["feed"], set_=new, where=newer))
            found = connection.execute(select(feed_mapping).where(feed_mapping.c.feed == feed)).one()
        return Held(found.version, found.digest, tuple(json.loads(found.row_key)))

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
        replaces: Sequence[str] = (),
        count: PageCount | None = None,
        is_before: IsBefore = lambda _a, _b: False,
    ) -> None:
        """Durably, in one transaction: quarantine what was rejected, clear what went well, save the mark, count.

        `restarted` clears the part's entries first: their positions mean other rows now, and all rows come again.
        `replaces` are entries whose rows these are: what is not rejected again as the same entry goes.
        `count` goes into the feed's period, once it was begun. Called only once the ledger has acknowledged the page.
        """
        now = self.now().astimezone(UTC).isoformat(timespec="seconds")
        with self._failing(), self._engine.begin() as connection:
            if restarted:
                c = feed_quarantine.c
                connection.execute(delete(feed_quarantine).where(c.feed == feed, c.part == part))
            self._drop(connection, feed, set(replaces) - {row.ident() for row in rejected})
            if settled and _holds(connection, feed):
                self._clear(connection, feed, settled)
            if rejected:
                self._quarantine(connection, feed, part, rejected, version, now)
            if mark is not None:
                row = {"feed": feed, "part": part, "mark": mark, "mapping_version": version, "saved_at": now}
                self._upsert(connection, feed_cursor, [row], keep=())
            if count is not None:
                self._count(connection, feed, part, count, is_before)

    # -- what was counted --

    def now(self) -> datetime:
        """The time."""
        return self._clock()

    def period(self, feed: str) -> SavedPeriod | None:
        """What was counted since the feed's last report; None before the first period was begun."""
        with self._failing(), self._engine.connect() as connection:
            return _saved_period(connection, feed)

    def begin_period(self, feed: str, period: Period, next_due: str) -> None:
        """Begins the feed's first period, or one that takes the place of what was counted and of a pending report."""
        row = {
            "feed": feed, "version": 0, "period": period.write(), "pending": None, "reported_at": None,
            "next_due": next_due,
        }  # fmt: skip
        with self._failing(), self._engine.begin() as connection:
            connection.execute(delete(feed_part).where(feed_part.c.feed == feed))
            self._upsert(connection, feed_period, [row], keep=())

    def part(self, feed: str, part: str) -> PartCount:
        """What was counted of one part."""
        with self._failing(), self._engine.connect() as connection:
            return _part(connection, feed, part)

    def parts(self, feed: str, limit: int) -> tuple[list[PartCount], int]:
        """The first `limit` parts of which something was read in the period, and how many there are."""
        here = (feed_part.c.feed == feed) & (feed_part.c.read > 0)
        query = select(feed_part).where(here).order_by(feed_part.c.part).limit(limit)
        with self._failing(), self._engine.connect() as connection:
            number = connection.scalar(select(func.count()).select_from(feed_part).where(here)) or 0
            return [_part_of(row) for row in connection.execute(query)], number

    def write_report(
        self, feed: str, version: int, record: dict[str, Any], after: Period, *, is_before: IsBefore
    ) -> bool:
        """Durably, in one transaction: keeps a report as pending and begins the period after it. False, and nothing is
        written, where something was counted since `version`, or another report is pending."""
        c = feed_period.c
        values = {
            "version": version + 1, "period": after.write(), "pending": json.dumps(record),
            "reported_at": record["occurred_at"], "next_due": record["next_due"],
        }  # fmt: skip
        with self._failing(), self._engine.begin() as connection:
            here = (c.feed == feed) & (c.version == version) & c.pending.is_(None)
            if connection.execute(update(feed_period).where(here).values(values)).rowcount != 1:
                return False
            touched = select(feed_part).where(feed_part.c.feed == feed, feed_part.c.read > 0)
            for part in [_part_of(row) for row in connection.execute(touched)]:
                high = higher(part.high_before, part.highest, is_before)
                row = {"feed": feed, **_part_row(PartCount(part.part, high_before=high))}
                self._upsert(connection, feed_part, [row], keep=())
        return True

    def cross_out(self, feed: str, seq: int) -> None:
        """The pending report of this number was acknowledged."""
        with self._failing(), self._engine.begin() as connection:
            saved = _saved_period(connection, feed)
            if saved is not None and saved.pending is not None and saved.pending["seq"] == seq:
                here = feed_period.c.feed == feed
                connection.execute(update(feed_period).where(here).values(pending=None))

    def standings(self) -> list[Standing]:
        """How the reports of all feeds stand, by feed."""
        with self._failing(), self._engine.connect() as connection:
            return _standings(connection)

    def _count(self, connection: Connection, feed: str, part: str, count: PageCount, is_before: IsBefore) -> None:
        saved = _saved_period(connection, feed, lock=True)
        if saved is None:
            return
        period = saved.period.plus(count)
        late = period.counts["late"] - saved.period.counts["late"]
        before = _part(connection, feed, part)
        after = PartCount(
            part,
            before.read + count.read,
            before.late + late,
            lower(before.lowest, count.lowest, is_before),
            higher(before.highest, count.highest, is_before),
            before.high_before,
        )
        values = {"version": saved.version + 1, "period": period.write()}
        connection.execute(update(feed_period).where(feed_period.c.feed == feed).values(values))
        self._upsert(connection, feed_part, [{"feed": feed, **_part_row(after)}], keep=())

    # -- probes --

    def plant(self, feed: str, token_sha256: str, every: int) -> None:
        """Remembers that a probe was planted now, which must come out within `every` seconds."""
        now = self.now().astimezone(UTC)
        row = {
            "feed": feed, "token_sha256": token_sha256, "planted_at": now.isoformat(timespec="seconds"),
            "due": (now + timedelta(seconds=every)).isoformat(timespec="seconds"), "arrived_at": None,
        }  # fmt: skip
        with self._failing(), self._engine.begin() as connection:
            self._upsert(connection, feed_probe, [row], keep=())

    def arrived(self, feed: str, token_sha256: str, arrived_at: str) -> None:
        """A probe came out; one that was not planted here is not remembered."""
        c = feed_probe.c
        here = (c.feed == feed) & (c.token_sha256 == token_sha256) & c.arrived_at.is_(None)
        with self._failing(), self._engine.begin() as connection:
            connection.execute(update(feed_probe).where(here).values(arrived_at=arrived_at))

    def planted(self, limit: int = 100) -> list[Planted]:
        """The probes of all feeds, those planted last first."""
        c = feed_probe.c
        query = select(feed_probe).order_by(c.planted_at.desc(), c.feed, c.token_sha256).limit(limit)
        with self._failing(), self._engine.connect() as connection:
            return [
                Planted(row.feed, row.token_sha256, row.planted_at, row.due, row.arrived_at)
                for row in connection.execute(query)
            ]

    # -- quarantine --

    def is_set_aside(self, feed: str, places: Sequence[tuple[str, str | None]]) -> list[bool]:
        """For each row, whether the quarantine has it: under its key, or, where it has none, at its position."""
        c = feed_quarantine.c
        found: set[str] = set()
        with self._failing(), self._engine.connect() as connection:
            for column, wanted in (
                (c.row_key, [key for _, key in places if key is not None]),
                (c.position, [position[:1000] for position, key in places if key is None]),
            ):
                for chunk in _chunks(wanted, _IN_CHUNK):
                    found |= set(connection.scalars(select(column).where(c.feed == feed, column.in_(chunk))))
        return [(position[:1000] if key is None else key) in found for position, key in places]

    def quarantine(
        self, feed: str, *, limit: int = 1000, offset: int = 0, reason: str | None = None
    ) -> list[Quarantined]:
        """Rows of `feed` in quarantine, or those set aside for `reason`: oldest first, then as people count."""

        def order(row: Any) -> Any:
            return row.first_seen, natural_order(row.part), natural_order(row.position)

        chosen = self._in_order(feed, reason, order)
        return self.entries(feed, [row.ident for row in chosen[offset : offset + limit]])

    def set_aside(self, feed: str, reason: str | None = None) -> list[tuple[str, str]]:
        """Part and identity of each row of `feed` in quarantine: part after part, in each oldest first."""

        def order(row: Any) -> Any:
            return natural_order(row.part), row.first_seen, natural_order(row.position)

        chosen = self._in_order(feed, reason, order)
        return [(row.part, row.ident) for row in chosen]

    def entries(self, feed: str, idents: Sequence[str]) -> list[Quarantined]:
        """The rows in quarantine with these identities, in their order; those that have gone are left out."""
        c = feed_quarantine.c
        found: dict[str, Quarantined] = {}
        with self._failing(), self._engine.connect() as connection:
            for chunk in _chunks(idents, _IN_CHUNK):
                query = select(feed_quarantine).where(c.feed == feed, c.ident.in_(chunk))
                found |= {row.ident: _quarantined(row) for row in connection.execute(query)}
        return [found[ident] for ident in idents if ident in found]

    def _in_order(self, feed: str, reason: str | None, order: Callable[[Any], Any]) -> list[Any]:
        c = feed_quarantine.c
        query = select(c.ident, c.part, c.position, c.first_seen).where(c.feed == feed)
        query = query if reason is None else query.where(c.reason == reason)
        with self._failing(), self._engine.connect() as connection:
            return sorted(connection.execute(query), key=lambda row: (order(row), row.ident))

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

    def _drop(self, connection: Connection, feed: str, idents: Iterable[str]) -> None:
        c = feed_quarantine.c
        for chunk in _chunks(list(idents), _IN_CHUNK):
            connection.execute(delete(feed_quarantine).where(c.feed == feed, c.ident.in_(chunk)))

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


def read_standings(engine: Engine) -> list[Standing]:
    """The same for who only looks: where no feed ever ran, nothing is made. Raises StorageFailed."""
    try:
        with engine.connect() as connection:
            return _standings(connection) if inspect(connection).has_table(feed_period.name) else []
    except SQLAlchemyError as error:
        raise StorageFailed(f"the feeds' state cannot be read ({type(error).__name__}); check the database") from error


def _standings(connection: Connection) -> list[Standing]:
    return [
        Standing(row.feed, Period.read(row.period).seq, row.reported_at, row.next_due)
        for row in connection.execute(select(feed_period).order_by(feed_period.c.feed))
    ]


def _quarantined(row: Any) -> Quarantined:
    return Quarantined(
        row.part, row.position, row.row_key, row.reason, row.detail, row.raw,
        row.mapping_version, row.first_seen, row.last_seen, row.ident,
    )  # fmt: skip


def natural_order(text: str) -> list[tuple[int, str]]:
    """A key that sorts `x:2` before `x:10`: numbers by their length first, texts by their letters."""
    pieces = re.split(r"0*([0-9]+)", text)
    return [(len(piece) if number % 2 else 0, piece) for number, piece in enumerate(pieces)]


def _storable(text: str) -> str:
    return text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode("utf-8")


def _saved_period(connection: Connection, feed: str, *, lock: bool = False) -> SavedPeriod | None:
    query = select(feed_period).where(feed_period.c.feed == feed)
    row = connection.execute(query.with_for_update() if lock else query).one_or_none()
    if row is None:
        return None
    return SavedPeriod(row.version, Period.read(row.period), None if row.pending is None else json.loads(row.pending))


def _part(connection: Connection, feed: str, part: str) -> PartCount:
    here = (feed_part.c.feed == feed) & (feed_part.c.part == part)
    row = connection.execute(select(feed_part).where(here)).one_or_none()
    return PartCount(part) if row is None else _part_of(row)


def _part_of(row: Any) -> PartCount:
    return PartCount(row.part, row.read, row.late, row.lowest, row.highest, row.high_before)


def _part_row(part: PartCount) -> dict[str, Any]:
    return {name: getattr(part, name) for name in PartCount.__slots__}


def _holds(connection: Connection, feed: str) -> bool:
    query = select(feed_quarantine.c.ident).where(feed_quarantine.c.feed == feed).limit(1)
    return connection.execute(query).first() is not None


def _chunks(items: Sequence[Any], size: int) -> Iterable[Sequence[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))
