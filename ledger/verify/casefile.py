"""The recipe for a case file: how one zip becomes findings, and facts about every item in it.

     1. Container. The zip reads in one way only (ledger/formats/zipfiles.py), and every file in it has a name that case
        files have.
     2. Bag. bagit.txt is as RFC 8493 has it; the tag manifest lists the tag files, all of them, and their digests are
        right; the manifest lists the payload, all of it and nothing else; bag-info.txt counts it rightly.
     3. Contents. case.json parses, strictly, and is of the trust file's consortium, of a department that it names.
     4. Signature. The trust file knows the key, for statements, as that department's, valid at the signing time; the
        key signed the tag manifest, and so every byte but the signature's own.
     5. Digests. Every file of the payload has the digest that the manifest lists: one pass, in constant memory.
     6. Names. case.json names every file of the payload, and every file that it names is there. index.html has each
        item's name (where it is of plain characters), record id and leaf as the text of some element.
     7. Items, one by one: record, receipt and anchor evidence pass the recipe of ledger/verify/verifier.py, no two
        receipts contradict each other, and what case.json says of the record is what the record and the receipt say.
     8. Attachments. case.json lists those that the record's shown units name, and each file given is the one named.
     9. Time stamps of the item's checkpoint, against the trust file's authorities. Without authorities: not judged.
    10. Decisions. What the department's own decisions froze is listed, each manifest is the one that the decision's
        record names, and every line of it is an item; no other item of the case is from before the decision.
    11. Before and after. Of every item case.json says rightly whether the first decision froze it.
    12. Levels. Each says how much is good, bad and absent.

Where 1 to 3 fail the rest cannot be judged, and there are no facts; all later findings are collected, the first is the
first cause. No clock is read. Memory: case.json, a digest a file, a report an item, whatever the size of the files.
Not checked: what `levels` says at each level, above all what the department left out that no decision froze; the root
that a decision states (its log's entries are not here); README.txt, verify.html, and data/index*, data/custody.jsonld,
which are covered by the signature as the department's own words, whatever else they say: step 6 finds what index.html
lacks, not what it adds.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from html import escape
from typing import Any, BinaryIO, Literal, cast, get_args

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ledger.errors import (
    AnchorInvalid,
    CaseFileInvalid,
    CheckpointInvalid,
    InclusionInvalid,
    KeyRefused,
    Malformed,
    Refusal,
    TimestampInvalid,
    YunxiError,
)
from ledger.formats.casefile import (
    BAG_INFO,
    BAGIT,
    BAGIT_TEXT,
    CASE,
    DECISION,
    INDEX_HTML,
    MANIFEST,
    MAX_CASE_BYTES,
    MAX_SMALL_BYTES,
    MAX_TAG_BYTES,
    SIGNATURE,
    TAG_MANIFEST,
    TAGGED,
    TRUST,
    BagInfo,
    CaseAttachment,
    CaseFile,
    CaseSignature,
    Decision,
    Freeze,
    Item,
    Named,
    amendments,
    amends_of,
    is_path,
    named_records,
    parse_manifest,
    role_of,
)
from ledger.formats.evidence import MAX_EVIDENCE_BYTES
from ledger.formats.manifest import NAME, UNIT, Line, parse_lines
from ledger.formats.merkle import leaf_hash
from ledger.formats.renewal import MAX_BYTES as MAX_RENEWALS_BYTES
from ledger.formats.sdjwt import MAX_PRESENTATION_BYTES
from ledger.formats.timestamp import MAX_TOKEN_BYTES
from ledger.formats.tlogproof import MAX_PROOF_BYTES
from ledger.formats.trust import Department, Key, Trust
from ledger.formats.zipfiles import PAYLOAD, ZipReader, total_size
from ledger.verify.control import Control, control, in_other_hands
from ledger.verify.facts import Facts
from ledger.verify.refusals import refusal
from ledger.verify.sentences import seen_by_others
from ledger.verify.verifier import ATTACHMENT_PREFIX, Verifier
from ledger.verify.words import Moment, Span

Level = Literal["integrity", "authorship", "inclusion", "completeness", "witnesses", "chain", "time", "credibility"]
LEVELS: tuple[Level, ...] = get_args(Level)
MAX_FINDINGS = 1_000
"""So many findings are kept; all are counted."""

CAPTURED = ("evidence", "derived")
"""The roles whose records can say which device made them."""

_KEPT_FILES = 32
_PLAIN = re.compile(r"[\x20-\x7e\u3001-\u3011\u4e00-\u9fa5\uff01-\uff5e]+")
"""What the index shows as it is, whatever made it."""
_PIECE = re.compile(rb">([^<>]+)(?=<)")
_MAX_PIECE = 1 << 16
_OWN_FILES = frozenset({*TAGGED, TAG_MANIFEST, SIGNATURE})
_NUMBERED = re.compile(r"data/(?:records|receipts|attachments|manifests)/([0-9]{6})[.-].*")
_ORDINAL = re.compile(r"attachment-[1-9][0-9]?")
_TIME = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(?:\.\d{1,9})?(?:Z|[+-]\d{2}:\d{2})")
_WITNESS_REASONS = frozenset({"cosignature-wrong", "witness-missing", "quorum"})
_LEVEL_OF: dict[str, Level] = {
    "case-department": "authorship",
    "signature-key": "authorship",
    "signature-wrong": "authorship",
    "signature-department": "authorship",
    "case-consortium": "authorship",
    "log-forked": "inclusion",
    "item-index": "inclusion",
    "item-receipt": "inclusion",
    "item-before": "completeness",
    "decision-missing": "completeness",
    "decision-differs": "completeness",
    "decision-foreign": "completeness",
    "frozen-missing": "completeness",
    "frozen-unlisted": "completeness",
}


@dataclass(frozen=True, slots=True)
class CaseFinding:
    """Something that is wrong: at which level, why, in which file of the zip and at which item, where there is one."""

    level: Level
    error: YunxiError
    path: str | None
    item: int | None


@dataclass(frozen=True, slots=True)
class Capture:
    """What a record says of its making; proven is only that its department sealed these words. Times in seconds since
    1970 by the device's clock, which was `offset_ms` milliseconds ahead of its node's; None: not said."""

    device: str
    operator: str | None
    offset_ms: int | None
    captured_at: int | None
    sealed_at: int | None


@dataclass(frozen=True, slots=True)
class ItemReport:
    """One item after verification. `verified`: its record passed; the times are None where nothing proves them.

    `seen_at`: the first confirmation by others than the log's keeper; `anchored_at`: the block's; `stamped_at`: of
    each time stamp. `given`, `withheld`: attachments.
    """

    item: Item
    finding: CaseFinding | None
    verified: bool
    logged: bool = False
    witnessed: bool = False
    seen_at: int | None = None
    anchored_at: int | None = None
    stamped_at: tuple[int, ...] = ()
    units: int = 0
    masked: int = 0
    capture: Capture | None = None

    @property
    def given(self) -> int:
        """How many attachments are in the case file."""
        return sum(1 for attachment in self.item.attachments if attachment.path is not None)

    @property
    def is_captured(self) -> bool:
        """Whether it is a piece of evidence whose record says how it was made."""
        return self.verified and self.item.role in CAPTURED and self.capture is not None

    @property
    def seal_delay(self) -> int | None:
        """Seconds from capture to sealing, as device and department say; negative where their clocks contradict."""
        if self.capture is None or self.capture.captured_at is None:
            return None
        return self.item.sealed_at - self.capture.captured_at


@dataclass(frozen=True, slots=True)
class Count:
    """How much of a level is good, bad and absent: files, items, lines of manifests, as the level's sentences say."""

    good: int
    bad: int
    absent: int
    applies: bool = True

    @property
    def state(self) -> Literal["good", "bad", "absent", "not-applicable"]:
        """bad if anything is, good only if all is."""
        if self.bad:
            return "bad"
        if not self.applies:
            return "not-applicable"
        return "absent" if self.absent else "good"


