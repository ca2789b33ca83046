"""What the owner's log says of pages already made: where an extraction goes on, and what each grant gave."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, ScalarSelect, Table, delete, func, insert, select

from gateway.extractions.models import extraction_cursors, extraction_pages, extraction_usage
from gateway.extractions.standing import Extraction
from gateway.projections.projector import ProjectedEntry, Projection
from ledger.store.models import logs, position_of

MADE = "disclosure.made"
DAY_S = 86_400


class Disclosures(Projection):
    """The projection of `disclosure.made`."""

    name = "disclosures"
    tables = (extraction_pages, extraction_cursors, extraction_usage)
    types = frozenset({MADE})
    opens = frozenset({MADE})

    def apply(self, connection: Connection, batch: Sequence[ProjectedEntry]) -> None:
        """A row for each page and each of its grants; the cursors of the types that its grants cover move on."""
        for entry in batch:
            if entry.record is not None:
                _apply(connection, entry, entry.record)


def _apply(connection: Connection, entry: ProjectedEntry, record: dict[str, Any]) -> None:
    extraction, page = record["extraction"], record["page"]
    last = position_of(entry.log, record["records"][-1]["index"])
    row = {
        "log": entry.log,
        "extraction": extraction,
        "page": page,
        "position": entry.position,
        "records": len(record["records"]),
        "last_position": last,
        "made_at": entry.acknowledged_at,
        "sha256": record["sha256"],
    }
    connection.execute(insert(extraction_pages).values(row))
    note_usage(connection, entry.log, record, entry.acknowledged_at)
    covered = {name for grant in record["grants"] for name in grant["types"]}
    covered |= set(record.get("emergency", {"types": ()})["types"])
    c = extraction_cursors.c
    here = (c.log == entry.log) & (c.extraction == extraction) & c.type.in_(covered)
    connection.execute(delete(extraction_cursors).where(here))
    moved = {"log": entry.log, "extraction": extraction, "last_position": last}
    connection.execute(insert(extraction_cursors), [moved | {"type": name} for name in sorted(covered)])


def note_usage(connection: Connection, log: int, record: dict[str, Any], made_at: int) -> None:
    """What a page used of each of its grants; `made_at` in milliseconds since 1970. Written together with the record of
    the page, so that the next page counts on it whichever process makes it, and once more by the projection."""
    c = extraction_usage.c
    page = {"log": log, "extraction": record["extraction"], "page": record["page"]}
    here = (c.log == log) & (c.extraction == page["extraction"]) & (c.page == page["page"])
    connection.execute(delete(extraction_usage).where(here))
    rows = [
        page | {"grant_id": grant, "made_at": made_at, "records": given} for grant, given in used_by(record).items()
    ]
    if rows:
        connection.execute(insert(extraction_usage), rows)


def used_by(record: dict[str, Any]) -> dict[int, int]:
    """How many records of a `disclosure.made` each grant stood for."""
    counts = Counter(each["type"] for each in record["records"])
    return {grant["id"]: sum(counts[name] for name in grant["types"]) for grant in record["grants"]}


def last_page(connection: Connection, extraction: Extraction) -> int:
    """The number of the newest page, 0 for none."""
    return connection.scalar(select(func.max(extraction_pages.c.page)).where(_of(extraction_pages, extraction))) or 0


def page_position(connection: Connection, extraction: Extraction, page: int) -> int | None:
    """Where the log holds a page's `disclosure.made`, None where it has none."""
    here = _of(extraction_pages, extraction) & (extraction_pages.c.page == page)
    return connection.scalar(select(extraction_pages.c.position).where(here))


def cursors(connection: Connection, extraction: Extraction) -> dict[str, int]:
    """By type the position of the last record that the pages covered."""
    query = select(extraction_cursors.c.type, extraction_cursors.c.last_position)
    rows = connection.execute(query.where(_of(extraction_cursors, extraction)))
    return {row.type: row.last_position for row in rows}


def disclosed(connection: Connection, extraction: Extraction) -> tuple[int, int, int | None]:
    """How many pages with how many records were disclosed, and when the last one was made (milliseconds since 1970)."""
    c = extraction_pages.c
    query = select(func.count(), func.coalesce(func.sum(c.records), 0), func.max(c.made_at))
    pages, records, last = connection.execute(query.where(_of(extraction_pages, extraction))).one()
    return pages, int(records), last


def used_today(connection: Connection, owner: str, grant: int, now: float) -> int:
    """How many records a grant of `owner` gave in the 24 hours before `now` (seconds since 1970)."""
    c = extraction_usage.c
    here = (c.log == _log_of(owner)) & (c.grant_id == grant) & (c.made_at > int((now - DAY_S) * 1000))
    return connection.scalar(select(func.coalesce(func.sum(c.records), 0)).where(here)) or 0


def _of(table: Table, extraction: Extraction) -> ColumnElement[bool]:
    # what another department of this node says of the extraction, in its own log, does not count
    return (table.c.log == _log_of(extraction.owner)) & (table.c.extraction == extraction.id)


def _log_of(owner: str) -> ScalarSelect[int]:
    return select(logs.c.log).where(logs.c.department == owner).scalar_subquery()
