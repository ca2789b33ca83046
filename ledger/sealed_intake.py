"""Intake of what terminals sealed: the node checks everything that can be checked without reading it, and appends.

    known keys? ─► statement, signer, date, type ─► payload and keys by their shape ─► uploads ─► one transaction

For each record, in this order, with the reason of the refusal:

1. The idempotency key can be one (`bad-key`); a known key answers with its record (`conflict` for another mark).
2. The statement parses strictly and holds nothing but its claims (`statement`), and is the department's (`department`).
3. A terminal signed it that is enrolled for the department (`unknown-terminal`) and not revoked (`revoked`); not the
   node's own key (`not-a-terminal`), which would let a node pass its own sealing off as a terminal's. The signature is
   good (`signature`).
4. It is dated within the key's interval (`key-not-valid`), not in the future (`sealed-ahead`: comes again later), not
   longer ago than the terminal may be offline (`sealed-too-long-ago`).
5. The type is known (`unknown-type`), not the service's own (`reserved-type`) and no decision, which only the node can
   freeze (`manifest`); what stands in clear follows it (`schema`). The department held the matter on some day until it
   was sealed (`matter-not-held`); whether on that of the event, which is sealed, the terminal has checked.
6. Payload (`payload`), data key (`wrapped-key`), and the KEK, wrapped to the recipient that the terminal was enrolled
   with (`recipient`) and named once (`kek`), have their shapes. Whether they open, only the department can tell.
7. The record id is free (`conflict`), and every attachment that it brings was uploaded whole (`unknown-upload`,
   `upload-digest`).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlalchemy import Connection, select

from ledger.admission import (
    MAX_ATTEMPTS,
    MAX_BATCH,
    Candidate,
    append,
    check_free,
    check_key,
    find_known,
    find_taken,
    is_key,
    is_known,
    open_log,
)
from ledger.attachments import StoredBlob
from ledger.crypto.envelope import WRAPPED_KEK_BYTES, WRAPPED_KEY_BYTES, check_payload
from ledger.errors import Malformed, RecordRefused, SignatureInvalid, StorageFailed
from ledger.formats.casefile import DECISION
from ledger.formats.encoding import b64url_decode
from ledger.formats.jwk import kid_of
from ledger.formats.merkle import leaf_hash
from ledger.formats.sdjwt import STATEMENT_CLAIMS, Statement, parse_statement
from ledger.keks import KekRing, StoredKek
from ledger.keys import KeyAgent
from ledger.matters import Matters
from ledger.record_types import CLEAR, RecordTypes
from ledger.seal import Sealed
from ledger.sealed_format import MARK_BYTES, MAX_BLOBS, MAX_PAYLOAD_BYTES, NAME_BYTES, SealedSubmission
from ledger.sequencer import Arrival, Head, Sequencer
from ledger.store.database import Database
from ledger.store.models import keks
from ledger.submission import Outcome, Refused
from ledger.terminals import SKEW_S, Terminal, read_terminals
from ledger.uploads import Finished, find_finished

if TYPE_CHECKING:
    from ledger.node import Node

MAX_SUBJECTS = 50

_BLIND_INDEX = re.compile(r"[A-Za-z0-9_-]{22}")
_HEADER = {"alg", "typ", "kid"}


@dataclass(slots=True)
class _Candidate(Candidate):
    arrival: Arrival
    kek: StoredKek


@dataclass(frozen=True, slots=True)
class _Known:
    """What the checks of one batch compare with, read in one transaction."""

    terminals: dict[str, Terminal]
    own: frozenset[str]
    keks: dict[tuple[str, bytes], tuple[str, bytes]]
    finished: dict[str, Finished]
    taken: set[str]


class SealedIntake:
    """Takes in what terminals sealed. Any number of intakes, in any number of processes, may share a database; one
    object serves one thread."""

    def __init__(
        self,
        database: Database,
        agent: KeyAgent,
        ring: KekRing,
        types: RecordTypes,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._agent = agent
        self._ring = ring
        self._types = types
        self._clock = clock
        self._matters = Matters()
        self._sequencer = Sequencer()

    @classmethod
    def of(cls, node: Node) -> SealedIntake:
        """The intake of a node."""
        return cls(node.database, node.agent, node.keks, node.types, node.clock)

    def submit(self, department: str, batch: Sequence[SealedSubmission]) -> list[Outcome]:
        """Appends what is new in `batch`, in order, and answers as `Intake.submit` does, raising what it raises.

        Who may submit for `department` is for the caller to know; that a terminal of it sealed the records is checked
        here. Nothing in the batch is opened, and nothing here could.
        """
        if len(batch) > MAX_BATCH:
            raise RecordRefused("too-large", f"a batch holds at most {MAX_BATCH:,} records; split it")
        for _ in range(MAX_ATTEMPTS):
            outcomes = self._attempt(department, batch)
            if outcomes is not None:
                return outcomes
        raise StorageFailed("other processes keep taking the same ids; submit the batch again when they are done")

    def _attempt(self, department: str, batch: Sequence[SealedSubmission]) -> list[Outcome] | None:
        now = self._clock()
        with self._database.reading() as connection:
            opened = open_log(connection, department)
            seen = opened.head
            self._matters.refresh(connection, seen.number, department, opened.list_version)
            known = find_known(connection, seen.number, [s.key for s in batch if is_key(s.key)])
            facts = self._read(connection, seen, batch, now)
        outcomes: dict[int, Outcome] = {}
        candidates: dict[str, _Candidate] = {}
        for slot, submission in enumerate(batch):
            try:
                check_key(submission.key)
                if not is_known(slot, submission.key, submission.mark, known, candidates, outcomes):
                    candidates[submission.key] = self._check(department, slot, submission, facts, now)
            except RecordRefused as error:
                outcomes[slot] = Refused(submission.key, error)
        arrivals = [(candidate, candidate.arrival) for candidate in candidates.values()]
        wrapped = {candidate.key: candidate.kek for candidate in candidates.values()}

        def place(connection: Connection, head: Head, found: list[Arrival]) -> list[Arrival]:
            # epochs are given inside the transaction: the head's lock makes their numbers this batch's own
            return [self._place(connection, head, arrival, wrapped[arrival.key], int(now)) for arrival in found]

        if not append(self._database, self._sequencer, seen, arrivals, outcomes, now, place):
            return None
        return [outcomes[slot] for slot in range(len(batch))]

    def _place(self, connection: Connection, head: Head, arrival: Arrival, kek: StoredKek, now: int) -> Arrival:
        epoch = self._ring.keep(connection, head.number, kek, now)
        return replace(arrival, sealed=replace(arrival.sealed, epoch=epoch))

    def _read(self, connection: Connection, seen: Head, batch: Sequence[SealedSubmission], now: float) -> _Known:
        signer = self._agent.statement_signer(seen.department, now)
        query = select(keks.c.terminal, keks.c.name, keks.c.recipient, keks.c.wrapped)
        names = list({s.kek.name for s in batch})
        rows = [
            row
            for start in range(0, len(names), 500)
            for row in connection.execute(
                query.where(keks.c.log == seen.number, keks.c.name.in_(names[start : start + 500]))
            )
        ]
        uploads = [blob.upload for s in batch for blob in s.blobs]
        return _Known(
            terminals={terminal.kid: terminal for terminal in read_terminals(connection, seen.department)},
            own=frozenset({signer.kid, *(_kid(public) for public in signer.others)}),
            keks={(row.terminal, row.name): (row.recipient, row.wrapped) for row in rows},
            finished=find_finished(connection, self._ring, seen.department, uploads, now) if uploads else {},
            taken=find_taken(connection, [_claimed_id(s.statement) for s in batch]),
        )

    # -- the checks, numbered as above --

    def _check(self, department: str, slot: int, submission: SealedSubmission, facts: _Known, now: float) -> _Candidate:
        # 2. the statement
        statement = _parse(submission.statement)
        if statement.issuer != department:
            raise RecordRefused("department", f"the statement is of {statement.issuer[:64]!r}, not of {department!r}")
        # 3. the signer
        terminal = _find_terminal(statement, facts)
        try:
            statement.verify_signature(terminal.key)
        except SignatureInvalid as error:
            raise RecordRefused("signature", str(error)) from error
        # 4. the date
        _check_date(statement, terminal, now)
        # 5. the type, and what stands in clear
        self._check_type(statement)
        self._matters.check_begun(department, statement.payload.get("matter"), statement.issued_at)
        # 6. ciphertext and keys
        kek = _check_keys(submission, terminal, facts)
        # 7. id and uploads
        check_free(statement.record_id, facts.taken)
        blobs = _take_blobs(submission, facts)
        facts.taken.add(statement.record_id)
        facts.keks[terminal.kid, submission.kek.name] = (submission.kek.recipient, submission.kek.wrapped)
        sealed = Sealed(
            record_id=statement.record_id,
            statement=statement.ascii,
            leaf=leaf_hash(statement.ascii),
            payload=submission.payload,
            wrapped_key=submission.wrapped_key,
            epoch=0,
            case=statement.payload.get("case"),
        )
        arrival = Arrival(sealed, submission.key, submission.mark, blobs)
        return _Candidate([slot], submission.key, submission.mark, statement.record_id, arrival, kek)

    def _check_type(self, statement: Statement) -> None:
        kind = self._types.get(statement.type, statement.version)
        kind.check_handed_in()
        if statement.type == DECISION:
            raise RecordRefused(
                "manifest", "a decision freezes its case, which only the node can see whole: hand it in at the node"
            )
        claims = statement.payload
        clear = {"id": claims["jti"], "department": claims["iss"]}
        kind.validate_clear(clear | {name: claims[name] for name in CLEAR if name in claims})
        most = len(kind.units) + MAX_BLOBS
        if not 0 < len(statement.digests) <= most:
            raise RecordRefused("statement", f"a {statement.type} has 1 to {most} parts, not {len(statement.digests)}")


def _parse(data: bytes) -> Statement:
    """The statement, as `ledger.seal` writes one: whatever else it held would stand in the log for all to read."""
    try:
        statement = parse_statement(data)
        header = orjson.loads(b64url_decode(data.split(b".")[0].decode("ascii"), "statement header"))
    except Malformed as error:
        raise RecordRefused("statement", str(error)) from error
    claims = statement.payload
    if header.keys() != _HEADER or not claims.keys() <= STATEMENT_CLAIMS:
        raise RecordRefused("statement", "the statement has members that no statement of a record has")
    subjects = claims["subj"]
    if len(subjects) > MAX_SUBJECTS or subjects != sorted(set(subjects)):
        raise RecordRefused("statement", f"subj must hold at most {MAX_SUBJECTS} indexes, sorted, each once")
    if not all(_BLIND_INDEX.fullmatch(subject) for subject in subjects) or claims["_sd"] != sorted(claims["_sd"]):
        raise RecordRefused("statement", "subj must hold blind indexes of 16 bytes, and _sd sorted digests")
    return statement


def _find_terminal(statement: Statement, facts: _Known) -> Terminal:
    if statement.kid in facts.own:
        raise RecordRefused("not-a-terminal", "the statement is signed with the node's own key, which seals by itself")
    terminal = facts.terminals.get(statement.kid)
    if terminal is None:
        raise RecordRefused("unknown-terminal", "no terminal of this department has that key: enrol it at this node")
    if terminal.revoked_at is not None:
        raise RecordRefused("revoked", f"terminal {terminal.name} was revoked: nothing more is taken from it")
    return terminal


def _check_date(statement: Statement, terminal: Terminal, now: float) -> None:
    if statement.issued_at > now + SKEW_S:
        raise RecordRefused(
            "sealed-ahead", "the statement is dated in the future: set the terminal's clock, and submit it again later"
        )
    if statement.issued_at < terminal.valid_from:
        raise RecordRefused("key-not-valid", f"the statement is dated before terminal {terminal.name} was enrolled")
    if statement.issued_at < now - terminal.offline_s:
        days = terminal.offline_s // 86_400
        raise RecordRefused(
            "sealed-too-long-ago",
            f"the statement is dated more than {days} days ago: open it at the terminal and seal it again",
        )


def _check_keys(submission: SealedSubmission, terminal: Terminal, facts: _Known) -> StoredKek:
    if len(submission.payload) > MAX_PAYLOAD_BYTES:
        raise RecordRefused("payload", f"a payload has at most {MAX_PAYLOAD_BYTES:,} bytes")
    try:
        check_payload(submission.payload)
    except Malformed as error:
        raise RecordRefused("payload", str(error)) from error
    if len(submission.wrapped_key) != WRAPPED_KEY_BYTES or len(submission.mark) != MARK_BYTES:
        raise RecordRefused("wrapped-key", f"a wrapped data key has {WRAPPED_KEY_BYTES} bytes, a mark {MARK_BYTES}")
    kek = submission.kek
    if kek.recipient != terminal.recipient_kid:
        raise RecordRefused("recipient", f"terminal {terminal.name} is enrolled to seal to another key than that")
    known = facts.keks.get((terminal.kid, kek.name))
    if len(kek.wrapped) != WRAPPED_KEK_BYTES or len(kek.name) != NAME_BYTES:
        raise RecordRefused("kek", f"a wrapped KEK has {WRAPPED_KEK_BYTES} bytes and a name of {NAME_BYTES}")
    if known not in (None, (kek.recipient, kek.wrapped)):
        raise RecordRefused("kek", "the terminal gave one name to two key-encryption keys")
    return StoredKek(kek.recipient, kek.wrapped, terminal.kid, kek.name)


def _take_blobs(submission: SealedSubmission, facts: _Known) -> tuple[StoredBlob, ...]:
    names = [blob.upload for blob in submission.blobs]
    if len(names) > MAX_BLOBS:
        raise RecordRefused("attachments", f"a record has at most {MAX_BLOBS} attachments")
    for blob in submission.blobs:
        found = facts.finished.get(blob.upload)
        if found is None or found.key is not None or names.count(blob.upload) > 1:
            raise RecordRefused(
                "unknown-upload", f"sealed upload {blob.upload[:32]!r} is not whole, taken, cancelled or expired"
            )
        if (found.size, found.sha256) != (blob.size, blob.sha256):
            raise RecordRefused("upload-digest", f"upload {blob.upload} is not the attachment that the record brings")
    for name in names:
        del facts.finished[name]
    return tuple(StoredBlob(name, upload=name) for name in names)


def _claimed_id(statement: bytes) -> str | None:
    try:
        return parse_statement(statement).record_id
    except Malformed:
        return None


def _kid(public: bytes) -> str:
    return kid_of(Ed25519PublicKey.from_public_bytes(public))