@dataclass(slots=True)
class Confirmed:
    """What one outside operator or authority confirmed: of how many items, since when, under which names."""

    count: int = 0
    first: int | None = None
    until: int | None = None
    names: set[str] = field(default_factory=set)

    def add(self, names: Iterable[str], time: int, until: int | None = None) -> None:
        """One item more."""
        self.count += 1
        self.names.update(names)
        self.first = time if self.first is None else min(self.first, time)
        if until is not None:
            self.until = until if self.until is None else min(self.until, until)


@dataclass(frozen=True, slots=True)
class FrozenDecision:
    """One decision that froze what existed: how many of its manifest's lines are items here, and how many are not."""

    decision: Decision
    found: int
    missing: int


@dataclass(frozen=True, slots=True)
class CaseFacts:
    """What a case file shows. `key` None: the trust file does not know the signing key, or not as the department's.

    `control`: per department id, who controls what its proofs stand on. `witnesses` by operator, `stamps` by authority.
    """

    case: CaseFile
    department: Department
    signed_at: int
    key: Key | None
    files: int
    octets: int
    trust_same: bool
    engine: str
    authorities: bool
    """Whether the trust file names roots of time-stamping authorities."""
    counts: Mapping[Level, Count]
    items: tuple[ItemReport, ...]
    decisions: tuple[FrozenDecision, ...]
    open_decisions: int
    """The department's decisions whose manifest is not shown."""
    amended: Mapping[int, Sequence[int]]
    """By item, the items that correct or withdraw it: `amendments` of those whose records passed."""
    witnesses: Mapping[str, Confirmed]
    stamps: Mapping[str, Confirmed]
    control: Mapping[str, tuple[Control, ...]]


