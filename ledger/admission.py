"""What every way into a log shares: keys that are known, ids that are taken, and the one transaction at the end."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import Connection, bindparam, select, text
from sqlalchemy.exc import IntegrityError

from ledger.errors import Conflict, HistoryRefused, RecordRefused
from ledger.keks import EpochGone, newest_epoch
from ledger.matters import newest_version
from ledger.sequencer import Arrival, Head, Sequencer, lock_head
from ledger.store.database import Database
from ledger.store.models import entries, index_of, logs
from ledger.submission import MAX_KEY_CHARS, SERVICE_KEYS, Acknowledged, Outcome, Refused
from ledger.uploads import UploadTaken

MAX_BATCH = 10_000
MAX_ATTEMPTS = 10

_OF_KEYS = select(entries.c.key, entries.c.content_mark, entries.c.record_id, entries.c.position).where(
    entries.c.log == bindparam("of_log"), entries.c.key.in_(bindparam("keys", expanding=True))
)
# one look-up a key: for the query above PostgreSQL reads all keys of a log that has grown since it counted them last
_OF_KEYS_ON_POSTGRESQL = text(
    "SELECT found.* FROM unnest(CAST(:keys AS varchar[])) AS wanted (key), LATERAL ("
    "SELECT key, content_mark, record_id, position FROM entries WHERE log = :of_log AND entries.key = wanted.key "
    "LIMIT 1) AS found"
)
_LOG = select(logs, newest_version(logs.c.log).label("list_version"), newest_epoch(logs.c.log).label("epoch")).where(
    logs.c.department == bindparam("of_department")
)
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class Opened:
    """A log as it stood when a batch was looked at, with its department's newest list of matters (0: none) and
    key-encryption key (None: none)."""

    head: Head
    list_version: int
    epoch: int | None


@dataclass(frozen=True, slots=True)
class Known:
    """The record that an idempotency key stands for."""

    mark: bytes
    record_id: str
    index: int


@dataclass(slots=True)
class Candidate:
    """A submission on its way through the batch. `slots` are its places in the outcome list: repeats share one."""

    slots: list[int]
    key: str
    mark: bytes
    record_id: str


AnyCandidate = TypeVar("AnyCandidate", bound=Candidate)


def is_known(
    slot: int,
    key: str,
    mark: bytes,
    known: dict[str, Known],
    candidates: dict[str, AnyCandidate],
    outcomes: dict[int, Outcome],
) -> bool:
    """Whether `key` needs nothing more: the log has it (the outcome says so), or it stands earlier in the batch (whose
    candidate takes the slot). Raises Conflict where it stands for other content."""
    if (earlier := known.get(key)) is not None:
        check_same(key, mark, earlier.mark, earlier.record_id)
        outcomes[slot] = Acknowledged(key, earlier.record_id, earlier.index, new=False)
        return True
    if (twin := candidates.get(key)) is not None:
        check_same(key, mark, twin.mark, twin.record_id)
        twin.slots.append(slot)
        return True
    return False


def append(
    database: Database,
    sequencer: Sequencer,
    seen: Head,
    arrivals: list[tuple[AnyCandidate, Arrival]],
    outcomes: dict[int, Outcome],
    now: float,
    place: Callable[[Connection, Head, list[Arrival]], list[Arrival]] = lambda _connection, _head, arrivals: arrivals,
) -> bool:
    """The transaction: locks the head of `seen`'s log, drops what others took since, appends the rest, acknowledges.

    `place` may complete the arrivals inside the transaction. False when another process took one of the ids since they
    were looked up, or destroyed the KEK: then nothing was written, and the batch is to be looked at anew. Raises as
    `Sequencer.append`.
    """
    if not arrivals:
        return True
    try:
        with database.writing() as connection:
            head = lock_head(connection, seen.department)
            if head.size != seen.size:
                arrivals = _without_overtaken(connection, head, arrivals, outcomes)
            placed = place(connection, head, [arrival for _, arrival in arrivals])
            sequencer.append(connection, head, placed, int(now * 1000))
    except (IntegrityError, UploadTaken, EpochGone):
        return False
    _acknowledge(outcomes, [candidate for candidate, _ in arrivals], head)
    return True


def open_log(connection: Connection, department: str) -> Opened:
    """The department's log, all that a batch asks of it in one query. Raises HistoryRefused where there is none."""
    row = connection.execute(_LOG, {"of_department": department}).one_or_none()
    if row is None:
        raise HistoryRefused(f"there is no log of department {department!r}: run `yunxi department add {department}`")
    return Opened(Head(row.log, row.department, row.origin, row.size, row.root), row.list_version or 0, row.epoch)


