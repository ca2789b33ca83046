"""The projection of every access to records that the logs tell of."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, insert

from gateway.lookups.models import access_records, access_subjects, accesses
from gateway.proceedings.forms import FORMS
from gateway.projections.projector import ProjectedEntry, Projection
from ledger.formats.encoding import b64url_decode
from ledger.store.database import insert_rows

DISCLOSED, RECEIVED, REFUSED, READ, CHECKED, SEARCHED = (
    "disclosed", "received", "refused", "read", "checked", "searched",
)  # fmt: skip
_ACTIONS = {
    "disclosure.made": (DISCLOSED, "requester"),
    "disclosure.received": (RECEIVED, "owner"),
    "disclosure.refused": (REFUSED, "requester"),
    "record.read": (READ, None),
    "duplicate.checked": (CHECKED, "requester"),
    "tracker.searched": (SEARCHED, None),
}


class Accesses(Projection):
    """One row an access; who is behind it within a department is not taken over."""

    name = "accesses"
    tables = (accesses, access_records, access_subjects)
    types = frozenset(_ACTIONS)
    opens = types

    def apply(self, connection: Connection, batch: Sequence[ProjectedEntry]) -> None:
        """The accesses of a batch, with their records and subjects."""
        opened = [(entry, entry.record) for entry in batch if entry.record is not None]
        if opened:
            connection.execute(insert(accesses), [_access(entry, record) for entry, record in opened])
        insert_rows(connection, access_records, [row for entry, record in opened for row in _records(entry, record)])
        insert_rows(connection, access_subjects, [row for entry, record in opened for row in _subjects(entry, record)])


def _access(entry: ProjectedEntry, record: dict[str, Any]) -> dict[str, Any]:
    action, other = _ACTIONS[entry.type]
    if action == REFUSED and record["role"] == "requester":
        other = "owner"  # this department refused to take what that one sent
    claim = next((kind for kind in FORMS if kind in entry.claims), None)
    return {
        "position": entry.position,
        "log": entry.log,
        "action": action,
        "at": int(entry.claims["iat"]),
        "department": entry.department,
        "other": record.get(other) if other else None,
        # a code; what people wrote of their reads and searches stays in the vault
        "purpose": record.get("purpose") if entry.type.startswith("disclosure.") else None,
        "claim": claim,
        "number": record.get(claim) if claim else None,
        "lead": record.get("lead"),
        "code": record.get("code"),
        "records": _count(action, record),
    }


def _count(action: str, record: dict[str, Any]) -> int:
    return 1 + int(record.get("repeats", 0)) if action == REFUSED else len(record.get("records", ()))


def _records(entry: ProjectedEntry, record: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
    named: list[tuple[str, str | None, str | None]]
    if entry.type == "disclosure.refused":
        # what was asked for is known by the record that opened the case or inspection
        named = [(record["reference"], None, None)] if "reference" in record else []
    elif entry.type == "record.read":
        named = [(each, None, None) for each in record["records"]]
    else:
        named = [(each["id"], each["type"], json.dumps(each["units"])) for each in record.get("records", ())]
    unique = {UUID(record_id).bytes: (kind, units) for record_id, kind, units in named}
    for record_id, (kind, units) in sorted(unique.items()):
        yield record_id, entry.position, kind, units


def _subjects(entry: ProjectedEntry, record: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
    indexes = record.get("indexes") or (entry.claims["subj"] if entry.type == "tracker.searched" else ())
    for subject in sorted({b64url_decode(text, "blind index") for text in indexes}):
        yield subject, entry.position
