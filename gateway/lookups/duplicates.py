"""The duplicate check: was this company inspected on these matters in the last days, by anybody?

It is answered by blind index: no identifier travels and no record is shown, only yes or no for each matter, the day and
the inspection's number. Every answer is a record in the log of the department that gives it, durable before it is sent.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection

from gateway.proceedings import reading
from gateway.proceedings.forms import INSPECTION
from gateway.projections.subjects import Match, SubjectIndex
from gateway.records.service import instant
from gateway.site import Site
from ledger.errors import Refusal
from ledger.formats.encoding import b64url_encode
from ledger.formats.sdjwt import parse_statement
from ledger.record_types import parse_instant
from ledger.store.reading import find_entry
from ledger.submission import Refused, Submission

INSPECTED = ("inspection.report", "inspection.finding", "inspection.opened")
"""Record types that tell of an inspection that took place or is planned."""

DAY_S = 86_400
_LIMIT = 10_000


@dataclass(frozen=True, slots=True)
class Question:
    """`indexes`: blind indexes of 16 bytes; one of them is enough for a yes."""

    indexes: tuple[bytes, ...]
    matters: tuple[str, ...]
    days: int


@dataclass(frozen=True, slots=True)
class Found:
    """A yes: the day of the newest inspection on a matter that was sealed, and its number if it has one. `is_open`:
    the department leads it and it goes on, so one can ask to join."""

    matter: str
    on: str
    inspection: str | None
    is_open: bool


def answer(site: Site, owner: str, requester: str, request_key: str, question: Question) -> list[Found]:
    """What the log of `owner`, a department of this node, says; on record there when this returns. Matters without a
    yes are not among it. Raises CouldNotRun when it cannot be put on record."""
    site.projector.catch_up([owner])
    now = site.clock()
    with site.database.reading() as connection:
        found = list(_look(site, connection, owner, question, now))
    record = {
        "type": "duplicate.checked",
        "v": 1,
        "requester": requester,
        "request_key": request_key[:64],
        "indexes": sorted(b64url_encode(index) for index in question.indexes),
        "matters": sorted(question.matters),
        "days": question.days,
        "found": [
            {"matter": each.matter, "on": each.on} | ({"inspection": each.inspection} if each.inspection else {})
            for each in found
        ],
        "occurred_at": instant(now),
    }
    outcome = site.intake.submit(owner, [Submission(f"duplicate/{secrets.token_hex(16)}", record, by_service=True)])[0]
    if isinstance(outcome, Refused):
        raise outcome.error
    return found


def _look(site: Site, connection: Connection, owner: str, question: Question, now: float) -> Iterator[Found]:
    earliest = now - question.days * DAY_S
    matches = SubjectIndex.matching(connection, owner, question.indexes, INSPECTED, limit=_LIMIT)
    # sealed before means that it took place before
    recent = [match for match in reversed(matches) if match.issued_at >= earliest]
    for matter in question.matters:
        here = [match for match in recent if match.matter == matter]
        if (found := _newest(site, connection, owner, here, earliest)) is not None:
            yield found


def _newest(site: Site, connection: Connection, owner: str, matches: Sequence[Match], earliest: float) -> Found | None:
    for match in matches:
        when, number = _facts(site, connection, match)
        if when.timestamp() >= earliest:
            proceeding = reading.find(connection, INSPECTION.kind, number, owner) if number else None
            is_open = proceeding is not None and proceeding.is_open
            return Found(match.matter or "", when.date().isoformat(), number, is_open)
    return None


def _facts(site: Site, connection: Connection, match: Match) -> tuple[datetime, str | None]:
    """When it took place, and the inspection's number; of a record that the node cannot open, when it was sealed."""
    try:
        record = site.node.reader.open(connection, match.record_id).record()
        return parse_instant(record["occurred_at"]), record.get("inspection")
    except (Refusal, KeyError):
        payload = parse_statement(find_entry(connection, match.record_id).statement).payload
        return datetime.fromtimestamp(match.issued_at, UTC), payload.get("inspection")
