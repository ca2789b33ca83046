"""Looking inspections and cases up in the projection."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, and_, exists, select

from gateway.proceedings.models import proceeding_participants, proceeding_records, proceedings
from gateway.projections.models import subject_entries
from gateway.projections.projector import read_claims
from ledger.formats.encoding import b64url_decode
from ledger.store.models import entries

Key = tuple[int, str, str]
"""Log, kind, number."""


@dataclass(frozen=True, slots=True)
class Proceeding:
    """An inspection or a case. `reference` is the id of the record that says what it is now, the opening record or its
    newest amendment; `opened` the opening record's. Times in seconds since 1970; `position` is what a list goes on
    after. `participants` are without the lead."""

    kind: str
    lead: str
    number: str
    opened: str
    reference: str
    matter: str | None
    case_kind: str | None
    purpose: str | None
    participants: tuple[str, ...]
    types: tuple[str, ...] | None
    days: int | None
    opened_at: int
    closed_at: int | None
    closed: str | None
    outcome: str | None
    merged_into: str | None
    merged_lead: str | None
    request: str | None
    close_request: str | None
    position: int

    @property
    def is_open(self) -> bool:
        """Whether it goes on."""
        return self.closed is None

    def concerns(self, department: str) -> bool:
        """Whether `department` leads it or takes part."""
        return department == self.lead or department in self.participants


@dataclass(frozen=True, slots=True)
class Attached:
    """A record that was attached; `leaf` is its statement's leaf hash, in hex."""

    record_id: str
    owner: str
    leaf: str
    type: str | None
    attached: str
    attached_at: int


def find(connection: Connection, kind: str, number: str, lead: str) -> Proceeding | None:
    """The proceeding `number` that `lead` opened."""
    return next(
        iter(_read(connection, proceedings.c.kind == kind, proceedings.c.number == number, proceedings.c.lead == lead)),
        None,
    )


def find_any(connection: Connection, kind: str, number: str) -> list[Proceeding]:
    """Every proceeding of that number on this node; numbers are unique within a department only."""
    return _read(connection, proceedings.c.kind == kind, proceedings.c.number == number)


def open_ones(connection: Connection, leads: Collection[str]) -> list[Proceeding]:
    """The open proceedings that departments of `leads` lead, oldest first within each log."""
    return _read(connection, proceedings.c.lead.in_(leads), proceedings.c.closed_id.is_(None))


def list_for(
    connection: Connection,
    kind: str,
    department: str,
    *,
    is_open: bool | None = None,
    subject: bytes | None = None,
    after: int = -1,
    limit: int = 100,
) -> list[Proceeding]:
    """The proceedings that `department` leads or takes part in, by the position of their opening, past `after`; with
    `subject`, a blind index, those that concern it."""
    takes_part = exists().where(
        proceeding_participants.c.log == proceedings.c.log,
        proceeding_participants.c.kind == proceedings.c.kind,
        proceeding_participants.c.number == proceedings.c.number,
        proceeding_participants.c.department == department,
    )
    conditions: list[ColumnElement[bool]] = [
        proceedings.c.kind == kind,
        (proceedings.c.lead == department) | takes_part,
        proceedings.c.opened_position > after,
    ]
    if is_open is not None:
        conditions.append(proceedings.c.closed_id.is_(None) if is_open else proceedings.c.closed_id.is_not(None))
    if subject is not None:
        conditions.append(
            exists().where(
                subject_entries.c.subject == subject, subject_entries.c.position == proceedings.c.current_position
            )
        )
    return _read(connection, *conditions, limit=limit)


def attached_to(connection: Connection, proceeding: Proceeding) -> list[Attached]:
    """The records attached to it, in the order of their attaching."""
    table = proceeding_records
    query = (
        select(table.c.record_id, table.c.owner, table.c.leaf, table.c.type, table.c.attached_id, table.c.attached_at)
        .join_from(
            table,
            proceedings,
            and_(
                table.c.log == proceedings.c.log,
                table.c.kind == proceedings.c.kind,
                table.c.number == proceedings.c.number,
            ),
        )
        .where(proceedings.c.opened_position == proceeding.position)
        .order_by(table.c.attached_position)
    )
    return [Attached(*row) for row in connection.execute(query)]


def subjects_of(connection: Connection, record_id: str) -> list[bytes]:
    """The blind indexes, 16 bytes each, that the statement of a record of this node names."""
    statement = connection.scalar(select(entries.c.statement).where(entries.c.record_id == UUID(record_id).bytes))
    claims = read_claims(statement or b"") or {}
    return [b64url_decode(text, "blind index") for text in claims.get("subj", ())]


def _read(connection: Connection, *conditions: ColumnElement[bool], limit: int | None = None) -> list[Proceeding]:
    query = select(proceedings).where(*conditions).order_by(proceedings.c.opened_position).limit(limit)
    rows = connection.execute(query).all()
    taking_part = _participants(connection, {(row.log, row.kind, row.number) for row in rows})
    return [_proceeding(row, taking_part.get((row.log, row.kind, row.number), [])) for row in rows]


def _participants(connection: Connection, keys: set[Key]) -> dict[Key, list[str]]:
    table = proceeding_participants
    query = select(table).where(table.c.number.in_({number for _, _, number in keys})).order_by(table.c.department)
    found: dict[Key, list[str]] = {}
    for log, kind, number, department in connection.execute(query):
        found.setdefault((log, kind, number), []).append(department)
    return found


def _proceeding(row: Any, participants: Iterable[str]) -> Proceeding:
    return Proceeding(
        kind=row.kind,
        lead=row.lead,
        number=row.number,
        opened=row.opened_id,
        reference=row.current_id,
        matter=row.matter,
        case_kind=row.case_kind,
        purpose=row.purpose,
        participants=tuple(participants),
        types=None if row.types is None else tuple(json.loads(row.types)),
        days=row.days,
        opened_at=row.opened_at,
        closed_at=row.closed_at,
        closed=row.closed_id,
        outcome=row.outcome,
        merged_into=row.merged_into,
        merged_lead=row.merged_lead,
        request=row.request,
        close_request=row.close_request,
        position=row.opened_position,
    )
