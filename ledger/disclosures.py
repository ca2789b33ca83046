"""Both sides of every disclosure, for auditors: what owners say they gave, requesters must say they got, and the chain
must have allowed.

    disclosure.made in the owner's log  ◄── extraction, page ──►  disclosure.received in the requester's log
    └─ grants on the chain, in force at that time                 └─ same digest, same records, same units

A page that its owner can no longer make, because a record in it was forgotten, is refused by the requester with the
code `page-gone`; that explains a disclosure without its receipt.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from sqlalchemy import Connection

from ledger.errors import Refusal
from ledger.formats.sdjwt import Presentation, parse_statement
from ledger.records import RecordReader
from ledger.store.reading import LogRow, read_entries

MADE, RECEIVED, REFUSED = "disclosure.made", "disclosure.received", "disclosure.refused"
USED = "emergency.used"
SPEAKING = (MADE, RECEIVED, REFUSED, USED)
"""The types of records that say something of disclosures."""
GONE = "page-gone"
DAY_S = 86_400
APART_S = 300
"""How far two clocks may be apart."""
TOLERANCE_S = 5
"""How far a node's clock and the chain's may be apart."""

_STRIDE = 2_048

Page = tuple[str, str, str, int]
"""Owner, requester, extraction, page."""


@dataclass(frozen=True, slots=True)
class Side:
    """What one log says of one page. `at`: the statement's time in seconds since 1970; `records`: id to units shown;
    `types`: id to record type; `grants`: number to the types it was used for, only where the owner says it."""

    kind: str
    page: Page
    record_id: str
    index: int
    at: int
    sha256: str
    purpose: str
    case_kind: str
    records: Mapping[str, tuple[str, ...]]
    types: Mapping[str, str]
    grants: Mapping[int, frozenset[str]]
    emergency: str | None = None
    """The emergency access by which `urgent` types went without a grant; where one was used, its own id."""
    urgent: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that does not fit. `record_id` is the record that says so, entry `index` of its log, sealed `at`."""

    kind: str
    page: Page
    record_id: str
    sentence: str
    at: int = 0
    index: int = 0
    teller: str = ""
    """The department whose log has that record."""


class Grant(Protocol):
    """A grant as the chain has it; see ISharingGrants. Times in seconds since 1970."""

    @property
    def owner(self) -> str: ...
    @property
    def grantee(self) -> str: ...
    @property
    def granted_at(self) -> int: ...
    @property
    def revoked_at(self) -> int | None: ...
    @property
    def valid_from(self) -> int: ...
    @property
    def valid_to(self) -> int: ...
    @property
    def per_day(self) -> int: ...
    @property
    def record_types(self) -> tuple[str, ...]: ...
    @property
    def units(self) -> tuple[str, ...]: ...
    @property
    def purposes(self) -> tuple[str, ...]: ...
    @property
    def case_kinds(self) -> tuple[str, ...]: ...


def read_sides(connection: Connection, reader: RecordReader, log: LogRow) -> Iterator[Side]:
    """What a log says of disclosures, in its order. Every entry is looked at: whoever hides one by its key is found.

    Holds 2,048 entries at a time. Raises Malformed for an entry that is no statement, and what `RecordReader.open`
    raises; the audit says more.
    """
    for start in range(0, log.size, _STRIDE):
        for row in read_entries(connection, log.number, start, min(start + _STRIDE, log.size)):
            statement = parse_statement(row.statement)
            # without its key it was forgotten, after its time
            if statement.type in SPEAKING and row.wrapped_key is not None:
                side = side_of(reader.open(connection, row.record_id), row.index)
                if side is not None:
                    yield side


