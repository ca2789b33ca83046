"""Looking recalls and corrections up in the projection."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, case, exists, func, select

from gateway.notices.teller import TOLD, Telling, find_tellings
from gateway.recalls.models import recall_answers, recall_notices, recalls, received_recalls
from ledger.store.models import logs
from ledger.store.reading import read_logs

KINDS = ("recall", "correction")
ACKNOWLEDGED, RECEIVED = "acknowledged", "received"


@dataclass(frozen=True, slots=True)
class Recipient:
    """How far a department is with a notice. `state`: waiting, unreachable or refused (`code`, `since`); received
    (durably, by its own record `received`); acknowledged (`done`, by its own record `acknowledgement`)."""

    department: str
    state: str
    since: int | None
    code: str | None
    attempts: int
    received: str | None
    done: str | None
    acknowledgement: str | None


@dataclass(frozen=True, slots=True)
class Given:
    """A recall or correction of a department's own. `notice` is the record that says so; time in seconds since 1970."""

    notice: str
    record_id: str
    kind: str
    made_at: int
    recipients: tuple[Recipient, ...]

    @property
    def is_open(self) -> bool:
        """Whether somebody has not acknowledged it yet."""
        return any(each.state != ACKNOWLEDGED for each in self.recipients)


@dataclass(frozen=True, slots=True)
class Received:
    """A notice that came. `received` is the department's own record of it; open until `acknowledgement` is set."""

    received: str
    owner: str
    notice: str
    record_id: str
    kind: str
    asks: str | None
    reason_kind: str | None
    replaced_by: str | None
    received_at: int
    done: str | None
    acknowledgement: str | None
    acknowledged_at: int | None


_RECEIVED = [received_recalls.c[name] for name in Received.__slots__]


def given(connection: Connection, department: str, offset: int, limit: int, notice: str | None = None) -> list[Given]:
    """The department's recalls and corrections, open ones first, then the newest first."""
    c, n, a = recalls.c, recall_notices.c, recall_answers.c
    answered = exists().where(a.log == n.log, a.notice == n.notice, a.department == n.department)
    is_open = exists().where(n.log == c.log, n.notice == c.notice, ~answered)
    query = select(recalls).where(c.log == _log(connection, department))
    if notice is not None:
        query = query.where(c.notice == notice)
    query = query.order_by(case((is_open, 0), else_=1), c.position.desc()).offset(offset).limit(limit)
    rows = connection.execute(query).all()
    recipients = _recipients(connection, department, [row.notice for row in rows])
    return [
        Given(row.notice, row.record_id, row.kind, row.made_at, tuple(recipients.get(row.notice, ()))) for row in rows
    ]


def received(connection: Connection, department: str, offset: int, limit: int) -> list[Received]:
    """The notices that the department received, those to be acknowledged first, then the newest first."""
    c = received_recalls.c
    query = select(*_RECEIVED).where(c.log == _log(connection, department))
    query = query.order_by(case((c.acknowledgement.is_(None), 0), else_=1), c.position.desc())
    return [Received(*row) for row in connection.execute(query.offset(offset).limit(limit))]


def find_received(connection: Connection, department: str, record_id: str) -> Received | None:
    """The notice that the department's record `record_id` (recall.received) tells of."""
    c = received_recalls.c
    query = select(*_RECEIVED).where(c.log == _log(connection, department), c.received == record_id)
    row = connection.execute(query).one_or_none()
    return None if row is None else Received(*row)


def stale(
    connection: Connection, department: str, record_ids: Collection[str]
) -> Mapping[tuple[str, str], list[Received]]:
    """By owner and record id the notices that make the department's copies of these records stale, oldest first."""
    c = received_recalls.c
    query = select(*_RECEIVED).where(c.log == _log(connection, department), c.record_id.in_(sorted(set(record_ids))))
    found: dict[tuple[str, str], list[Received]] = {}
    for row in connection.execute(query.order_by(c.position)):
        found.setdefault((row.owner, row.record_id), []).append(Received(*row))
    return found


def is_recipient(connection: Connection, owner: str, notice: str, record: str, department: str) -> bool:
    """Whether the owner's log says that the notice is about this record and the department must hear of it."""
    c, r = recall_notices.c, recalls.c
    here = (c.log == _log(connection, owner)) & (c.notice == notice) & (c.department == department)
    about = (r.log == c.log) & (r.notice == c.notice) & (r.record_id == record)
    return connection.scalar(select(c.log).join(recalls, about).where(here)) is not None


def open_counts(connection: Connection) -> dict[str, dict[str, int]]:
    """By hosted department how many notices others have not acknowledged (`given`), and it itself (`received`)."""
    n, a, r = recall_notices.c, recall_answers.c, received_recalls.c
    answered = exists().where(a.log == n.log, a.notice == n.notice, a.department == n.department)
    names = {row.log: row.department for row in connection.execute(select(logs.c.log, logs.c.department))}
    counts = {name: {"given": 0, "received": 0} for name in names.values()}
    for log, count in connection.execute(select(n.log, func.count()).where(~answered).group_by(n.log)):
        counts[names[log]]["given"] = count
    for log, count in connection.execute(
        select(r.log, func.count()).where(r.acknowledgement.is_(None)).group_by(r.log)
    ):
        counts[names[log]]["received"] = count
    return counts


def _recipients(connection: Connection, department: str, notices: list[str]) -> dict[str, list[Recipient]]:
    n, a = recall_notices.c, recall_answers.c
    known = (a.log == n.log) & (a.notice == n.notice) & (a.department == n.department)
    query = (
        select(n.notice, n.department, a.done, a.acknowledgement, a.answered_at)
        .outerjoin_from(recall_notices, recall_answers, known)
        .where(n.log == _log(connection, department), n.notice.in_(notices))
        .order_by(n.department)
    )
    told = {(t.record_id, t.peer): t for t in find_tellings(connection, department, KINDS, notices)}
    found: dict[str, list[Recipient]] = {}
    for row in connection.execute(query):
        found.setdefault(row.notice, []).append(_recipient(row, told.get((row.notice, row.department))))
    return found


def _recipient(row: Any, telling: Telling | None) -> Recipient:
    state = "waiting" if telling is None else RECEIVED if telling.state == TOLD else telling.state
    since = None if telling is None else telling.since
    return Recipient(
        department=row.department,
        state=state if row.acknowledgement is None else ACKNOWLEDGED,
        since=since if row.acknowledgement is None else row.answered_at,
        code=None if telling is None else telling.code,
        attempts=0 if telling is None else telling.attempts,
        received=None if telling is None else telling.answer,
        done=row.done,
        acknowledgement=row.acknowledgement,
    )


def _log(connection: Connection, department: str) -> int:
    return next((log.number for log in read_logs(connection, department)), -1)
