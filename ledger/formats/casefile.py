"""The case file: everything that a case's records prove, in one BagIt bag (RFC 8493) in one zip (`zipfiles`).

    bagit.txt, bag-info.txt, manifest-sha256.txt, tagmanifest-sha256.txt       RFC 8493
    case.json                                   what the department says is in the file, see below
    signature.jws                               b64url(header) ".." b64url(Ed25519), no line feed
    README.txt, verify.html                     for people; listed in the tag manifest
    data/records/<n>.sd-jwt                     presentation of item n, six digits
    data/receipts/<n>.tlog-proof                its receipt
    data/attachments/<n>-<ordinal>.<ext>        its attachment, ordinal in two digits
    data/anchors/<department>-<size>.anchor.json
    data/times/<department>-<size>-<k>.tst, .renewals.json
    data/manifests/<n>.txt                      what decision n froze (`manifest`)
    data/trust.json, data/index.html, data/custody.jsonld
    data/index.pdf, data/index-<k>.pdf          the printed index: volume 1, and volume k, three digits, from 2

    header    = {"alg":"EdDSA","iat":seconds,"kid":thumbprint,"typ":"yunxi-case-file+jws"}          RFC 7515 appendix F:
                signed is b64url(header) "." b64url(tagmanifest-sha256.txt); `typ` keeps it apart from statements
    case.json = {"format":"yunxi-case-file","v":1,"case","consortium","department","exported_for","log_size","volumes",
                 "items":[item …],"decisions":[decision …],"gaps":[gap …]}, members as in the classes below, all of
                 them and no other; canonical: sorted members, no white space, UTF-8, one line feed at the end

Both manifests list their files by path. The tag manifest lists the tag files but itself and signature.jws, so the
signature holds all bytes of the case file but its own. Items are sorted by `order_of_items` (own log by index, then
other departments' by id and index), decisions and attachments by number. All that case.json says of a record is proven
by the record, or is a finding; `name`, `source`, `purpose`, `date` and `page` are the department's own words.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Literal, TypeVar, cast, get_args

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ledger.errors import CaseFileInvalid, Malformed
from ledger.formats.encoding import b64url_decode, b64url_encode
from ledger.formats.manifest import Line
from ledger.formats.note import Sign
from ledger.formats.strictjson import loads_object
from ledger.formats.zipfiles import HEAD, MAX_ENTRIES, PAYLOAD

FORMAT, VERSION = "yunxi-case-file", 1
SIGNATURE_TYPE = "yunxi-case-file+jws"
SEALED_HEAD = b"YXF"
"""What a case file that is sealed to a court begins with (`ledger.casefile.sealing`)."""

MAX_CASE_BYTES = 64 * 1024 * 1024
"""An item takes 600 to 1,300 of them, and eight kilobytes in memory."""
MAX_CASE_VALUES = 2_500_000
"""Of case.json: an item with an attachment and a time stamp has 37."""
MAX_ITEMS = 50_000
MAX_ATTACHMENTS = 50
MAX_TIMES = 16
MAX_VOLUMES = 999
MAX_TEXT_CHARS = 2_000
MAX_TAG_BYTES = 64 * 1024 * 1024
"""Of manifest-sha256.txt, and of a decision's manifest."""
MAX_SMALL_BYTES = 16 * 1024
"""Of bagit.txt, bag-info.txt, tagmanifest-sha256.txt and signature.jws."""

BAGIT, BAG_INFO, CASE, SIGNATURE = "bagit.txt", "bag-info.txt", "case.json", "signature.jws"
README, PAGE = "README.txt", "verify.html"
MANIFEST, TAG_MANIFEST = "manifest-sha256.txt", "tagmanifest-sha256.txt"
TAGGED = tuple(sorted((README, BAG_INFO, BAGIT, CASE, MANIFEST, PAGE)))
"""What the tag manifest lists."""
TRUST, INDEX_HTML, INDEX_PDF, CUSTODY = "data/trust.json", "data/index.html", "data/index.pdf", "data/custody.jsonld"
FIXED = (TRUST, INDEX_HTML, INDEX_PDF, CUSTODY)
"""Payload that every case file has, whatever its items."""

