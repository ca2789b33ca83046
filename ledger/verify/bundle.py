"""Files of any kind in any order: which is which, which belong together, and what each of them proves.

Kinds are told by content, receipts and records are paired by leaf hash, anchor evidence and receipts by the log's root,
time stamps and receipts by the checkpoint's text, renewals and time stamps by the tree that they name, attachments by
size and SHA-256; file names decide nothing. Pure: whoever calls has read the files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import BinaryIO, Literal

from ledger.errors import Refusal, YunxiError
from ledger.formats.casefile import SEALED_HEAD, is_case_file
from ledger.formats.checkpoint import Checkpoint
from ledger.formats.evidence import HEAD as EVIDENCE_HEAD
from ledger.formats.evidence import MAX_EVIDENCE_BYTES, AnchorClaim, AnchorEvidence
from ledger.formats.merkle import leaf_hash, verify_inclusion
from ledger.formats.note import Note
from ledger.formats.renewal import MAX_BYTES as MAX_RENEWALS_BYTES
from ledger.formats.renewal import RenewalChain, covers
from ledger.formats.sdjwt import MAX_PRESENTATION_BYTES
from ledger.formats.timestamp import MAX_TOKEN_BYTES, parse_token
from ledger.formats.tlogproof import MAX_PROOF_BYTES, TlogProof
from ledger.verify.casefile import CaseResult, verify_case_file
from ledger.verify.facts import Attachment, Facts
from ledger.verify.refusals import refusal
from ledger.verify.verifier import Verifier

Kind = Literal["record", "receipt", "evidence", "time", "renewals", "case-file", "sealed-case-file", "file"]

HEAD_BYTES = 128
MAX_KEPT_BYTES = MAX_PRESENTATION_BYTES

_RECEIPT_HEAD = b"c2sp.org/tlog-proof"
_RECORD_HEAD = b"eyJ"
"""The base64url of every JSON object that begins with a member, and so of every JWT in use."""
_TOKEN_HEAD, _TOKEN_TYPE = b"\x30", bytes.fromhex("060b2a864886f70d0109100104")
"""A DER sequence, and near its start the name of what time-stamp tokens hold (id-ct-TSTInfo)."""
_RENEWALS_HEAD, _RENEWALS_MEMBER = b'{\n "index": ', b'"renewals": ['


@dataclass(frozen=True, slots=True)
class Given:
    """A file as it was handed in. `data` is kept for every kind but case files and
    `file`, size and SHA-256 for the latter."""

    name: str
    kind: Kind
    data: bytes = b""
    open: Callable[[], BinaryIO] | None = None
    """Of a case file, which may be too large to be kept."""
    size: int = 0
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found about one file. `error` None means good.

    For a record `facts` hold as far as verification came: with an error they may still be there, without a receipt.
    For a receipt, an attachment, anchor evidence or a time stamp they are those of its record. `attachments`: which
    handed-in file is which.
    """

    given: Given
    error: YunxiError | None
    facts: Facts | None = None
    attachment: Attachment | None = None
    attachments: tuple[tuple[str, Attachment], ...] = ()
    case: CaseResult | None = None
    """Of a case file, in place of `facts`."""


def kind_of(head: bytes, size: int) -> Kind:
    """What a file seems to be by its first bytes (128 suffice) and its size; `file` means perhaps an attachment."""
    start = head.lstrip(b"\r\n")
    if start.startswith(_RECEIPT_HEAD) and size <= MAX_PROOF_BYTES:
        return "receipt"
    if start.startswith(_RECORD_HEAD) and size <= MAX_PRESENTATION_BYTES:
        return "record"
    if start.startswith(EVIDENCE_HEAD) and size <= MAX_EVIDENCE_BYTES:
        return "evidence"
    if head.startswith(_TOKEN_HEAD) and _TOKEN_TYPE in head and size <= MAX_TOKEN_BYTES:
        return "time"
    if head.startswith(_RENEWALS_HEAD) and _RENEWALS_MEMBER in head and size <= MAX_RENEWALS_BYTES:
        return "renewals"
    if head.startswith(SEALED_HEAD):
        return "sealed-case-file"
    return "case-file" if is_case_file(head) else "file"


