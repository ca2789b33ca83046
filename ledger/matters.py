"""Matters (事项): publishing a department's list of enforcement powers, and deciding by it.

    delivered list ─► merged into the one before ─► record `matters.published` with the list attached ─┐ one
                                                    tables `matter_lists`, `matters`                   ─┘ transaction

The record is what counts; the tables hold the newest list for intake to decide from, and `rebuild` makes them anew from
the log. A department that never published a list is not restricted.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, ScalarSelect, bindparam, delete, func, select

from ledger.errors import HistoryRefused, Malformed, MattersRefused, NotProven, RecordRefused
from ledger.matter_lists import OPEN, Change, Delivered, Matter, MatterList, Merged, diff, merge, parse_list, past_days
from ledger.record_types import FUTURE_TOLERANCE_SECONDS
from ledger.store.database import Database, insert_rows
from ledger.store.models import entries, matter_lists, matters
from ledger.store.reading import read_logs
from ledger.submission import Acknowledged, AttachmentSource, Refused, Submission, service_key

if TYPE_CHECKING:
    from ledger.intake import Intake
    from ledger.records import RecordReader

RECORD_TYPE = "matters.published"

_MAX_LISTED = 10_000  # as the record type allows
_EASTERNMOST = timezone(timedelta(hours=14))  # where a day begins first

Periods = tuple[tuple[str, str], ...]


def newest_version(log: ColumnElement[int]) -> ScalarSelect[Any]:
    """The version of the newest list that a log's department published, as a part of a query; NULL for none."""
    return select(func.max(matter_lists.c.version)).where(matter_lists.c.log == log).scalar_subquery()


_NEWEST_VERSION = select(newest_version(bindparam("of_log")))


# ---- deciding ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class HeldMatters:
    """What a department held when, by its newest list: first and last days by code. Version 0: it never published one,
    and is not restricted."""

    version: int
    periods: dict[str, Periods]

    def check(self, department: str, matter: str | None, at: str) -> None:
        """Accepts a matter that was held on the day of `at`, an RFC 3339 time: the day as it is written there. None
        passes. Raises RecordRefused, reason `matter-not-held`."""
        day = at[:10]
        if self.version and matter is not None and not any(f <= day <= last for f, last in self._of(matter)):
            raise RecordRefused("matter-not-held", _refusal(department, matter, day, self.version, self._of(matter)))

    def check_begun(self, department: str, matter: str | None, sealed_at: int) -> None:
        """Accepts a matter that was held on some day up to `sealed_at` (seconds since 1970), wherever on earth: all
        that can be asked of a record whose own day is sealed. Raises as `check` does."""
        latest = datetime.fromtimestamp(sealed_at + FUTURE_TOLERANCE_SECONDS, _EASTERNMOST)
        day = f"{latest:%Y-%m-%d}"
        if self.version and matter is not None and not any(first <= day for first, _ in self._of(matter)):
            raise RecordRefused("matter-not-held", _refusal(department, matter, day, self.version, self._of(matter)))

    def to_json(self) -> dict[str, Any]:
        """As it stands in an enrolment: `{"version": 3, "periods": {code: [[first, last], …]}}`."""
        return {"version": self.version, "periods": {code: list(map(list, p)) for code, p in self.periods.items()}}

    @classmethod
    def of_json(cls, members: dict[str, Any]) -> HeldMatters:
        """The inverse. Raises Malformed."""
        try:
            periods = {
                code: tuple((first[:10], last[:10]) for first, last in p) for code, p in members["periods"].items()
            }
            return cls(int(members["version"]), periods)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Malformed("list of matters", "is not as a node writes it into an enrolment") from error

    def _of(self, matter: str) -> Periods:
        return self.periods.get(matter, ())


def read_held(connection: Connection, log: int) -> HeldMatters:
    """What the department of log number `log` held when, by its newest list."""
    version = connection.scalar(_NEWEST_VERSION, {"of_log": log}) or 0
    return HeldMatters(version, _periods(connection, log) if version else {})