def side_of(presentation: Presentation, index: int) -> Side | None:
    """What a whole disclosure record says; None for a refusal that explains no missing receipt, and for what the
    requester says of an emergency."""
    record, statement = presentation.record(), presentation.statement
    kind = statement.type
    if kind == USED:
        return _side_of_emergency(record, presentation, index)
    if kind == REFUSED and (record.get("code"), record.get("role")) != (GONE, "requester"):
        return None
    here = statement.issuer
    owner, requester = (here, record["requester"]) if kind == MADE else (record["owner"], here)
    listed = record.get("records", ())
    return Side(
        kind=kind,
        page=(owner, requester, record["extraction"], record["page"]),
        record_id=statement.record_id,
        index=index,
        at=statement.issued_at,
        sha256=record.get("sha256", ""),
        purpose=record.get("purpose", ""),
        case_kind=record.get("case_kind", ""),
        records={each["id"]: tuple(each["units"]) for each in listed},
        types={each["id"]: each["type"] for each in listed},
        grants={each["id"]: frozenset(each["types"]) for each in record.get("grants", ())},
        emergency=record.get("emergency", {}).get("id"),
        urgent=frozenset(record.get("emergency", {}).get("types", ())),
    )


def _side_of_emergency(record: Mapping[str, Any], presentation: Presentation, index: int) -> Side | None:
    if record["role"] != "owner":
        return None
    statement = presentation.statement
    page = (statement.issuer, record["requester"], record.get("extraction", ""), 0)
    return Side(
        USED, page, statement.record_id, index, statement.issued_at, "", "", "", {}, {}, {}, record["emergency"]
    )