def examine(
    verifier: Verifier, files: Sequence[Given], *, allow_unlogged: bool = False, trust_sha256: str = ""
) -> list[Finding]:
    """A finding for every file, in the order given. A record without a receipt is refused unless `allow_unlogged`.
    `trust_sha256`: the digest in hex of the trust file as it was handed in, for case files, which hold a copy.

    Anchor evidence or a time stamp that does not hold is a finding of its own and takes nothing from the record and the
    receipt; so are renewals that do not hold, which take nothing from the time stamp.
    """
    records = [n for n, given in enumerate(files) if given.kind == "record"]
    receipts = [n for n, given in enumerate(files) if given.kind == "receipt"]
    evidence = [n for n, given in enumerate(files) if given.kind == "evidence"]
    pairs = _pair(files, records, receipts)
    claims = _pair_evidence(files, receipts, evidence)
    stamps = _Stamps(files, receipts)
    findings: dict[int, Finding] = {}
    for n in records:
        own = [m for m in receipts if pairs.get(m) == n]
        findings |= {m: _verify(verifier, files[n], files[m]) for m in own}
        for e, m in ((e, m) for e in evidence for m in own if m in claims[e]):
            judged, findings[m] = _with_evidence(verifier, findings[m], files[m], files[e])
            if e not in findings or findings[e].error is not None:
                findings[e] = judged
        for m in own:
            findings[m] = stamps.judge(verifier, findings, m)
        findings[n] = _record(verifier, files[n], [findings[m] for m in own], allow_unlogged)
    stamps.left(findings)
    for e in evidence:
        findings[e] = findings.get(e) or _evidence_alone(files[e])
    for m in receipts:
        findings[m] = _receipt(files[m], findings.get(m))
    for n, given in enumerate(files):
        if given.kind == "case-file":
            findings[n] = _case_file(verifier, given, trust_sha256)
        if given.kind == "file":
            findings[n] = _file(given, [findings[r] for r in records])
    for n in records:
        findings[n] = _with_attachments(findings[n], findings.values())
    return [findings[n] for n in range(len(files))]


def _pair(files: Sequence[Given], records: list[int], receipts: list[int]) -> dict[int, int]:
    """Receipt → record. If one of each is left over they are paired too, so that the recipe says what is wrong."""
    leaves = {n: leaf_hash(files[n].data.strip(b"\n").partition(b"~")[0]) for n in records}
    waiting = list(records)
    pairs: dict[int, int] = {}
    for m in receipts:
        proof = _proof(files[m].data)
        # the next record without a receipt first: files mostly come sorted, and trying all with all costs their product
        found = next((n for n in (*waiting, *records) if _belongs(leaves[n], proof)), None)
        if found is not None:
            pairs[m] = found
            waiting = [n for n in waiting if n != found]
    left = [m for m in receipts if m not in pairs]
    if len(left) == len(waiting) == 1:
        pairs[left[0]] = waiting[0]
    return pairs


def _pair_evidence(files: Sequence[Given], receipts: list[int], evidence: list[int]) -> dict[int, set[int]]:
    """Anchor evidence → receipts whose checkpoint it is about. What is left over is paired if there is one of each."""
    if not evidence:
        return {}
    states = {m: _state(files[m].data) for m in receipts}
    pairs: dict[int, set[int]] = {}
    for e in evidence:
        claim = _claim(files[e].data)
        pairs[e] = {m for m in receipts if claim is not None and states[m] == (claim.size, claim.root)}
    left = [e for e in evidence if not pairs[e]]
    without = set(receipts).difference(*pairs.values())
    if len(left) == len(without) == 1:
        pairs[left[0]] = without
    return pairs


def _claim(evidence: bytes) -> AnchorClaim | None:
    try:
        return AnchorEvidence.parse(evidence).claim
    except Refusal:
        return None


def _state(receipt: bytes) -> tuple[int, bytes] | None:
    """Size and root of the log in a receipt, unchecked."""
    found = _proof(receipt)
    return None if found is None else (found[1].size, found[1].root)