@dataclass(frozen=True, slots=True)
class CaseResult:
    """`findings` empty: the case file is good. At most `MAX_FINDINGS` are there of `total`; the first is the cause.
    `facts` None: what is handed in could not be read as a case file."""

    facts: CaseFacts | None
    findings: tuple[CaseFinding, ...]
    total: int


def verify_case_file(trust: Trust, stream: BinaryIO, trust_sha256: str) -> CaseResult:
    """Judges the case file that `stream`, seekable, holds, against `trust`; `trust_sha256` is the digest in hex of the
    trust file that was handed in, to be compared with the copy inside. What is wrong with the case file is a finding.

    Raises Malformed and TrustRefused as `Verifier`.
    """
    verifier = Verifier(trust)
    try:
        bag = _open(stream)
        case = _contents(bag, trust)
    except Refusal as error:
        return CaseResult(None, (_finding(error),), 1)
    return _Examination(bag, case, trust, verifier, trust_sha256).result()


# --- 1 to 3: all or nothing ---


@dataclass(frozen=True, slots=True)
class _Bag:
    zip: ZipReader
    manifest: dict[str, str]
    """Payload path to the digest that it must have."""
    tag_manifest: bytes
    info: BagInfo
    signature: CaseSignature


def _open(stream: BinaryIO) -> _Bag:
    # 1
    opened = ZipReader(stream)
    for entry in opened.entries:
        if not is_path(entry.path):
            raise _invalid("file-stranger", entry.path)
    # 2
    if opened.read(BAGIT, MAX_SMALL_BYTES) != BAGIT_TEXT:
        raise _invalid("bag-declaration", BAGIT)
    tag_manifest = opened.read(TAG_MANIFEST, MAX_SMALL_BYTES)
    signature = CaseSignature.parse(opened.read(SIGNATURE, MAX_SMALL_BYTES))
    tags = parse_manifest(tag_manifest, TAG_MANIFEST)
    if tuple(tags) != TAGGED:
        raise _invalid("bag-tags", TAG_MANIFEST)
    for path, sha256 in tags.items():
        if _digest(opened, path) != sha256:
            raise _invalid("bag-digest", path)
    manifest = parse_manifest(opened.read(MANIFEST, MAX_TAG_BYTES), MANIFEST)
    payload = [entry for entry in opened.entries if entry.path.startswith(PAYLOAD)]
    for entry in payload:
        if entry.path not in manifest:
            raise _invalid("file-unlisted", entry.path)
    for path in manifest:
        opened.entry(path)
    info = BagInfo.parse(opened.read(BAG_INFO, MAX_SMALL_BYTES))
    if len(manifest) != len(payload) or (info.octets, info.files) != (total_size(payload), len(payload)):
        raise _invalid("bag-info", BAG_INFO)
    return _Bag(opened, manifest, tag_manifest, info, signature)