class Matters:
    """Which matters each department held when; kept in memory, and read again only when a newer list was published.

    May be shared by threads: what is kept is replaced, never changed.
    """

    def __init__(self) -> None:
        self._held: dict[str, HeldMatters] = {}

    def refresh(self, connection: Connection, log: int, department: str, version: int) -> None:
        """Makes `check` decide by the newest list of `department`, whose log is number `log`: its `version` as
        `newest_version` gives it, 0 for none."""
        held = self._held.get(department)
        if held is None or held.version != version:
            self._held[department] = HeldMatters(version, _periods(connection, log) if version else {})

    def check(self, department: str, matter: str | None, at: str) -> None:
        """As `HeldMatters.check`. KeyError where `refresh` was never called for the department."""
        self._held[department].check(department, matter, at)

    def check_begun(self, department: str, matter: str | None, sealed_at: int) -> None:
        """As `HeldMatters.check_begun`. KeyError where `refresh` was never called for the department."""
        self._held[department].check_begun(department, matter, sealed_at)


def _periods(connection: Connection, log: int) -> dict[str, Periods]:
    c = matters.c
    query = select(c.code, c.effective_from, c.effective_to).where(c.log == log).order_by(c.code, c.effective_from)
    found: dict[str, Periods] = {}
    for code, first, last in connection.execute(query):
        found[code] = (*found.get(code, ()), (first, last))
    return found


def _refusal(department: str, matter: str, day: str, version: int, periods: Periods) -> str:
    held = ", ".join(f"from {first}" + ("" if last == f"{OPEN}" else f" to {last}") for first, last in periods)
    where = f"its list (version {version}) has it {held}" if held else f"its list (version {version}) does not have it"
    return (
        f"department {department} did not hold matter {matter} on {day}: {where}; correct the matter or the date, or "
        "publish the list that has it with `yunxi matters import`"
    )


# ---- publishing --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ListHead:
    """The newest list of a log: its version, its SHA-256, the day from which it rules."""

    version: int
    sha256: bytes
    as_of: date


@dataclass(frozen=True, slots=True)
class Draft:
    """A list about to be published. `before` is the one that it follows, or None; without changes it is not needed."""

    log: int
    before: ListHead | None
    list: MatterList
    merged: Merged


@dataclass(frozen=True, slots=True)
class Origin:
    """The file that a list was delivered in."""

    name: str
    sha256: bytes


def draft(
    database: Database,
    delivered: Delivered,
    *,
    as_of: date,
    today: date,
    retroactive: bool = False,
    allow_gaps: bool = False,
) -> list[Draft]:
    """What the delivered lists become on top of what each department published before. Writes nothing.

    Raises MattersRefused, naming every row that is not right in any of them: then no list is published.
    """
    if delivered.faults:
        raise MattersRefused(delivered.faults)
    drafts = []
    with database.reading() as connection:
        for department, rows in delivered.rows.items():
            log = _log_number(connection, department)
            before = newest_list(connection, log)
            merged = merge(
                held_matters(connection, log),
                rows,
                as_of=as_of,
                today=today,
                retroactive=retroactive,
                allow_gaps=allow_gaps,
            )
            version = 1 if before is None else before.version + 1
            drafts.append(Draft(log, before, MatterList(department, version, as_of, merged.matters), merged))
    if faults := [fault for made in drafts for fault in made.merged.faults]:
        raise MattersRefused(faults)
    return drafts


def publish(intake: Intake, made: Draft, origin: Origin, now: float) -> Acknowledged:
    """Seals the list and makes it what intake decides by, in one transaction. `now`: seconds since 1970.

    Raises Conflict when somebody else published this version meanwhile, and what `Intake.submit` raises. After a crash
    the same import goes on: a department whose list is published already has no changes left.
    """
    data = made.list.serialize()
    digest = hashlib.sha256(data).digest()

    def project(connection: Connection) -> None:
        _project(connection, made.log, [(made.list, digest, int(now * 1000))])

    attached = (AttachmentSource(data, "matters.json", "application/json"),)
    submission = Submission(list_key(made.list.version), _record(made, digest, origin, now), attached, by_service=True)
    outcome = intake.submit(made.list.department, [submission], beside=project)[0]
    if isinstance(outcome, Refused):
        raise outcome.error
    return outcome