def _proof(receipt: bytes) -> tuple[TlogProof, Checkpoint] | None:
    """A receipt and its checkpoint, unchecked."""
    try:
        proof = TlogProof.parse(receipt)
        return proof, Checkpoint.parse(Note.parse(proof.checkpoint).text)
    except Refusal:
        return None


def _belongs(leaf: bytes, receipt: tuple[TlogProof, Checkpoint] | None) -> bool:
    """Whether the receipt speaks of this leaf. Nothing signed is checked here: the recipe does that."""
    if receipt is None:
        return False
    proof, checkpoint = receipt
    try:
        verify_inclusion(leaf, proof.index, checkpoint.size, proof.path, checkpoint.root)
    except Refusal:
        return False
    return True


def _verify(verifier: Verifier, record: Given, receipt: Given | None) -> Finding:
    try:
        return Finding(record, None, verifier.verify(record.data, receipt.data if receipt else None))
    except Refusal as error:
        # a bad receipt does not undo what the record's own signature shows
        alone = _verify(verifier, record, None) if receipt else None
        return Finding(record, error, alone.facts if alone else None)


def _with_evidence(verifier: Verifier, pair: Finding, receipt: Given, evidence: Given) -> tuple[Finding, Finding]:
    """The findings about the evidence and about the pair of record and receipt that it belongs to."""
    if pair.error is not None or pair.facts is None:
        return Finding(evidence, refusal("evidence-unverified", receipt=receipt.name)), pair
    try:
        facts = verifier.confirm(pair.facts, evidence.data)
    except Refusal as error:
        return Finding(evidence, error), pair
    return Finding(evidence, None, facts), replace(pair, facts=facts)


def _evidence_alone(evidence: Given) -> Finding:
    try:
        AnchorEvidence.parse(evidence.data)
    except Refusal as error:
        return Finding(evidence, error)
    return Finding(evidence, refusal("evidence-alone"))


class _Stamps:
    """The time stamps and renewals among `files`: which receipts a time stamp is about, which time stamp is renewed."""

    def __init__(self, files: Sequence[Given], receipts: list[int]) -> None:
        self._files = files
        self._times = [n for n, given in enumerate(files) if given.kind == "time"]
        self._renewals = [n for n, given in enumerate(files) if given.kind == "renewals"]
        self._about = _pair_times(files, receipts, self._times)
        self._of = _pair_renewals(files, self._times, self._renewals)

    def judge(self, verifier: Verifier, findings: dict[int, Finding], m: int) -> Finding:
        """The finding about receipt `m` with what its time stamps add; theirs and their renewals' go to `findings`."""
        pair = findings[m]
        for t in (t for t in self._times if m in self._about[t]):
            judged, pair = self._judge(verifier, pair, m, t, None)
            _keep_better(findings, t, judged)
            for r in (r for r, other in self._of.items() if other == t):
                if judged.error is None:
                    renewed, pair = self._judge(verifier, pair, m, t, r)
                else:
                    renewed = Finding(self._files[r], refusal("renewals-unverified", token=self._files[t].name))
                _keep_better(findings, r, renewed)
        return pair

    def left(self, findings: dict[int, Finding]) -> None:
        """What belongs to no receipt, or to no time stamp."""
        for t in self._times:
            if t not in findings:
                findings[t] = _alone(self._files[t], parse_token, "time-alone")
        for r in self._renewals:
            if r not in findings:
                findings[r] = _alone(self._files[r], RenewalChain.parse, "renewals-alone")

    def _judge(self, verifier: Verifier, pair: Finding, m: int, t: int, r: int | None) -> tuple[Finding, Finding]:
        judged = self._files[t if r is None else r]
        if pair.error is not None or pair.facts is None:
            return Finding(judged, refusal("time-unverified", receipt=self._files[m].name)), pair
        try:
            facts = verifier.date(pair.facts, self._files[t].data, None if r is None else self._files[r].data)
        except Refusal as error:
            return Finding(judged, error), pair
        return Finding(judged, None, facts), replace(pair, facts=facts)


def _keep_better(findings: dict[int, Finding], n: int, found: Finding) -> None:
    if n not in findings or findings[n].error is not None:
        findings[n] = found


