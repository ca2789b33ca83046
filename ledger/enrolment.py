"""How a terminal and its node come to know each other: two files and a code that people carry between them.

    terminal ── request file ─────────────► node       the terminal's public keys, department, name
    terminal ── code, by voice or in person ► node     100 random bits, in no file
    terminal ◄─ enrolment file ──────────── node       what the terminal must know, secrets among it

    request   = {"format": "yunxi-terminal-request", "v": 1, "department", "name",
                 "statement": b64url(Ed25519), "request": b64url(Ed25519), "enrolment": b64url(X25519),
                 "mac": b64url(HMAC-SHA256(code, the other members as JSON with sorted keys))}
    enrolment = {"format": "yunxi-terminal-enrolment", "v": 1,
                 "sealed": b64url(HPKE(content as JSON, to the request's X25519 key, info: see `_info`))}

The code authenticates both ways: whoever swaps the request cannot make its `mac`, and whoever swaps the enrolment (and
with it the key that everything is sealed to) does not know the `info` that it must be sealed under. Nothing is
readable to whoever copies both files.
"""

from __future__ import annotations

import hmac
import json
import re
import secrets
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from ledger.errors import KeyRefused, Malformed
from ledger.formats.encoding import b64url_decode, b64url_encode
from ledger.formats.jwk import from_public_key, kid_of, to_public_key
from ledger.formats.note import check_ed25519
from ledger.formats.strictjson import loads_object

REQUEST = "yunxi-terminal-request"
ENROLMENT = "yunxi-terminal-enrolment"
RECIPIENT = "yunxi-recipient"
MAX_FILE_BYTES = 16 << 20

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_CODE = re.compile(f"[{_ALPHABET}]{{20}}")
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_DEPARTMENT = re.compile(r"[a-z][a-z0-9-]{1,30}")
_HPKE = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)


@dataclass(frozen=True, slots=True)
class Request:
    """A terminal that asks to be enrolled. Keys are raw, 32 bytes each: Ed25519, Ed25519, X25519."""

    department: str
    name: str
    statement: bytes
    request: bytes
    enrolment: bytes

    def serialize(self, code: str) -> bytes:
        """The request file, authenticated by `code`."""
        members = self._members() | {"mac": b64url_encode(self._mac(code))}
        return json.dumps(members, indent=1).encode() + b"\n"

    @classmethod
    def parse(cls, data: bytes, code: str) -> Request:
        """The inverse. Raises Malformed, and KeyRefused when the code is another or the file was changed."""
        members = _object(data, REQUEST)
        found = cls(
            department=_matching(members, "department", _DEPARTMENT),
            name=_matching(members, "name", _NAME),
            statement=_ed25519(members, "statement"),
            request=_ed25519(members, "request"),
            enrolment=_bytes(members, "enrolment", 32),
        )
        if not hmac.compare_digest(_bytes(members, "mac", 32), found._mac(code)):
            raise KeyRefused("the code is not the one that `yunxi terminal create` showed, or the request was changed")
        return found

    def _members(self) -> dict[str, Any]:
        keys = {name: b64url_encode(getattr(self, name)) for name in ("statement", "request", "enrolment")}
        return {"format": REQUEST, "v": 1, "department": self.department, "name": self.name, **keys}

    def _mac(self, code: str) -> bytes:
        message = json.dumps(self._members(), sort_keys=True).encode()
        return hmac.digest(_code_key(code), b"yunxi terminal request v1\x1f" + message, "sha256")

    def _info(self, code: str) -> bytes:
        message = b"enrol\x1f" + self._mac(code)
        return b"yunxi terminal enrolment v1\x1f" + hmac.digest(_code_key(code), message, "sha256")


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What a terminal is told. `types` are the node's own record types by file name, `matters` is what the department
    held when (`ledger.matters.HeldMatters`), `recipient` is raw X25519, `valid_from` since when the statement key is in
    force (seconds), `offline_s` how old a statement may come in."""

    node_url: str
    department: str
    name: str
    index_key: bytes
    recipient: bytes
    types: dict[str, Any]
    matters: dict[str, Any]
    valid_from: int
    offline_s: int

    def seal(self, request: Request, code: str) -> bytes:
        """The enrolment file for the terminal that made `request`."""
        content = {name: getattr(self, name) for name in self.__slots__}
        content |= {"index_key": b64url_encode(self.index_key), "recipient": b64url_encode(self.recipient)}
        public = X25519PublicKey.from_public_bytes(request.enrolment)
        sealed = _HPKE.encrypt(json.dumps(content).encode(), public, info=request._info(code))
        members = {"format": ENROLMENT, "v": 1, "sealed": b64url_encode(sealed)}
        return json.dumps(members, indent=1).encode() + b"\n"

    @classmethod
    def open(cls, data: bytes, request: Request, code: str, key: X25519PrivateKey) -> Enrolment:
        """The inverse, at the terminal that made `request`. Raises Malformed, and KeyRefused for an enrolment that was
        made for another terminal or by somebody who does not know the code."""
        sealed = b64url_decode(_text(_object(data, ENROLMENT), "sealed", MAX_FILE_BYTES), "enrolment")
        try:
            plaintext = _HPKE.decrypt(sealed, key, info=request._info(code))
        except (InvalidTag, ValueError) as error:
            raise KeyRefused("this enrolment was not made for this terminal: let the node enrol its request") from error
        members = loads_object(plaintext, what="enrolment", max_bytes=MAX_FILE_BYTES)
        found = cls(
            node_url=_text(members, "node_url", 1_000),
            department=_matching(members, "department", _DEPARTMENT),
            name=_matching(members, "name", _NAME),
            index_key=_bytes(members, "index_key", 32),
            recipient=_bytes(members, "recipient", 32),
            types=_typed(members, "types", dict),
            matters=_typed(members, "matters", dict),
            valid_from=_typed(members, "valid_from", int),
            offline_s=_typed(members, "offline_s", int),
        )
        if (found.department, found.name) != (request.department, request.name):
            raise KeyRefused("this enrolment is for another terminal")
        return found


def draw_code() -> str:
    """A fresh code: 100 random bits as 20 characters in groups of five, without I, L, O and U."""
    drawn = "".join(secrets.choice(_ALPHABET) for _ in range(20))
    return "-".join(drawn[start : start + 5] for start in range(0, 20, 5))


def check_name(name: str) -> None:
    """Raises Malformed for what cannot be a terminal's name."""
    if not _NAME.fullmatch(name):
        raise Malformed("terminal name", "must be 1 to 63 of a-z, 0-9 and -, beginning with a letter or digit")