def _record(made: Draft, digest: bytes, origin: Origin, now: float) -> dict[str, object]:
    merged = made.merged
    counts = Counter(change.what for change in merged.changes)
    record: dict[str, object] = {
        "type": RECORD_TYPE,
        "v": 1,
        "occurred_at": datetime.fromtimestamp(int(now)).astimezone().isoformat(),
        "list_version": made.list.version,
        "as_of": f"{made.list.as_of}",
        "list_sha256": digest.hex(),
        "matters": len({matter.code for matter in made.list.matters}),
        **{what: counts[what] for what in ("added", "changed", "ended", "removed")},
        "retracted": list(merged.retracted[:_MAX_LISTED]),
        "backdated": list(merged.backdated[:_MAX_LISTED]),
        "file_name": origin.name[:200],
        "file_sha256": origin.sha256.hex(),
    }
    return record if made.before is None else record | {"previous_sha256": made.before.sha256.hex()}


def _project(connection: Connection, log: int, lists: Sequence[tuple[MatterList, bytes, int]]) -> None:
    """Enters lists in the order of their versions; the last one becomes what intake decides by."""
    heads = [(log, made.version, digest, f"{made.as_of}", published_at) for made, digest, published_at in lists]
    insert_rows(connection, matter_lists, heads)
    connection.execute(delete(matters).where(matters.c.log == log))
    insert_rows(connection, matters, [_row(log, matter) for matter in lists[-1][0].matters])


def _row(log: int, m: Matter) -> tuple[object, ...]:
    return (log, m.code, f"{m.effective_from}", f"{m.effective_to}", m.name, m.kind, m.legal_basis, m.level)


def list_key(version: int) -> str:
    """The idempotency key of the record that publishes a list."""
    return f"{RECORD_TYPE}:{version}"


# ---- reading -----------------------------------------------------------------------------------------------------


def newest_list(connection: Connection, log: int) -> ListHead | None:
    """The newest list of a log, None where none was published."""
    c = matter_lists.c
    query = select(c.version, c.sha256, c.as_of).where(c.log == log).order_by(c.version.desc()).limit(1)
    row = connection.execute(query).one_or_none()
    return None if row is None else ListHead(row.version, bytes(row.sha256), date.fromisoformat(row.as_of))


def held_matters(connection: Connection, log: int, code: str | None = None) -> list[Matter]:
    """The matters of a log's newest list by code and first day, or one of them."""
    c = matters.c
    query = select(matters).where(c.log == log).order_by(c.code, c.effective_from)
    rows = connection.execute(query if code is None else query.where(c.code == code))
    return [
        Matter(
            code=row.code,
            name=row.name,
            kind=row.kind,
            legal_basis=row.legal_basis,
            level=row.level,
            effective_from=date.fromisoformat(row.effective_from),
            effective_to=date.fromisoformat(row.effective_to),
        )
        for row in rows
    ]


def published_list(connection: Connection, reader: RecordReader, department: str, version: int) -> MatterList:
    """List `version` as it was sealed. That its record stands in the log under an anchor is the audit's matter.

    Raises RecordRefused where there is no such version, Malformed where its record is not of a list, and what
    `RecordReader.open` raises.
    """
    return _published(connection, reader, department, _log_number(connection, department), version)[0]


def changes_between(
    connection: Connection, reader: RecordReader, department: str, version: int, later: int
) -> tuple[Change, ...]:
    """What changed from list `version` to list `later`; version 0 is the time before the first. Raises as above."""
    before = () if version == 0 else published_list(connection, reader, department, version).matters
    return diff(before, published_list(connection, reader, department, later).matters)


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """A department's tables after they were made from its log. `differed`: they had held something else."""

    department: str
    versions: int
    matters: int
    differed: bool


def rebuild(database: Database, reader: RecordReader, department: str) -> Rebuilt:
    """Makes the tables of a department anew from the lists in its log, in one transaction.

    Raises Malformed where a record is not of the list that it should be, HistoryRefused where the lists do not follow
    each other; the tables are then as they were.
    """
    with database.writing() as connection:
        log = _log_number(connection, department)
        lists = _lists(connection, reader, department, log)
        held = (newest_list(connection, log), held_matters(connection, log))
        connection.execute(delete(matter_lists).where(matter_lists.c.log == log))
        connection.execute(delete(matters).where(matters.c.log == log))
        if lists:
            _project(connection, log, [each[:3] for each in lists])
        differed = held != (newest_list(connection, log), held_matters(connection, log))
        count = len({matter.code for matter in lists[-1][0].matters}) if lists else 0
    return Rebuilt(department, len(lists), count, differed)