def _contents(bag: _Bag, trust: Trust) -> CaseFile:
    # 3
    case = CaseFile.parse(bag.zip.read(CASE, MAX_CASE_BYTES))
    if bag.info.case != case.case:
        raise _invalid("bag-info", BAG_INFO)
    if all(department.id != case.department for department in trust.departments):
        raise _invalid("case-department", CASE)
    return case


def _digest(opened: ZipReader, path: str) -> str:
    digest = hashlib.sha256()
    for chunk in opened.chunks(opened.entry(path)):
        digest.update(chunk)
    return digest.hexdigest()


# --- 4 to 12 ---


class _Examination:
    """The state of one verification; `result` runs the steps in order."""

    def __init__(self, bag: _Bag, case: CaseFile, trust: Trust, verifier: Verifier, trust_sha256: str) -> None:
        self._bag, self._case, self._trust, self._verifier = bag, case, trust, verifier
        self._trust_sha256 = trust_sha256
        self._department = trust.department(case.department)
        self._key: Key | None = None
        self._findings: list[CaseFinding] = []
        self._bad = dict.fromkeys(LEVELS, 0)
        self._broken: dict[str, CaseFinding] = {}
        self._kept: dict[str, bytes] = {}
        self._roots: dict[tuple[str, int], bytes] = {}
        self._named: dict[int, tuple[Named, ...]] = {}
        self._frozen_units: dict[int, Any] = {}
        self._cases: set[int] = set()
        self._listed: set[Line] | None = None
        self._reports: list[ItemReport] = []
        self._witnesses: dict[str, Confirmed] = {}
        self._stamps: dict[str, Confirmed] = {}
        self._control: dict[str, tuple[Control, ...]] = {}

    def result(self) -> CaseResult:
        case = self._case
        # 3
        if case.consortium != self._trust.consortium:
            self._find(_invalid("case-consortium", CASE))
        # 4
        self._check_signature()
        # 5
        self._check_digests()
        # 6
        self._check_names()
        self._check_index()
        # 7 to 9
        for item in case.items:
            self._reports.append(self._item(item))
        # 10
        decisions, open_decisions = self._decisions()
        # 11
        self._check_before()
        # 12
        facts = CaseFacts(
            case=case,
            department=self._department,
            signed_at=self._bag.signature.iat,
            key=self._key,
            files=len(self._bag.zip.entries),
            octets=self._bag.info.octets,
            trust_same=self._bag.manifest[TRUST] == self._trust_sha256,
            engine=self._trust.chain.engine,
            authorities=bool(self._trust.tsa_roots),
            counts=self._counts(decisions, open_decisions),
            items=tuple(self._reports),
            decisions=tuple(decisions),
            open_decisions=open_decisions,
            amended=amendments(report.item for report in self._reports if report.verified),
            witnesses=self._witnesses,
            stamps=self._stamps,
            control=self._control,
        )
        return CaseResult(facts, tuple(self._findings), sum(self._bad.values()))

    # --- 4 to 6: the file as a whole ---

    def _check_signature(self) -> None:
        signature = self._bag.signature
        try:
            owner, key = self._signer(signature.kid)
            if owner.id != self._department.id:
                raise _invalid("signature-department", SIGNATURE)
            if not key.valid_at(signature.iat):
                span = Span((key.valid_from, key.valid_to))
                raise refusal("signature-time", at=Moment(signature.iat), owner=owner, validity=span)
            signature.verify(self._bag.tag_manifest, cast(Ed25519PublicKey, key.public))
            self._key = key
        except Refusal as error:
            self._find(error, SIGNATURE, level="authorship")

    def _signer(self, kid: str) -> tuple[Department, Key]:
        try:
            return self._trust.statement_key(kid)
        except KeyRefused as error:
            raise _invalid("signature-key", SIGNATURE) from error

    def _check_digests(self) -> None:
        for path, sha256 in self._bag.manifest.items():
            try:
                if _digest(self._bag.zip, path) != sha256:
                    raise _invalid("bag-digest", path)
            except CaseFileInvalid as error:
                self._broken[path] = self._find(error)

    def _check_names(self) -> None:
        named = set(self._case.paths())
        for path in self._bag.manifest:
            if path not in named:
                self._find(_invalid("file-unnamed", path))
        for path in sorted(named):
            if path not in self._bag.manifest:
                self._broken[path] = self._find(_invalid("file-missing", path))

    def _check_index(self) -> None:
        if INDEX_HTML in self._broken:
            return
        texts = [(item.n, _texts_of(item)) for item in self._case.items]
        found = set(
            _pieces(self._bag.zip.chunks(self._bag.zip.entry(INDEX_HTML)), {t for _, each in texts for t in each})
        )
        for n, each in texts:
            if not found.issuperset(each):
                self._find(_invalid("index-lacks", INDEX_HTML), INDEX_HTML, n)

    # --- 7 to 9: one item ---

    def _item(self, item: Item) -> ItemReport:
        for path in (item.record, item.receipt):
            if path is not None and path in self._broken:
                return ItemReport(item, self._broken[path], verified=False)
        before = len(self._findings)
        try:
            record = self._bag.zip.read(item.record, MAX_PRESENTATION_BYTES)
            # 7: what the recipe for one record says without its receipt
            facts = self._verifier.verify(record, None)
            _check_identity(item, facts, record)
        except Refusal as error:
            return ItemReport(item, self._find(error, item.record, item.n), verified=False)
        facts = self._anchored(item, self._logged(item, facts, record))
        self._compare(item, facts)
        self._check_attachments(item, facts)
        facts = self._stamped(item, facts)
        self._remember(item, facts)
        finding = self._first_of(item, before)
        return _report(item, facts, finding)

    def _logged(self, item: Item, facts: Facts, record: bytes) -> Facts:
        """Step 7: what the receipt adds. One that does not hold takes nothing from the record."""
        if item.receipt is None:
            return facts
        try:
            receipt = self._bag.zip.read(item.receipt, MAX_PROOF_BYTES)
            logged = self._verifier.verify_receipt(facts.department, _entry_of(record), receipt)
            return replace(facts, logged=logged)
        except Refusal as error:
            level: Level | None = "inclusion" if isinstance(error, Malformed) else None
            self._find(error, item.receipt, item.n, level)
            return facts

    def _anchored(self, item: Item, facts: Facts) -> Facts:
        if item.anchor is None or item.anchor in self._broken or facts.logged is None:
            return facts
        try:
            return self._verifier.confirm(facts, self._file(item.anchor, MAX_EVIDENCE_BYTES))
        except Refusal as error:
            self._find(error, item.anchor, item.n, level="chain")
            return facts

    def _compare(self, item: Item, facts: Facts) -> None:
        own = facts.department.id == self._case.department
        logged = facts.logged
        if (logged is not None and item.index != logged.index) or (own and item.index >= self._case.log_size):
            self._find(_invalid("item-index", CASE), CASE, item.n)
        if logged is not None:
            known = self._roots.setdefault((logged.origin, logged.size), logged.root)
            if known != logged.root:
                self._find(_invalid("log-forked", cast(str, item.receipt)), item.receipt, item.n)
        if item.sealed_at != facts.sealed_at:
            self._find(_invalid("item-sealed-at", CASE), CASE, item.n)
        if item.amends != amends_of(facts.references.get("amends")):
            self._find(_invalid("item-amends", CASE), CASE, item.n)
        if item.role != role_of(facts.type):
            self._find(_invalid("item-role", CASE), CASE, item.n)
        if own and facts.references.get("case", self._case.case) != self._case.case:
            self._find(_invalid("item-case", item.record), item.record, item.n)
        if item.forgotten and facts.units:
            self._find(_invalid("item-forgotten", CASE), CASE, item.n)

    def _check_attachments(self, item: Item, facts: Facts) -> None:
        named = [
            (int(a.unit.removeprefix(ATTACHMENT_PREFIX)), a.name, a.media_type, a.size, a.sha256)
            for a in facts.attachments
            if _ORDINAL.fullmatch(a.unit)
        ]
        if sorted(named) != [(a.ordinal, a.name, a.media_type, a.size, a.sha256) for a in item.attachments]:
            self._find(_invalid("item-attachments", CASE), CASE, item.n)
        for attachment in item.attachments:
            self._check_given(item, attachment)

    def _check_given(self, item: Item, attachment: CaseAttachment) -> None:
        path = attachment.path
        if path is None or path in self._broken:
            return
        if (self._bag.manifest[path], self._bag.zip.entry(path).size) != (attachment.sha256, attachment.size):
            self._find(_invalid("attachment-differs", path), path, item.n)

    def _stamped(self, item: Item, facts: Facts) -> Facts:
        if (item.times or item.anchor) and item.receipt is None:
            self._find(_invalid("item-receipt", CASE), CASE, item.n)
        for time in item.times if self._trust.tsa_roots and facts.logged else ():
            if time.token in self._broken or time.renewals in self._broken:
                continue
            try:
                token = self._file(time.token, MAX_TOKEN_BYTES)
                renewals = None if time.renewals is None else self._file(time.renewals, MAX_RENEWALS_BYTES)
                facts = self._verifier.date(facts, token, renewals)
            except Refusal as error:
                self._find(error, time.token, item.n, level="time")
        return facts

    def _remember(self, item: Item, facts: Facts) -> None:
        """What later steps and the levels need of an item, and no more."""
        units = {unit.name: unit.members for unit in facts.units}
        self._named[item.n] = tuple(named_records(facts.type, units))
        own = facts.department.id == self._case.department
        if own and facts.type == DECISION and UNIT in units:
            self._frozen_units[item.n] = units[UNIT].get(UNIT)
        if own and facts.references.get("case") == self._case.case:
            self._cases.add(item.n)
        logged = facts.logged
        if logged is None:
            return
        self._control.setdefault(facts.department.id, control(facts))
        for operator in {cosigned.operator for cosigned in logged.cosigned}:
            own_words = [cosigned for cosigned in logged.cosigned if cosigned.operator == operator]
            names, time = [cosigned.name for cosigned in own_words], min(cosigned.time for cosigned in own_words)
            self._witnesses.setdefault(operator, Confirmed()).add(names, time)
        for authority in {stamped.authority for stamped in logged.times}:
            tokens = [stamped for stamped in logged.times if stamped.authority == authority]
            time, until = min(stamped.time for stamped in tokens), min(stamped.good_until for stamped in tokens)
            self._stamps.setdefault(authority, Confirmed()).add([stamped.root for stamped in tokens], time, until)

    def _first_of(self, item: Item, before: int) -> CaseFinding | None:
        """The first finding about the item: a broken file that it names, or one of those made since `before`."""
        broken = next((self._broken[path] for path in item.paths() if path in self._broken), None)
        since = self._findings[before:]
        return broken or (since[0] if since else None)

    # --- 10, 11: what was frozen ---

    def _decisions(self) -> tuple[list[FrozenDecision], int]:
        listed = {decision.n for decision in self._case.decisions}
        for n in self._frozen_units:
            if n not in listed:
                self._find(_invalid("decision-missing", CASE), CASE, n)
        own = {
            r.item.n: r.item
            for r in self._reports
            if r.verified and r.item.type == DECISION and r.item.department == self._case.department
        }
        entries = {
            Line(r.item.index, r.item.record_id, bytes.fromhex(r.item.leaf)): r.item.n
            for r in self._reports
            if r.verified and r.item.department == self._case.department
        }
        found = []
        for decision in self._case.decisions:
            try:
                found.append(self._decision(decision, own, entries))
            except Refusal as error:
                self._find(error, decision.manifest, decision.n, level="completeness")
        return found, sum(1 for n in own if n not in listed)

    def _decision(self, decision: Decision, own: Mapping[int, Item], entries: Mapping[Line, int]) -> FrozenDecision:
        item, unit = own.get(decision.n), self._frozen_units.get(decision.n)
        if item is None:
            raise _invalid("decision-foreign", decision.manifest)
        said = {"size": decision.size, "root": decision.root, "count": decision.count, "sha256": decision.sha256}
        attached = any(a.name == NAME and a.sha256 == decision.sha256 for a in item.attachments)
        sealed = unit == said and attached and decision.size == item.index
        if not sealed or self._bag.manifest.get(decision.manifest) != decision.sha256:
            raise _invalid("decision-differs", decision.manifest)
        data = self._bag.zip.read(decision.manifest, MAX_TAG_BYTES)
        lines = tuple(parse_lines(io.BytesIO(data)))
        if len(lines) != decision.count or (lines and lines[-1].index >= decision.size):
            raise _invalid("decision-differs", decision.manifest)
        if decision == self._case.decisions[0]:
            self._listed = set(lines)
        missing = [line for line in lines if line not in entries]
        for _ in missing:
            self._find(_invalid("frozen-missing", decision.manifest), decision.manifest, decision.n)
        self._check_unlisted(decision, set(lines), entries)
        return FrozenDecision(decision, len(lines) - len(missing), len(missing))

    def _check_unlisted(self, decision: Decision, lines: set[Line], entries: Mapping[Line, int]) -> None:
        for line, n in entries.items():
            if line.index < decision.size and line not in lines and n in self._cases:
                self._find(_invalid("frozen-unlisted", decision.manifest), decision.manifest, n)

    def _check_before(self) -> None:
        freeze = None
        if self._case.decisions and self._listed is None:
            return  # what the first decision froze is in dispute: that is the finding
        if self._listed is not None:
            listed = (r.item for r in self._reports if r.item.n in self._named)
            frozen = [i.n for i in listed if Line(i.index, i.record_id, bytes.fromhex(i.leaf)) in self._listed]
            named = frozenset(named for n in frozen for named in self._named[n])
            freeze = Freeze(self._case.department, frozenset(self._listed), named)
        for number, report in enumerate(self._reports):
            expected = None if freeze is None else freeze.holds(report.item)
            if report.verified and report.item.before_decision is not expected:
                finding = self._find(_invalid("item-before", CASE), CASE, report.item.n)
                self._reports[number] = replace(report, finding=report.finding or finding)

    # --- 12 ---

    def _counts(self, decisions: list[FrozenDecision], open_decisions: int) -> dict[Level, Count]:
        good = [report for report in self._reports if report.verified]
        files, broken = len(self._bag.zip.entries), sum(1 for path in self._broken if path in self._bag.manifest)
        evidence = [report for report in good if report.item.role in CAPTURED]
        judged = bool(self._trust.tsa_roots)
        frozen = sum(decision.found for decision in decisions)
        # per level: good, absent, whether it applies
        counts: dict[Level, tuple[int, int, bool]] = {
            "integrity": (files - broken, 0, True),
            "authorship": (len(good) + (self._key is not None), 0, True),
            "inclusion": (_many(r.logged for r in good), _many(r.item.receipt is None for r in good), bool(good)),
            "completeness": (frozen, open_decisions, bool(self._case.decisions) or open_decisions > 0),
            "witnesses": (
                _many(r.witnessed for r in good),
                _many(not r.witnessed and (r.logged or r.item.receipt is None) for r in good),
                bool(good),
            ),
            "chain": (
                _many(r.anchored_at is not None for r in good),
                _many(r.item.anchor is None for r in good),
                bool(good),
            ),
            "time": (
                _many(bool(r.stamped_at) for r in good),
                _many(not r.stamped_at and not (judged and r.item.times) for r in good),
                bool(good),
            ),
            "credibility": (
                _many(r.capture is not None for r in evidence),
                _many(r.capture is None for r in evidence),
                bool(evidence),
            ),
        }
        return {level: Count(n, self._bad[level], absent, applies) for level, (n, absent, applies) in counts.items()}

    # --- helpers ---

    def _file(self, path: str, limit: int) -> bytes:
        """A file that many items name: the last few are kept."""
        if path not in self._kept:
            if len(self._kept) >= _KEPT_FILES:
                self._kept.clear()
            self._kept[path] = self._bag.zip.read(path, limit)
        return self._kept[path]

    def _find(
        self, error: YunxiError, path: str | None = None, item: int | None = None, level: Level | None = None
    ) -> CaseFinding:
        finding = _finding(error, path, item, level)
        self._bad[finding.level] += 1
        if len(self._findings) < MAX_FINDINGS:
            self._findings.append(finding)
        return finding