BAGIT_TEXT = b"BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n"
SOFTWARE = "yunxi"

Role = Literal["step", "evidence", "decision", "custody", "derived"]
ROLES: tuple[Role, ...] = get_args(Role)
DECISION = "decision.made"

_ROLES: dict[str, Role] = {
    "case.filed": "step",
    "case.closed": "step",
    "inspection.opened": "step",
    "inspection.closed": "step",
    "duplicate.checked": "step",
    "participant.missing": "step",
    DECISION: "decision",
    "media.derived": "derived",
    "casefile.exported": "custody",
    "disclosure.made": "custody",
    "disclosure.received": "custody",
    "disclosure.refused": "custody",
    "emergency.used": "custody",
    "emergency.justified": "custody",
    "grant.changed": "custody",
    "hold.placed": "custody",
    "hold.lifted": "custody",
    "recall.acknowledged": "custody",
    "recall.received": "custody",
    "record.attached": "custody",
    "record.destroyed": "custody",
    "record.read": "custody",
    "record.recalled": "custody",
    "sharing.basis": "custody",
    "tracker.searched": "custody",
}

_EXTENSIONS = {
    "application/json": "json",
    "application/ofd": "ofd",
    "application/pdf": "pdf",
    "application/xml": "xml",
    "audio/mp4": "m4a",
    "audio/mpeg": "mp3",
    "audio/wav": "wav",
    "image/gif": "gif",
    "image/jpeg": "jpg",
    "image/png": "png",
    "image/tiff": "tif",
    "image/webp": "webp",
    "text/csv": "csv",
    "text/plain": "txt",
    "text/xml": "xml",
    "video/mp4": "mp4",
    "video/quicktime": "mov",
}

_WHAT = "case.json"
_DEPARTMENT = r"[a-z][a-z0-9-]{1,30}"
_PATHS = {
    "record": re.compile(r"data/records/[0-9]{6}\.sd-jwt"),
    "receipt": re.compile(r"data/receipts/[0-9]{6}\.tlog-proof"),
    "attachment": re.compile(r"data/attachments/[0-9]{6}-[0-9]{2}\.[a-z0-9]{1,5}"),
    "anchor": re.compile(rf"data/anchors/{_DEPARTMENT}-[0-9]{{1,16}}\.anchor\.json"),
    "token": re.compile(rf"data/times/{_DEPARTMENT}-[0-9]{{1,16}}-[0-9]{{1,3}}\.tst"),
    "renewals": re.compile(rf"data/times/{_DEPARTMENT}-[0-9]{{1,16}}-[0-9]{{1,3}}\.renewals\.json"),
    "manifest": re.compile(r"data/manifests/[0-9]{6}\.txt"),
    "volume": re.compile(r"data/index-[0-9]{3}\.pdf"),
}
_DEPARTMENT_ID = re.compile(_DEPARTMENT)
_RECORD_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_TYPE = re.compile(r"[a-z][a-z0-9]*(\.[a-z][a-z0-9-]*)+")
_CODE = re.compile(r"[a-z][a-z0-9-]{0,63}")
_DATE = re.compile(r"(?:19|20)[0-9]{2}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])")
_HEX = re.compile(r"[0-9a-f]{64}")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_MANIFEST_LINE = re.compile(r"([0-9a-f]{64})  ([\x21-\x7e]+)")
_OXUM = re.compile(r"(0|[1-9][0-9]{0,18})\.(0|[1-9][0-9]{0,8})")

T = TypeVar("T")


# --- case.json ---


@dataclass(frozen=True, slots=True)
class TimeToken:
    """An RFC 3161 token over the item's checkpoint. `authority` is who the department says made it."""

    authority: str
    token: str
    renewals: str | None


@dataclass(frozen=True, slots=True)
class CaseAttachment:
    """A file that the record names in its unit attachment-`ordinal`; `path` None: it is not given out."""

    ordinal: int
    name: str
    media_type: str
    size: int
    sha256: str
    path: str | None