def recipient_file(department: str, public: X25519PublicKey) -> bytes:
    """The public half of a department's recipient key, for its nodes."""
    members = {"format": RECIPIENT, "v": 1, "department": department, "kid": kid_of(public)}
    return json.dumps(members | {"jwk": from_public_key(public)}, indent=1).encode() + b"\n"


def parse_recipient(data: bytes, department: str) -> X25519PublicKey:
    """The inverse. Raises Malformed, and KeyRefused for the key of another department."""
    members = _object(data, RECIPIENT)
    public = to_public_key(_typed(members, "jwk", dict))
    if not isinstance(public, X25519PublicKey) or members.get("kid") != kid_of(public):
        raise Malformed("recipient", "must hold an X25519 key and its thumbprint")
    if members.get("department") != department:
        raise KeyRefused(f"the recipient key is not department {department}'s")
    return public


def _code_key(code: str) -> bytes:
    plain = code.upper().replace("-", "").replace(" ", "")
    if not _CODE.fullmatch(plain):
        raise Malformed("code", "must be the 20 characters that `yunxi terminal create` showed")
    return plain.encode()


def _object(data: bytes, form: str) -> dict[str, Any]:
    members = loads_object(data, what=form, max_bytes=MAX_FILE_BYTES)
    if members.get("format") != form or members.get("v") != 1:
        raise Malformed(form, "is another file, or of a version that this one does not know")
    return members


def _typed(members: dict[str, Any], name: str, kind: type) -> Any:
    value = members.get(name)
    if type(value) is not kind:
        raise Malformed("terminal file", f"member {name} is missing or of another type")
    return value


def _text(members: dict[str, Any], name: str, most: int) -> str:
    value: str = _typed(members, name, str)
    if len(value) > most:
        raise Malformed("terminal file", f"member {name} is too long")
    return value


def _matching(members: dict[str, Any], name: str, pattern: re.Pattern[str]) -> str:
    value = _text(members, name, 100)
    if not pattern.fullmatch(value):
        raise Malformed("terminal file", f"member {name} is not what it should be")
    return value


def _bytes(members: dict[str, Any], name: str, size: int) -> bytes:
    value = b64url_decode(_text(members, name, 1_000), "terminal file")
    if len(value) != size:
        raise Malformed("terminal file", f"member {name} must hold {size} bytes")
    return value


def _ed25519(members: dict[str, Any], name: str) -> bytes:
    value = _bytes(members, name, 32)
    check_ed25519(value, "terminal file")
    return value
