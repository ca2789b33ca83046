"""A page of an extraction, on its way from owner to requester. Pure: bytes in, bytes out.

    stream     = *(line newline)                                                    NDJSON, UTF-8
    line       = page | end | problem, always in this order; a stream without its last line was cut off
    page       = {"page": number, "records": count, "sha256": hex, "kid": key id, "enc": b64url, "ciphertext": b64url}
    end        = {"end": true, "more": boolean}                       more: ask again at once, there are further pages
    problem    = {"problem": code, "detail": text}                    nothing further; what came before stands
    enc        = HPKE's encapsulated key, 32 bytes; ciphertext as it comes from HPKE (RFC 9180, single-shot, base mode,
                 X25519, HKDF-SHA256, AES-256-GCM), to the requester's encryption key `kid`, fresh each time
    plaintext  = {"v": 1, "presentations": [presentation …], "receipts": [tlog-proof …]}    as many of each
    sha256     = SHA-256(presentations joined by line feeds); receipts may be renewed, so they are not in it
    info       = "yunxi extraction page v1" 0x1f extraction 0x1f number 0x1f owner 0x1f requester

A page has 1 to 500 records. Presentations never hold a line feed, so joining them loses nothing.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

from ledger.crypto.envelope import seal_to
from ledger.errors import Malformed
from ledger.formats.encoding import b64url_decode, b64url_encode, hex_decode
from ledger.formats.sdjwt import MAX_PRESENTATION_BYTES
from ledger.formats.strictjson import loads_object
from ledger.formats.tlogproof import MAX_PROOF_BYTES

MEDIA_TYPE = "application/x-ndjson"
MAX_RECORDS = 500
MAX_PLAINTEXT_BYTES = 24 * 1024 * 1024
"""One presentation may be as large as a presentation can be, with its receipt and JSON's own marks."""
MAX_LINE_BYTES = MAX_PLAINTEXT_BYTES * 4 // 3 + 4096
MAX_PAGE = 2**31 - 1

ENC_BYTES = 32
_TAG_BYTES = 16
_WHAT = "extraction page"
_EXTRACTION = re.compile(r"[0-9a-f]{32}")
_CODE = re.compile(r"[a-z][a-z0-9-]{0,63}")
_PAGE_MEMBERS = frozenset(("page", "records", "sha256", "kid", "enc", "ciphertext"))


@dataclass(frozen=True, slots=True)
class Place:
    """Which page of which extraction, and between whom: what a page's ciphertext is bound to."""

    extraction: str
    number: int
    owner: str
    requester: str

    @property
    def info(self) -> bytes:
        """HPKE's `info`."""
        words = ("yunxi extraction page v1", self.extraction, str(self.number), self.owner, self.requester)
        return "\x1f".join(words).encode()


@dataclass(frozen=True, slots=True)
class Page:
    """The content of a page: presentations, and for each its receipt."""

    presentations: tuple[bytes, ...]
    receipts: tuple[bytes, ...]

    @property
    def joined(self) -> bytes:
        """The bytes that `sha256` covers, and that the requester keeps."""
        return b"\n".join(self.presentations)

    @property
    def sha256(self) -> str:
        """The digest that both logs name."""
        return hashlib.sha256(self.joined).hexdigest()


@dataclass(frozen=True, slots=True)
class SealedPage:
    """A page line that was read; nothing of it is verified. `sealed` is enc ‖ ciphertext."""

    number: int
    records: int
    sha256: str
    kid: str
    sealed: bytes


@dataclass(frozen=True, slots=True)
class End:
    """The owner has said what there is for now; `more`: there are further pages already."""

    more: bool


@dataclass(frozen=True, slots=True)
class Stopped:
    """The owner refuses further pages."""

    code: str
    detail: str


def is_extraction_id(text: str) -> bool:
    """Whether `text` has the form of an extraction's id: 32 lower-case hex digits."""
    return _EXTRACTION.fullmatch(text) is not None


def seal_page(page: Page, place: Place, kid: str, recipient: X25519PublicKey) -> bytes:
    """The line, with its line feed. `kid` names `recipient`. Encrypting is random: never twice the same."""
    content = {"v": 1, "presentations": _texts(page.presentations), "receipts": _texts(page.receipts)}
    sealed = seal_to(recipient, orjson.dumps(content), place.info)
    line = {
        "page": place.number,
        "records": len(page.presentations),
        "sha256": page.sha256,
        "kid": kid,
        "enc": b64url_encode(sealed[:ENC_BYTES]),
        "ciphertext": b64url_encode(sealed[ENC_BYTES:]),
    }
    return orjson.dumps(line) + b"\n"