@dataclass(frozen=True, slots=True)
class Item:
    """One record. `index` and `leaf` (hex) are those of the log, `sealed_at` is in seconds since 1970.

    `before_decision`: whether the first decision froze it; None where the file has no decision that froze anything.
    `amends`: the id of the record of the same department that this one corrects or withdraws, where it is one that
    does. `receipt` None: it stands under no checkpoint yet; `anchor` None: not anchored, or no evidence was to be had.
    """

    n: int
    role: Role
    record_id: str
    type: str
    v: int
    department: str
    index: int
    leaf: str
    sealed_at: int
    before_decision: bool | None
    amends: str | None
    name: str
    source: str | None
    purpose: str | None
    date: str | None
    page: str | None
    record: str
    receipt: str | None
    anchor: str | None
    times: tuple[TimeToken, ...]
    attachments: tuple[CaseAttachment, ...]
    forgotten: bool

    def paths(self) -> Iterator[str]:
        """Every file of the payload that the item names."""
        yield self.record
        yield from (path for path in (self.receipt, self.anchor) if path is not None)
        for time in self.times:
            yield from (path for path in (time.token, time.renewals) if path is not None)
        yield from (attachment.path for attachment in self.attachments if attachment.path is not None)


@dataclass(frozen=True, slots=True)
class Decision:
    """What decision item `n` froze: the manifest's file, its number of lines, digest and size, and the root (hex) that
    the department's log had just before."""

    n: int
    manifest: str
    count: int
    sha256: str
    size: int
    root: str


@dataclass(frozen=True, slots=True)
class Gap:
    """Something that a reader would look for and that is not here, in the department's words."""

    kind: str
    department: str | None
    record_id: str | None
    zh: str
    en: str


@dataclass(frozen=True, slots=True)
class CaseFile:
    """case.json. `log_size` is the state of the exporting department's log that it covers; `volumes`: of index.pdf."""

    case: str
    consortium: str
    department: str
    exported_for: str | None
    log_size: int
    volumes: int
    items: tuple[Item, ...]
    decisions: tuple[Decision, ...]
    gaps: tuple[Gap, ...]

    @staticmethod
    def parse(data: bytes) -> CaseFile:
        """Reads case.json. Raises Malformed for another shape, unknown members, numbers out of order, a text that is
        not canonical. Nothing of what it says is checked against a record."""
        value = loads_object(data, what=_WHAT, max_bytes=MAX_CASE_BYTES, max_values=MAX_CASE_VALUES)
        members = _Members(value, "the file")
        if members.take("format") != FORMAT or members.number("v") != VERSION:
            raise Malformed(_WHAT, f"must be {FORMAT}, version {VERSION}")
        found = CaseFile(
            case=members.text("case", 200),
            consortium=members.text("consortium", 500),
            department=members.matching("department", _DEPARTMENT_ID),
            exported_for=members.maybe_text("exported_for"),
            log_size=members.number("log_size"),
            volumes=members.number("volumes"),
            items=members.each("items", _item, MAX_ITEMS),
            decisions=members.each("decisions", _decision, MAX_ITEMS),
            gaps=members.each("gaps", _gap, MAX_ITEMS),
        )
        members.end()
        _check_numbers(found)
        if _canonical(value) != data:
            raise Malformed(_WHAT, "is not canonical: sorted members, no white space, one line feed at the end")
        return found

    def serialize(self) -> bytes:
        """case.json, always the same bytes for the same content."""
        return _canonical({"format": FORMAT, "v": VERSION} | asdict(self))

    def paths(self) -> Iterator[str]:
        """Every path of the payload that is named, some more than once."""
        for item in self.items:
            yield from item.paths()
        yield from (decision.manifest for decision in self.decisions)
        yield from map(index_path, range(2, self.volumes + 1))
        yield from FIXED


def order_of_items(item: Item, department: str) -> tuple[bool, str, int]:
    """The key that a case file of `department` sorts its items by; no two items have the same."""
    return (item.department != department, item.department, item.index)


def amendments(items: Iterable[Item]) -> dict[int, list[int]]:
    """For the number of each item that was corrected or withdrawn, the numbers of the items that did so: those of the
    same department, later in its log, that name it in `amends`."""
    known = {(item.department, item.record_id): item for item in items}
    found: dict[int, list[int]] = {}
    for item in known.values():
        before = None if item.amends is None else known.get((item.department, item.amends))
        if before is not None and before.index < item.index:
            found.setdefault(before.n, []).append(item.n)
    return found


