"""Intake: the one way into the ledger. A batch of one department is checked, sealed and appended; then acknowledged.

    known keys? ─► validate ─► seal ─► attachments to the blob store ─► one transaction (sequencer) ─► outcomes

At least once in, exactly once stored: the idempotency key decides. Acknowledged means durable and in the log.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Connection, select
from sqlalchemy.exc import IntegrityError

from ledger.crypto.blind import content_key, content_mark
from ledger.crypto.stream import seal_stream
from ledger.errors import Conflict, HistoryRefused, RecordRefused, StorageFailed
from ledger.keks import KekRing
from ledger.keys import KeyAgent
from ledger.record_types import RecordType, RecordTypes
from ledger.seal import Sealed, Sealer
from ledger.sequencer import Arrival, Head, Sequencer, lock_head
from ledger.store.blobs import CHUNK_BYTES, BlobStore
from ledger.store.database import Database
from ledger.store.models import entries, index_of, logs
from ledger.submission import MAX_KEY_CHARS, Acknowledged, AttachmentSource, Outcome, Refused, Submission

MAX_BATCH = 10_000
MAX_ATTEMPTS = 10

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

_NOT_CONTENT = ("id", "source")
"""Members that may differ between two deliveries of the same content: the drawn id, and which mapping read the row."""


@dataclass(frozen=True, slots=True)
class _Known:
    mark: bytes
    record_id: str
    index: int


@dataclass(slots=True)
class _Candidate:
    """A submission on its way through the batch. `slots` are its places in the outcome list: repeats share one."""

    slots: list[int]
    key: str
    mark: bytes
    record: dict[str, Any]
    kind: RecordType
    sources: tuple[AttachmentSource, ...]


class Intake:
    """Takes records in. Any number of intakes, in any number of processes, may share a database."""

    def __init__(
        self,
        database: Database,
        blobs: BlobStore,
        agent: KeyAgent,
        keks: KekRing,
        types: RecordTypes,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._agent = agent
        self._keks = keks
        self._types = types
        self._clock = clock
        self._sequencer = Sequencer()
        self._sealers: dict[str, Sealer] = {}
        self._content_keys: dict[str, bytes] = {}

    def submit(self, department: str, batch: Sequence[Submission]) -> list[Outcome]:
        """Seals and appends what is new in `batch`, at most `MAX_BATCH` submissions, in order.

        Returns one outcome for each: Acknowledged (durable now) or Refused. One refusal never holds up the others.
        Raises CouldNotRun when the storage fails and HistoryRefused when the log is halted or unknown; then nothing
        of the batch was taken, and the same batch may come again.
        """
        if len(batch) > MAX_BATCH:
            raise RecordRefused("too-large", f"a batch holds at most {MAX_BATCH:,} records; split it")
        for _ in range(MAX_ATTEMPTS):
            outcomes = self._attempt(department, batch)
            if outcomes is not None:
                return outcomes
        raise StorageFailed("other processes keep taking the same ids; submit the batch again when they are done")

    def _attempt(self, department: str, batch: Sequence[Submission]) -> list[Outcome] | None:
        """One try; None when another process took one of the same ids since they were looked up."""
        now = self._clock()
        with self._database.reading() as connection:
            seen, sealer = self._open_log(connection, department, now)
            known = _find_known(connection, seen.number, [s.key for s in batch if _is_key(s.key)])
            taken = _find_taken(connection, [s.record.get("id") for s in batch if isinstance(s.record, dict)])
        outcomes: dict[int, Outcome] = {}
        candidates = self._candidates(department, batch, known, taken, outcomes, now)
        arrivals = self._seal(sealer, candidates, outcomes, now)
        if arrivals:
            try:
                with self._database.writing() as connection:
                    head = lock_head(connection, department)
                    if head.size != seen.size:
                        arrivals = _without_overtaken(connection, head, arrivals, outcomes)
                    self._sequencer.append(connection, head, [arrival for _, arrival in arrivals], int(now * 1000))
            except IntegrityError:
                return None
            _acknowledge(outcomes, [candidate for candidate, _ in arrivals], head)
        return [outcomes[slot] for slot in range(len(batch))]

    # -- what is new, and is it fit --

    def _candidates(
        self,
        department: str,
        batch: Sequence[Submission],
        known: dict[str, _Known],
        taken: set[str],
        outcomes: dict[int, Outcome],
        now: float,
    ) -> list[_Candidate]:
        candidates: dict[str, _Candidate] = {}
        for slot, submission in enumerate(batch):
            try:
                _check_key(submission.key)
                record, mark = self._content(department, submission)
                if (earlier := known.get(submission.key)) is not None:
                    _check_same(submission.key, mark, earlier.mark, earlier.record_id)
                    outcomes[slot] = Acknowledged(submission.key, earlier.record_id, earlier.index, new=False)
                elif (twin := candidates.get(submission.key)) is not None:
                    _check_same(submission.key, mark, twin.mark, twin.record["id"])
                    twin.slots.append(slot)
                else:
                    _take_id(record, taken, now)
                    kind = self._types.validate(record, now)
                    taken.add(record["id"])
                    candidates[submission.key] = _Candidate(
                        [slot], submission.key, mark, record, kind, submission.attachments
                    )
            except RecordRefused as error:
                outcomes[slot] = Refused(submission.key, error)
        return list(candidates.values())

    def _content(self, department: str, submission: Submission) -> tuple[dict[str, Any], bytes]:
        """The record with its attachments described, and the mark of its content."""
        if not isinstance(submission.record, dict):
            raise RecordRefused("not-json", "a record is a JSON object")
        record = dict(submission.record)
        if record.setdefault("department", department) != department:
            named = str(record["department"])[:64]
            raise RecordRefused("department", f"the record names department {named!r}, not {department!r}")
        if submission.attachments:
            record["attachments"] = [_describe(source) for source in submission.attachments]
        elif "attachments" in record:
            raise RecordRefused(
                "attachments", "attachments are described by intake from the files themselves; leave them out"
            )
        content = {name: value for name, value in record.items() if name not in _NOT_CONTENT}
        try:
            canonical = orjson.dumps(content, option=orjson.OPT_SORT_KEYS)
        except TypeError as error:
            raise RecordRefused("not-json", f"the record is not JSON: {error}") from error
        return record, content_mark(self._content_key(department), canonical)

    # -- sealing --

    def _seal(
        self, sealer: Sealer, candidates: list[_Candidate], outcomes: dict[int, Outcome], now: float
    ) -> list[tuple[_Candidate, Arrival]]:
        arrivals = []
        for candidate in candidates:
            data_key = sealer.draw_data_key()
            try:
                sealed = sealer.seal(candidate.kind, candidate.record, int(now), data_key)
                blobs = self._store_attachments(sealed, candidate, data_key) if candidate.sources else ()
                arrivals.append((candidate, Arrival(sealed, candidate.key, candidate.mark, blobs)))
            except RecordRefused as error:
                outcomes |= {slot: Refused(candidate.key, error) for slot in candidate.slots}
        return arrivals

    def _store_attachments(self, sealed: Sealed, candidate: _Candidate, data_key: bytes) -> tuple[str, ...]:
        # Die here: blobs without a row are left behind; the batch comes again and writes them anew.
        return tuple(
            self._blobs.put(
                seal_stream(data_key, _unchanged(source, described), attachment_context(sealed.record_id, number))
            )
            for number, (source, described) in enumerate(
                zip(candidate.sources, candidate.record.get("attachments", ()), strict=True), 1
            )
        )

    def _open_log(self, connection: Connection, department: str, now: float) -> tuple[Head, Sealer]:
        row = connection.execute(select(logs).where(logs.c.department == department)).one_or_none()
        if row is None:
            raise HistoryRefused(
                f"there is no log of department {department!r}: run `yunxi department add {department}`"
            )
        kek = self._keks.current(connection, row.log, department)
        # the key in force at the very second that the statements will carry: no key ever signs outside its interval
        signer = self._agent.statement_signer(department, int(now))
        sealer = self._sealers.get(department)
        if sealer is None or sealer.kek.epoch != kek.epoch or sealer.kid != signer.kid:
            sealer = self._sealers[department] = Sealer(department, signer, kek, self._agent.index_key())
        return Head(row.log, row.department, row.origin, row.size, row.root), sealer

    def _content_key(self, department: str) -> bytes:
        key = self._content_keys.get(department)
        if key is None:
            key = self._content_keys[department] = content_key(self._agent.index_key(), department)
        return key


def attachment_context(record_id: str, number: int) -> bytes:
    """What binds an attachment's ciphertext to its place: `number` counts from 1 within the record."""
    return f"yunxi attachment v1\x1f{record_id}\x1f{number}".encode()


