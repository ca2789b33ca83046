"""A dossier: what is there, from whom, what is missing and since when. A participant that does not answer never keeps
anybody from reading what the others gave."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from sqlalchemy import ColumnElement, Connection, func, select
from sqlalchemy.engine import RowMapping

from gateway.caller import Caller
from gateway.dossiers.models import dossier_entries
from gateway.extractions.models import pulls
from gateway.proceedings.reading import Attached, Proceeding, attached_to, subjects_of
from gateway.projections.subjects import Match, SubjectIndex
from gateway.recalls.reading import Received, stale
from gateway.records.service import write_read
from gateway.site import Site
from ledger.errors import PayloadInvalid, Refusal
from ledger.formats.sdjwt import parse_presentation
from ledger.store.reading import read_logs
from ledger.verify.verifier import Verifier

COMPLETE, FILLING, MISSING, REFUSED = "complete", "filling", "missing", "refused"
OWN_LIMIT = 1_000
_STATES = {
    "waiting": MISSING,
    "pulling": FILLING,
    "following": COMPLETE,
    "ended": COMPLETE,
    "refused": REFUSED,
    "unreachable": MISSING,
    "damaged": MISSING,
}
_NOT_EVIDENCE = ("disclosure.", "record.", "duplicate.", "inspection.opened", "inspection.closed")
"""Types, or how they begin, that tell of the service's own work; they are not what a dossier is read for."""


@dataclass(frozen=True, slots=True)
class ParticipantState:
    """How far a participant's records have come. `state`: `complete` (and following what is new), `filling`, `missing`
    (nothing is known to be complete), `refused`. `since`: in that state since, seconds since 1970. `withheld`: types
    that are not given, each with the code of the reason."""

    department: str
    state: str
    since: int
    code: str | None
    detail: str | None
    withheld: Mapping[str, str]
    records: int
    last_success_at: int | None


@dataclass(frozen=True, slots=True)
class Entry:
    """A record in a dossier. `received` is the record of its receipt, whose attachment holds the presentation; `stale`
    says which recalls and corrections of it came since."""

    owner: str
    record_id: str
    type: str
    units: tuple[str, ...]
    received: str
    received_at: int
    position: int
    stale: tuple[Received, ...] = ()


@dataclass(frozen=True, slots=True)
class Dossier:
    """What a department has for an inspection or a case. `own`: its own records on the same subjects, at most
    `OWN_LIMIT`; `counts`: received records by owner and type."""

    proceeding: Proceeding
    participants: tuple[ParticipantState, ...]
    counts: Mapping[str, Mapping[str, int]]
    entries: tuple[Entry, ...]
    own: tuple[Match, ...]
    attached: tuple[Attached, ...]

    @property
    def is_complete(self) -> bool:
        """Whether every participant has given what it is going to give by now."""
        return all(each.state in (COMPLETE, REFUSED) for each in self.participants)


@dataclass(frozen=True, slots=True)
class Shown:
    """A presentation as it was received, verified again. `problem` says why it is not to be relied on, or is None."""

    entry: Entry
    presentation: bytes
    problem: str | None


def read_dossier(
    connection: Connection, department: str, proceeding: Proceeding, after: int = -1, limit: int = 100
) -> Dossier:
    """The department's dossier; of the entries those received past position `after`, whole pages of them, at least
    `limit` where there are so many."""
    return Dossier(
        proceeding=proceeding,
        participants=tuple(participant_states(connection, department, proceeding)),
        counts=_counts(connection, department, proceeding),
        entries=tuple(entries_of(connection, department, proceeding, after, limit)),
        own=tuple(own_records(connection, department, proceeding)),
        attached=tuple(attached_to(connection, proceeding)),
    )


def participant_states(connection: Connection, department: str, proceeding: Proceeding) -> list[ParticipantState]:
    """One for each participant other than `department` itself, in the order of their ids."""
    query = select(pulls).where(
        pulls.c.requester == department,
        pulls.c.lead == proceeding.lead,
        pulls.c.claim == proceeding.kind,
        pulls.c.number == proceeding.number,
    )
    rows = {row["owner"]: row for row in connection.execute(query).mappings()}
    others = sorted({*proceeding.participants, proceeding.lead} - {department})
    return [_state(each, rows.get(each), proceeding) for each in others if each in rows or _is_asked(each, proceeding)]


