"""Statements, disclosures and presentations: SD-JWT (RFC 9901) as DESIGN section 4 profiles it.

    statement    = b64url(header) "." b64url(payload) "." b64url(signature)          RFC 9901 section 4.1, compact JWS
    header       = {"alg": "EdDSA", "typ": "yunxi+sd-jwt", "kid": thumbprint}
    payload      = {"iss": department, "jti": record id, "iat": seconds, "type", "v", ["matter"], ["case"],
                    ["inspection"], ["amends"], "subj": [blind index …], "_sd_alg": "sha-256", "_sd": [digest …]}
    disclosure   = b64url([salt, unit, {member: value, …}])                          section 4.2.1
    digest       = b64url(SHA-256(disclosure's ASCII))                               section 4.2.3
    presentation = statement "~" *(disclosure "~")                                   section 4, no key binding

Only flat object disclosures are used: no `_sd` inside a disclosure or deeper in a payload (refused: other readers would
take it for parts of parts), no array elements, no decoy needed, because the number of units is the type's and therefore
public. `_sd` is sorted, which hides the order of the units.
Unknown payload members survive and are shown to the reader of `Statement.payload`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ledger.errors import DisclosureInvalid, Malformed, SignatureInvalid
from ledger.formats.encoding import b64url_decode, b64url_encode
from ledger.formats.strictjson import loads, loads_object

TYPE = "yunxi+sd-jwt"
ALGORITHM = "EdDSA"
DIGEST_ALGORITHM = "sha-256"
MAX_STATEMENT_BYTES = 65_535
"""What a log entry may hold: a C2SP entry bundle counts its length in 16 bits."""
MAX_DISCLOSURE_BYTES = 2 * 1024 * 1024
MAX_PRESENTATION_BYTES = 16 * 1024 * 1024
MAX_DISCLOSURES = 1_000
SALT_BYTES = 16

STATEMENT_CLAIMS = frozenset(
    ("iss", "jti", "iat", "type", "v", "matter", "case", "inspection", "amends", "subj", "_sd_alg", "_sd")
)
"""Names that no disclosure unit may have."""

_RECORD_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_OPTIONAL_TEXTS = ("matter", "case", "inspection", "amends")


@dataclass(frozen=True, slots=True)
class Statement:
    """A parsed statement. Nothing of it is true before `verify_signature` returned."""

    ascii: bytes
    kid: str
    issuer: str
    record_id: str
    issued_at: int
    """Seconds since 1970 by the sealing machine's own clock."""
    type: str
    version: int
    digests: frozenset[str]
    payload: dict[str, Any]

    def verify_signature(self, key: Ed25519PublicKey) -> None:
        """Raises SignatureInvalid unless `key` made the signature (RFC 8032, RFC 8037). The caller chose `key`."""
        signing_input, _, signature = self.ascii.rpartition(b".")
        try:
            key.verify(b64url_decode(signature.decode("ascii"), "statement"), signing_input)
        except InvalidSignature as error:
            raise SignatureInvalid(f"record {self.record_id}: the statement's signature is wrong") from error


@dataclass(frozen=True, slots=True)
class Disclosure:
    """One revealed unit."""

    text: str
    salt: str
    unit: str
    members: dict[str, Any]

    @property
    def digest(self) -> str:
        """What stands in the statement's `_sd` for it."""
        return disclosure_digest(self.text)


@dataclass(frozen=True, slots=True)
class Presentation:
    """A statement with the disclosures that its reader may see; every one of them is in the statement's `_sd`."""

    statement: Statement
    disclosures: tuple[Disclosure, ...]

    @property
    def masked(self) -> int:
        """How many units are withheld."""
        return len(self.statement.digests) - len(self.disclosures)

    def record(self) -> dict[str, Any]:
        """The record as far as it is revealed: clear members and the members of every revealed unit."""
        payload = self.statement.payload
        clear = {"id": payload["jti"], "type": payload["type"], "v": payload["v"], "department": payload["iss"]}
        clear |= {name: payload[name] for name in _OPTIONAL_TEXTS if name in payload}
        record = dict(clear)
        for disclosure in self.disclosures:
            if disclosure.unit.startswith("attachment-"):
                record.setdefault("attachments", []).append(disclosure.members)
            else:
                record |= disclosure.members
        return record | clear  # no member of a unit can stand in for one that is signed in clear


def disclosure_digest(text: str) -> str:
    """b64url(SHA-256(ASCII of the disclosure)), RFC 9901 section 4.2.3."""
    return b64url_encode(hashlib.sha256(text.encode("ascii")).digest())


def parse_statement(data: bytes) -> Statement:
    """The statement that `data` holds; its signature is not checked. Raises Malformed."""
    if len(data) > MAX_STATEMENT_BYTES:
        raise Malformed("statement", f"longer than {MAX_STATEMENT_BYTES:,} bytes")
    try:
        parts = data.decode("ascii").split(".")
    except UnicodeDecodeError as error:
        raise Malformed("statement", "not ASCII") from error
    if len(parts) != 3:
        raise Malformed("statement", "must be three parts joined by dots")
    header = loads_object(b64url_decode(parts[0], "statement"), what="statement header", max_bytes=4096)
    payload = loads_object(
        b64url_decode(parts[1], "statement"), what="statement payload", max_bytes=MAX_STATEMENT_BYTES
    )
    if len(b64url_decode(parts[2], "statement")) != 64:
        raise Malformed("statement", "an Ed25519 signature has 64 bytes")
    if header.get("typ") != TYPE or header.get("alg") != ALGORITHM or "crit" in header:
        raise Malformed("statement header", f"typ must be {TYPE}, alg {ALGORITHM}, and nothing critical")
    return Statement(
        ascii=data,
        kid=_text(header, "kid"),
        issuer=_text(payload, "iss"),
        record_id=_record_id(payload),
        issued_at=_integer(payload, "iat"),
        type=_text(payload, "type"),
        version=_integer(payload, "v"),
        digests=_digests(payload),
        payload=payload,
    )


