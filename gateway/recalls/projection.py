"""The projection of recalls: on the owner's side who must hear of what, on the recipient's what came.

A record may be disclosed before it is recalled or after, in the same batch or another: whichever entry comes second
finds the other in the tables of `SubjectIndex` and `Accesses`, which come before this one. Rows are only ever added
once, so it does not matter if both find each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Table, select, update
from sqlalchemy.dialects import postgresql, sqlite

from gateway.lookups.models import access_records, accesses
from gateway.lookups.projection import DISCLOSED
from gateway.projections.models import reference_entries
from gateway.projections.projector import ProjectedEntry, Projection
from gateway.recalls.models import recall_answers, recall_notices, recalls, received_recalls
from ledger.store.models import INDEX_BITS, entries

RECALLED, RECEIVED, ACKNOWLEDGED, MADE = (
    "record.recalled", "recall.received", "recall.acknowledged", "disclosure.made",
)  # fmt: skip
RECALL, CORRECTION = "recall", "correction"


class Recalls(Projection):
    """See the module's text."""

    name = "recalls"
    tables = (recalls, recall_notices, recall_answers, received_recalls)
    opens = frozenset({RECEIVED, ACKNOWLEDGED, MADE})

    def apply(self, connection: Connection, batch: Sequence[ProjectedEntry]) -> None:
        """Every entry that amends another, every disclosure, and what was received and acknowledged."""
        for entry in batch:
            if isinstance(entry.claims.get("amends"), str):
                _amended(connection, entry)
            if entry.record is None:
                continue
            if entry.type == MADE:
                _disclosed(connection, entry, entry.record)
            elif entry.type == RECEIVED:
                _received(connection, entry, entry.record)
            elif entry.type == ACKNOWLEDGED:
                _acknowledged(connection, entry, entry.record)


def _amended(connection: Connection, entry: ProjectedEntry) -> None:
    about = str(UUID(entry.claims["amends"]))
    query = (
        select(accesses.c.other)
        .join_from(access_records, accesses, access_records.c.position == accesses.c.position)
        .where(access_records.c.record_id == UUID(about).bytes, accesses.c.log == entry.log)
        .where(accesses.c.action == DISCLOSED)
        .distinct()
    )
    departments = [name for name in connection.scalars(query) if name is not None]
    if departments or entry.type == RECALLED:
        at = int(entry.claims["iat"])
        _note(connection, entry.log, entry.record_id, about, entry.type, entry.position, at, departments)


def _disclosed(connection: Connection, entry: ProjectedEntry, record: dict[str, Any]) -> None:
    c = reference_entries.c
    shown = sorted({each["id"] for each in record["records"]})
    mine = c.position.between(entry.log << INDEX_BITS, (entry.log + 1 << INDEX_BITS) - 1)
    query = select(c.position, c.number, c.type, c.issued_at, entries.c.record_id)
    query = query.join_from(reference_entries, entries, entries.c.position == c.position)
    for row in connection.execute(query.where(c.kind == "amends", c.number.in_(shown), mine).order_by(c.position)):
        notice = str(UUID(bytes=row.record_id))
        _note(
            connection, entry.log, notice, row.number, row.type, row.position, row.issued_at, [record["requester"]]
        )  # fmt: skip


def _note(
    connection: Connection,
    log: int,
    notice: str,
    about: str,
    name: str,
    position: int,
    at: int,
    departments: Sequence[str],
) -> None:
    kind = RECALL if name == RECALLED else CORRECTION
    here = {"log": log, "notice": notice, "kind": kind}
    _add(connection, recalls, [here | {"record_id": about, "position": position, "made_at": at}])
    _add(connection, recall_notices, [here | {"department": each} for each in departments])


def _received(connection: Connection, entry: ProjectedEntry, record: dict[str, Any]) -> None:
    row = {"log": entry.log, "received": entry.record_id, "position": entry.position}
    row |= {"record_id": record["record"], "received_at": int(entry.claims["iat"])}
    row |= {name: record[name] for name in ("owner", "notice", "kind")}
    row |= {name: record.get(name) for name in ("asks", "reason_kind", "replaced_by")}
    _add(connection, received_recalls, [row])


def _acknowledged(connection: Connection, entry: ProjectedEntry, record: dict[str, Any]) -> None:
    at = int(entry.claims["iat"])
    if record["role"] == "owner":
        row = {"log": entry.log, "notice": record["notice"], "department": record["recipient"]}
        row |= {"done": record["done"], "acknowledgement": record["acknowledgement"], "answered_at": at}
        _add(connection, recall_answers, [row])
        return
    c = received_recalls.c
    here = (c.log == entry.log) & (c.owner == record["owner"]) & (c.notice == record["notice"])
    done = {"done": record["done"], "acknowledgement": entry.record_id, "acknowledged_at": at}
    connection.execute(update(received_recalls).where(here, c.acknowledgement.is_(None)).values(done))


def _add(connection: Connection, table: Table, rows: list[dict[str, Any]]) -> None:
    if rows:
        insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
        connection.execute(insert(table).on_conflict_do_nothing(), rows)
