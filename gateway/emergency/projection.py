"""The projection of emergency accesses."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select, update

from gateway.emergency.models import emergencies
from gateway.proceedings.forms import FORMS
from gateway.projections.projector import ProjectedEntry, Projection

USED, JUSTIFIED = "emergency.used", "emergency.justified"


class Emergencies(Projection):
    """One row for each access, closed by what justified it; the first of each counts."""

    name = "emergencies"
    tables = (emergencies,)
    types = frozenset({USED, JUSTIFIED})
    opens = types

    def apply(self, connection: Connection, batch: Sequence[ProjectedEntry]) -> None:
        """What was used and what was justified."""
        for entry in batch:
            if entry.record is None:
                continue
            if entry.type == USED:
                _used(connection, entry, entry.record)
            else:
                _justified(connection, entry, entry.record)


def _used(connection: Connection, entry: ProjectedEntry, record: dict[str, Any]) -> None:
    c = emergencies.c
    here = (c.log == entry.log) & (c.emergency == record["emergency"])
    if connection.scalar(select(c.position).where(here)) is not None:
        return
    claim = next((kind for kind in FORMS if kind in entry.claims), None)
    row = {name: record[name] for name in ("emergency", "role", "owner", "requester", "lead")}
    row |= {"log": entry.log, "claim": claim, "number": record.get(claim) if claim else None}
    row |= {"extraction": record.get("extraction"), "position": entry.position}
    row |= {"types": json.dumps(record["types"]) if "types" in record else None}
    row |= {"used_at": int(entry.claims["iat"]), "due_at": int(datetime.fromisoformat(record["due_at"]).timestamp())}
    connection.execute(insert(emergencies).values(row))


def _justified(connection: Connection, entry: ProjectedEntry, record: dict[str, Any]) -> None:
    c = emergencies.c
    here = (c.log == entry.log) & (c.emergency == record["emergency"]) & c.outcome.is_(None)
    row = {"outcome": record["outcome"], "justified_by": record.get("justified_by", entry.record_id)}
    row |= {"justified_at": int(entry.claims["iat"]), "late": record["late"]}
    connection.execute(update(emergencies).where(here).values(row))