@dataclass(slots=True)
class Reconciliation:
    """What was compared, and what does not fit."""

    made: int = 0
    received: int = 0
    gone: int = 0
    records: int = 0
    differences: list[Difference] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether everything fits."""
        return not self.differences


def reconcile(sides: Iterable[Side], departments: Iterable[str]) -> Reconciliation:
    """Compares what the logs of `departments` say of pages between them; a page with somebody else is not judged.

    Differences: `not-received`, `not-made`, `digest-differs`, `records-differ`, `twice`, `clock-apart`. Holds a page's
    names and units until its other side comes.
    """
    within, result = set(departments), Reconciliation()
    waiting: dict[tuple[str, Page], Side] = {}
    seen: set[tuple[str, Page]] = set()
    gone: dict[Page, Side] = {}
    for side in sides:
        if side.kind == USED or not {side.page[0], side.page[1]} <= within:
            continue
        if side.kind == REFUSED:
            gone[side.page] = side
        elif (side.kind, side.page) in seen:
            _add(result, "twice", side, f"page {side.page[3]} of extraction {side.page[2]} is on record twice")
        else:
            seen.add((side.kind, side.page))
            _match(result, waiting, side)
    result.gone = sum(_is_gone(key, gone) for key in waiting)
    for (kind, page), side in waiting.items():
        if not _is_gone((kind, page), gone):
            _alone(result, side)
    return result


def check_grants(
    sides: Iterable[Side], grant_at: Callable[[int], Grant], tolerance_s: int = TOLERANCE_S
) -> Iterator[Difference]:
    """Holds what owners gave against the grants on the chain, whose history stays: that each record's type and units
    were granted to that requester for that purpose and kind of case, then, and that no grant's day was exceeded.

    `sides` of one log come in its order. `grant_at` raises Refusal for a number that the chain does not have.
    What went in an emergency needs no grant, but a record of that in the owner's log before it.
    Differences: `grant-unknown`, `grant-not-in-force`, `not-granted`, `rate-exceeded`, `emergency-unknown`.
    """
    urgent: set[tuple[str | None, tuple[str, str, str]]] = set()
    known: dict[int, Grant | None] = {}
    days: dict[int, deque[tuple[int, int]]] = {}
    for side in sides:
        if side.kind == USED:
            urgent.add((side.emergency, side.page[:3]))
        if side.kind != MADE:
            continue
        if side.urgent and (side.emergency, side.page[:3]) not in urgent:
            yield _difference("emergency-unknown", side, f"{_name(side.page)}: the owner's log knows no such emergency")
        for number in side.grants:
            if number not in known:
                known[number] = _grant(grant_at, number)
        yield from _check_side(side, known, tolerance_s)
        for number, types in side.grants.items():
            grant = known[number]
            count = sum(name in types for name in side.types.values())
            if grant is not None and _exceeds(days.setdefault(number, deque()), side.at, count, grant.per_day):
                yield _difference("rate-exceeded", side, f"grant {number} gave more than {grant.per_day:,} in a day")


def _match(result: Reconciliation, waiting: dict[tuple[str, Page], Side], side: Side) -> None:
    other = waiting.pop((RECEIVED if side.kind == MADE else MADE, side.page), None)
    if side.kind == MADE:
        result.made += 1
        result.records += len(side.records)
    else:
        result.received += 1
    if other is None:
        waiting[side.kind, side.page] = side
    elif other.sha256 != side.sha256:
        _add(result, "digest-differs", side, f"{_name(side.page)}: the two logs name different digests")
    elif other.records != side.records:
        _add(result, "records-differ", side, f"{_name(side.page)}: the two logs list different records or units")
    else:
        made, received = (other, side) if side.kind == RECEIVED else (side, other)
        if received.at < made.at - APART_S:
            early = f"{made.at - received.at:,} s before it was given"
            _add(result, "clock-apart", received, f"{_name(side.page)} was received {early}")


def _alone(result: Reconciliation, side: Side) -> None:
    owner, requester, _, _ = side.page
    if side.kind == MADE:
        _add(
            result, "not-received", side, f"{_name(side.page)}: {owner} gave it, the log of {requester} has no receipt"
        )
    else:
        _add(result, "not-made", side, f"{_name(side.page)}: {requester} got it, the log of {owner} does not say so")


def _is_gone(key: tuple[str, Page], gone: Mapping[Page, Side]) -> bool:
    return key[0] == MADE and key[1] in gone


def _check_side(side: Side, known: Mapping[int, Grant | None], tolerance_s: int) -> Iterator[Difference]:
    fit: list[tuple[Grant, frozenset[str]]] = []
    for number, types in side.grants.items():
        grant = known[number]
        if grant is None:
            yield _difference("grant-unknown", side, f"{_name(side.page)}: the chain has no grant {number}")
        elif not _in_force(grant, side.at, tolerance_s):
            yield _difference("grant-not-in-force", side, f"{_name(side.page)}: grant {number} was not in force then")
        elif (grant.owner, grant.grantee) == side.page[:2]:
            fit.append((grant, types & set(grant.record_types)))
    for record_id, units in side.records.items():
        if side.types[record_id] in side.urgent:
            continue
        granted = {
            unit
            for grant, types in fit
            if side.types[record_id] in types and side.purpose in grant.purposes and side.case_kind in grant.case_kinds
            for unit in grant.units
        }
        if not granted or not set(units) <= granted:
            yield _difference("not-granted", side, f"{_name(side.page)}: record {record_id} was given without a grant")


def _in_force(grant: Grant, at: int, tolerance_s: int) -> bool:
    begun = max(grant.valid_from, grant.granted_at) <= at + tolerance_s
    ended = min(grant.valid_to, grant.valid_to if grant.revoked_at is None else grant.revoked_at)
    return begun and at < ended + tolerance_s


def _exceeds(day: deque[tuple[int, int]], at: int, count: int, per_day: int) -> bool:
    while day and day[0][0] <= at - DAY_S:
        day.popleft()
    day.append((at, count))
    return sum(each for _, each in day) > per_day


def _grant(grant_at: Callable[[int], Grant], number: int) -> Grant | None:
    try:
        return grant_at(number)
    except Refusal:
        return None


def _difference(kind: str, side: Side, sentence: str) -> Difference:
    teller = side.page[1] if side.kind in (RECEIVED, REFUSED) else side.page[0]
    return Difference(kind, side.page, side.record_id, sentence, side.at, side.index, teller)


def _add(result: Reconciliation, kind: str, side: Side, sentence: str) -> None:
    result.differences.append(_difference(kind, side, sentence))


def _name(page: Page) -> str:
    return f"page {page[3]} of extraction {page[2]}"
