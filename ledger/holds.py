"""Legal holds: what is under one is not forgotten, whatever period has ended.

A hold covers one record, or all records of a log that carry a case number, an inspection number or the blind index of a
subject, also those that come later. It is placed and lifted by records of the same log (`hold.placed`, `hold.lifted`);
the table `holds` is written in the same transactions, so under the log's lock it is always what the log says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, and_, insert, or_, select, update

from ledger.crypto.blind import blind_index
from ledger.errors import RecordRefused
from ledger.formats.encoding import b64url_encode
from ledger.formats.identifiers import check, normalise
from ledger.intake import Intake
from ledger.listing import case_of
from ledger.store.models import entries, holds, logs, position_of
from ledger.store.reading import EntryRow, find_entry, read_logs
from ledger.submission import Refused, Submission, draw_record_id

PLACED = "hold.placed"
LIFTED = "hold.lifted"
SCOPES = ("record", "case", "inspection", "subject")

Officer = Mapping[str, str]
"""Certificate number and name: `id`, `name`."""


@dataclass(frozen=True, slots=True)
class Hold:
    """A hold. `record_id` is the record that placed it, and its name; `value` of a subject is its blind index.
    `placed_at` in seconds since 1970."""

    record_id: str
    department: str
    scope: str
    value: str
    placed_at: int
    lifted: bool


class Holds:
    """Places and lifts holds through one intake."""

    def __init__(self, intake: Intake, clock: Callable[[], float]) -> None:
        self._intake = intake
        self._clock = clock

    def place(self, department: str, scope: str, value: str, reason: str, officers: Sequence[Officer]) -> str:
        """Places a hold and returns its id. What was forgotten before stays forgotten.

        `value` of scope `subject`: as `subject_index` gives it. Raises RecordRefused (`schema`, `bad-hold`), and what
        `Intake.submit` raises.
        """
        if scope not in SCOPES or not value:
            raise RecordRefused("bad-hold", f"a hold covers one {', '.join(SCOPES)} and names it")
        name = draw_record_id(self._clock())
        record = self._record(PLACED, reason, officers) | {"id": name, "scope": scope, "value": value}
        record |= {"case": value} if scope == "case" else {}

        def place(connection: Connection) -> None:
            log, position = next_position(connection, department)
            connection.execute(insert(holds).values(position=position, log=log, scope=scope, value=value))

        self._seal(department, Submission(f"hold/{name}", record, by_service=True), place)
        return name

    def lift(self, connection: Connection, hold_id: str, reason: str, officers: Sequence[Officer]) -> None:
        """Ends a hold; one that is lifted already stays so. Raises RecordRefused (`unknown-hold`), and as `place`."""
        row = find_entry(connection, hold_id)
        position = position_of(row.log, row.index)
        held = connection.execute(select(holds).where(holds.c.position == position)).one_or_none()
        if held is None:
            raise RecordRefused("unknown-hold", f"{hold_id} is no hold: `yunxi hold list` shows them")
        if held.lifted_by is not None:
            return
        department = next(log.department for log in read_logs(connection) if log.number == row.log)

        def lift(writing: Connection) -> None:
            _, by = next_position(writing, department)
            writing.execute(update(holds).where(holds.c.position == position).values(lifted_by=by))

        record = self._record(LIFTED, reason, officers) | {"hold": hold_id}
        case = case_of(connection, hold_id)
        record |= {"case": case} if case is not None else {}
        self._seal(department, Submission(f"hold-lifted/{hold_id}", record, by_service=True), lift)

    def _record(self, kind: str, reason: str, officers: Sequence[Officer]) -> dict[str, Any]:
        return {
            "type": kind,
            "v": 1,
            "occurred_at": service_time(self._clock()),
            "reason": reason,
            "officers": [dict(officer) for officer in officers],
        }

    def _seal(self, department: str, submission: Submission, beside: Callable[[Connection], None]) -> None:
        # Die before the commit: there is no hold and no record. After it: both are there.
        outcome = self._intake.submit(department, [submission], beside=beside)[0]
        if isinstance(outcome, Refused):
            raise outcome.error


def subject_index(index_key: bytes, kind: str, value: str) -> str:
    """The blind index of a subject as statements and holds have it. Raises RecordRefused (`bad-identifier`)."""
    check(kind, value)
    return b64url_encode(blind_index(index_key, kind, normalise(kind, value)))


def list_holds(connection: Connection, department: str | None = None, *, lifted: bool = False) -> list[Hold]:
    """The holds in force, oldest first; with `lifted`, those that ended too."""
    query = _HOLD.order_by(holds.c.position)
    if department is not None:
        query = query.where(logs.c.department == department)
    if not lifted:
        query = query.where(holds.c.lifted_by.is_(None))
    return [_hold(row) for row in connection.execute(query)]


def find_hold(connection: Connection, row: EntryRow, claims: Mapping[str, Any]) -> Hold | None:
    """A hold in force that covers the record; `claims`: the payload of its statement. Certain only while the log's head
    is locked."""
    scopes = scopes_of(row.record_id, claims)
    named = or_(*(and_(holds.c.scope == scope, holds.c.value == value) for scope, value in scopes))
    query = _HOLD.where(holds.c.log == row.log, holds.c.lifted_by.is_(None), named).limit(1)
    found = connection.execute(query).one_or_none()
    return None if found is None else _hold(found)


def scopes_of(record_id: str, claims: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Scope and value of every hold that would cover a record; `claims`: the payload of its statement."""
    numbers = [(scope, claims[scope]) for scope in ("case", "inspection") if scope in claims]
    return [("record", record_id), *numbers, *(("subject", index) for index in claims.get("subj", ()))]


def next_position(connection: Connection, department: str) -> tuple[int, int]:
    """The log's number and where its next record will stand; sure where the log's head is locked, as it is for what
    intake writes beside one record."""
    log = read_logs(connection, department)[0]
    return log.number, position_of(log.number, log.size)


def service_time(now: float) -> str:
    """The moment as records of the service carry it."""
    return datetime.fromtimestamp(now).astimezone().isoformat(timespec="seconds")


_HOLD = (
    select(
        holds.c.position, holds.c.scope, holds.c.value, holds.c.lifted_by,
        entries.c.record_id, entries.c.acknowledged_at, logs.c.department,
    )
    .join(entries, entries.c.position == holds.c.position)
    .join(logs, logs.c.log == holds.c.log)
)  # fmt: skip


def _hold(row: Any) -> Hold:
    return Hold(
        record_id=str(UUID(bytes=row.record_id)),
        department=row.department,
        scope=row.scope,
        value=row.value,
        placed_at=row.acknowledged_at // 1000,
        lifted=row.lifted_by is not None,
    )