def _finding(
    error: YunxiError, path: str | None = None, item: int | None = None, level: Level | None = None
) -> CaseFinding:
    if isinstance(error, CaseFileInvalid) and error.path is not None:
        path = error.path
    if path is None and isinstance(error, Malformed) and error.what in _OWN_FILES:
        path = error.what
    numbered = _NUMBERED.fullmatch(path or "")
    return CaseFinding(level or _level_of(error), error, path, item or (int(numbered[1]) if numbered else None))


def _level_of(error: YunxiError) -> Level:
    if isinstance(error, CaseFileInvalid):
        return _LEVEL_OF.get(error.reason, "integrity")
    if isinstance(error, Malformed):
        return "integrity"
    if isinstance(error, InclusionInvalid):
        return "inclusion"
    if isinstance(error, CheckpointInvalid):
        return "witnesses" if error.reason in _WITNESS_REASONS else "inclusion"
    if isinstance(error, AnchorInvalid):
        return "chain"
    if isinstance(error, TimestampInvalid):
        return "time"
    return "authorship"


def _report(item: Item, facts: Facts, finding: CaseFinding | None) -> ItemReport:
    logged = facts.logged
    cosigned = logged.cosigned if logged else ()
    return ItemReport(
        item=item,
        finding=finding,
        verified=True,
        logged=logged is not None,
        witnessed=any(in_other_hands(c.operator, facts.department) is not False for c in cosigned),
        seen_at=seen_by_others(facts),
        anchored_at=logged.on_chain.time if logged and logged.on_chain else None,
        stamped_at=tuple(stamped.time for stamped in logged.times) if logged else (),
        units=len(facts.units),
        masked=facts.masked,
        capture=_capture({unit.name: unit.members for unit in facts.units}),
    )


