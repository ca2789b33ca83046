"""What a requester's side pulls: one row for each open case and each participant in it, kept across restarts.

State     means
waiting   nothing was asked yet
pulling   accepted; further pages are known to be there
following accepted, everything there was is here; what is new comes by itself
refused   the owner refuses (`code`); asked again from time to time
unreachable, damaged   the owner's node does not answer, or sends what does not verify; tried again
ended     the case is closed and its owner was told
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import Connection, and_, insert, select, update
from sqlalchemy.exc import IntegrityError

from gateway.extractions.models import pulls
from gateway.proceedings.reading import Proceeding, open_ones
from ledger.store.database import Database
from ledger.store.models import entries, logs
from ledger.submission import service_key

WAITING, PULLING, FOLLOWING, REFUSED = "waiting", "pulling", "following", "refused"
UNREACHABLE, DAMAGED, ENDED = "unreachable", "damaged", "ended"


@dataclass(frozen=True, slots=True)
class Case:
    """An inspection or a case that `requester` leads and `owner` takes part in; `reference` is the record that says
    what it is now. Its other names find the row of `pulls`."""

    requester: str
    owner: str
    lead: str
    claim: str
    number: str
    reference: str
    purpose: str
    case_kind: str
    types: frozenset[str] | None

    @property
    def here(self) -> Any:
        """The condition that finds the row."""
        names = ("requester", "owner", "lead", "claim", "number")
        return and_(*(pulls.c[name] == getattr(self, name) for name in names))


@dataclass(frozen=True, slots=True)
class Pull:
    """How far a pull has come. `page`: the last one received; times in seconds since 1970."""

    requester: str
    owner: str
    lead: str
    claim: str
    number: str
    reference: str
    extraction: str | None
    state: str
    code: str | None
    detail: str | None
    withheld: dict[str, str]
    page: int
    records: int
    since: int
    retry_at: int
    attempts: int
    last_success_at: int | None


def open_cases(connection: Connection, hosted: Iterable[str]) -> list[Case]:
    """What is to be pulled: for each open inspection or case of a hosted lead, and each participant. One without a
    purpose cannot be pulled for."""
    return [
        _case(proceeding, owner)
        for proceeding in open_ones(connection, sorted(hosted))
        for owner in proceeding.participants
        if owner != proceeding.lead and proceeding.purpose
    ]


def find(connection: Connection, case: Case) -> Pull | None:
    """The row of a case, or None."""
    row = connection.execute(select(pulls).where(case.here)).one_or_none()
    return None if row is None else _pull(row)


def list_for(connection: Connection, requester: str, after: str = "", limit: int = 1_000) -> list[Pull]:
    """The pulls of a department, by number past `after`, at most `limit`."""
    query = select(pulls).where(pulls.c.requester == requester, pulls.c.number > after)
    return [_pull(row) for row in connection.execute(query.order_by(pulls.c.number, pulls.c.owner).limit(limit))]


def going_on(connection: Connection, requester: str, owner: str) -> list[Pull]:
    """The pulls of a pair that did not end."""
    pair = (pulls.c.requester == requester) & (pulls.c.owner == owner) & (pulls.c.state != ENDED)
    return [_pull(row) for row in connection.execute(select(pulls).where(pair))]


def pairs(connection: Connection, hosted: Iterable[str]) -> set[tuple[str, str]]:
    """Requester and owner of every pull that did not end."""
    query = select(pulls.c.requester, pulls.c.owner).where(
        pulls.c.requester.in_(sorted(hosted)), pulls.c.state != ENDED
    )
    return {(row.requester, row.owner) for row in connection.execute(query.distinct())}


def begin(database: Database, case: Case, now: float) -> Pull:
    """The row of a case, made where there is none."""
    row = {name: getattr(case, name) for name in ("requester", "owner", "lead", "claim", "number", "reference")}
    row |= {
        "state": WAITING,
        "withheld": "{}",
        "page": 0,
        "records": 0,
        "since": int(now),
        "retry_at": 0,
        "attempts": 0,
    }
    with database.reading() as connection:
        found = find(connection, case)
    if found is None:
        with suppress(IntegrityError), database.writing() as connection:  # or somebody else made it
            connection.execute(insert(pulls).values(row))
        with database.reading() as connection:
            found = find(connection, case)
    assert found is not None
    return found


def change(database: Database, pull: Pull | Case, now: float, **members: Any) -> None:
    """Changes a row; where its state changes, that is since `now`."""
    names = ("requester", "owner", "lead", "claim", "number")
    here = and_(*(pulls.c[name] == getattr(pull, name) for name in names))
    if "withheld" in members:
        members["withheld"] = orjson.dumps(members["withheld"]).decode()
    with database.writing() as connection:
        if "state" in members:
            connection.execute(update(pulls).where(here, pulls.c.state != members["state"]).values(since=int(now)))
        connection.execute(update(pulls).where(here).values(members))


def pages_received(connection: Connection, requester: str, extraction: str, page: int) -> int:
    """The last page in a row, from `page` on, whose receipt is in the requester's log: the log decides."""
    log = connection.scalar(select(logs.c.log).where(logs.c.department == requester))
    while True:
        here = (entries.c.log == log) & (entries.c.key == service_key(f"received/{extraction}/{page + 1}"))
        if connection.scalar(select(entries.c.position).where(here)) is None:
            return page
        page += 1


def _case(proceeding: Proceeding, owner: str) -> Case:
    return Case(
        requester=proceeding.lead,
        owner=owner,
        lead=proceeding.lead,
        claim=proceeding.kind,
        number=proceeding.number,
        reference=proceeding.reference,
        purpose=proceeding.purpose or "",
        case_kind=proceeding.case_kind or "",
        types=None if proceeding.types is None else frozenset(proceeding.types),
    )


def _pull(row: Any) -> Pull:
    members = dict(row._mapping)
    members["withheld"] = orjson.loads(members["withheld"])
    return Pull(**members)
