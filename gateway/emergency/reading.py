"""Looking emergency accesses up in the projection."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, case, func, select

from gateway.emergency.models import emergencies
from ledger.store.models import logs
from ledger.store.reading import read_logs


@dataclass(frozen=True, slots=True)
class Emergency:
    """An emergency access as one side's log tells of it. `emergency` is the id of the requester's record; `types` None:
    whatever the owner allows; `outcome` None: not justified yet. Times in seconds since 1970."""

    emergency: str
    role: str
    owner: str
    requester: str
    lead: str
    claim: str | None
    number: str | None
    extraction: str | None
    types: frozenset[str] | None
    used_at: int
    due_at: int
    outcome: str | None
    justified_by: str | None
    justified_at: int | None
    late: bool | None

    def is_overdue(self, now: float) -> bool:
        """Whether nobody justified it in time and nobody did since."""
        return self.outcome is None and self.due_at <= now


_COLUMNS = [emergencies.c[name] for name in Emergency.__slots__]


def list_for(connection: Connection, department: str, now: float, offset: int, limit: int) -> list[Emergency]:
    """Of both sides that the department's log tells of: overdue ones first, then open ones, then the newest."""
    c = emergencies.c
    order = case((c.outcome.is_(None) & (c.due_at <= int(now)), 0), (c.outcome.is_(None), 1), else_=2)
    query = select(*_COLUMNS).where(c.log == _log(connection, department)).order_by(order, c.position.desc())
    return [_emergency(row) for row in connection.execute(query.offset(offset).limit(limit))]


def find(connection: Connection, department: str, emergency: str) -> Emergency | None:
    """The emergency access as the department's log tells of it."""
    c = emergencies.c
    query = select(*_COLUMNS).where(c.log == _log(connection, department), c.emergency == emergency)
    row = connection.execute(query).one_or_none()
    return None if row is None else _emergency(row)


def in_force(connection: Connection, owner: str, extraction: str, now: float) -> Emergency | None:
    """The newest emergency access that the owner let an extraction have and that has neither ended nor been found
    unjustified."""
    c = emergencies.c
    here = (c.log == _log(connection, owner)) & (c.extraction == extraction) & (c.due_at > int(now))
    query = select(*_COLUMNS).where(here, c.outcome.is_(None) | (c.outcome == "justified"))
    row = connection.execute(query.order_by(c.position.desc()).limit(1)).one_or_none()
    return None if row is None else _emergency(row)


def overdue(connection: Connection, department: str, requester: str, now: float) -> str | None:
    """The oldest emergency access of `requester` that the log of `department` knows and nobody justified in time."""
    c = emergencies.c
    here = (c.log == _log(connection, department)) & (c.requester == requester)
    here &= c.outcome.is_(None) & (c.due_at <= int(now))
    return connection.scalar(select(c.emergency).where(here).order_by(c.position).limit(1))


def open_counts(connection: Connection, now: float) -> dict[str, dict[str, int]]:
    """By hosted department how many it knows that are open, and of these overdue."""
    c = emergencies.c
    counts = {row.department: {"open": 0, "overdue": 0} for row in connection.execute(select(logs.c.department))}
    query = (
        select(logs.c.department, func.count(), func.sum(case((c.due_at <= int(now), 1), else_=0)))
        .join_from(emergencies, logs, logs.c.log == c.log)
        .where(c.outcome.is_(None))
        .group_by(logs.c.department)
    )
    for department, number, late in connection.execute(query):
        counts[department] = {"open": number, "overdue": int(late or 0)}
    return counts


def _emergency(row: Any) -> Emergency:
    members = dict(row._mapping)
    members["types"] = None if members["types"] is None else frozenset(json.loads(members["types"]))
    return Emergency(**members)


def _log(connection: Connection, department: str) -> int:
    return next((log.number for log in read_logs(connection, department)), -1)
