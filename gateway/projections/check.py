"""The tables that are looked things up in, held against the logs that they were made from: for auditors.

Compared are the index of subjects and references, which reads nothing but clear claims: who takes a row out of it hides
a company from whoever asks for it; and the dossiers, which read receipts of pages, and these are kept: who adds a row
there shows a record that no extraction brought. Rows of the others were made from opened records, of which some may be
forgotten since; `yunxi rebuild` makes all of them again.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, MetaData, Table, select

from gateway.dossiers.projection import Dossiers
from gateway.projections.models import projection_cursors
from gateway.projections.projector import BATCH, ProjectedEntry, Projection, apply_entries, read_claims
from gateway.projections.subjects import SubjectIndex
from ledger.errors import YunxiError
from ledger.node import Node
from ledger.records import RecordReader
from ledger.store.database import Database, insert_rows
from ledger.store.models import entries, index_of, log_of, logs, position_of

MAX_SHOWN = 100
"""Differences that are told of each table, in each direction."""


@dataclass(frozen=True, slots=True)
class ProjectionDifference:
    """A row that is missing or too much, of entry `index` of the department's log ("": of no log of this node)."""

    department: str
    index: int
    sentence: str


def check_projections(node: Node) -> list[ProjectionDifference]:
    """What the tables do not have of the entries that were projected, or have too much. Writes them again, in a
    temporary file, and so needs their size on the disk and no memory. Empty where the service never ran here."""
    projections: tuple[Projection, ...] = (SubjectIndex(), Dossiers())
    tables = [table for projection in projections for table in projection.tables]
    with tempfile.TemporaryDirectory() as directory, node.database.reading() as source:
        if not source.dialect.has_table(source, projection_cursors.name):
            return []
        names = {row.log: row.department for row in source.execute(select(logs.c.log, logs.c.department))}
        metadata = MetaData()
        wanted = [table.to_metadata(metadata) for table in tables]
        there = [table.to_metadata(metadata, name=f"there_{table.name}") for table in tables]
        for table in there:
            table.indexes.clear()  # an index has one name in a database
        scratch = Database(f"sqlite:///{Path(directory) / 'again.sqlite'}")
        try:
            metadata.create_all(scratch.engine_for_writing())
            with scratch.writing() as target:
                closed: set[int] = set()
                for batch in _batches(source, node.reader, names):
                    closed |= {entry.position for entry in batch if entry.type in Dossiers.opens and not entry.record}
                    for projection in projections:
                        chosen = [e for e in batch if projection.types is None or e.type in projection.types]
                        apply_entries(target, projection, chosen)
                for table, copy in zip(tables, there, strict=True):
                    _copy(source, table, target, copy)
                pairs = zip(wanted, there, strict=True)
                return [found for pair in pairs for found in _differences(target, *pair, names, closed)]
        finally:
            scratch.close()


def _batches(source: Connection, reader: RecordReader, names: dict[int, str]) -> Iterator[list[ProjectedEntry]]:
    for log, applied in source.execute(select(projection_cursors.c.log, projection_cursors.c.applied)).all():
        for start in range(0, applied, BATCH):
            last = position_of(log, min(start + BATCH, applied)) - 1
            query = select(entries.c.position, entries.c.record_id, entries.c.statement, entries.c.acknowledged_at)
            rows = source.execute(query.where(entries.c.position.between(position_of(log, start), last)))
            found = (_entry(source, reader, row, names.get(log, "")) for row in rows.all())
            yield [entry for entry in found if entry is not None]


def _entry(source: Connection, reader: RecordReader, row: Any, department: str) -> ProjectedEntry | None:
    claims = read_claims(row.statement)
    if claims is None:
        return None  # the audit of the log names it
    record_id = str(UUID(bytes=row.record_id)) if len(row.record_id) == 16 else ""
    record = None
    if claims["type"] in Dossiers.opens:
        with suppress(YunxiError):  # the audit of the log names one that does not open
            record = reader.open(source, record_id).record()
    return ProjectedEntry(
        department=department,
        log=log_of(row.position),
        index=index_of(row.position),
        position=row.position,
        record_id=record_id,
        type=claims["type"],
        claims=claims,
        record=record,
        statement=row.statement,
        acknowledged_at=row.acknowledged_at,
    )


def _copy(source: Connection, table: Table, target: Connection, copy: Table) -> None:
    for rows in source.execute(select(table)).partitions(BATCH):
        insert_rows(target, copy, [tuple(row) for row in rows])


def _differences(
    target: Connection, wanted: Table, there: Table, names: dict[int, str], closed: set[int]
) -> Iterator[ProjectionDifference]:
    position = "position" if "position" in wanted.c else "received_position"
    for one, other, said in ((wanted, there, "lacks"), (there, wanted, "has")):
        for row in target.execute(select(one).except_(select(other)).limit(MAX_SHOWN)):
            if position != "position" and getattr(row, position) in closed:
                continue  # of a receipt that was forgotten, or that the audit of the log names
            index = index_of(getattr(row, position))
            sentence = f"table {wanted.name} {said} a row of entry {index:,}, and the entry says otherwise"
            yield ProjectionDifference(names.get(log_of(getattr(row, position)), ""), index, sentence)