def amends_of(claim: object) -> str | None:
    """The `amends` of an item whose statement has this claim: what is no record's id names nothing."""
    return claim if isinstance(claim, str) and _RECORD_ID.fullmatch(claim) else None


def role_of(record_type: str) -> Role:
    """What a record of this type is to a case; types that are not in the table are evidence."""
    return _ROLES.get(record_type, "evidence")


def record_path(n: int) -> str:
    """Where the presentation of item `n` is."""
    return f"data/records/{n:06}.sd-jwt"


def receipt_path(n: int) -> str:
    """Where the receipt of item `n` is."""
    return f"data/receipts/{n:06}.tlog-proof"


def attachment_path(n: int, ordinal: int, media_type: str) -> str:
    """Where an attachment of item `n` is. The end is from a fixed table: a record's own words never name a file."""
    return f"data/attachments/{n:06}-{ordinal:02}.{_EXTENSIONS.get(media_type, 'bin')}"


def anchor_path(department: str, size: int) -> str:
    """Where the anchor evidence of the department's checkpoint of this size is."""
    return f"data/anchors/{department}-{size}.anchor.json"


def token_path(department: str, size: int, k: int) -> str:
    """Where the `k`-th time-stamp token, from 1, over this checkpoint is."""
    return f"data/times/{department}-{size}-{k}.tst"


def renewals_path(department: str, size: int, k: int) -> str:
    """Where it is said how that token was renewed."""
    return f"data/times/{department}-{size}-{k}.renewals.json"


def manifest_path(n: int) -> str:
    """Where the manifest that decision item `n` froze is."""
    return f"data/manifests/{n:06}.txt"


def index_path(k: int) -> str:
    """Where volume `k`, from 1, of the printed index is."""
    return INDEX_PDF if k == 1 else f"data/index-{k:03}.pdf"


def is_path(path: str) -> bool:
    """Whether a case file can have a file of this name."""
    known = (*TAGGED, TAG_MANIFEST, SIGNATURE, *FIXED)
    return path in known or any(pattern.fullmatch(path) for pattern in _PATHS.values())


def is_case_file(head: bytes) -> bool:
    """Whether a file that begins with `head`, 64 bytes or more, is meant to be a case file: its first entry says so."""
    size = int.from_bytes(head[26:28], "little")
    path = head[30 : 30 + size].decode("ascii", "replace")
    return head.startswith(HEAD) and (path.startswith(PAYLOAD) or path in (*TAGGED, TAG_MANIFEST, SIGNATURE))


# --- what a decision froze ---


@dataclass(frozen=True, slots=True)
class Named:
    """A record of another department that a record of the case names, by its index in that log or by its leaf (hex)."""

    department: str
    record_id: str
    index: int | None
    leaf: str | None


def named_records(record_type: str, units: Mapping[str, Mapping[str, Any]]) -> Iterator[Named]:
    """The records that a `disclosure.received` or `record.attached` record names, as far as its `units` (name to
    members) are shown. A page that was received names each record by index, an attached record by leaf. Content that
    is not as its type has it names nothing."""
    if record_type == "disclosure.received":
        owner, records = units.get("owner", {}).get("owner"), units.get("records", {}).get("records")
        if not isinstance(owner, str) or not isinstance(records, list):
            return
        for record in records:
            said = record if isinstance(record, dict) else {}
            record_id, index = said.get("id"), said.get("index")
            if isinstance(record_id, str) and type(index) is int:
                yield Named(owner, record_id, index, None)
    elif record_type == "record.attached":
        members = units.get("record", {})
        owner, record_id, leaf = members.get("owner"), members.get("record"), members.get("leaf")
        if isinstance(owner, str) and isinstance(record_id, str) and isinstance(leaf, str):
            yield Named(owner, record_id, None, leaf)