def parse_disclosure(text: str) -> Disclosure:
    """The disclosure that `text` holds. Raises Malformed."""
    if len(text) > MAX_DISCLOSURE_BYTES:
        raise Malformed("disclosure", f"longer than {MAX_DISCLOSURE_BYTES:,} bytes")
    value = loads(b64url_decode(text, "disclosure"), what="disclosure", max_bytes=MAX_DISCLOSURE_BYTES)
    if not (isinstance(value, list) and len(value) == 3):
        raise Malformed("disclosure", "must be [salt, unit, members]")
    salt, unit, members = value
    if not (isinstance(salt, str) and isinstance(unit, str) and isinstance(members, dict)):
        raise Malformed("disclosure", "must be a string, a string and an object")
    if unit in STATEMENT_CLAIMS or unit == "..." or not unit:
        raise Malformed("disclosure", f"no unit may be named {unit!r}")
    _check_flat(members, "disclosure")
    if len(b64url_decode(salt, "disclosure salt")) < SALT_BYTES:
        raise Malformed("disclosure", f"its salt has fewer than {SALT_BYTES} bytes")
    return Disclosure(text=text, salt=salt, unit=unit, members=members)


def parse_presentation(data: bytes) -> Presentation:
    """The presentation that `data` holds, each disclosure found in the statement; its signature is not checked.

    Raises Malformed, or DisclosureInvalid when a disclosure is not the statement's, stands twice, is named like a
    claim that the statement has in clear, or two of them claim the same unit (RFC 9901 section 7.1 steps 3 to 5).
    """
    if len(data) > MAX_PRESENTATION_BYTES:
        raise Malformed("presentation", f"longer than {MAX_PRESENTATION_BYTES:,} bytes")
    statement_part, tilde, rest = data.strip(b"\n").partition(b"~")
    if not tilde or not (rest == b"" or rest.endswith(b"~")):
        raise Malformed("presentation", "must be a statement and disclosures, each followed by ~")
    statement = parse_statement(statement_part)
    return Presentation(statement, open_disclosures(statement, rest))


def open_disclosures(statement: Statement, joined: bytes) -> tuple[Disclosure, ...]:
    """The disclosures in `joined` (each followed by ~), held against the statement. Raises as `parse_presentation`."""
    if joined.count(b"~") > MAX_DISCLOSURES:
        raise Malformed("presentation", f"more than {MAX_DISCLOSURES:,} disclosures")
    try:
        texts = joined.decode("ascii").split("~")[:-1]
    except UnicodeDecodeError as error:
        raise Malformed("disclosure", "not ASCII") from error
    if any(disclosure_digest(text) not in statement.digests for text in texts):
        raise DisclosureInvalid(f"record {statement.record_id}: a part that is shown is not in the statement")
    disclosures = tuple(parse_disclosure(text) for text in texts)
    for disclosure in disclosures:
        if disclosure.unit in statement.payload:
            raise DisclosureInvalid(
                f"record {statement.record_id}: unit {disclosure.unit[:64]!r} is also a claim that stands in clear"
            )
    if len({d.unit for d in disclosures}) < len(disclosures):
        raise DisclosureInvalid(f"record {statement.record_id}: a unit is shown twice")
    return disclosures


def serialize_presentation(statement: bytes, disclosures: Iterable[str]) -> bytes:
    """RFC 9901 section 4: the statement and each disclosure, every one followed by ~."""
    return b"~".join([statement, *(text.encode("ascii") for text in disclosures), b""])


def _text(members: dict[str, Any], name: str) -> str:
    value = members.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= 200:
        raise Malformed("statement", f"member {name} must be a text of 1 to 200 characters")
    return value


def _integer(members: dict[str, Any], name: str) -> int:
    value = members.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise Malformed("statement", f"member {name} must be a whole number, not negative")
    return value


def _record_id(payload: dict[str, Any]) -> str:
    text = _text(payload, "jti")
    if not _RECORD_ID.fullmatch(text):
        raise Malformed("statement", "member jti must be a UUIDv7 in lowercase")
    return text


def _digests(payload: dict[str, Any]) -> frozenset[str]:
    for name in _OPTIONAL_TEXTS:
        if name in payload:
            _text(payload, name)
    if payload.get("_sd_alg") != DIGEST_ALGORITHM:
        raise Malformed("statement", f"_sd_alg must be {DIGEST_ALGORITHM}")
    digests = _texts(payload, "_sd")
    _check_flat({name: value for name, value in payload.items() if name != "_sd"}, "statement")
    _texts(payload, "subj")
    if len(set(digests)) != len(digests) or not all(len(d) == 43 for d in digests):
        raise Malformed("statement", "_sd must hold distinct SHA-256 digests")
    return frozenset(digests)


def _check_flat(value: Any, what: str) -> None:
    """Raises Malformed where `value` has, at any depth, what RFC 9901 section 4.2.4 reads as hidden parts."""
    if isinstance(value, dict):
        if "_sd" in value or "..." in value:
            raise Malformed(what, "has hidden parts inside of parts, which are not in use here")
        value = list(value.values())
    for inside in value if isinstance(value, list) else ():
        if isinstance(inside, dict | list):
            _check_flat(inside, what)


def _texts(payload: dict[str, Any], name: str) -> Sequence[str]:
    value = payload.get(name)
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise Malformed("statement", f"member {name} must be a list of texts")
    return value
