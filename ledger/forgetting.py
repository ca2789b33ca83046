"""Forgetting a record: its key, its ciphertext and its attachments go, a certificate of that stands in the log.

    hold? ─► certificate sealed ─► one transaction: hold? · certificate · key and payload emptied · rows of attachments
                                   deleted · COMMIT ─► blobs deleted

The statement, its leaf, every checkpoint, anchor and receipt stay as they are, so what was proven stays proven. Copies
of database and blobs from before still open until the keys above are changed as well: `ledger.shredding`. What remains
of a record is listed in docs/forgetting.md.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from ledger.attachments import list_blobs
from ledger.errors import Conflict, RecordRefused, Refusal
from ledger.formats.merkle import leaf_hash
from ledger.formats.sdjwt import Statement, parse_statement
from ledger.holds import Officer, find_hold, next_position, service_time
from ledger.intake import Intake
from ledger.records import RecordReader
from ledger.retention import is_kept
from ledger.store.blobs import Blobs
from ledger.store.database import Database
from ledger.store.models import attachments, destructions, index_of, position_of, uploads, vault
from ledger.store.reading import EntryRow, find_entry, read_logs, read_positions
from ledger.submission import Refused, Submission

DESTROYED = "record.destroyed"
REASONS = (
    "retention", "subject-request", "purpose-achieved", "consent-withdrawn", "unlawful", "court-order", "other",
)  # fmt: skip
REMAINS = ("statement", "log-entry", "idempotency-key", "content-mark")
GRACE_S = 86_400
"""How long a blob that no row names is left alone: the record that it belongs to may still be on its way."""

_journal = logging.getLogger("yunxi.forgetting")


@dataclass(frozen=True, slots=True)
class Destruction:
    """A forgotten record and its certificate. `new` is False where it was forgotten before; `blobs` are those that were
    deleted with it just now."""

    record_id: str
    department: str
    index: int
    by_record: str
    by_index: int
    at: int
    new: bool = False
    blobs: int = 0


class Forgetting:
    """Forgets records of the departments whose intake this is."""

    def __init__(
        self, database: Database, blobs: Blobs, intake: Intake, reader: RecordReader, clock: Callable[[], float]
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._intake = intake
        self._reader = reader
        self._clock = clock

    def forget(self, record_id: str, reason: str, basis: str, officers: Sequence[Officer] = ()) -> Destruction:
        """Forgets a record for good, or says how it was forgotten before.

        `reason` is one of REASONS, `basis` the legal basis in words; two different officers decide, but for a period of
        retention that ended. Raises RecordRefused: `on-hold`, `kept` (a record that the log is read with), `officers`,
        `unknown-record`, `schema`; and what `Intake.submit` raises: then nothing happened.
        """
        if reason != "retention" and len({officer["id"] for officer in officers}) < 2:
            raise RecordRefused("officers", "two different officers decide that a record is destroyed: name both")
        # 1. Is it done? (die here: nothing happened)
        with self._database.reading() as connection:
            row = find_entry(connection, record_id)
            department = next(log.department for log in read_logs(connection) if log.number == row.log)
            done = find_destruction(connection, row)
            statement = parse_statement(row.statement)
            _check_kind(statement, self._clock())
            files = self._files(connection, row) if done is None else []
        if done is not None:
            return done
        # 2. One transaction (die in it: nothing happened). After it the record is forgotten.
        record = _certificate(row, statement, reason, basis, officers, files, service_time(self._clock()))
        names: list[str] = []

        def destroy(connection: Connection) -> None:
            names[:] = _destroy(connection, row, statement)

        submission = Submission(f"destroyed/{row.record_id}", record, by_service=True)
        outcome = self._intake.submit(department, [submission], beside=destroy)[0]
        if isinstance(outcome, Refused) and not isinstance(outcome.error, Conflict):
            raise outcome.error
        # 3. The blobs, whose keys are gone. (die here: the sweep finds that no row names them)
        for name in names:
            self._blobs.remove(name)
        with self._database.reading() as connection:
            done = find_destruction(connection, row)
        if done is None:
            raise RecordRefused("conflict", f"key destroyed/{record_id} is taken by another record: run `yunxi audit`")
        new = not isinstance(outcome, Refused) and outcome.new
        return Destruction(
            done.record_id, department, done.index, done.by_record, done.by_index, done.at, new, len(names)
        )

    def sweep(self, grace: int = GRACE_S) -> int:
        """Deletes blobs older than `grace` seconds that neither a record nor an upload names: what a crash left between
        commit and deletion, and what batches left that were overtaken. Returns how many. Reads the whole store."""
        removed, old = 0, _older(self._blobs, self._clock() - grace)
        while names := list(islice(old, 500)):
            with self._database.reading() as connection:
                named = set(connection.scalars(select(attachments.c.blob).where(attachments.c.blob.in_(names))))
                named |= set(connection.scalars(select(uploads.c.id).where(uploads.c.id.in_(names))))
            for name in set(names) - named:
                self._blobs.remove(name)
                removed += 1
        return removed

    def _files(self, connection: Connection, row: EntryRow) -> list[dict[str, Any]]:
        count = len(list_blobs(connection, position_of(row.log, row.index)))
        try:
            opened = self._reader.open(connection, row.record_id).record().get("attachments", [])
        except Refusal as error:  # sealed by a terminal, or damaged: it is to be forgotten all the same
            _journal.warning("record %s is forgotten unopened: %s", row.record_id, error.code)
            return [{"number": number} for number in range(1, count + 1)]
        return [{"number": number, "sha256": file["sha256"]} for number, file in enumerate(opened, 1)]


def find_destruction(connection: Connection, row: EntryRow) -> Destruction | None:
    """How a record was forgotten, by the table that names its certificate; None where it was not."""
    here = destructions.c.position == position_of(row.log, row.index)
    by = connection.scalar(select(destructions.c.by_position).where(here))
    found = read_positions(connection, [by]) if by is not None else []
    if not found:
        return None
    department = next(log.department for log in read_logs(connection) if log.number == row.log)
    at = found[0].acknowledged_at // 1000
    return Destruction(row.record_id, department, row.index, found[0].record_id, index_of(by or 0), at)


def is_emptied(connection: Connection, row: EntryRow) -> bool:
    """Whether key, ciphertext and attachments of a record are gone."""
    rows = select(attachments.c.ordinal).where(attachments.c.position == position_of(row.log, row.index)).limit(1)
    return row.wrapped_key is None and not row.payload and connection.scalar(rows) is None


def _check_kind(statement: Statement, now: float) -> None:
    if is_kept(statement.type, statement.issued_at, now):
        raise RecordRefused(
            "kept",
            f"a record of type {statement.type} is not forgotten: the log is read with it, or it says what was given "
            "to others, which is kept for 3 years",
        )


def _destroy(connection: Connection, row: EntryRow, statement: Statement) -> list[str]:
    """Under the lock of the log's head. The names of the blobs that nothing names any more."""
    hold = find_hold(connection, row, statement.payload)
    if hold is not None:
        raise RecordRefused(
            "on-hold",
            f"record {row.record_id} is under legal hold {hold.record_id} ({hold.scope} {hold.value}): "
            "it can be forgotten once that is lifted",
        )
    position = position_of(row.log, row.index)
    _, by = next_position(connection, statement.issuer)
    names = [blob.name for blob in list_blobs(connection, position)]
    connection.execute(insert(destructions).values(position=position, by_position=by))
    connection.execute(update(vault).where(vault.c.position == position).values(wrapped_key=None, payload=b""))
    connection.execute(delete(attachments).where(attachments.c.position == position))
    return names


def _certificate(
    row: EntryRow,
    statement: Statement,
    reason: str,
    basis: str,
    officers: Sequence[Officer],
    files: list[dict[str, Any]],
    now: str,
) -> dict[str, Any]:
    record: dict[str, Any] = {
        "type": DESTROYED,
        "v": 1,
        "occurred_at": now,
        "record": row.record_id,
        "leaf": leaf_hash(row.statement).hex(),
        "record_type": statement.type,
        "reason_kind": reason,
        "basis": basis,
        "files": files,
        "remains": list(REMAINS),
    }
    record |= {name: statement.payload[name] for name in ("case", "inspection") if name in statement.payload}
    return record | ({"officers": [dict(officer) for officer in officers]} if officers else {})


def _older(blobs: Blobs, before: float) -> Iterator[str]:
    return (name for name, written_at in blobs.names() if written_at < before)