def end_line(more: bool) -> bytes:
    """The last line of a stream that went well."""
    return orjson.dumps({"end": True, "more": more}) + b"\n"


def problem_line(code: str, detail: str) -> bytes:
    """The last line of a stream that a refusal ends."""
    return orjson.dumps({"problem": code, "detail": detail}) + b"\n"


def parse_line(data: bytes) -> SealedPage | End | Stopped:
    """Reads one line of a stream, with or without its line feed. Raises Malformed. Nothing is decrypted."""
    members = loads_object(data.removesuffix(b"\n"), what=_WHAT, max_bytes=MAX_LINE_BYTES)
    if "end" in members:
        return _end(members)
    if "problem" in members:
        return _stopped(members)
    if members.keys() != _PAGE_MEMBERS:
        raise Malformed(_WHAT, f"a page has the members {', '.join(sorted(_PAGE_MEMBERS))} and no others")
    sealed = _decoded(members, "enc") + _decoded(members, "ciphertext")
    if len(_decoded(members, "enc")) != ENC_BYTES or len(sealed) < ENC_BYTES + _TAG_BYTES:
        raise Malformed(_WHAT, f"enc has {ENC_BYTES} bytes and a ciphertext at least {_TAG_BYTES}")
    sha256 = _text(members, "sha256")
    hex_decode(sha256, 32, _WHAT)
    return SealedPage(
        number=_integer(members, "page", MAX_PAGE),
        records=_integer(members, "records", MAX_RECORDS),
        sha256=sha256,
        kid=_text(members, "kid"),
        sealed=sealed,
    )


def parse_plaintext(data: bytes) -> Page:
    """Reads what a page's ciphertext opened to. Raises Malformed. What the presentations say is not looked at."""
    members = loads_object(data, what=_WHAT, max_bytes=MAX_PLAINTEXT_BYTES)
    if members.keys() != {"v", "presentations", "receipts"} or members["v"] != 1 or members["v"] is True:
        raise Malformed(_WHAT, "must have v (1), presentations and receipts, and nothing else")
    presentations = _list(members, "presentations", MAX_PRESENTATION_BYTES)
    receipts = _list(members, "receipts", MAX_PROOF_BYTES)
    if not 0 < len(presentations) <= MAX_RECORDS or len(receipts) != len(presentations):
        raise Malformed(_WHAT, f"must have 1 to {MAX_RECORDS} presentations and as many receipts")
    if any(b"\n" in presentation for presentation in presentations):
        raise Malformed(_WHAT, "a presentation holds a line feed")
    return Page(presentations, receipts)


def _texts(items: Sequence[bytes]) -> list[str]:
    return [item.decode("utf-8") for item in items]


def _end(members: dict[str, Any]) -> End:
    if members.keys() != {"end", "more"} or members["end"] is not True or not isinstance(members["more"], bool):
        raise Malformed(_WHAT, 'the last line must be {"end": true, "more": true or false}')
    return End(members["more"])


def _stopped(members: dict[str, Any]) -> Stopped:
    if members.keys() != {"problem", "detail"}:
        raise Malformed(_WHAT, "a problem has a code and a detail, and nothing else")
    code, detail = _text(members, "problem"), members["detail"]
    if not _CODE.fullmatch(code) or not isinstance(detail, str) or len(detail) > 4000:
        raise Malformed(_WHAT, "a problem's code is lower-case words joined by hyphens, its detail a short text")
    return Stopped(code, detail)


def _decoded(members: dict[str, Any], name: str) -> bytes:
    value = members[name]
    if not isinstance(value, str):
        raise Malformed(_WHAT, f"{name} must be base64url text")
    return b64url_decode(value, _WHAT)


def _text(members: dict[str, Any], name: str) -> str:
    value = members[name]
    if not isinstance(value, str) or not 0 < len(value) <= 200:
        raise Malformed(_WHAT, f"{name} must be a text of 1 to 200 characters")
    return value


def _integer(members: dict[str, Any], name: str, most: int) -> int:
    value = members[name]
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise Malformed(_WHAT, f"{name} must be a whole number from 1 to {most:,}")
    return value


def _list(members: dict[str, Any], name: str, longest: int) -> tuple[bytes, ...]:
    value = members[name]
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise Malformed(_WHAT, f"{name} must be a list of texts")
    items = tuple(item.encode("utf-8") for item in value)
    if any(not 0 < len(item) <= longest for item in items):
        raise Malformed(_WHAT, f"one of the {name} is empty or longer than {longest:,} bytes")
    return items