@dataclass(frozen=True, slots=True)
class Freeze:
    """What the first decision of a case file froze: entries of the exporting department's log, and the records of other
    departments that these entries name."""

    department: str
    lines: frozenset[Line]
    named: frozenset[Named]

    def holds(self, item: Item) -> bool:
        """Whether `item` is evidence that existed when the decision was made: what `before_decision` must say."""
        line = Line(item.index, item.record_id, bytes.fromhex(item.leaf))
        if item.department == self.department and line in self.lines:
            return True
        by_index = Named(item.department, item.record_id, item.index, None)
        by_leaf = Named(item.department, item.record_id, None, item.leaf)
        return by_index in self.named or by_leaf in self.named


# --- BagIt texts ---


@dataclass(frozen=True, slots=True)
class BagInfo:
    """bag-info.txt: who made the bag of which case, and how many bytes in how many files its payload has."""

    organisation: str
    case: str
    octets: int
    files: int

    def serialize(self) -> bytes:
        """The text. No dates: two exports of the same state are the same bytes."""
        return (
            f"Source-Organization: {self.organisation}\nExternal-Identifier: {self.case}\n"
            f"Payload-Oxum: {self.octets}.{self.files}\nBag-Software-Agent: {SOFTWARE}\n"
        ).encode()

    @staticmethod
    def parse(data: bytes) -> BagInfo:
        """Reads bag-info.txt. Raises Malformed unless it is one that `serialize` gives."""
        what = "bag-info.txt"
        values = [line.partition(": ")[2] for line in _lines(data, what)]
        oxum = _OXUM.fullmatch(values[2]) if len(values) == 4 else None
        if oxum is None:
            raise Malformed(
                what, "has the lines Source-Organization, External-Identifier, Payload-Oxum, Bag-Software-Agent"
            )
        found = BagInfo(values[0], values[1], int(oxum[1]), int(oxum[2]))
        if found.serialize() != data:
            raise Malformed(what, "is not written as case files have it")
        return found


def manifest_line(sha256: str, path: str) -> bytes:
    """A line of a manifest (RFC 8493 section 2.1.3)."""
    return f"{sha256}  {path}\n".encode("ascii")


def parse_manifest(data: bytes, what: str) -> dict[str, str]:
    """Path to SHA-256 in hex, in the order of the lines. `what` is the file's name. Raises Malformed for another form,
    a path twice, and lines that are not by path."""
    found: dict[str, str] = {}
    last = ""
    for line in _lines(data, what):
        match = _MANIFEST_LINE.fullmatch(line)
        if match is None:
            raise Malformed(what, f"line {len(found) + 1} is not a SHA-256 digest, two spaces and a path")
        if match[2] <= last:
            raise Malformed(what, f"line {len(found) + 1} is not in the order of paths, or names a path twice")
        last = match[2]
        found[last] = match[1]
    return found


# --- signature.jws ---


@dataclass(frozen=True, slots=True)
class CaseSignature:
    """A signature.jws as parsed. `iat`: when the department says it signed, in seconds since 1970, by its own clock."""

    kid: str
    iat: int
    signature: bytes

    @staticmethod
    def make(tag_manifest: bytes, kid: str, iat: int, sign: Sign) -> bytes:
        """The file over these bytes of tagmanifest-sha256.txt; `sign` is the department's statement key `kid`."""
        header = _header(kid, iat)
        signature = sign(_signed(header, tag_manifest))
        return f"{header}..{b64url_encode(signature)}".encode("ascii")

    @staticmethod
    def parse(data: bytes) -> CaseSignature:
        """Reads the file. Raises Malformed unless it is one that `make` gives."""
        try:
            header, payload, signature = data.decode("ascii").split(".")
        except ValueError as error:
            raise Malformed(SIGNATURE, "is not a signature with its payload left out") from error
        raw = b64url_decode(signature, SIGNATURE)
        members = loads_object(b64url_decode(header, SIGNATURE), what=SIGNATURE, max_bytes=4096)
        kid, iat = members.get("kid"), members.get("iat")
        if not isinstance(kid, str) or type(iat) is not int or iat < 0 or len(raw) != 64 or payload:
            raise Malformed(SIGNATURE, "lacks its key, its time or its signature of 64 bytes")
        if _header(kid, iat) != header:
            raise Malformed(SIGNATURE, f"its header must have typ {SIGNATURE_TYPE}, alg EdDSA, and nothing else")
        return CaseSignature(kid, iat, raw)

    def verify(self, tag_manifest: bytes, key: Ed25519PublicKey) -> None:
        """Raises CaseFileInvalid, `signature-wrong`, unless `key` made it over these bytes. The caller chose `key`, and
        asks whether it was valid at `iat`."""
        try:
            key.verify(self.signature, _signed(_header(self.kid, self.iat), tag_manifest))
        except InvalidSignature as error:
            text = "the case file was changed after it was signed, or another than the named key signed it"
            raise CaseFileInvalid("signature-wrong", text, SIGNATURE) from error