def check_tables(connection: Connection, reader: RecordReader, department: str) -> None:
    """That what intake decides by is the newest list in the department's log. Raises NotProven where it is not, and as
    `rebuild`."""
    log = _log_number(connection, department)
    lists = _lists(connection, reader, department, log)
    said = [(made.version, digest, f"{made.as_of}") for made, digest, *_ in lists]
    c = matter_lists.c
    rows = connection.execute(select(matter_lists).where(c.log == log).order_by(c.version)).all()
    there = [(row.version, bytes(row.sha256), row.as_of) for row in rows]
    if there != said:
        raise NotProven(f"the table of matter lists has {len(there)}, and the log has {len(said)} or others")
    for row, (_, _, taken_at, _) in zip(rows, lists, strict=True):
        if abs(row.published_at - taken_at) > FUTURE_TOLERANCE_SECONDS * 1000:
            raise NotProven(f"the table says that list {row.version} was published at another time than the log says")
    _check_past(lists)
    held = {(m.code, m.effective_from): m for m in held_matters(connection, log)}
    listed = {(m.code, m.effective_from): m for m in (lists[-1][0].matters if lists else ())}
    for code, first in sorted(held.keys() | listed.keys()):
        if held.get((code, first)) != listed.get((code, first)):
            raise NotProven(f"the table of matters does not say of {code} from {first} what the list in the log says")


def _check_past(lists: Sequence[_Listed]) -> None:
    """That every list says aloud which matters lose or win days in the past."""
    before: tuple[Matter, ...] = ()
    for made, _, taken_at, record in lists:
        # two days ago was past wherever the list was published
        day = datetime.fromtimestamp(taken_at / 1000, UTC).date() - timedelta(days=1)
        for what, codes in zip(("retracted", "backdated"), past_days(before, made.matters, day), strict=True):
            said = record.get(what, [])
            left_out = [code for code in codes if code not in said]
            if left_out and len(said) < _MAX_LISTED:
                raise NotProven(f"list {made.version} moves days of matter {left_out[0]} in the past and says nothing")
        before = made.matters


_Listed = tuple[MatterList, bytes, int, dict[str, Any]]
"""A list, its digest, when it was acknowledged (ms), and the record that published it."""


def _lists(connection: Connection, reader: RecordReader, department: str, log: int) -> list[_Listed]:
    """Every list in the log, in order."""
    lists: list[_Listed] = []
    while _find(connection, log, len(lists) + 1) is not None:
        made, digest, published_at, record = _published(connection, reader, department, log, len(lists) + 1)
        if record.get("previous_sha256") != (lists[-1][1].hex() if lists else None):
            raise HistoryRefused(
                f"list {made.version} of {department} does not follow the one before: run `yunxi audit`"
            )
        lists.append((made, digest, published_at, record))
    return lists


def _published(connection: Connection, reader: RecordReader, department: str, log: int, version: int) -> _Listed:
    """A sealed list."""
    found = _find(connection, log, version)
    if found is None:
        raise RecordRefused("unknown-record", f"department {department} has published no list of matters {version}")
    record_id, published_at = found
    record = reader.open(connection, record_id).record()
    data = b"".join(reader.attachment(connection, record_id, 1)) if record["type"] == RECORD_TYPE else b""
    digest = hashlib.sha256(data)
    if record.get("list_sha256") != digest.hexdigest():
        raise Malformed(f"record {record_id}", f"does not hold list {version} of {department}, as its key says")
    made = parse_list(data)
    if (made.department, made.version) != (department, version):
        raise Malformed(f"record {record_id}", f"holds list {made.version} of {made.department}, not {version}")
    return made, digest.digest(), published_at, record


def _find(connection: Connection, log: int, version: int) -> tuple[str, int] | None:
    query = select(entries.c.record_id, entries.c.acknowledged_at)
    row = connection.execute(
        query.where(entries.c.log == log, entries.c.key == service_key(list_key(version)))
    ).one_or_none()
    return None if row is None else (str(UUID(bytes=bytes(row.record_id))), row.acknowledged_at)


def _log_number(connection: Connection, department: str) -> int:
    for log in read_logs(connection, department):
        return log.number
    raise HistoryRefused(f"there is no log of department {department!r}: run `yunxi department add {department}`")