def entries_of(
    connection: Connection, department: str, proceeding: Proceeding, after: int = -1, limit: int = 100
) -> Iterator[Entry]:
    """Entries in the order of their receipts, past position `after`; a receipt's entries stay together."""
    c = dossier_entries.c
    here = [*_of(connection, department, proceeding), c.received_position > after]
    last = connection.scalar(
        select(c.received_position).where(*here).order_by(c.received_position).offset(limit - 1).limit(1)
    )
    query = select(dossier_entries).where(*here).order_by(c.received_position, c.owner, c.record_id)
    if last is not None:
        query = query.where(c.received_position <= last)
    found = [
        Entry(
            owner=row.owner,
            record_id=row.record_id,
            type=row.type,
            units=tuple(json.loads(row.units)),
            received=row.received_id,
            received_at=row.received_at,
            position=row.received_position,
        )
        for row in connection.execute(query)
    ]
    marks = stale(connection, department, [each.record_id for each in found])
    for entry in found:
        yield replace(entry, stale=tuple(marks.get((entry.owner, entry.record_id), ())))


def own_records(connection: Connection, department: str, proceeding: Proceeding) -> list[Match]:
    """The department's own records on the subjects, in the order of its log."""
    subjects = subjects_of(connection, proceeding.reference)
    matches = SubjectIndex.matching(connection, department, subjects, limit=OWN_LIMIT)
    return [match for match in matches if not match.type.startswith(_NOT_EVIDENCE)]


def present(
    site: Site, caller: Caller, proceeding: Proceeding, verifier: Verifier | None, request_id: str, purpose: str | None
) -> Iterator[Shown]:
    """Every presentation of the caller's dossier, read again out of the encrypted receipts and verified again; that a
    receipt was read is in the log before anything of it is handed out. Holds one page at a time.

    What does not verify any more is handed out with its `problem`, because the others must not wait for it. Without a
    verifier (the registry cannot be asked) signatures are not checked.
    """
    after = -1
    while True:
        with site.database.reading() as connection:
            page = list(entries_of(connection, caller.department, proceeding, after, 1))
        if not page:
            return
        after = page[-1].position
        write_read(site, caller, page[0].received, purpose, request_id, attachment=1)
        yield from _open_page(site, page, verifier)


def _open_page(site: Site, page: list[Entry], verifier: Verifier | None) -> Iterator[Shown]:
    received = page[0].received
    try:
        with site.database.reading() as connection:
            said = site.node.reader.open(connection, received).record()
            data = b"".join(site.node.reader.attachment(connection, received, 1))
        if hashlib.sha256(data).hexdigest() != said["sha256"]:
            raise PayloadInvalid("the page that was kept is not the one that was received")
    except Refusal as refusal:
        yield from (Shown(entry, b"", refusal.code) for entry in page)
        return
    presentations = dict(zip([each["id"] for each in said["records"]], data.split(b"\n"), strict=False))
    for entry in page:
        presentation = presentations.get(entry.record_id, b"")
        yield Shown(entry, presentation, _problem(entry, presentation, verifier))


def _problem(entry: Entry, presentation: bytes, verifier: Verifier | None) -> str | None:
    try:
        statement = parse_presentation(presentation).statement
        if (statement.record_id, statement.issuer) != (entry.record_id, entry.owner):
            return "not-proven"
        if verifier is not None:
            verifier.verify(presentation, None)
    except Refusal as refusal:
        return refusal.code
    return None


def _counts(connection: Connection, department: str, proceeding: Proceeding) -> dict[str, dict[str, int]]:
    c = dossier_entries.c
    query = select(c.owner, c.type, func.count()).where(*_of(connection, department, proceeding))
    counts: dict[str, dict[str, int]] = {}
    for owner, name, count in connection.execute(query.group_by(c.owner, c.type).order_by(c.owner, c.type)):
        counts.setdefault(owner, {})[name] = count
    return counts


def _of(connection: Connection, department: str, proceeding: Proceeding) -> list[ColumnElement[bool]]:
    c = dossier_entries.c
    log = next((log.number for log in read_logs(connection, department)), -1)
    return [
        c.log == log,
        c.kind == proceeding.kind,
        c.lead == proceeding.lead,
        c.number == proceeding.number,
    ]


def _is_asked(department: str, proceeding: Proceeding) -> bool:
    # a lead is asked by its participants only if they pull, which the rows then show
    return department in proceeding.participants and proceeding.is_open


def _state(department: str, row: RowMapping | None, proceeding: Proceeding) -> ParticipantState:
    if row is None:
        return ParticipantState(department, MISSING, proceeding.opened_at, "not-asked", None, {}, 0, None)
    return ParticipantState(
        department=department,
        state=_STATES[row["state"]],
        since=row["since"],
        code=row["code"],
        detail=row["detail"],
        withheld=json.loads(row["withheld"]),
        records=row["records"],
        last_success_at=row["last_success_at"],
    )