def _find_known(connection: Connection, log: int, keys: Sequence[str]) -> dict[str, _Known]:
    query = select(entries.c.key, entries.c.content_mark, entries.c.record_id, entries.c.position)
    found: dict[str, _Known] = {}
    for start in range(0, len(keys), 500):
        rows = connection.execute(query.where(entries.c.log == log, entries.c.key.in_(keys[start : start + 500])))
        found |= {
            row.key: _Known(row.content_mark, str(UUID(bytes=row.record_id)), index_of(row.position)) for row in rows
        }
    return found


def _without_overtaken(
    connection: Connection, head: Head, arrivals: list[tuple[_Candidate, Arrival]], outcomes: dict[int, Outcome]
) -> list[tuple[_Candidate, Arrival]]:
    """The arrivals that are still new; for those whose keys another process took meanwhile, its records count.

    Beginning anew instead could go on for ever: whoever takes the same keys in smaller batches is always faster.
    """
    known = _find_known(connection, head.number, [arrival.key for _, arrival in arrivals])
    for candidate, _ in arrivals:
        if (earlier := known.get(candidate.key)) is not None:
            outcomes |= dict.fromkeys(candidate.slots, _answer(candidate.key, candidate.mark, earlier))
    return [(candidate, arrival) for candidate, arrival in arrivals if candidate.key not in known]


