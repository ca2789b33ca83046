"""Intake: the one way into the ledger. A batch of one department is checked, sealed and appended; then acknowledged.

    known keys? ─► validate ─► seal ─► attachments to the blob store ─► one transaction (sequencer) ─► outcomes

A decision is sealed with the manifest of its case (`ledger.freeze`), made under the head that it is appended to: where
the log moved in between, it is made and sealed again inside the transaction, behind the lock that lets nobody else in.

At least once in, exactly once stored: the idempotency key decides. Acknowledged means durable and in the log.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from ledger.admission import (
    MAX_ATTEMPTS,
    MAX_BATCH,
    Candidate,
    Known,
    append,
    check_free,
    check_key,
    find_known,
    find_taken,
    is_key,
    is_known,
    open_log,
)
from ledger.attachments import StoredBlob, attachment_context, describe, unchanged
from ledger.crypto.blind import content_key, content_mark
from ledger.crypto.stream import seal_stream, wrap_stream_key
from ledger.errors import CouldNotRun, HistoryRefused, RecordRefused, StorageFailed
from ledger.freeze import Freezer, Frozen, check_unfrozen, freezes
from ledger.keks import KekRing
from ledger.keys import KeyAgent
from ledger.matters import Matters
from ledger.record_types import RecordType, RecordTypes
from ledger.seal import Sealed, Sealer
from ledger.sequencer import Arrival, Head, Sequencer
from ledger.store.blobs import Blobs
from ledger.store.database import Database
from ledger.store.models import logs
from ledger.submission import AttachmentSource, Held, Outcome, Refused, Submission, content_of, draw_record_id
from ledger.uploads import Claim, Finished, claim_uploads, find_finished


@dataclass(slots=True)
class _Candidate(Candidate):
    record: dict[str, Any]
    kind: RecordType
    sources: tuple[AttachmentSource, ...]
    claims: tuple[Claim, ...]


class Intake:
    """Takes records in. Any number of intakes, in any number of processes, may share a database."""

    def __init__(
        self,
        database: Database,
        blobs: Blobs,
        agent: KeyAgent,
        keks: KekRing,
        types: RecordTypes,
        clock: Callable[[], float] = time.time,
        require_time: Callable[[str], None] | None = None,
    ) -> None:
        """`require_time` raises CouldNotRun where a department's decisions must wait for trusted time."""
        self._database = database
        self._blobs = blobs
        self._agent = agent
        self._keks = keks
        self._types = types
        self._clock = clock
        self._require_time = require_time
        self.matters = Matters()
        self._sequencer = Sequencer()
        self._sealers: dict[str, Sealer] = {}
        self._content_keys: dict[str, bytes] = {}

    def submit(
        self,
        department: str,
        batch: Sequence[Submission],
        *,
        beside: Callable[[Connection], None] | None = None,
    ) -> list[Outcome]:
        """Seals and appends what is new in `batch`, at most `MAX_BATCH` submissions, in order.

        `beside` writes more in the same transaction; it is not called where nothing of the batch is new.
        Returns one outcome for each: Acknowledged (durable now) or Refused. One refusal never holds up the others.
        Raises CouldNotRun when the storage fails and HistoryRefused when the log is halted or unknown; then nothing
        of the batch was taken, and the same batch may come again.
        """
        if len(batch) > MAX_BATCH:
            raise RecordRefused("too-large", f"a batch holds at most {MAX_BATCH:,} records; split it")
        for _ in range(MAX_ATTEMPTS):
            outcomes = self._attempt(department, batch, beside)
            if outcomes is not None:
                return outcomes
        raise StorageFailed("other processes keep taking the same ids; submit the batch again when they are done")

    def look_up(self, department: str, batch: Sequence[Submission]) -> list[Held | None]:
        """What the log holds under each key, and whether with the same content; None: the key is new. Takes nothing in.

        Attachments are read and hashed where the key is known. `same` is False too for what could not be taken in.
        May run beside `submit`, in another thread.
        Raises HistoryRefused for an unknown department, StorageFailed.
        """
        with self._database.reading() as connection:
            number = connection.scalar(select(logs.c.log).where(logs.c.department == department))
            if number is None:
                raise HistoryRefused(
                    f"there is no log of department {department!r}: run `yunxi department add {department}`"
                )
            known = find_known(connection, number, _keys(batch))
        return [self._held(department, item, known.get(item.stored_key)) for item in batch]

    def _held(self, department: str, submission: Submission, known: Known | None) -> Held | None:
        if known is None:
            return None
        try:
            same = self._content(department, submission)[1] == known.mark
        except RecordRefused:
            same = False
        return Held(known.record_id, known.index, same)

    def _attempt(
        self, department: str, batch: Sequence[Submission], beside: Callable[[Connection], None] | None
    ) -> list[Outcome] | None:
        """One try; None when another process took one of the same ids since they were looked up."""

        def place(connection: Connection, head: Head, arrivals: list[Arrival]) -> list[Arrival]:
            if arrivals:
                self._keks.require(connection, head.number, arrivals[0].sealed.epoch)
                if beside is not None:
                    beside(connection)
            if decisions and head.size != seen.size:
                return self._freeze_again(connection, sealer, head, arrivals, decisions, now)
            return arrivals

        now = self._clock()
        with self._database.reading() as connection:
            seen, sealer = self._open_log(connection, department, now)
            known = find_known(connection, seen.number, _keys(batch))
            taken = find_taken(connection, [s.record.get("id") for s in batch if isinstance(s.record, dict)])
            named = [source.upload for submission in batch for source in submission.uploads]
            finished = find_finished(connection, self._keks, department, named, now) if named else {}
        outcomes: dict[int, Outcome] = {}
        candidates = self._candidates(department, batch, known, taken, finished, outcomes, now)
        decisions = {c.key: c for c in candidates if freezes(c.record)}
        arrivals = self._seal(sealer, seen, candidates, outcomes, now)
        if not append(self._database, self._sequencer, seen, arrivals, outcomes, now, place):
            return None
        return [outcomes[slot] for slot in range(len(batch))]

    # -- what is new, and is it fit --

    def _candidates(
        self,
        department: str,
        batch: Sequence[Submission],
        known: dict[str, Known],
        taken: set[str],
        finished: dict[str, Finished],
        outcomes: dict[int, Outcome],
        now: float,
    ) -> list[_Candidate]:
        candidates: dict[str, _Candidate] = {}
        for slot, submission in enumerate(batch):
            key = submission.stored_key
            try:
                check_key(key, by_service=submission.by_service)
                record, mark = self._content(department, submission)
                if not is_known(slot, key, mark, known, candidates, outcomes):
                    check_free(record.setdefault("id", draw_record_id(now)), taken)
                    kind = self._types.validate(record, now, by_service=submission.by_service)
                    self.matters.check(department, record.get("matter"), record["occurred_at"])
                    if freezes(record):
                        self._check_decision(department, record)
                    claims = claim_uploads(submission.uploads, finished)
                    taken.add(record["id"])
                    candidates[key] = _Candidate(
                        [slot], key, mark, record["id"], record, kind, submission.attachments, claims
                    )
            except RecordRefused as error:
                outcomes[slot] = Refused(key, error)
        return list(candidates.values())

    def _content(self, department: str, submission: Submission) -> tuple[dict[str, Any], bytes]:
        """The record with its attachments described, and the mark of its content."""
        if not isinstance(submission.record, dict):
            raise RecordRefused("not-json", "a record is a JSON object")
        record = dict(submission.record)
        if record.setdefault("department", department) != department:
            named = str(record["department"])[:64]
            raise RecordRefused("department", f"the record names department {named!r}, not {department!r}")
        if submission.attachments or submission.uploads:
            record["attachments"] = describe(submission)
        elif "attachments" in record:
            raise RecordRefused(
                "attachments", "attachments are described by intake from the files themselves; leave them out"
            )
        return record, content_mark(self._content_key(department), content_of(record))

    # -- sealing --

    def _check_decision(self, department: str, record: dict[str, Any]) -> None:
        check_unfrozen(record)
        try:
            if self._require_time is not None:
                self._require_time(department)
        except CouldNotRun as error:
            raise RecordRefused("no-trusted-time", str(error)) from error

    def _seal(
        self, sealer: Sealer, seen: Head, candidates: list[_Candidate], outcomes: dict[int, Outcome], now: float
    ) -> list[tuple[_Candidate, Arrival]]:
        arrivals: list[tuple[_Candidate, Arrival]] = []
        freezer = Freezer(seen)
        ahead: list[Sealed] = []
        for candidate in candidates:
            try:
                frozen = None
                if freezes(candidate.record):
                    with self._database.reading() as connection:
                        frozen = freezer.freeze(connection, ahead, candidate.record["case"])
                arrivals.append((candidate, self._seal_one(sealer, candidate, now, frozen)))
                ahead.append(arrivals[-1][1].sealed)
            except RecordRefused as error:
                outcomes |= {slot: Refused(candidate.key, error) for slot in candidate.slots}
        return arrivals

    def _seal_one(self, sealer: Sealer, candidate: _Candidate, now: float, frozen: Frozen | None) -> Arrival:
        data_key = sealer.draw_data_key()
        record = candidate.record if frozen is None else frozen.into(candidate.record)
        sealed = sealer.seal(candidate.kind, record, int(now), data_key)
        blobs: tuple[StoredBlob, ...] = ()
        if "attachments" in candidate.record:
            blobs = self._store_attachments(sealed, candidate, data_key) + _taken_over(sealed, candidate, data_key)
        if frozen is not None:
            blobs += (self._store_manifest(sealed, frozen, len(blobs) + 1, data_key),)
        return Arrival(sealed, candidate.key, candidate.mark, blobs)

    def _freeze_again(
        self,
        connection: Connection,
        sealer: Sealer,
        head: Head,
        arrivals: list[Arrival],
        decisions: dict[str, _Candidate],
        now: float,
    ) -> list[Arrival]:
        """The arrivals, each decision sealed anew over what stands before it now. `head` is locked, so it stays so."""
        # Die here: as in `_store_attachments`.
        placed: list[Arrival] = []
        freezer = Freezer(head)
        ahead: list[Sealed] = []
        for arrival in arrivals:
            candidate = decisions.get(arrival.key)
            if candidate is not None:
                frozen = freezer.freeze(connection, ahead, candidate.record["case"])
                try:
                    arrival = self._seal_one(sealer, candidate, now, frozen)
                except RecordRefused as error:  # a file that changed since it was read the first time
                    raise StorageFailed(str(error)) from error
            placed.append(arrival)
            ahead.append(arrival.sealed)
        return placed

    def _store_manifest(self, sealed: Sealed, frozen: Frozen, number: int, data_key: bytes) -> StoredBlob:
        pieces = seal_stream(data_key, [frozen.text], attachment_context(sealed.record_id, number))
        return StoredBlob(self._blobs.put(pieces))

    def _store_attachments(self, sealed: Sealed, candidate: _Candidate, data_key: bytes) -> tuple[StoredBlob, ...]:
        # Die here: blobs without a row are left behind; the batch comes again and writes them anew.
        described = candidate.record.get("attachments", ())
        return tuple(
            StoredBlob(
                self._blobs.put(
                    seal_stream(data_key, unchanged(source, members), attachment_context(sealed.record_id, number))
                )
            )
            for number, (source, members) in enumerate(zip(candidate.sources, described, strict=False), 1)
        )

    def _open_log(self, connection: Connection, department: str, now: float) -> tuple[Head, Sealer]:
        opened = open_log(connection, department)
        head = opened.head
        self.matters.refresh(connection, head.number, department, opened.list_version)
        kek = self._keks.of_epoch(connection, head.number, department, opened.epoch)
        # the key in force at the very second that the statements will carry: no key ever signs outside its interval
        signer = self._agent.statement_signer(department, int(now))
        sealer = self._sealers.get(department)
        if sealer is None or sealer.kek.epoch != kek.epoch or sealer.kid != signer.kid:
            sealer = self._sealers[department] = Sealer(department, signer, kek, self._agent.index_key())
        return head, sealer

    def _content_key(self, department: str) -> bytes:
        key = self._content_keys.get(department)
        if key is None:
            key = self._content_keys[department] = content_key(self._agent.index_key(), department)
        return key


def _keys(batch: Sequence[Submission]) -> list[str]:
    return [submission.stored_key for submission in batch if is_key(submission.key)]


def _taken_over(sealed: Sealed, candidate: _Candidate, data_key: bytes) -> tuple[StoredBlob, ...]:
    """Uploads stand behind the files; their bytes stay where they are, only their keys are wrapped anew."""
    first = len(candidate.sources) + 1
    return tuple(
        StoredBlob(
            claim.upload,
            wrap_stream_key(data_key, claim.key, attachment_context(sealed.record_id, number)),
            claim.upload,
        )
        for number, claim in enumerate(candidate.claims, first)
    )