def _capture(units: Mapping[str, Mapping[str, Any]]) -> Capture | None:
    """From the unit `capture`, which devices of this ledger fill in, or `device`, which a department's system did."""
    unit = units.get("capture", {})
    said = unit.get("capture")
    if isinstance(said, dict) and isinstance(said.get("device"), str):
        offset = _whole(said.get("clock_offset_ms"))
        operator = _text(said.get("operator"))
        return Capture(
            said["device"], operator, offset, _seconds(unit.get("captured_at")), _seconds(unit.get("sealed_at"))
        )
    said = units.get("device", {}).get("device")
    if isinstance(said, dict) and isinstance(said.get("id"), str):
        ahead = _whole(said.get("clock_offset_seconds"))
        taken = _seconds(units.get("when", {}).get("occurred_at"))
        return Capture(said["id"], _text(said.get("operator")), None if ahead is None else ahead * 1000, taken, None)
    return None


def _whole(value: object) -> int | None:
    return value if type(value) is int else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _seconds(value: object) -> int | None:
    """Whole seconds since 1970 of an RFC 3339 time; None for what is none."""
    if not isinstance(value, str) or not value.isascii() or not _TIME.fullmatch(value):
        return None
    try:
        # the fraction is cut off: years of microseconds are no second
        whole = re.sub(r"\.\d+", "", value)
        if whole[11:13] == "24":  # which newer versions of Python know
            return None
        return int(datetime.fromisoformat(whole).timestamp())
    except (ValueError, OverflowError):
        return None


