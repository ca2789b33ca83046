"""The projection of what was received into dossiers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, delete, insert

from gateway.dossiers.models import dossier_entries
from gateway.proceedings.forms import FORMS
from gateway.projections.projector import ProjectedEntry, Projection

RECEIVED = "disclosure.received"


class Dossiers(Projection):
    """One row for each record, of the page that brought it last."""

    name = "dossiers"
    tables = (dossier_entries,)
    types = frozenset({RECEIVED})
    opens = types

    def apply(self, connection: Connection, batch: Sequence[ProjectedEntry]) -> None:
        """The records of each page."""
        for entry in batch:
            kind = next((kind for kind in FORMS if kind in entry.claims), None)
            if entry.record is not None and kind is not None:
                _apply(connection, entry, entry.record, kind)


def _apply(connection: Connection, entry: ProjectedEntry, record: dict[str, Any], kind: str) -> None:
    dossier = {"log": entry.log, "kind": kind, "lead": record["lead"], "number": record[kind], "owner": record["owner"]}
    received = {
        "received_position": entry.position,
        "received_id": entry.record_id,
        "received_at": int(entry.claims["iat"]),
    }
    rows = {
        each["id"]: dossier
        | {"record_id": each["id"], "type": each["type"], "units": json.dumps(each["units"])}
        | received
        for each in record["records"]
    }
    here = [dossier_entries.c[name] == value for name, value in dossier.items()]
    connection.execute(delete(dossier_entries).where(*here, dossier_entries.c.record_id.in_(rows)))
    connection.execute(insert(dossier_entries), list(rows.values()))