def _pair_times(files: Sequence[Given], receipts: list[int], times: list[int]) -> dict[int, set[int]]:
    """Time stamp → receipts whose checkpoint it is over. What is left over is paired if there is one of each."""
    if not times:
        return {}
    texts = {m: _text(files[m].data) for m in receipts}
    pairs = {t: {m for m in receipts if _is_over(files[t].data, texts[m])} for t in times}
    left = [t for t in times if not pairs[t]]
    without = set(receipts).difference(*pairs.values())
    if len(left) == len(without) == 1:
        pairs[left[0]] = without
    return pairs


def _pair_renewals(files: Sequence[Given], times: list[int], renewals: list[int]) -> dict[int, int]:
    """Renewals → the time stamp that they are of. What is left over is paired if there is one of each."""
    pairs: dict[int, int] = {}
    for r in renewals:
        chain = _chain(files[r].data)
        found = next((t for t in times if chain is not None and _is_of(chain, files[t].data)), None)
        if found is not None:
            pairs[r] = found
    left = [r for r in renewals if r not in pairs]
    without = [t for t in times if t not in pairs.values()]
    if len(left) == len(without) == 1:
        pairs[left[0]] = without[0]
    return pairs


def _text(receipt: bytes) -> bytes | None:
    """The text of the checkpoint in a receipt, unchecked."""
    try:
        return Note.parse(TlogProof.parse(receipt).checkpoint).text
    except Refusal:
        return None


def _is_over(token: bytes, text: bytes | None) -> bool:
    try:
        parsed = parse_token(token)
    except Refusal:
        return False
    return text is not None and hashlib.new(parsed.imprint_digest, text).digest() == parsed.imprint


def _chain(renewals: bytes) -> RenewalChain | None:
    try:
        return RenewalChain.parse(renewals)
    except Refusal:
        return None


def _is_of(chain: RenewalChain, token: bytes) -> bool:
    try:
        return covers(token, chain)
    except Refusal:
        return False


def _alone(given: Given, parse: Callable[[bytes], object], reason: str) -> Finding:
    try:
        parse(given.data)
    except Refusal as error:
        return Finding(given, error)
    return Finding(given, refusal(reason))


def _record(verifier: Verifier, record: Given, tried: list[Finding], allow_unlogged: bool) -> Finding:
    good = [finding for finding in tried if finding.error is None]
    if tried:
        return (good or tried)[0]
    finding = _verify(verifier, record, None)
    if finding.error is None and not allow_unlogged:
        return Finding(record, refusal("unlogged"), finding.facts)
    return finding


def _receipt(receipt: Given, pair: Finding | None) -> Finding:
    if pair is not None:
        return Finding(receipt, pair.error, pair.facts if pair.error is None else None)
    try:
        TlogProof.parse(receipt.data)
    except Refusal as error:
        return Finding(receipt, error)
    return Finding(receipt, refusal("receipt-alone"))


def _file(given: Given, records: list[Finding]) -> Finding:
    # records that verified come first, in case several name the same file
    for record in sorted(records, key=lambda finding: finding.error is not None):
        for attachment in record.facts.attachments if record.facts else ():
            if (attachment.sha256, attachment.size) != (given.sha256, given.size):
                continue
            if record.error is None or record.facts is None:
                return Finding(given, None, record.facts, attachment)
            error = refusal("attachment-unverified", name=attachment.name, record=record.facts.record_id)
            return Finding(given, error, None, attachment)
    return Finding(given, refusal("file-unknown" if given.size else "file-empty"))


def _case_file(verifier: Verifier, given: Given, trust_sha256: str) -> Finding:
    if given.open is None:
        raise ValueError("a case file is handed in to be opened")
    with given.open() as stream:
        result = verify_case_file(verifier.trust, stream, trust_sha256)
    return Finding(given, result.findings[0].error if result.findings else None, case=result)


def _with_attachments(record: Finding, findings: Iterable[Finding]) -> Finding:
    named = record.facts.attachments if record.facts else ()
    handed_in = ((f.given.name, f.attachment) for f in findings if f.attachment is not None)
    return replace(record, attachments=tuple((name, a) for name, a in handed_in if a in named))
