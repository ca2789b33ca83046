"""Extractions that were accepted, as the owner keeps them; what a request for one holds."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import Connection, insert, select, update

from gateway.extractions.decision import Asked
from gateway.extractions.models import extractions

STANDING, CANCELLED, ENDED = "standing", "cancelled", "ended"


@dataclass(frozen=True, slots=True)
class Request:
    """A request for an extraction, well formed; nothing of it is believed. `subjects`: blind indexes of 16 bytes,
    sorted, each once; `types` None: whatever is granted; `units` None: all that are granted."""

    owner: str
    purpose: str
    presentation: bytes
    receipt: bytes | None
    subjects: tuple[bytes, ...]
    types: frozenset[str] | None = None
    units: frozenset[str] | None = None
    emergency: tuple[bytes, bytes] | None = None
    """Presentation and receipt of the requester's emergency.used."""


@dataclass(frozen=True, slots=True)
class Extraction:
    """An extraction that was accepted. `claim` (`case` or `inspection`) is what `number` is the number of; `reference`
    the record of `lead` that says what it is; nothing sealed before `since` (seconds since 1970) is extracted."""

    id: str
    owner: str
    requester: str
    lead: str
    claim: str
    number: str
    reference: str
    purpose: str
    case_kind: str
    subjects: tuple[bytes, ...]
    types: frozenset[str] | None
    units: frozenset[str] | None
    since: int
    state: str
    opened_at: int

    @property
    def asked(self) -> Asked:
        """What is to be decided on."""
        return Asked(self.purpose, self.case_kind, self.types, self.units)


def extraction_id(requester: str, lead: str, claim: str, number: str, request: Request) -> str:
    """The id that the same request in the same case always has, so that a repeated one discloses nothing twice."""
    parts = [
        *("yunxi extraction v1", request.owner, requester, lead, claim, number, request.purpose, ""),
        *(subject.hex() for subject in request.subjects),
        "",
        *(("*",) if request.types is None else sorted(request.types)),
        "",
        *(("*",) if request.units is None else sorted(request.units)),
    ]
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:32]


def find(connection: Connection, extraction: str) -> Extraction | None:
    """The extraction, or None."""
    row = connection.execute(select(extractions).where(extractions.c.extraction == extraction)).one_or_none()
    return None if row is None else _extraction(row)


def standing_for(connection: Connection, owner: str, requester: str) -> list[Extraction]:
    """The standing extractions from one department for another."""
    pair = (extractions.c.owner == owner) & (extractions.c.requester == requester)
    return [
        _extraction(row) for row in connection.execute(select(extractions).where(pair, extractions.c.state == STANDING))
    ]


def list_for(connection: Connection, department: str, after: str, limit: int) -> list[Extraction]:
    """Extractions from or for a department, by id past `after`, at most `limit`."""
    mine = (extractions.c.owner == department) | (extractions.c.requester == department)
    query = select(extractions).where(mine, extractions.c.extraction > after).order_by(extractions.c.extraction)
    return [_extraction(row) for row in connection.execute(query.limit(limit))]


def keep(connection: Connection, extraction: Extraction) -> None:
    """Keeps a new extraction, or what is new of a known one; the caller commits."""
    row = _row(extraction)
    here = extractions.c.extraction == extraction.id
    if connection.execute(update(extractions).where(here).values(row)).rowcount == 0:
        connection.execute(insert(extractions).values(row))


def set_state(connection: Connection, extraction: str, state: str) -> None:
    """The caller commits."""
    connection.execute(update(extractions).where(extractions.c.extraction == extraction).values(state=state))


def _row(extraction: Extraction) -> dict[str, Any]:
    row = {name: getattr(extraction, name) for name in Extraction.__slots__ if name != "id"}
    row |= {"extraction": extraction.id, "subjects": b"".join(extraction.subjects)}
    for name in ("types", "units"):
        row[name] = None if row[name] is None else orjson.dumps(sorted(row[name])).decode()
    return row


def _extraction(row: Any) -> Extraction:
    members = dict(row._mapping)
    joined = members["subjects"]
    members["subjects"] = tuple(joined[start : start + 16] for start in range(0, len(joined), 16))
    for name in ("types", "units"):
        members[name] = None if members[name] is None else frozenset(orjson.loads(members[name]))
    return Extraction(id=members.pop("extraction"), **members)
