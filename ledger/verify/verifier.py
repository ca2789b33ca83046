"""The recipe: how a presentation and its receipt become facts.

     1. Trust. The verifier is built from a trust file that names somebody; there is no default.
     2. Statement. It parses, strictly.
     3. Key. The trust file knows the key that the statement names, for statements, as a key of the very department that
        the statement is from, and valid at the sealing time that the statement gives.
     4. Signature. That key signed the statement.
     5. Disclosures. Every unit shown is one of those that the statement commits to, and none is shown twice.
     6. Receipt. It parses, strictly.
     7. Log. The receipt is from the log of the department that the statement is from.
     8. Checkpoint. The log's key signed it, or one that the log had earlier.
     9. Witnesses. Every cosignature in the name of a witness of the trust file is good; the required witnesses are
        among them, and as many hands as the quorum asks: operators, each once, but for who keeps the log. Unknown names
        are ignored.
    10. Inclusion. The path leads from the statement's bytes to the checkpoint's root.
    11. Anchor. If the receipt names one: it is on the trust file's chain and contract, and the log's key signed that
        this checkpoint is anchored there.
    12. Anchor evidence, if handed in. It parses, strictly, and is about the trust file's chain and contract, the
        department's log, and this checkpoint.
    13. Seals. Its blocks follow one another; every seal on them is by a validator of the trust file; as many different
        ones as the threshold asks sealed. The first block is the one that the receipt's anchor names.
    14. Transaction. The proof leads from that block to a transaction that was signed for this chain, and it is the one
        that the receipt's anchor names.
    15. Event. The proof leads from that block to the transaction's receipt: it succeeded, and in it the contract says
        that it accepted this size and root for this log.
    16. Attachments, one by one, if handed in: size and SHA-256 are those of a unit that is shown.
    17. Time stamps, one by one, if handed in: each is over the checkpoint's text, leads to an authority of the trust
        file, and was renewed in time where renewals are handed in (ledger/verify/timestamps.py).

Without a receipt steps 6 to 15 and 17 are left out, without anchor evidence 12 to 15, and the facts say so. No clock is
read: every time comes from the evidence. Not checked: everything that `sentences` lists as not proven.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, BinaryIO, TypeVar, cast

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.x509 import Certificate

from ledger.errors import Malformed, Refusal, SignatureInvalid
from ledger.formats.checkpoint import Checkpoint, open_checkpoint_by
from ledger.formats.cosignature import verify_cosignature
from ledger.formats.merkle import leaf_hash, verify_inclusion
from ledger.formats.note import VerifierKey
from ledger.formats.receipt import AnchorHint, decode_extra, signed_text, verify_anchor_hint
from ledger.formats.sdjwt import (
    MAX_PRESENTATION_BYTES,
    Disclosure,
    Statement,
    open_disclosures,
    parse_statement,
)
from ledger.formats.timestamp import read_roots
from ledger.formats.tlogproof import TlogProof
from ledger.formats.trust import Department, Key, Trust, Witness
from ledger.verify.chain_evidence import SealRule, verify_evidence
from ledger.verify.control import outside_hands
from ledger.verify.facts import Attachment, Cosigned, Facts, Logged, OnChain, Stamped, Unit
from ledger.verify.refusals import refusal
from ledger.verify.timestamps import verify_time
from ledger.verify.words import Moment, Span

ATTACHMENT_PREFIX = "attachment-"
CHUNK_BYTES = 1024 * 1024

K = TypeVar("K")
V = TypeVar("V")

_MEMO_ENTRIES = 256
_REFERENCES = ("matter", "case", "inspection", "amends")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class _Opened:
    """A checkpoint that passed steps 8 and 9."""

    checkpoint: Checkpoint
    cosigned: tuple[Cosigned, ...]
    log_key_ended: int | None


class Verifier:
    """Verifies any number of records against one trust file. May be shared between threads.

    What was found about checkpoints, anchors, anchor evidence and time stamps is remembered, by all their bytes, for
    many receipts carry the same one; at most 256 of each, so memory does not grow. A refusal is remembered, too: else a
    case file could have one costly forgery judged once for each of its items.
    """

    def __init__(self, trust: Trust) -> None:
        """Raises Malformed or TrustRefused where the trust file says of its validators what does not fit together."""
        # 1
        self._trust = trust
        self._rule = SealRule(trust.chain)
        self._opened: dict[bytes, _Opened | Refusal] = {}
        self._anchors: dict[tuple[bytes, bytes], AnchorHint | Refusal] = {}
        self._on_chain: dict[tuple[bytes, bytes, bytes], OnChain | Refusal] = {}
        self._stamped: dict[tuple[bytes, bytes, bytes], Stamped | Refusal] = {}
        self._roots: list[Certificate] | None = None

    @property
    def trust(self) -> Trust:
        """What it verifies against."""
        return self._trust

    def verify(self, presentation: bytes, receipt: bytes | None, evidence: bytes | None = None) -> Facts:
        """The facts of one record. `evidence` is a file of anchor evidence, which needs the receipt.

        Raises Malformed, KeyRefused or the subclass of NotProven whose step failed.
        """
        # 2
        entry, joined = _split(presentation)
        statement = parse_statement(entry)
        # 3
        department, key = self._key(statement)
        # 4
        statement.verify_signature(cast(Ed25519PublicKey, key.public))
        # 5
        disclosures = open_disclosures(statement, joined)
        # 6 to 11
        logged = None if receipt is None else self.verify_receipt(department, entry, receipt)
        facts = Facts(
            record_id=statement.record_id,
            type=statement.type,
            version=statement.version,
            references={name: statement.payload[name] for name in _REFERENCES if name in statement.payload},
            consortium=self._trust.consortium,
            engine=self._trust.chain.engine,
            validators=self._trust.chain.validators,
            department=department,
            key=key,
            sealed_at=statement.issued_at,
            units=tuple(Unit(d.unit, d.members) for d in disclosures),
            masked=len(statement.digests) - len(disclosures),
            attachments=_attachments(disclosures),
            logged=logged,
        )
        # 12 to 15
        return facts if evidence is None else self.confirm(facts, evidence)

    def confirm(self, facts: Facts, evidence: bytes) -> Facts:
        """Steps 12 to 15 alone: the facts of a record, with what a file of anchor evidence adds to them.

        Raises Malformed, AnchorInvalid (also where the facts are without a receipt), and TrustRefused where the trust
        file does not say how many validators must have sealed.
        """
        logged = facts.logged
        if logged is None:
            raise refusal("evidence-alone")
        checkpoint = Checkpoint(logged.origin, logged.size, logged.root)
        said = b"" if logged.anchor is None else signed_text(logged.anchor, checkpoint)
        key = (hashlib.sha256(evidence).digest(), checkpoint.text, said)
        judge = partial(verify_evidence, self._rule, evidence, facts.department, checkpoint, logged.anchor)
        on_chain = _remembered(self._on_chain, key, judge)
        return replace(facts, logged=replace(logged, on_chain=on_chain))

    def date(self, facts: Facts, token: bytes, renewals: bytes | None = None) -> Facts:
        """Step 17: the facts of a record, with what a time stamp and its renewals add to them. One that is there
        already, renewed less far, gives way.

        Raises Malformed, and TimestampInvalid, also where the facts are without a receipt.
        """
        logged = facts.logged
        if logged is None:
            raise refusal("time-alone")
        text = Checkpoint(logged.origin, logged.size, logged.root).text
        key = (hashlib.sha256(token).digest(), hashlib.sha256(renewals or b"").digest(), text)
        stamped = _remembered(self._stamped, key, lambda: verify_time(text, token, renewals, self._authorities()))
        same = [other for other in logged.times if (other.authority, other.time) == (stamped.authority, stamped.time)]
        if any(other.good_until >= stamped.good_until for other in same):
            return facts
        times = (*(other for other in logged.times if other not in same), stamped)
        return replace(facts, logged=replace(logged, times=times))

    def verify_receipt(self, department: Department, entry: bytes, receipt: bytes) -> Logged:
        """Steps 6 to 11 alone: that `entry`, a statement's bytes, stands in the department's log.

        Raises Malformed, CheckpointInvalid, InclusionInvalid or AnchorInvalid.
        """
        # 6
        proof = TlogProof.parse(receipt)
        # 7
        self._check_log(department, proof.checkpoint)
        # 8, 9
        opened = self._open(department, proof.checkpoint)
        checkpoint = opened.checkpoint
        # 10
        verify_inclusion(leaf_hash(entry), proof.index, checkpoint.size, proof.path, checkpoint.root)
        # 11
        anchor = None if proof.extra is None else self._anchor(department, proof.checkpoint, proof.extra, checkpoint)
        return Logged(
            origin=checkpoint.origin,
            index=proof.index,
            size=checkpoint.size,
            root=checkpoint.root,
            cosigned=opened.cosigned,
            log_key_ended=opened.log_key_ended,
            quorum=self._trust.quorum,
            anchor=anchor,
        )

    def _authorities(self) -> list[Certificate]:
        if self._roots is None:
            # certificates take a while to import, and most files are without time stamps
            self._roots = read_roots(self._trust.tsa_roots)
        return self._roots

    def _key(self, statement: Statement) -> tuple[Department, Key]:
        owner, key = self._trust.statement_key(statement.kid)
        if owner.id != statement.issuer:
            claimed = [d for d in self._trust.departments if d.id == statement.issuer]
            raise refusal("key-of-another", claimed=claimed[0] if claimed else statement.issuer, owner=owner)
        if not key.valid_at(statement.issued_at):
            span = Span((key.valid_from, key.valid_to))
            raise refusal("key-not-valid", at=Moment(statement.issued_at), owner=owner, validity=span)
        return owner, key

    def _check_log(self, department: Department, checkpoint: bytes) -> None:
        # the origin is not signed for yet: a lie here fails in step 8
        origin = checkpoint.partition(b"\n")[0].decode("utf-8")
        if origin == department.log.origin:
            return
        others = [d for d in self._trust.departments if d.log.origin == origin]
        if others:
            raise refusal("log-of-another", other=others[0], issuer=department)
        raise refusal("log-unknown", origin=origin)

    def _open(self, department: Department, note: bytes) -> _Opened:
        def judge() -> _Opened:
            # 8
            checkpoint, signed_by = open_checkpoint_by(note, department.log.vkeys)
            # 9
            return _Opened(checkpoint, self._cosigned(department, note), department.log.ended(signed_by))

        return _remembered(self._opened, note, judge)

    def _cosigned(self, department: Department, note: bytes) -> tuple[Cosigned, ...]:
        found = []
        for witness in self._trust.witnesses:
            time = _seen_by(witness, note)
            if time is not None:
                found.append(Cosigned(witness.name, witness.operator, time))
            elif witness.required:
                raise refusal("witness-missing", witness=witness.name)
        hands = outside_hands((cosigned.operator for cosigned in found), department)
        if len(hands) < self._trust.quorum:
            raise refusal("quorum", quorum=self._trust.quorum, found=len(hands))
        return tuple(found)

    def _anchor(self, department: Department, note: bytes, extra: bytes, checkpoint: Checkpoint) -> AnchorHint:
        def judge() -> AnchorHint:
            hint, signature = decode_extra(extra)
            self._check_chain(hint)
            verify_anchor_hint(hint, signature, checkpoint, *department.log.vkeys)
            return hint

        return _remembered(self._anchors, (note, extra), judge)

    def _check_chain(self, hint: AnchorHint) -> None:
        chain = self._trust.chain
        if hint.chain_id != chain.id:
            raise refusal("anchor-chain", found=str(hint.chain_id), expected=str(chain.id))
        if hint.contract not in chain.evidence_logs:
            raise refusal("anchor-contract", found=hint.contract, expected=chain.evidence_logs[0])


def _seen_by(witness: Witness, note: bytes) -> int | None:
    """When the witness saw the checkpoint, by its present key or by an earlier one before that ended."""
    keys: list[tuple[VerifierKey, int | None]] = [(witness.key, None)]
    keys += [(earlier.key, earlier.valid_to) for earlier in witness.earlier]
    times = []
    for key, ended in keys:
        try:
            time = verify_cosignature(note, key)
        except SignatureInvalid as error:
            raise refusal("cosignature-wrong", witness=witness.name) from error
        if time is not None and (ended is None or time < ended):
            times.append(time)
    return min(times, default=None)


def verify_attachment(facts: Facts, stream: BinaryIO) -> Attachment:
    """Step 16: which of the record's attachments `stream` holds. Reads it to its end, in constant memory.

    Raises DisclosureInvalid when its size and SHA-256 are those of none that is shown.
    """
    sha256, size = digest_of(stream)
    for attachment in facts.attachments:
        if (attachment.sha256, attachment.size) == (sha256, size):
            return attachment
    raise refusal("attachment-other", record=facts.record_id, size=size, sha256=sha256)


def digest_of(stream: BinaryIO) -> tuple[str, int]:
    """SHA-256, in lowercase hex, and size of what is left in `stream`."""
    digest, size = hashlib.sha256(), 0
    while chunk := stream.read(CHUNK_BYTES):
        digest.update(chunk)
        size += len(chunk)
    return digest.hexdigest(), size


def _split(presentation: bytes) -> tuple[bytes, bytes]:
    # not parse_presentation: the signature is to be checked before the disclosures are read
    if len(presentation) > MAX_PRESENTATION_BYTES:
        raise Malformed("presentation", f"longer than {MAX_PRESENTATION_BYTES:,} bytes")
    entry, tilde, joined = presentation.strip(b"\n").partition(b"~")
    if not tilde or not (joined == b"" or joined.endswith(b"~")):
        raise Malformed("presentation", "must be a statement and disclosures, each followed by ~; it may be cut short")
    return entry, joined


def _attachments(disclosures: Sequence[Disclosure]) -> tuple[Attachment, ...]:
    return tuple(_attachment(d.unit, d.members) for d in disclosures if d.unit.startswith(ATTACHMENT_PREFIX))


def _attachment(unit: str, members: dict[str, Any]) -> Attachment:
    name, media_type = members.get("name"), members.get("media_type")
    size, sha256 = members.get("size"), members.get("sha256")
    if not isinstance(name, str) or not isinstance(media_type, str):
        raise Malformed("attachment", f"{unit[:64]} must have a name and a media type")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise Malformed("attachment", f"{unit[:64]} must have its size in bytes")
    if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
        raise Malformed("attachment", f"{unit[:64]} must have its SHA-256 in lowercase hex")
    return Attachment(unit=unit, name=name, media_type=media_type, size=size, sha256=sha256)


def _remembered(memo: dict[K, V | Refusal], key: K, judge: Callable[[], V]) -> V:
    """What `judge` gives or refuses, from memory where it did before."""
    found = memo.get(key)
    if found is None:
        try:
            found = judge()
        except Refusal as error:
            found = error
        if len(memo) >= _MEMO_ENTRIES:
            memo.clear()
        memo[key] = found
    if isinstance(found, Refusal):
        raise found.with_traceback(None)  # which would grow with every time it is raised
    return found