def _texts_of(item: Item) -> tuple[bytes, ...]:
    """What index.html must say of an item, as it stands between tags."""
    name = (escape(item.name).encode(),) if _PLAIN.fullmatch(item.name) else ()
    return (*name, item.record_id.encode(), item.leaf.encode())


def _pieces(chunks: Iterable[bytes], wanted: Collection[bytes]) -> Iterator[bytes]:
    """The texts between two tags that are among `wanted`, each of at most _MAX_PIECE bytes."""
    rest = b""
    for chunk in chunks:
        data = rest + chunk
        yield from (piece for piece in _PIECE.findall(data) if piece in wanted)
        rest = data[max(data.rfind(b"<"), data.rfind(b">"), 0) :][-_MAX_PIECE:]


def _check_identity(item: Item, facts: Facts, record: bytes) -> None:
    said = (item.record_id, item.type, item.v, item.department)
    if said != (facts.record_id, facts.type, facts.version, facts.department.id):
        raise _invalid("item-record", item.record)
    if item.leaf != leaf_hash(_entry_of(record)).hex():
        raise _invalid("item-leaf", item.record)


def _entry_of(presentation: bytes) -> bytes:
    """The statement's bytes: what stands in the log."""
    return presentation.strip(b"\n").partition(b"~")[0]


def _many(truths: Iterable[bool]) -> int:
    return sum(truths)


def _invalid(reason: str, path: str) -> CaseFileInvalid:
    return CaseFileInvalid(reason, reason, path)
