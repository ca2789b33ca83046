"""The decision freeze: a decision commits to every entry of its case that stands in its log before it.

Intake makes the manifest under the head that it appends to, the entries of the same batch included, so that nothing can
come between: the manifest's size is the decision's own index. What comes later is in no manifest of that decision.
Several decisions of a case each freeze what was there. `ledger.formats.manifest` has the format.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, select

from ledger.errors import NotProven, RecordRefused
from ledger.formats.casefile import DECISION
from ledger.formats.manifest import MEDIA_TYPE, NAME, Line, parse_lines
from ledger.formats.merkle import leaf_hash
from ledger.formats.tiles import Edge
from ledger.seal import Sealed
from ledger.sequencer import Head, read_edge
from ledger.store.models import case_entries, entries, index_of, position_of

MAX_FILES = 49
"""Attachments that a decision may bring itself: its manifest is one more, and a record has 50 at most."""

_ROWS = 500


@dataclass(frozen=True, slots=True)
class Frozen:
    """A manifest, made. `size` and `root` (32 bytes) are the log's before the decision."""

    size: int
    root: bytes
    count: int
    text: bytes

    def into(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """The decision's record with the manifest in it: the member, and the description of the last attachment."""
        digest = hashlib.sha256(self.text).hexdigest()
        member = {"size": self.size, "root": self.root.hex(), "count": self.count, "sha256": digest}
        file = {"name": NAME, "media_type": MEDIA_TYPE, "size": len(self.text), "sha256": digest}
        return {**record, "manifest": member, "attachments": [*record.get("attachments", ()), file]}


def freezes(record: Mapping[str, Any]) -> bool:
    """Whether sealing this record freezes its case."""
    return record.get("type") == DECISION


def check_unfrozen(record: Mapping[str, Any]) -> None:
    """Accepts a decision as it is handed in. Raises RecordRefused: `manifest` where it brings one of its own,
    `attachments` where there is no room left for it."""
    if "manifest" in record:
        raise RecordRefused("manifest", "$.manifest is made by the service when the decision is sealed; leave it out")
    if len(record.get("attachments", ())) > MAX_FILES:
        raise RecordRefused("attachments", f"a decision brings at most {MAX_FILES} files: its manifest is one more")


class Freezer:
    """Makes the manifests of one batch, whose entries come after `head`, in a log that may have grown since."""

    def __init__(self, head: Head) -> None:
        self._head = head
        self._edge: Edge | None = None
        self._ahead: dict[str, list[bytes]] = {}

    def freeze(self, connection: Connection, ahead: Sequence[Sealed], case: str) -> Frozen:
        """The manifest of a decision that comes after `ahead`, which is what it was at the call before, and more.

        Holds the text, some 110 bytes an entry of the case.
        """
        head = self._head
        if self._edge is None:
            self._edge = Edge.load(head.size, read_edge(connection, head))
        known = self._edge.size - head.size
        for index, sealed in enumerate(ahead[known:], self._edge.size):
            if sealed.case is not None:
                self._ahead.setdefault(sealed.case, []).append(Line(index, sealed.record_id, sealed.leaf).encode())
        self._edge.append([sealed.leaf for sealed in ahead[known:]])
        lines = [line.encode() for line in case_lines(connection, head.number, case, head.size)]
        lines += self._ahead.get(case, ())
        return Frozen(self._edge.size, self._edge.root(), len(lines), b"".join(lines))


def case_lines(connection: Connection, log: int, case: str, before: int) -> Iterator[Line]:
    """The entries of a case among the first `before` of a log, by index. Holds 500 at a time."""
    after = position_of(log, 0) - 1
    here = (case_entries.c.log == log) & (case_entries.c.case == case)
    query = (
        select(entries.c.position, entries.c.record_id, entries.c.statement)
        .join(case_entries, case_entries.c.position == entries.c.position)
        .order_by(case_entries.c.position)
        .limit(_ROWS)
    )
    while True:
        span = (case_entries.c.position > after) & (case_entries.c.position < position_of(log, before))
        rows = connection.execute(query.where(here, span)).all()
        for position, record_id, statement in rows:
            yield Line(index_of(position), str(UUID(bytes=record_id)), leaf_hash(statement))
        if len(rows) < _ROWS:
            return
        after = rows[-1].position


def check_manifest(
    claimed: Mapping[str, Any], text: Iterable[bytes], index: int, root: bytes, case: Iterable[Line]
) -> None:
    """Holds a decision's manifest against the log that it stands in. Pure; constant memory if its arguments are lazy.

    `claimed`: the record's member `manifest`; `text`: its attachment, in pieces; `index`: the decision's own; `root`:
    of the log's first `index` entries, 32 bytes; `case`: the entries of the case before the decision, by index, as the
    log has them. Raises Malformed for lines of another form, NotProven naming the first difference.
    """
    if claimed["size"] != index or claimed["root"] != root.hex():
        raise NotProven(
            f"the manifest was not made of the log's first {index:,} entries, after which the decision stands"
        )
    digest, count = hashlib.sha256(), 0

    def hashed() -> Iterator[bytes]:
        for data in text:
            digest.update(data)
            yield data

    for said, there in zip_longest(parse_lines(_lines(hashed())), case):
        if said != there:
            raise NotProven(_difference(said, there))
        count += 1
    if (claimed["count"], claimed["sha256"]) != (count, digest.hexdigest()):
        raise NotProven("the manifest's text is not the one that the decision's record names")


def _lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes, cut behind each line feed."""
    rest = b""
    for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        yield from (line + b"\n" for line in whole)
    if rest:
        yield rest


def _difference(said: Line | None, there: Line | None) -> str:
    if there is not None and (said is None or said.index > there.index):
        return f"the manifest omits record {there.record_id} at index {there.index:,}, which stood before the decision"
    assert said is not None  # the two differ, so one of them is there
    return f"the manifest lists record {said.record_id} at index {said.index:,}, which the log's case does not have so"
