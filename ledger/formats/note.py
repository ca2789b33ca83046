"""Signed notes as C2SP signed-note defines them, and the verifier keys that check them.

    note         = text (ends in newline) || newline || 1*signature-line
    line         = "— " key-name " " base64(key-id[4] || signature) newline
    verifier key = key-name "+" hex(key-id) "+" base64(type[1] || public)
    key-id       = SHA-256(key-name || 0x0A || type || public)[:4]

The text is UTF-8 without control characters other than newline. It means nothing until `Note.verify` has passed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ledger.errors import KeyRefused, Malformed, SignatureInvalid
from ledger.formats.encoding import b64decode, b64encode, hex_decode

ED25519 = 0x01
COSIGNATURE_ED25519 = 0x04

MAX_NOTE_BYTES = 64 * 1024
MAX_SIGNATURES = 64

Sign = Callable[[bytes], bytes]
"""Ed25519 (RFC 8032) over the message: 64 bytes. Where the private key lives is not this module's matter."""

_FIELD = 2**255 - 19
_ORDER_8 = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
# the y coordinates of edwards25519's eight points of small order, in every encoding that a library may take
_SMALL_ORDER = frozenset({0, 1, _FIELD - 1, _FIELD, _FIELD + 1, _ORDER_8, _FIELD - _ORDER_8})

_UNPRINTABLE = re.compile("[\x00-\x1f\ud800-\udfff]")


# -- keys --


def key_id(name: str, type: int, public: bytes) -> bytes:  # noqa: A002  (the specification's word)
    """The 4 bytes that, with the name, tell keys apart. Short on purpose: an identifier, not a commitment."""
    return sha256(name.encode() + b"\n" + bytes([type]) + public).digest()[:4]


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key with the name it signs under. `str()` gives the one line that `parse` takes.

    Of the types ED25519 and COSIGNATURE_ED25519 `public` must pass `check_ed25519` and the key id be that of the key;
    keys of other types are carried along unread. Raises Malformed otherwise.
    """

    name: str
    key_id: bytes
    type: int
    public: bytes

    def __post_init__(self) -> None:
        check_name(self.name, "verifier key")
        if len(self.key_id) != 4 or not 0 <= self.type <= 0xFF or not self.public:
            raise Malformed("verifier key", "needs a key id of 4 bytes, a type of one byte and a public key")
        if self.type not in (ED25519, COSIGNATURE_ED25519):
            return
        check_ed25519(self.public, "verifier key")
        if self.key_id != key_id(self.name, self.type, self.public):
            raise Malformed("verifier key", "the key id is not that of this name and public key")

    @classmethod
    def of(cls, name: str, type: int, public: bytes) -> VerifierKey:  # noqa: A002
        """The key with the id that the specification recommends."""
        check_name(name, "verifier key")
        return cls(name, key_id(name, type, public), type, public)

    @classmethod
    def parse(cls, text: str) -> VerifierKey:
        """Reads `name+hexid+base64`. Raises Malformed unless it is the one text of its key."""
        parts = text.split("+", 2)  # base64 has plus signs of its own
        if len(parts) != 3:
            raise Malformed("verifier key", "is not name+id+key")
        material = b64decode(parts[2], "verifier key")
        return cls(parts[0], hex_decode(parts[1], 4, "verifier key"), material[0] if material else 0, material[1:])

    def __str__(self) -> str:
        return f"{self.name}+{self.key_id.hex()}+{b64encode(bytes([self.type]) + self.public)}"


def check_ed25519(public: bytes, what: str) -> None:
    """Raises Malformed, naming `what`, unless `public` is 32 bytes and not a point of small order.

    Under such a point anyone can sign anything (RFC 8032 leaves the check out), so its owner could deny every
    signature. That the bytes are a point of the curve at all is not checked: if not, nothing verifies.
    """
    if len(public) != 32:
        raise Malformed(what, f"an Ed25519 public key is 32 bytes, not {len(public)}")
    if int.from_bytes(public, "little") % 2**255 in _SMALL_ORDER:
        raise Malformed(what, "a public key of small order, under which anyone can sign; make a new key pair")


def verify_ed25519(key: VerifierKey, signature: bytes, message: bytes) -> None:
    """Raises SignatureInvalid unless `signature` (64 bytes, RFC 8032) over `message` is by `key`, of whichever type."""
    try:
        Ed25519PublicKey.from_public_bytes(key.public).verify(signature, message)
    except InvalidSignature as error:
        raise SignatureInvalid(f"The signature by {key.name} does not verify; do not use what it signs.") from error


# -- signature lines --


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature line. `signature` is one byte or more, in whatever form the key's type has; Malformed otherwise."""

    name: str
    key_id: bytes
    signature: bytes

    def __post_init__(self) -> None:
        check_name(self.name, "note signature")
        if len(self.key_id) != 4 or not self.signature:
            raise Malformed("note signature", "needs a key id of 4 bytes and a signature")

    @property
    def line(self) -> bytes:
        """The line as it stands in the note, with its newline."""
        return f"— {self.name} {b64encode(self.key_id + self.signature)}\n".encode()

    def is_by(self, key: VerifierKey) -> bool:
        """Whether name and key id are those of `key`: a claim, to be verified."""
        return self.name == key.name and self.key_id == key.key_id


