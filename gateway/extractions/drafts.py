"""What a page shows: the next records of an extraction, or those of a page on record, each as it may be seen."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from gateway.extractions.decision import Allowed
from gateway.extractions.pages import MAX_RECORDS, Page
from gateway.extractions.projection import cursors, page_position
from gateway.extractions.standing import Extraction
from gateway.problems import Problem
from gateway.projections.subjects import Match, SubjectIndex
from ledger.errors import KeyRefused, PayloadInvalid, RecordRefused
from ledger.records import RecordReader, unit_of
from ledger.store.models import log_of, position_of
from ledger.store.reading import EntryRow, read_positions

PAGE_RECORDS = MAX_RECORDS
"""How many records a page has unless the settings say fewer. What a page costs besides, being put on record above all,
they share."""
PAGE_BYTES = 4 * 1024 * 1024
"""A page ends with the record that makes it larger."""
READ = 100
"""How many records are read together."""
SCAN = 500
"""How many matches are looked at together where some cannot be shown."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A record as a page shows it: its index in the owner's log, its presentation, and the units in it."""

    record_id: str
    index: int
    type: str
    presentation: bytes
    units: tuple[str, ...]

    @property
    def listed(self) -> dict[str, Any]:
        """How disclosure.made and disclosure.received name it."""
        return {"id": self.record_id, "index": self.index, "type": self.type, "units": list(self.units)}


def draft(
    connection: Connection,
    reader: RecordReader,
    extraction: Extraction,
    allowed: Mapping[str, Allowed],
    most: int = PAGE_RECORDS,
) -> list[Shown]:
    """The records of the next page, in the log's order: of each allowed type those past its cursor, until it has `most`
    records or `PAGE_BYTES`, or a record comes whose grants have nothing left of their day. Empty where none is new."""
    left = {name: each.left for name, each in allowed.items()}
    sharing = {name: _sharing(allowed, name) for name in left}
    known = cursors(connection, extraction)
    shown: list[Shown] = []
    size, position, limit = 0, -1, most
    while True:
        found = _after(connection, extraction, allowed, known, position, limit)
        for one in _show(connection, reader, extraction, allowed, found):
            if left[one.type] <= 0:
                return shown
            shown.append(one)
            size += len(one.presentation)
            for name in sharing[one.type]:
                left[name] -= 1
            if len(shown) == most or size >= PAGE_BYTES:
                return shown
        if len(found) < limit:
            return shown
        position, limit = found[-1].position, SCAN  # what cannot be shown is passed over


def remake(connection: Connection, reader: RecordReader, extraction: Extraction, number: int) -> list[Shown] | None:
    """The records of a page that is on record, byte for byte as they were disclosed; None where there is no such page.

    Raises Problem `page-gone` where one of them was forgotten since, PayloadInvalid where what is stored is not what
    was disclosed.
    """
    position = page_position(connection, extraction, number)
    if position is None:
        return None
    record = reader.open(connection, read_positions(connection, [position])[0].record_id).record()
    listed = record["records"]
    rows = read_positions(connection, [position_of(log_of(position), each["index"]) for each in listed])
    try:
        shown = [
            _present(connection, reader, row, extraction.owner, each["type"], each["units"])
            for row, each in zip(rows, listed, strict=True)
        ]
    except RecordRefused as error:
        raise Problem("page-gone", "a record of this page was forgotten since it was made") from error
    if page_of(shown).sha256 != record["sha256"]:
        raise PayloadInvalid(
            f"page {number} of extraction {extraction.id} is not what was disclosed: run `yunxi audit`"
        )
    return shown


def page_of(shown: Sequence[Shown], receipts: Sequence[bytes] = ()) -> Page:
    """The page that shows them."""
    return Page(tuple(one.presentation for one in shown), tuple(receipts))


def has_news(connection: Connection, extraction: Extraction, after: int) -> bool:
    """Whether a record past position `after` matches. Says nothing of grants: the page does."""
    found = SubjectIndex.matching(connection, extraction.owner, extraction.subjects, extraction.types, after, SCAN)
    return any(match.issued_at >= extraction.since for match in found)


def _after(
    connection: Connection,
    extraction: Extraction,
    allowed: Mapping[str, Allowed],
    known: Mapping[str, int],
    position: int,
    limit: int,
) -> list[Match]:
    """The next matches of the allowed types, each past its own cursor and past `position`, in the log's order."""
    groups: dict[int, list[str]] = {}
    for name in allowed:
        groups.setdefault(max(known.get(name, -1), position), []).append(name)
    found = [
        match
        for after, names in groups.items()
        for match in SubjectIndex.matching(connection, extraction.owner, extraction.subjects, names, after, limit)
    ]
    return sorted(found, key=lambda match: match.position)[:limit]


def _show(
    connection: Connection,
    reader: RecordReader,
    extraction: Extraction,
    allowed: Mapping[str, Allowed],
    found: Sequence[Match],
) -> Iterator[Shown]:
    by_position = {match.position: match for match in found if match.issued_at >= extraction.since}
    wanted = list(by_position)
    for start in range(0, len(wanted), READ):
        for row in read_positions(connection, wanted[start : start + READ]):
            name = by_position[position_of(row.log, row.index)].type
            try:
                yield _present(connection, reader, row, extraction.owner, name, allowed[name].units)
            except (RecordRefused, KeyRefused):
                continue  # forgotten, or sealed at a terminal for the department's eyes alone


def _present(
    connection: Connection, reader: RecordReader, row: EntryRow, owner: str, name: str, units: Collection[str]
) -> Shown:
    texts = [(text, unit_of(text)) for text in reader.texts(connection, row, owner)]
    kept = [(text, unit) for text, unit in texts if unit in units]
    presentation = b"~".join([row.statement, *(text for text, _ in kept), b""])
    return Shown(row.record_id, row.index, name, presentation, tuple(unit for _, unit in kept))


def _sharing(allowed: Mapping[str, Allowed], name: str) -> list[str]:
    """The types whose grants are used up together with those of `name`."""
    grants = set(allowed[name].grants)
    return [other for other, each in allowed.items() if not grants.isdisjoint(each.grants)]