def find_known(connection: Connection, log: int, keys: Sequence[str]) -> dict[str, Known]:
    """The records of a log that have one of `keys`, by key."""
    found: dict[str, Known] = {}
    query = _OF_KEYS if connection.dialect.name == "sqlite" else _OF_KEYS_ON_POSTGRESQL
    for start in range(0, len(keys), 500):
        rows = connection.execute(query, {"of_log": log, "keys": keys[start : start + 500]})
        found |= {
            row.key: Known(row.content_mark, str(UUID(bytes=row.record_id)), index_of(row.position)) for row in rows
        }
    return found


def find_taken(connection: Connection, record_ids: Sequence[Any]) -> set[str]:
    """Those of `record_ids` that a record of any log has; what is no id is passed over."""
    query = select(entries.c.record_id)
    wanted = [UUID(i).bytes for i in record_ids if isinstance(i, str) and _UUID.fullmatch(i)]
    taken: set[str] = set()
    for start in range(0, len(wanted), 500):
        here = entries.c.record_id.in_(wanted[start : start + 500])
        taken |= {str(UUID(bytes=found)) for found in connection.scalars(query.where(here))}
    return taken


def is_key(key: object) -> bool:
    """Whether this can be an idempotency key."""
    return isinstance(key, str) and 0 < len(key) <= MAX_KEY_CHARS and key.isprintable()


def check_key(key: str, *, by_service: bool = False) -> None:
    """`key` as it is stored. Raises RecordRefused, reason `bad-key`, for what cannot be one, and for what only the
    service can have (whoever guessed its keys could otherwise take them, and its own records would not be sealed)."""
    if not is_key(key):
        raise RecordRefused("bad-key", f"an idempotency key is 1 to {MAX_KEY_CHARS} printable characters")
    if key.startswith(SERVICE_KEYS) and not by_service:
        raise RecordRefused("bad-key", f"keys that begin with {SERVICE_KEYS} are the service's own: choose another")


def check_same(key: str, mark: bytes, earlier_mark: bytes, record_id: str) -> None:
    """Raises Conflict unless both marks are of the same content."""
    if mark != earlier_mark:
        raise Conflict(
            "conflict",
            f"key {key!r} is taken by record {record_id} with other content; if the record changed, submit it under a "
            "new key and name the old one in `amends`",
        )


def check_free(record_id: Any, taken: set[str]) -> None:
    """Raises Conflict for an id that another record has."""
    if isinstance(record_id, str) and record_id in taken:
        raise Conflict(
            "conflict", f"record id {record_id} is taken by another record; leave `id` out to have one drawn"
        )


def _without_overtaken(
    connection: Connection, head: Head, arrivals: list[tuple[AnyCandidate, Arrival]], outcomes: dict[int, Outcome]
) -> list[tuple[AnyCandidate, Arrival]]:
    """The arrivals that are still new; for those whose keys another process took meanwhile, its records count.

    Beginning anew instead could go on for ever: whoever takes the same keys in smaller batches is always faster.
    """
    known = find_known(connection, head.number, [arrival.key for _, arrival in arrivals])
    for candidate, _ in arrivals:
        if (earlier := known.get(candidate.key)) is not None:
            outcomes |= dict.fromkeys(candidate.slots, _answer(candidate.key, candidate.mark, earlier))
    return [(candidate, arrival) for candidate, arrival in arrivals if candidate.key not in known]


def _answer(key: str, mark: bytes, earlier: Known) -> Outcome:
    try:
        check_same(key, mark, earlier.mark, earlier.record_id)
    except Conflict as error:
        return Refused(key, error)
    return Acknowledged(key, earlier.record_id, earlier.index, new=False)


def _acknowledge(outcomes: dict[int, Outcome], candidates: Sequence[Candidate], head: Head) -> None:
    for index, candidate in enumerate(candidates, head.size):
        for number, slot in enumerate(candidate.slots):
            outcomes[slot] = Acknowledged(candidate.key, candidate.record_id, index, new=number == 0)