def _header(kid: str, iat: int) -> str:
    members = {"alg": "EdDSA", "iat": iat, "kid": kid, "typ": SIGNATURE_TYPE}
    return b64url_encode(json.dumps(members, separators=(",", ":")).encode("ascii"))


def _signed(header: str, payload: bytes) -> bytes:
    return f"{header}.{b64url_encode(payload)}".encode("ascii")


# --- parsing ---


class _Members:
    """An object of case.json on its way in: every member is taken once, none is left. `where` names it in errors."""

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise Malformed(_WHAT, f"{where} must be an object")
        self.rest: dict[str, Any] = dict(value)
        self.where = where

    def take(self, name: str) -> Any:
        if name not in self.rest:
            raise Malformed(_WHAT, f"{self.where} lacks the member {name}")
        return self.rest.pop(name)

    def number(self, name: str) -> int:
        value = self.take(name)
        if type(value) is not int or value < 0:
            raise self.wrong(name, "a whole number, not negative")
        return value

    def truth(self, name: str) -> bool:
        value = self.take(name)
        if not isinstance(value, bool):
            raise self.wrong(name, "true or false")
        return value

    def text(self, name: str, limit: int = MAX_TEXT_CHARS) -> str:
        value = self.take(name)
        if not isinstance(value, str) or not 0 < len(value) <= limit or _CONTROL.search(value):
            raise self.wrong(name, f"a line of 1 to {limit:,} characters")
        return value

    def maybe_text(self, name: str) -> str | None:
        return None if self.absent(name) else self.text(name)

    def matching(self, name: str, pattern: re.Pattern[str]) -> str:
        value = self.take(name)
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise self.wrong(name, "written as case files have it")
        return value

    def maybe_matching(self, name: str, pattern: re.Pattern[str]) -> str | None:
        return None if self.absent(name) else self.matching(name, pattern)

    def each(self, name: str, build: Any, limit: int) -> tuple[Any, ...]:
        values = self.take(name)
        if not isinstance(values, list) or len(values) > limit:
            raise self.wrong(name, f"a list of at most {limit:,}")
        found = []
        for number, value in enumerate(values, 1):
            members = _Members(value, f"number {number} of {name} of {self.where}")
            found.append(build(members))
            members.end()
        return tuple(found)

    def absent(self, name: str) -> bool:
        """Whether the member is null; then it is taken."""
        if name in self.rest and self.rest[name] is None:
            del self.rest[name]
            return True
        return False

    def end(self) -> None:
        if self.rest:
            raise Malformed(_WHAT, f"{self.where} has the unknown member {next(iter(self.rest))[:64]!r}")

    def wrong(self, name: str, says: str) -> Malformed:
        return Malformed(_WHAT, f"{name} of {self.where} must be {says}")


