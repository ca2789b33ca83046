"""The index by which records are found without opening them: by subject, by case or inspection, by what they amend."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, null, select

from gateway.projections.models import reference_entries, subject_entries
from gateway.projections.projector import ProjectedEntry, Projection
from ledger.crypto.blind import INDEX_BYTES
from ledger.errors import Malformed
from ledger.formats.encoding import b64url_decode
from ledger.store.database import insert_rows
from ledger.store.models import INDEX_BITS, entries, index_of, logs, position_of
from ledger.store.reading import id_text

REFERENCES = ("case", "inspection", "amends")
_NUMBER_CHARS = 200


@dataclass(frozen=True, slots=True)
class Match:
    """A record found in the index. `issued_at`: the statement's own time of sealing, seconds since 1970."""

    position: int
    index: int
    record_id: str
    type: str
    matter: str | None
    issued_at: int


class SubjectIndex(Projection):
    """The projection, and what is asked of it. Blind indexes are 16 bytes, as `ledger.crypto.blind.blind_index`."""

    name = "subjects"
    tables = (subject_entries, reference_entries)

    def apply(self, connection: Connection, batch: Sequence[ProjectedEntry]) -> None:
        """A row for each subject and each reference that the entries' clear claims name."""
        insert_rows(connection, subject_entries, [row for entry in batch for row in _subject_rows(entry)])
        insert_rows(connection, reference_entries, [row for entry in batch for row in _reference_rows(entry)])

    @staticmethod
    def matching(
        connection: Connection,
        department: str,
        subjects: Collection[bytes],
        types: Collection[str] | None = None,
        after_position: int = -1,
        limit: int = 100,
    ) -> list[Match]:
        """The department's records on any of `subjects` (at most some hundred), of any of `types` (None: all), past
        `after_position`, in the log's order, at most `limit`; a record on two of the subjects counts once."""
        table = subject_entries
        query = (
            select(table.c.position, table.c.type, table.c.matter, table.c.issued_at)
            .where(table.c.subject.in_(subjects), *_within(connection, department, table.c.position, after_position))
            .distinct()
        )
        if types is not None:
            query = query.where(table.c.type.in_(types))
        return _found(connection, query.order_by(table.c.position).limit(limit))

    @staticmethod
    def referring(
        connection: Connection, department: str, kind: str, number: str, after_position: int = -1, limit: int = 100
    ) -> list[Match]:
        """The department's records that name case or inspection `number`, or amend the record of that id, in the log's
        order; `kind` is one of `REFERENCES`. `matter` is not known here."""
        table = reference_entries
        query = select(table.c.position, table.c.type, null().label("matter"), table.c.issued_at).where(
            table.c.kind == kind,
            table.c.number == number,
            *_within(connection, department, table.c.position, after_position),
        )
        return _found(connection, query.order_by(table.c.position).limit(limit))


def _within(
    connection: Connection, department: str, position: ColumnElement[int], after: int
) -> tuple[ColumnElement[bool], ...]:
    log = connection.scalar(select(logs.c.log).where(logs.c.department == department))
    if log is None:
        return (position < 0,)
    return position > max(after, position_of(log, 0) - 1), position < (log + 1) << INDEX_BITS


def _found(connection: Connection, query: Select[Any]) -> list[Match]:
    found = query.subquery()
    named = select(found, entries.c.record_id).join(entries, entries.c.position == found.c.position)
    rows = connection.execute(named.order_by(found.c.position))
    return [Match(p, index_of(p), id_text(record_id), kind, matter, at) for p, kind, matter, at, record_id in rows]


def _subject_rows(entry: ProjectedEntry) -> Iterator[tuple[Any, ...]]:
    subjects = entry.claims.get("subj")
    # sealed at a terminal, it may say anything; a set, because the same index twice would be the same row twice
    named = {_index(text) for text in subjects} if isinstance(subjects, list) else set()
    for subject in sorted(named - {b""}):
        yield subject, entry.position, entry.type, _text(entry, "matter"), _issued_at(entry)


def _reference_rows(entry: ProjectedEntry) -> Iterator[tuple[Any, ...]]:
    for kind in REFERENCES:
        if number := _text(entry, kind):
            yield kind, number, entry.position, entry.type, _issued_at(entry)


def _index(text: Any) -> bytes:
    try:
        index = b64url_decode(text, "blind index") if isinstance(text, str) else b""
    except Malformed:
        return b""
    return index if len(index) == INDEX_BYTES else b""


def _text(entry: ProjectedEntry, claim: str) -> str | None:
    value = entry.claims.get(claim)
    return value[:_NUMBER_CHARS] if isinstance(value, str) else None


def _issued_at(entry: ProjectedEntry) -> int:
    value = entry.claims.get("iat")
    return value if isinstance(value, int) else entry.acknowledged_at // 1000