def _answer(key: str, mark: bytes, earlier: _Known) -> Outcome:
    try:
        _check_same(key, mark, earlier.mark, earlier.record_id)
    except Conflict as error:
        return Refused(key, error)
    return Acknowledged(key, earlier.record_id, earlier.index, new=False)


def _find_taken(connection: Connection, record_ids: list[Any]) -> set[str]:
    query = select(entries.c.record_id)
    wanted = [UUID(i).bytes for i in record_ids if isinstance(i, str) and _UUID.fullmatch(i)]
    taken: set[str] = set()
    for start in range(0, len(wanted), 500):
        here = entries.c.record_id.in_(wanted[start : start + 500])
        taken |= {str(UUID(bytes=found)) for found in connection.scalars(query.where(here))}
    return taken


def _take_id(record: dict[str, Any], taken: set[str], now: float) -> None:
    record_id = record.setdefault("id", _uuid7(now))
    if isinstance(record_id, str) and record_id in taken:
        raise Conflict(
            "conflict", f"record id {record_id} is taken by another record; leave `id` out to have one drawn"
        )


def _is_key(key: object) -> bool:
    return isinstance(key, str) and 0 < len(key) <= MAX_KEY_CHARS and key.isprintable()


def _check_key(key: str) -> None:
    if not _is_key(key):
        raise RecordRefused("bad-key", f"an idempotency key is 1 to {MAX_KEY_CHARS} printable characters")


def _check_same(key: str, mark: bytes, earlier_mark: bytes, record_id: str) -> None:
    if mark != earlier_mark:
        raise Conflict(
            "conflict",
            f"key {key!r} is taken by record {record_id} with other content; if the record changed, submit it under a "
            "new key and name the old one in `amends`",
        )


def _acknowledge(outcomes: dict[int, Outcome], candidates: list[_Candidate], head: Head) -> None:
    for index, candidate in enumerate(candidates, head.size):
        for number, slot in enumerate(candidate.slots):
            outcomes[slot] = Acknowledged(candidate.key, candidate.record["id"], index, new=number == 0)


def _uuid7(now: float) -> str:
    """A time-ordered UUID (RFC 9562 section 5.7): 48 bits of milliseconds, 74 random bits."""
    milliseconds = int(now * 1000).to_bytes(6, "big")
    drawn = int.from_bytes(milliseconds + os.urandom(10), "big")
    drawn = drawn & ~(0xF << 76) & ~(0x3 << 62) | 0x7 << 76 | 0x2 << 62
    text = f"{drawn:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _describe(source: AttachmentSource) -> dict[str, Any]:
    digest, size = hashlib.sha256(), 0
    for chunk in _read(source.path):
        digest.update(chunk)
        size += len(chunk)
    return {"name": source.name, "media_type": source.media_type, "size": size, "sha256": digest.hexdigest()}


def _unchanged(source: AttachmentSource, described: dict[str, Any]) -> Iterator[bytes]:
    digest = hashlib.sha256()
    for chunk in _read(source.path):
        digest.update(chunk)
        yield chunk
    if digest.hexdigest() != described["sha256"]:
        raise RecordRefused(
            "attachments", f"attachment {source.name} changed while it was read; submit the record again"
        )


def _read(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk
    except OSError as error:
        raise RecordRefused("attachments", f"attachment {path.name} cannot be read: {error.strerror}") from error