def _canonical(value: dict[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def _item(members: _Members) -> Item:
    role = members.take("role")
    if role not in ROLES:
        raise members.wrong("role", f"one of {', '.join(ROLES)}")
    return Item(
        n=members.number("n"),
        role=cast(Role, role),
        record_id=members.matching("record_id", _RECORD_ID),
        type=members.matching("type", _TYPE),
        v=members.number("v"),
        department=members.matching("department", _DEPARTMENT_ID),
        index=members.number("index"),
        leaf=members.matching("leaf", _HEX),
        sealed_at=members.number("sealed_at"),
        before_decision=None if members.absent("before_decision") else members.truth("before_decision"),
        amends=members.maybe_matching("amends", _RECORD_ID),
        name=members.text("name"),
        source=members.maybe_text("source"),
        purpose=members.maybe_text("purpose"),
        date=members.maybe_matching("date", _DATE),
        page=members.maybe_text("page"),
        record=members.matching("record", _PATHS["record"]),
        receipt=members.maybe_matching("receipt", _PATHS["receipt"]),
        anchor=members.maybe_matching("anchor", _PATHS["anchor"]),
        times=members.each("times", _time, MAX_TIMES),
        attachments=members.each("attachments", _attachment, MAX_ATTACHMENTS),
        forgotten=members.truth("forgotten"),
    )


def _time(members: _Members) -> TimeToken:
    return TimeToken(
        authority=members.text("authority"),
        token=members.matching("token", _PATHS["token"]),
        renewals=members.maybe_matching("renewals", _PATHS["renewals"]),
    )


def _attachment(members: _Members) -> CaseAttachment:
    return CaseAttachment(
        ordinal=members.number("ordinal"),
        name=members.text("name"),
        media_type=members.text("media_type", 200),
        size=members.number("size"),
        sha256=members.matching("sha256", _HEX),
        path=members.maybe_matching("path", _PATHS["attachment"]),
    )


def _decision(members: _Members) -> Decision:
    return Decision(
        n=members.number("n"),
        manifest=members.matching("manifest", _PATHS["manifest"]),
        count=members.number("count"),
        sha256=members.matching("sha256", _HEX),
        size=members.number("size"),
        root=members.matching("root", _HEX),
    )


def _gap(members: _Members) -> Gap:
    return Gap(
        kind=members.matching("kind", _CODE),
        department=members.maybe_matching("department", _DEPARTMENT_ID),
        record_id=members.maybe_matching("record_id", _RECORD_ID),
        zh=members.text("zh"),
        en=members.text("en"),
    )


def _check_numbers(found: CaseFile) -> None:
    """Items, attachments and decisions are numbered without holes, in order, and their paths carry their numbers."""
    if not 1 <= found.volumes <= MAX_VOLUMES:
        raise Malformed(_WHAT, f"volumes of the file must be from 1 to {MAX_VOLUMES}")
    for n, item in enumerate(found.items, 1):
        if item.n != n:
            raise Malformed(_WHAT, f"item {n} of the list has the number {item.n}")
        if item.record != record_path(n) or item.receipt not in (None, receipt_path(n)):
            raise Malformed(_WHAT, f"item {n} names a record or a receipt of another number")
        _check_attachments(item)
    orders = [order_of_items(item, found.department) for item in found.items]
    if any(one >= two for one, two in pairwise(orders)):
        raise Malformed(_WHAT, "the items are not in the order of their logs, or one stands twice")
    numbers = [decision.n for decision in found.decisions]
    if sorted(set(numbers)) != numbers or any(d.manifest != manifest_path(d.n) for d in found.decisions):
        raise Malformed(_WHAT, "the decisions are not in order, or name a manifest of another number")
    if any(not 1 <= n <= len(found.items) or found.items[n - 1].type != DECISION for n in numbers):
        raise Malformed(_WHAT, "a decision names an item that is none")


def _check_attachments(item: Item) -> None:
    ordinals = [attachment.ordinal for attachment in item.attachments]
    if sorted(set(ordinals)) != ordinals or (ordinals and not 1 <= ordinals[0] <= ordinals[-1] <= 99):
        raise Malformed(_WHAT, f"the attachments of item {item.n} are not in order")
    for attachment in item.attachments:
        expected = attachment_path(item.n, attachment.ordinal, attachment.media_type)
        if attachment.path not in (None, expected):
            raise Malformed(_WHAT, f"an attachment of item {item.n} names a file that is not its own")


def _lines(data: bytes, what: str) -> list[str]:
    if data.count(b"\n") > MAX_ENTRIES:
        raise Malformed(what, f"has more than {MAX_ENTRIES:,} lines")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Malformed(what, f"not UTF-8 at byte {error.start}") from error
    if text and not text.endswith("\n"):
        raise Malformed(what, "its last line does not end; it may be cut short")
    return text.split("\n")[:-1]
