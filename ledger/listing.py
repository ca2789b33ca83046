"""Which records a node holds: newest first, or by idempotency key. Read from the log's rows; nothing is decrypted."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection, select

from ledger.store.models import case_entries, entries, index_of, logs


@dataclass(frozen=True, slots=True)
class Listed:
    """A record's place. `sealed_at` is when it was acknowledged, in seconds since 1970; `index` counts from 0."""

    record_id: str
    department: str
    index: int
    key: str
    sealed_at: float


def case_of(connection: Connection, record_id: str) -> str | None:
    """The case whose number a record carries, so that what happens to the record joins the case; None: none, or this
    node has no such record."""
    c = case_entries.c
    query = select(c.case).join(entries, entries.c.position == c.position)
    return connection.scalar(query.where(entries.c.record_id == UUID(record_id).bytes))


def list_records(
    connection: Connection,
    department: str | None = None,
    key: str | None = None,
    limit: int = 20,
    before: int | None = None,
) -> list[Listed]:
    """At most `limit` records, each log's newest first; with `key` those of that idempotency key, one a log at most;
    with `before` those at a lower position.

    A row that an adapter sealed has the key `<mapping>/<key of the row>`.
    """
    c = entries.c
    query = select(c.record_id, logs.c.department, c.position, c.key, c.acknowledged_at)
    query = query.join_from(entries, logs, c.log == logs.c.log).order_by(c.position.desc()).limit(limit)
    if department is not None:
        query = query.where(logs.c.department == department)
    if key is not None:
        query = query.where(c.key == key)
    if before is not None:
        query = query.where(c.position < before)
    return [
        Listed(str(UUID(bytes=record_id)), name, index_of(position), found, at / 1000)
        for record_id, name, position, found, at in connection.execute(query)
    ]
