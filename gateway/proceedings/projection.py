"""The projection of inspections and cases. What the log's order forbids has no effect here, whoever sealed it:

- the first record that opens a number opens it; a later one changes it only if it amends that one or its amendments;
- nothing changes a closed one: no amendment, no attachment, no second closing;
- a number is its department's own: another log cannot close or change it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, delete, insert, select, update

from gateway.proceedings.forms import ATTACHED, CASE, FORMS, INSPECTION, Form
from gateway.proceedings.models import proceeding_participants, proceeding_records, proceedings
from gateway.projections.projector import ProjectedEntry, Projection

_OPENS = {form.opened: form for form in FORMS.values()}
_CLOSES = {form.closed: form for form in FORMS.values()}


class Proceedings(Projection):
    """See the module's text."""

    name = "proceedings"
    tables = (proceedings, proceeding_participants, proceeding_records)
    types = frozenset({*_OPENS, *_CLOSES, ATTACHED})
    opens = types

    def apply(self, connection: Connection, batch: Sequence[ProjectedEntry]) -> None:
        """One entry after the other."""
        for entry in batch:
            if form := _OPENS.get(entry.type):
                _open(connection, entry, form)
            elif form := _CLOSES.get(entry.type):
                _close(connection, entry, form)
            else:
                _attach(connection, entry)


def _open(connection: Connection, entry: ProjectedEntry, form: Form) -> None:
    number = _number(entry, form.kind)
    if number is None:
        return
    found = _find(connection, entry, form.kind, number)
    current = {"current_position": entry.position, "current_id": entry.record_id, **_content(entry)}
    if found is None:
        row = {"log": entry.log, "kind": form.kind, "number": number, "lead": entry.department}
        row |= {"opened_at": _issued(entry), "opened_position": entry.position, "opened_id": entry.record_id}
        connection.execute(insert(proceedings).values(row | current | {"request": _member(entry, "request")}))
    elif found.closed_id is None and entry.claims.get("amends") in (found.opened_id, found.current_id):
        connection.execute(update(proceedings).where(_is(proceedings, entry, form.kind, number)).values(current))
        connection.execute(
            delete(proceeding_participants).where(_is(proceeding_participants, entry, form.kind, number))
        )
    else:
        return
    here = {"log": entry.log, "kind": form.kind, "number": number}
    if participants := sorted(set((entry.record or {}).get("participants", ()))):
        connection.execute(insert(proceeding_participants), [{**here, "department": each} for each in participants])


def _close(connection: Connection, entry: ProjectedEntry, form: Form) -> None:
    number = _number(entry, form.kind)
    if number is None:
        return
    closed = {"closed_at": _issued(entry), "closed_id": entry.record_id, "close_request": _member(entry, "request")}
    closed |= {name: _member(entry, name) for name in ("outcome", "merged_into", "merged_lead")}
    here = _is(proceedings, entry, form.kind, number) & proceedings.c.closed_id.is_(None)
    connection.execute(update(proceedings).where(here).values(closed))


def _attach(connection: Connection, entry: ProjectedEntry) -> None:
    kind = INSPECTION.kind if "inspection" in entry.claims else CASE.kind
    number = _number(entry, kind)
    found = None if number is None or entry.record is None else _find(connection, entry, kind, number)
    if found is None or found.closed_id is not None or entry.record is None:
        return
    record = entry.record
    here = _is(proceeding_records, entry, kind, found.number) & (proceeding_records.c.record_id == record["record"])
    if connection.scalar(select(proceeding_records.c.log).where(here)) is None:
        row = {"log": entry.log, "kind": kind, "number": number, "record_id": record["record"]}
        row |= {"owner": record["owner"], "leaf": record["leaf"], "type": record.get("record_type")}
        row |= {"attached_id": entry.record_id, "attached_position": entry.position, "attached_at": _issued(entry)}
        connection.execute(insert(proceeding_records).values(row))


def _find(connection: Connection, entry: ProjectedEntry, kind: str, number: str) -> Any:
    return connection.execute(select(proceedings).where(_is(proceedings, entry, kind, number))).one_or_none()


def _is(table: Table, entry: ProjectedEntry, kind: str, number: str) -> ColumnElement[bool]:
    return (table.c.log == entry.log) & (table.c.kind == kind) & (table.c.number == number)


def _content(entry: ProjectedEntry) -> dict[str, Any]:
    record = entry.record or {}
    types = json.dumps(record["types"]) if "types" in record else None
    named = {"case_kind": record.get("kind"), "purpose": record.get("purpose"), "types": types}
    return {**named, "days": record.get("days"), "matter": entry.claims.get("matter")}


def _number(entry: ProjectedEntry, kind: str) -> str | None:
    value = entry.claims.get(kind)
    return value if isinstance(value, str) and 0 < len(value) <= 100 else None


def _member(entry: ProjectedEntry, name: str) -> str | None:
    value: str | None = (entry.record or {}).get(name)
    return value


def _issued(entry: ProjectedEntry) -> int:
    return int(entry.claims["iat"])
