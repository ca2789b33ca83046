"""What is stamped and what is not: reading and keeping tokens. A log's tokens are numbered under its lock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select

from ledger.checkpoints import lock_log
from ledger.formats.timestamp import Timestamp
from ledger.store.models import anchors, entries, position_of, timestamp_calls, timestamps


@dataclass(frozen=True, slots=True)
class Kept:
    """A token as it is stored. `size` is the checkpoint's; times in seconds since 1970."""

    number: int
    size: int
    authority: str
    token: bytes
    time: int
    expires: int


def size_to_stamp(connection: Connection, log: int) -> int:
    """The size of the newest anchored checkpoint, 0 for none: what is anchored is what receipts are made of."""
    return int(connection.scalar(select(func.max(anchors.c.size)).where(anchors.c.log == log)) or 0)


def stamped_by(connection: Connection, log: int, size: int) -> list[Kept]:
    """The tokens over the checkpoint of a size, oldest first."""
    here = (timestamps.c.log == log) & ~timestamps.c.renewal & (timestamps.c.size == size)
    return [_kept(row) for row in connection.execute(select(timestamps).where(here).order_by(timestamps.c.number))]


def last_stamped(connection: Connection, log: int, required: int) -> Kept | None:
    """The newest token that made its checkpoint stamped: the last of `required` authorities'. None where none did."""
    here = (timestamps.c.log == log) & ~timestamps.c.renewal
    full = (
        select(timestamps.c.size)
        .where(here)
        .group_by(timestamps.c.size)
        .having(func.count() >= required)
        .order_by(timestamps.c.size.desc())
        .limit(1)
    )
    size = connection.scalar(full)
    return None if size is None else max(stamped_by(connection, log, size), key=lambda kept: kept.time)


def newest_stamp(connection: Connection, log: int) -> Kept | None:
    """The token over a checkpoint that came last."""
    here = (timestamps.c.log == log) & ~timestamps.c.renewal
    query = select(timestamps).where(here).order_by(timestamps.c.number.desc()).limit(1)
    row = connection.execute(query).one_or_none()
    return None if row is None else _kept(row)


def unstamped_since(connection: Connection, log: int, log_size: int, required: int) -> float | None:
    """When the oldest entry that no stamped checkpoint holds was acknowledged, in seconds since 1970; None: none is."""
    last = last_stamped(connection, log, required)
    first = 0 if last is None else last.size
    if first >= log_size:
        return None
    at = connection.scalar(select(entries.c.acknowledged_at).where(entries.c.position == position_of(log, first)))
    return None if at is None else at / 1000


def keep_token(
    connection: Connection,
    log: int,
    size: int,
    authority: str,
    token: bytes,
    stamp: Timestamp,
    *,
    renewal: bool = False,
) -> bool:
    """Numbers and stores a token; False when this authority's for the same size is there. The caller commits."""
    lock_log(connection, log)
    same = (timestamps.c.log == log) & (timestamps.c.renewal == renewal) & (timestamps.c.size == size)
    if connection.scalar(select(timestamps.c.number).where(same, timestamps.c.authority == authority)) is not None:
        return False
    newest = connection.scalar(select(func.max(timestamps.c.number)).where(timestamps.c.log == log))
    row = {
        "log": log,
        "number": 0 if newest is None else newest + 1,
        "renewal": renewal,
        "size": size,
        "authority": authority,
        "token": token,
        "time": int(stamp.time.timestamp()),
        "expires": int(stamp.expires.timestamp()),
    }
    connection.execute(insert(timestamps).values(row))
    return True


def all_tokens(connection: Connection, log: int) -> list[Any]:
    """Every row of a log's tokens, in the order of their numbers."""
    return list(connection.execute(select(timestamps).where(timestamps.c.log == log).order_by(timestamps.c.number)))


def has_renewals(connection: Connection, log: int) -> bool:
    """Whether any token of a log was renewed."""
    here = (timestamps.c.log == log) & timestamps.c.renewal
    return connection.scalar(select(timestamps.c.number).where(here).limit(1)) is not None


def note_call(connection: Connection, authority: str, now: int, problem: str | None) -> None:
    """Remembers how asking an authority went. The caller commits."""
    connection.execute(delete(timestamp_calls).where(timestamp_calls.c.authority == authority))
    connection.execute(
        insert(timestamp_calls).values(
            authority=authority, asked_at=now, problem=None if problem is None else problem[:500]
        )
    )


def last_problem(connection: Connection, authority: str) -> str | None:
    """Why the last asking of an authority failed; None where it did not."""
    here = timestamp_calls.c.authority == authority
    problem: str | None = connection.scalar(select(timestamp_calls.c.problem).where(here))
    return problem


def _kept(row: Any) -> Kept:
    return Kept(row.number, row.size, row.authority, row.token, row.time, row.expires)