def parse_signatures(data: bytes) -> tuple[Signature, ...]:
    """Reads one or more signature lines, as a note ends in or a witness answers with. Raises Malformed."""
    lines = decode_lines(data, "note signature")
    if len(lines) > MAX_SIGNATURES:
        raise Malformed("note", f"{len(lines)} signatures are more than the {MAX_SIGNATURES} allowed")
    return tuple(_parse_signature(line) for line in lines)


def _parse_signature(line: str) -> Signature:
    parts = line.split(" ")
    if len(parts) != 3 or parts[0] != "—":
        raise Malformed("note signature", "is not a dash, a name and a signature")
    data = b64decode(parts[2], "note signature")
    return Signature(name=parts[1], key_id=data[:4], signature=data[4:])


# -- notes --


@dataclass(frozen=True, slots=True)
class Note:
    """A text (UTF-8, with its last newline) and its signatures in order, verified or not."""

    text: bytes
    signatures: tuple[Signature, ...]

    @classmethod
    def parse(cls, data: bytes) -> Note:
        """Splits a note of up to 64 KiB and 64 signatures; `serialize` gives `data` again. Raises Malformed."""
        if len(data) > MAX_NOTE_BYTES:
            raise Malformed("note", f"{len(data):,} bytes is more than the {MAX_NOTE_BYTES:,} allowed")
        end = data.rfind(b"\n\n") + 1
        if end == 0:
            raise Malformed("note", "has no blank line between text and signatures")
        text = data[:end]
        decode_lines(text, "note")
        return cls(text, parse_signatures(data[end + 1 :]))

    def serialize(self) -> bytes:
        """The note's bytes."""
        return self.text + b"\n" + b"".join(signature.line for signature in self.signatures)

    def signatures_by(self, key: VerifierKey) -> list[Signature]:
        """The signatures that name `key`, none of them verified."""
        return [signature for signature in self.signatures if signature.is_by(key)]

    def verify(self, key: VerifierKey) -> None:
        """Checks that `key`, of type ED25519, signed the text. Signatures that name other keys are ignored.

        Raises KeyRefused for a key of another type; SignatureInvalid when no signature names `key`, or any that does
        fails: then the whole note is bad, even where another one by the same key is good.
        """
        if key.type != ED25519:
            raise KeyRefused(f"The key of {key.name} has type {key.type:#04x}; plain notes need an Ed25519 key, 0x01.")
        claimed = self.signatures_by(key)
        if not claimed:
            raise SignatureInvalid(
                f"The note is not signed by {key.name}; check that the trust file has its newest key."
            )
        for signature in claimed:
            verify_ed25519(key, signature.signature, self.text)


def sign(text: bytes, name: str, sign: Sign, public: bytes) -> bytes:
    """The signature line, with its newline, of the Ed25519 key `public` (32 bytes) under `name` over the note's text.

    That `sign` and `public` belong together is not checked. Raises Malformed for a text or name no note can have.
    """
    decode_lines(text, "note")
    key = VerifierKey.of(name, ED25519, public)
    return Signature(name, key.key_id, sign(text)).line


# -- text --


def decode_lines(data: bytes, what: str) -> list[str]:
    """The lines of `data`, each ended by a newline and without it. Raises Malformed, naming `what`, otherwise."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Malformed(what, f"not UTF-8 at byte {error.start}") from error
    lines = text.split("\n")  # not splitlines: U+0085 and U+2028 are text here
    if lines.pop():
        raise Malformed(what, "does not end in a newline")
    if not lines:
        raise Malformed(what, "is empty")
    for line in lines:
        check_line(line, what)
    return lines


def check_line(line: str, what: str) -> None:
    """Raises Malformed, naming `what`, for a control character, a newline among them, or a lone surrogate."""
    if _UNPRINTABLE.search(line):
        raise Malformed(what, "has a control character")


def check_name(name: str, what: str) -> None:
    """Raises Malformed, naming `what`, unless `name` can be a key's: not empty, no Unicode space, no plus."""
    check_line(name, what)
    if not name or "+" in name or any(character.isspace() for character in name):
        raise Malformed(what, "a key's name is not empty and has neither spaces nor plus signs")
